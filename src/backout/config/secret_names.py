"""Which variables hold what must not be seen: every key `..._env` of the configuration names one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

_SUFFIX = "_env"


def secret_variables(settings: object) -> frozenset[str]:
    """Return the names of all variables, and of those that name a secret's file, that a part of the settings reads."""
    named = frozenset(_named(settings))
    return named | {f"{name}_FILE" for name in named}


def _named(settings: object) -> Iterator[str]:
    if isinstance(settings, dict):
        for inner in settings.values():
            yield from _named(inner)
    elif isinstance(settings, list | tuple):
        for inner in settings:
            yield from _named(inner)
    elif isinstance(settings, msgspec.Struct):
        for field in msgspec.structs.fields(type(settings)):
            value = getattr(settings, field.name)
            if not field.name.endswith(_SUFFIX):
                yield from _named(value)
            elif isinstance(value, dict):
                yield from value.values()
            elif value is not None:
                yield value
