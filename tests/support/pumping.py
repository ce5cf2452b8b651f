"""Hostile texts for patterns, and how the work for them grows: a pattern that backtracks is found before it is met.

A text is a beginning, one unit many times, and an end at which the pattern fails. Units and beginnings are read off the
pattern itself: of each repetition the characters that it takes, behind the shortest text that leads to it.
"""

from __future__ import annotations

import re
import time
from itertools import product
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHORT = (12, 18, 24, 36, 54)
"""Lengths at which what grows exponentially is found before it is waited for."""
LENGTH = 1500
SLOW_S = 0.0003
"""What takes less is not looked at again: the square of the length is ten times that much, and what is linear less."""
FACTOR = 9.0
"""Four times the text are four times the work, sixteen times where it grows with the square; this lies between."""
PLAIN = ("a", "A", "1", "_", "-", ".", " ", "\n", "/", ":", "=", "@", "\\", "'", '"', "{", "(", "[", "%", "&", ",")
PAIRS = ("a.", "a ", "a_", "a-", "a=", "a,", "1 ", "1.", "aA", "\\\\", "\n ", " \n", "()", "a:", "a/", "x\n", "<>")
ENDS = ("\x00", "", "aB")
_MOST_UNITS = 24


class Growth(NamedTuple):
    """How long one text took at a length, at twice it and at four times (CPU time of this thread, best of several)."""

    length: int
    took_s: tuple[float, float, float]

    @property
    def factor(self) -> float:
        return self.took_s[2] / max(self.took_s[0], 1e-7)


def find_growth(work: Callable[[str], object], before: str, unit: str, end: str) -> Growth | None:
    """Return how the work grows with a text where it grows much faster than the text, None where it does not."""

    def took(length: int) -> float:
        text = before + unit * (length // len(unit) + 1) + end
        begun = time.thread_time()
        work(text)
        return time.thread_time() - begun

    def best(length: int) -> float:
        return min(took(length) for _ in range(3))

    for length in SHORT:
        if took(length) >= SLOW_S and best(length) >= SLOW_S:
            return Growth(length, (best(length // 2), 0.0, best(length)))
    if took(LENGTH) < SLOW_S:
        return None
    found = Growth(LENGTH, (best(LENGTH), best(2 * LENGTH), best(4 * LENGTH)))
    if found.factor < FACTOR:
        return None
    found = Growth(2 * LENGTH, (best(2 * LENGTH), best(4 * LENGTH), best(8 * LENGTH)))  # once more, for the noise
    return found if found.factor >= FACTOR else None


# --- what is pumped ------------------------------------------------------------------------------------------------


def list_pumped(pattern: re.Pattern[Any], *, full: bool) -> list[tuple[str, str]]:
    """Return beginnings and units for a pattern.

    Args:
        full: with pairs of whatever its repetitions take, not only a few of them.
    """
    tree = _parser.parse(
        pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1"),
        pattern.flags & ~re.UNICODE,
    )
    found: dict[tuple[str, str], None] = dict.fromkeys(("", unit) for unit in (*PLAIN, *PAIRS) if full)
    for before, body in _list_repeats(tree, ""):
        singles = list(dict.fromkeys(_list_samples(body)))[: _MOST_UNITS if full else 6]
        units = [*singles, *("".join(pair) for pair in product(singles, repeat=2) if full or len(singles) < 4)]
        units += [single + "a" for single in singles]
        for unit in dict.fromkeys(units):
            if unit:
                found[before, unit] = None
                if before:
                    found["", before + unit] = None
    whole = _make_sample(tree)
    if whole:
        found["", whole] = None
        found["", whole[:-1] or whole] = None
    return list(found)


def _list_repeats(tree: Any, before: str) -> Iterator[tuple[str, Any]]:
    """Yield each repetition of a parsed pattern with the shortest text before it."""
    for kind, value in tree:
        if kind in {sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT}:
            least, most, body = value
            if most > 8:
                yield before, body
            yield from _list_repeats(body, before)
            before += _make_sample(body) * least
            continue
        for inner in _list_inner(kind, value):
            yield from _list_repeats(inner, before)
        before += _make_sample([(kind, value)])


def _list_inner(kind: Any, value: Any) -> list[Any]:
    if kind is sre.SUBPATTERN:
        return [value[-1]]
    if kind is sre.BRANCH:
        return list(value[1])
    if kind in {sre.ASSERT, sre.ASSERT_NOT}:
        return [value[1]]
    return [value] if kind is sre.ATOMIC_GROUP else []


def _make_sample(tree: Any) -> str:
    return next(iter(_list_samples(tree)), "")


def _list_samples(tree: Any) -> list[str]:
    """Return texts that a parsed pattern takes, the shortest first; for a class of characters some of each kind."""
    found = [""]
    for kind, value in tree:
        each = _list_samples_of(kind, value)
        found = [a + b for a, b in product(found, each)][:_MOST_UNITS] if each else found
    return found


def _list_samples_of(kind: Any, value: Any) -> list[str]:
    if kind is sre.LITERAL:
        return [chr(value)]
    if kind is sre.NOT_LITERAL:
        return [c for c in ("a", "1", " ", ".") if ord(c) != value]
    if kind is sre.ANY:
        return ["a", "1", " ", "."]
    if kind is sre.IN:
        return _list_members(value)
    if kind is sre.BRANCH:
        return [sample for branch in value[1] for sample in _list_samples(branch)[:3]][:_MOST_UNITS]
    if kind in {sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT}:
        least, _, body = value
        samples = _list_samples(body)
        return [sample * least for sample in samples] if least else ["", *samples[:6]]
    if kind is sre.SUBPATTERN:
        return _list_samples(value[-1])
    return _list_samples(value) if kind is sre.ATOMIC_GROUP else []


_KINDS = {
    sre.CATEGORY_DIGIT: "1",
    sre.CATEGORY_WORD: "a1_A",
    sre.CATEGORY_SPACE: " \n\t",
    sre.CATEGORY_NOT_DIGIT: "a. ",
    sre.CATEGORY_NOT_WORD: ". -",
    sre.CATEGORY_NOT_SPACE: "a1.",
}
_TRIED = "a1A._-+/:@=,; \n\t'\"\\%&~*<>(){}[]#?!$|`^bf0"


def _list_members(items: list[tuple[Any, Any]]) -> list[str]:
    if items and items[0][0] is sre.NEGATE:
        inside = items[1:]
        return [c for c in _TRIED if not any(_holds(item, c) for item in inside)][:_MOST_UNITS]
    found = []
    for kind, value in items:
        if kind is sre.LITERAL:
            found.append(chr(value))
        elif kind is sre.RANGE:
            found.append(chr(value[0]))
        else:
            found += _KINDS[value]
    return found[:_MOST_UNITS]


def _holds(item: tuple[Any, Any], character: str) -> bool:
    kind, value = item
    if kind is sre.LITERAL:
        return ord(character) == value
    if kind is sre.RANGE:
        return bool(value[0] <= ord(character) <= value[1])
    shorthand = {
        "DIGIT": r"\d",
        "WORD": r"\w",
        "SPACE": r"\s",
        "NOT_DIGIT": r"\D",
        "NOT_WORD": r"\W",
        "NOT_SPACE": r"\S",
    }
    return re.match(shorthand[str(value).removeprefix("CATEGORY_")], character) is not None
