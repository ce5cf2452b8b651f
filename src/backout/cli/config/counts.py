"""`backout init` looks whether Workers Logs keep every answer of a Worker, and has guard count by them if they do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from backout import config as configuration
from backout.config.init.counts import PERMISSION, SETTING, set_line
from backout.errors import AuthError, BackoutError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from backout.cli.support.shell import Shell

_PATIENCE_S = 10.0


def look_at_counts(shell: Shell, names: Sequence[str], file: Path) -> None:
    """Set the line of each environment of a file just written by what its Worker's settings say.

    Without a token, or without an answer, the line stays as the wrangler file has it.
    """
    from backout.wiring.traffic import read_kept_share, try_telemetry

    for name in names:
        try:
            loaded = configuration.load(shell.environment, start=shell.folder, path=file, environment=name)
            kept = read_kept_share(loaded, _PATIENCE_S)
        except BackoutError as error:
            if not isinstance(error, (AuthError, ConfigError)):  # those `pin_new_file` has told
                shell.output.say(f"{name}: it is not known whether Workers Logs keep every answer: {error.what}")
            continue
        temporary = file.with_suffix(".new")
        text = set_line(file.read_text(encoding="utf-8"), name, keeps_all=kept == 1)
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, file)  # noqa: PTH105 - the atomic one, named as such
        if kept != 1:
            part = f"{kept * 100:g} % of them" if kept else "none of them"
            shell.output.say(f"{name}: guard has no counts yet: Workers Logs keep {part}; with {SETTING} they keep all")
            continue
        shell.output.say(f"{name}: Workers Logs keep every answer, and guard counts by them")
        try:
            try_telemetry(loaded, _PATIENCE_S)
        except AuthError:
            shell.output.say(f"{name}: the token may not read them yet: add the permission {PERMISSION}")
        except BackoutError as error:
            shell.output.say(f"{name}: they do not answer yet: {error.what}")
