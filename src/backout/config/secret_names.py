"""The variables that hold secrets: every key `..._env` of the configuration names one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from backout.config.schema.environment import Backup

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.config.schema import Settings

_SUFFIX = "_env"


def list_secret_variables(settings: object) -> frozenset[str]:
    """Return the names of all variables that a part of the settings reads, those that name a secret's file included."""
    named = frozenset(_find_names(settings))
    return named | {f"{name}_FILE" for name in named}


def list_own_keys(settings: Settings) -> frozenset[str]:
    """Return the variables of what backout alone has a use for, with those that name a secret's file.

    They are the keys of marks and backups, and the secrets of channels and recorders; a deployment may need the
    platform's token and the database, so that these are not among them.
    """
    shared: frozenset[str] = frozenset()
    for environment in settings.environments.values():
        database = environment.database and replace(environment.database, backup=Backup())
        shared |= list_secret_variables([environment.platform, database])
    return list_secret_variables(settings) - shared


def _find_names(settings: object) -> Iterator[str]:
    if isinstance(settings, dict):
        for inner in settings.values():
            yield from _find_names(inner)
    elif isinstance(settings, list | tuple):
        for inner in settings:
            yield from _find_names(inner)
    elif isinstance(settings, msgspec.Struct):
        for name in settings.__struct_fields__:  # their types do not matter, and resolving those takes a hundred times
            value = getattr(settings, name)
            if not name.endswith(_SUFFIX):
                yield from _find_names(value)
            elif isinstance(value, dict):
                yield from value.values()
            elif value is not None:
                yield value
