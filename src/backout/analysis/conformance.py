"""Answers of a real API compared with the recorded ones of the twin; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.conformance import Difference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from backout.model.conformance import Fact, Observation

_TYPES = {bool: "boolean", int: "number", float: "number", str: "string", type(None): "null"}


def find_shape(value: object) -> dict[str, str]:
    """Return the types of everything in a JSON value by its path; the elements of a list count as one.

    >>> find_shape({"id": "x", "items": [{"n": 1}, {"n": None}]})
    {'id': 'string', 'items': 'list', 'items[].n': 'null|number'}
    """
    found: dict[str, set[str]] = {}
    for path, kind in _walk(value, ""):
        found.setdefault(path, set()).add(kind)
    return {path: "|".join(sorted(kinds)) for path, kinds in sorted(found.items()) if path}


def _walk(value: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        yield path, "object"
        for key, inner in value.items():
            yield from _walk(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        yield path, "list"
        for inner in value:
            yield from _walk_list(inner, path)
    else:
        yield path, _TYPES[type(value)]


def _walk_list(value: object, path: str) -> Iterator[tuple[str, str]]:
    for inner, kind in _walk(value, f"{path}[]"):
        if inner != f"{path}[]" or kind != "object":
            yield inner, kind


def compare(expected: Iterable[Observation], found: Iterable[Observation]) -> tuple[Difference, ...]:
    """Return where the found answers differ from the expected ones, in the order of the calls."""
    seen = {observation.name: observation for observation in found}
    return tuple(difference for one in expected for difference in _find_differences(one, seen.get(one.name)))


def _find_differences(expected: Observation, found: Observation | None) -> Iterator[Difference]:
    name = expected.name
    if found is None:
        yield Difference(name, "the call", "an answer", "it was not made", matters=True)
        return
    if found.trouble:
        yield Difference(name, "the call", "an answer", found.trouble, matters=True)
        return
    answered: tuple[tuple[str, Fact, Fact], ...] = (
        ("status", expected.status, found.status),
        ("error code", expected.code, found.code),
    )
    for what, wanted, got in answered:
        if wanted != got:
            yield Difference(name, what, _format_fact(wanted), _format_fact(got), matters=True)
    for what, wanted in expected.facts.items():
        got = found.facts.get(what)
        if wanted != got:  # a fact that the twin did not measure is news, and contradicts nothing
            yield Difference(name, what, _format_fact(wanted), _format_fact(got), matters=wanted is not None)
    if expected.status == found.status:
        yield from _compare_shapes(name, expected.shape, found.shape)


def _compare_shapes(name: str, expected: Mapping[str, str], found: Mapping[str, str]) -> Iterator[Difference]:
    for path, kinds in expected.items():
        if path not in found:
            yield Difference(name, path, kinds, "not there", matters=True)
        elif not set(kinds.split("|")) & set(found[path].split("|")) and "null" not in (kinds, found[path]):
            yield Difference(name, path, kinds, found[path], matters=True)
    extra = [path for path in found if path not in expected]
    for path in extra:
        if not any(
            path.startswith((f"{above}.", f"{above}[")) for above in extra
        ):  # the topmost stands for what is in it
            yield Difference(name, path, "not there", found[path], matters=False)


def _format_fact(value: Fact) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
