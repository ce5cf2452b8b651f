"""All secrets that a configuration names, read at once, so that nothing of them is written anywhere from then on.

A secret that is read only when it is needed could have been written down before that, by whatever said it.
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
_SECRET_NAME = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY|PRIVATE_KEY|SIGNING_KEY|DATABASE_URL)$")
"""Variables that nobody has named to us, and that are secret all the same."""


def read_all(config: Config) -> None:
    """Read every secret of the chosen environment and of the channels; what is not there, or closed, is passed over.

    `config.variables.on_secret` hears each of them.
    """
    variables = config.variables
    for name in {*_ALWAYS, *filter(_SECRET_NAME.search, variables.variables)}:
        with contextlib.suppress(BackoutError):
            variables.secret(name)
    for setting, where in _named(config):
        with contextlib.suppress(BackoutError):
            found = variables.secret(where) if isinstance(where, str) else variables.secret_file(where, setting)
            if found is not None and setting.startswith("credentials"):
                parse_access(found, variables.on_secret, setting)


def open_words(config: Config) -> frozenset[str]:
    """Return the names that are said openly, and are not masked where a secret happens to be one of them."""
    settings = config.settings
    words = {settings.app.name, *settings.environments}
    for each in settings.environments.values():
        words |= {each.platform.script, *each.services}
    return frozenset(words)


def _named(config: Config) -> Iterator[tuple[str, str | Path]]:
    """Yield (setting, variable or file) of each place of a secret that the file names."""
    for field in config.settings.__struct_fields__:
        if field != "environments":
            yield from _places(getattr(config.settings, field))
    if config.chosen is not None:
        yield from _places(config.settings.environments[config.chosen])


def _places(section: object) -> Iterator[tuple[str, str | Path]]:
    if not isinstance(section, Section):
        return
    for field in section.__struct_fields__:
        value = getattr(section, field)
        if field.endswith("_env") and isinstance(value, dict):
            yield from ((field, str(variable)) for variable in value.values())
        elif field.endswith(("_env", "_file")) and isinstance(value, str | Path):
            yield field, value
        else:
            yield from _places(value)
