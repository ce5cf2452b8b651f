"""Values of the configuration as a person would write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from backout.config.scalars import AtMost, Duration, format_duration
from backout.config.toml_text import format_literal
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.config.explain import Where


class Setting(Value, frozen=True):
    """One effective setting.

    Args:
        key: dotted.
        value: as JSON, times in seconds.
        origin: where it comes from (file:line, a variable, a flag).
        written: as a person writes it in the file.
    """

    key: str
    value: object
    origin: str
    written: str = ""


def join_path(path: Where) -> str:
    """Return a path as a person writes it.

    >>> join_path(("environments", "production", "secrets", "required", 0))
    'environments.production.secrets.required[0]'
    """
    words = ""
    for part in path:
        words += f"[{part}]" if isinstance(part, int) else f".{part}"
    return words.removeprefix(".")


def walk_leaves(value: object, path: Where) -> Iterator[tuple[Where, object]]:
    """Yield each value below a path, with its own path."""
    if isinstance(value, msgspec.Struct):
        for field_ in msgspec.structs.fields(value):
            yield from walk_leaves(getattr(value, field_.name), (*path, field_.encode_name))
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from walk_leaves(item, (*path, name))
    elif value not in ((), []):
        yield path, value


def to_plain(value: object) -> object:
    """Return a value as TOML and JSON have it."""
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return msgspec.to_builtins(value, enc_hook=lambda other: float(other) if isinstance(other, float) else str(other))


def to_text(value: object) -> str:
    """Return a value as it stands in the file."""
    if isinstance(value, AtMost):
        return format_literal(f"1 per {format_duration(value)}")
    return format_literal(format_duration(value)) if isinstance(value, Duration) else format_literal(to_plain(value))
