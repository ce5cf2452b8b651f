"""Read all secrets that a configuration names at once, so that none of them is written anywhere from then on.

A secret that is read only when needed could have been written before that.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from backout.config.access import parse_access
from backout.config.schema.environment import TOKEN_ENV
from backout.config.schema.types import Section
from backout.errors import BackoutError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.config.effective import Config

_ALWAYS = (TOKEN_ENV, "GITHUB_TOKEN", "NEON_API_KEY", "XATA_API_KEY", "PGPASSWORD")
SECRET_NAME = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY|PRIVATE_KEY|SIGNING_KEY|DATABASE_URL)$")
"""Variables that no setting names, and that are secret all the same."""
SAFE_SOURCES = ("file", "env")
"""Sources of the application's secrets that are read without running anything or asking anyone."""


def read_all(config: Config) -> None:
    """Read every secret of the chosen environment and of the channels; missing or unreadable ones are skipped.

    `on_secret` of its variables is given each of them.
    """
    variables = config.variables
    for name in {*_ALWAYS, *filter(SECRET_NAME.search, variables.variables)}:
        with contextlib.suppress(BackoutError):
            variables.secret(name)
    for setting, where in _list_named_places(config):
        with contextlib.suppress(BackoutError):
            found = variables.secret(where) if isinstance(where, str) else variables.secret_file(where, setting)
            if found is not None and setting.startswith("credentials"):
                parse_access(found, variables.on_secret, setting)


def list_open_words(config: Config) -> frozenset[str]:
    """Return the names that are used openly, and are not masked if a secret happens to equal one of them."""
    settings = config.settings
    words = {settings.app.name, *settings.environments}
    for each in settings.environments.values():
        words |= {each.platform.script, *each.services}
    return frozenset(words)


def _list_named_places(config: Config) -> Iterator[tuple[str, str | Path]]:
    """Yield (setting, variable or file) for each secret's place that the file names."""
    for field in config.settings.__struct_fields__:
        if field != "environments":
            yield from _list_places(getattr(config.settings, field))
    if config.chosen is not None:
        yield from _list_places(config.settings.environments[config.chosen])


def _list_places(section: object) -> Iterator[tuple[str, str | Path]]:
    if not isinstance(section, Section):
        return
    for field in section.__struct_fields__:
        value = getattr(section, field)
        if field.endswith("_env") and isinstance(value, dict):
            yield from ((field, str(variable)) for variable in value.values())
        elif field.endswith(("_env", "_file")) and isinstance(value, str | Path):
            yield field, value
        else:
            yield from _list_places(value)
