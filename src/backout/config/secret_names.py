"""The variables that hold secrets: every key `..._env` of the configuration names one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

_SUFFIX = "_env"


def list_secret_variables(settings: object) -> frozenset[str]:
    """Return the names of all variables that a part of the settings reads, those that name a secret's file included."""
    named = frozenset(_find_names(settings))
    return named | {f"{name}_FILE" for name in named}


def _find_names(settings: object) -> Iterator[str]:
    if isinstance(settings, dict):
        for inner in settings.values():
            yield from _find_names(inner)
    elif isinstance(settings, list | tuple):
        for inner in settings:
            yield from _find_names(inner)
    elif isinstance(settings, msgspec.Struct):
        for field in msgspec.structs.fields(type(settings)):
            value = getattr(settings, field.name)
            if not field.name.endswith(_SUFFIX):
                yield from _find_names(value)
            elif isinstance(value, dict):
                yield from value.values()
            elif value is not None:
                yield value
