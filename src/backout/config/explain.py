"""All mistakes of a document at once, each with its path; runs only after the fast conversion failed."""

from __future__ import annotations

import difflib
import re
import types
import typing
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args, get_origin

import msgspec

from backout.config import scalars
from backout.config.unbuilt import explain_unbuilt
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Where = tuple[str | int, ...]


class Mistake(Value, frozen=True):
    """One mistake, at a path of the document."""

    path: Where
    what: str


def explain(kind: object, value: object, path: Where = ()) -> Iterator[Mistake]:
    """Yield the reasons why `value` is not a `kind`; nothing if it is one."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        found = tuple(explain(arguments[0], value, path))
        yield from found or _explain_bounds(arguments[1:], value, path)
    elif origin is types.UnionType or origin is typing.Union:
        yield from explain(next(a for a in arguments if a is not type(None)), value, path)
    elif origin is Literal:
        yield from _explain_choice(arguments, value, path)
    elif origin is dict:
        yield from _explain_mapping(arguments[0], arguments[1], value, path)
    elif origin is tuple:
        yield from _explain_array(arguments[0], value, path)
    elif isinstance(kind, type):
        yield from _explain_plain(kind, value, path)


def suggest_similar(word: str, known: Iterable[str]) -> str:
    """Return `, did you mean 'x'?`, or the empty string if no known word resembles it."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f", did you mean {near[0]!r}?" if near else ""


def _explain_plain(kind: type, value: object, path: Where) -> Iterator[Mistake]:
    if issubclass(kind, msgspec.Struct):
        yield from _explain_table(kind, value, path)
    elif issubclass(kind, Enum):
        yield from _explain_choice(tuple(member.value for member in kind), value, path)
    elif kind in scalars.SCALARS:
        try:
            scalars.parse(kind, value, Path())
        except ValueError as error:
            yield Mistake(path, str(error))
    elif kind is not object and not _is_a(kind, value):
        yield Mistake(path, f"expected {_NAMES[kind]}, got {scalars.show(value)}")


def _is_a(kind: type, value: object) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if kind is int:
        return isinstance(value, int)
    return isinstance(value, int | float) if kind is float else isinstance(value, kind)


_NAMES = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}


def _explain_table(kind: type[msgspec.Struct], value: object, path: Where) -> Iterator[Mistake]:
    if not isinstance(value, dict):
        yield Mistake(path, f"expected a table, got {scalars.show(value)}")
        return
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for key, item in value.items():
        if key in fields:
            yield from explain(fields[key].type, item, (*path, key))
        else:
            yield Mistake((*path, key), explain_unbuilt((*path, key)) or f"unknown key{suggest_similar(key, fields)}")
    for name, field in fields.items():
        if field.required and name not in value:
            yield Mistake((*path, name), "required, but not there")


def _explain_mapping(key_kind: object, kind: object, value: object, path: Where) -> Iterator[Mistake]:
    if not isinstance(value, dict):
        yield Mistake(path, f"expected a table, got {scalars.show(value)}")
        return
    for key, item in value.items():
        yield from explain(key_kind, key, (*path, key))
        yield from explain(kind, item, (*path, key))


def _explain_array(kind: object, value: object, path: Where) -> Iterator[Mistake]:
    if not isinstance(value, list):
        yield Mistake(path, f"expected an array, got {scalars.show(value)}")
        return
    for index, item in enumerate(value):
        yield from explain(kind, item, (*path, index))


def _explain_choice(known: tuple[str, ...], value: object, path: Where) -> Iterator[Mistake]:
    if not isinstance(value, str) or value not in known:
        words = [repr(word) for word in known]
        listed = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
        hint = suggest_similar(value, known) if isinstance(value, str) else ""
        yield Mistake(path, f"expected {listed}, got {scalars.show(value)}{hint}")


def _explain_bounds(notes: tuple[object, ...], value: object, path: Where) -> Iterator[Mistake]:
    for note in notes:
        if isinstance(note, msgspec.Meta) and (limit := _describe_limit(note, value)):
            yield Mistake(path, f"expected {limit}, got {scalars.show(value)}")


def _describe_limit(meta: msgspec.Meta, value: object) -> str:
    """Return the limit that the value breaks, in words, or the empty string."""
    if isinstance(value, int | float):
        bounds: Mapping[str, tuple[float | None, bool]] = {
            "more than": (meta.gt, meta.gt is None or value > meta.gt),
            "at least": (meta.ge, meta.ge is None or value >= meta.ge),
            "less than": (meta.lt, meta.lt is None or value < meta.lt),
            "at most": (meta.le, meta.le is None or value <= meta.le),
        }
        broken = any(not holds for _, holds in bounds.values())
        words = [f"{word} {bound:g}" for word, (bound, _) in bounds.items() if bound is not None]
        return f"a number {' and '.join(words)}" if broken else ""
    if meta.pattern and isinstance(value, str) and not re.search(meta.pattern, value):
        return f"a text like {meta.pattern}"
    if meta.min_length and isinstance(value, str | dict | list) and len(value) < meta.min_length:
        return "something that is not empty"
    return ""
