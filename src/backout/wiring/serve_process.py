"""The process of `backout serve`: it begins anew without the variables of whoever started it."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Final

from backout.providers.child_environment import make_sealed_environment

if TYPE_CHECKING:
    from backout.config import Config

_KEPT: Final = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_\w+|TZ|TERM|COLUMNS|NO_COLOR|FORCE_COLOR|TMPDIR|"
    r"BACKOUT_CONFIG|BACKOUT_TRUST_CONFIG|BACKOUT_JOURNAL_PATH|PYTHON(UNBUFFERED|WARNINGS|DONTWRITEBYTECODE|FAULTHANDLER)"
)
"""The variables that the server needs; all others are dropped, whatever they are."""


def drop_variables(config: Config) -> None:
    """Begin this process anew without the variables that it does not need; return where there are none."""
    ours, url_env = dict(os.environ), config.settings.journal.url_env
    kept = {name: value for name, value in ours.items() if _KEPT.fullmatch(name) or name == url_env}
    if kept != ours:
        os.execve(sys.executable, sys.orig_argv, make_sealed_environment(kept))  # noqa: S606 - no shell
