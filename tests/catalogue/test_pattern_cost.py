"""What a pattern may cost: a text may be 20,000 characters of anything, and hundreds of patterns are searched in it.

`re` goes back and tries again. Three shapes make that more than one pass over the text for each place where a match
can begin, and none may stand here: a repeat without a bound inside another (unless each round of the outer one holds a
character that the inner one does not take); one at the very beginning, where each character of the text is such a
place; two beside each other that take the same characters. Behind an anchor (`^`, a word's edge, a look-behind) a
repeat at the beginning is tried once a word or line, if it cannot run over the end of that line.
"""

from __future__ import annotations

import re
from re import _constants as op
from re import _parser as parser
from typing import TYPE_CHECKING, Any

import pytest

from backout.wiring.diagnosis import load_catalogue

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CATALOGUE = load_catalogue()
PATTERNS = sorted(
    {
        (f"{one.label}-{one.id}", pattern)
        for one in CATALOGUE.signatures
        for pattern in (*one.any, *one.all, *one.none, *one.stack)
    }
    | {(f"services-{one.service}", pattern) for one in CATALOGUE.services for pattern, _ in one.patterns}
)
SIGNATURES = sorted({name for name, _ in PATTERNS})
NONE: frozenset[str] = frozenset()
REPEATS = {op.MAX_REPEAT, op.MIN_REPEAT}
NO_WIDTH = {op.AT, op.ASSERT, op.ASSERT_NOT}
SAMPLE = "aAzZ0 9_-.:/\t\n'\"()[]{}<>=,;@#|\u2716\u00e9"
"""One character of each kind that the catalogue's classes tell apart."""


def problems(pattern: str) -> list[str]:
    """Return what is wrong with a pattern's shape, in words; nothing when its cost is bounded."""
    return list(_of_sequence(list(parser.parse(pattern, re.MULTILINE)), beginning=True))


def _of_sequence(
    items: list[Any],
    *,
    anchored: Any = None,
    beginning: bool = False,
    inside: bool = False,
    parted: frozenset[str] = NONE,
) -> Iterator[str]:
    """`inside`: in a repeat without a bound; `parted`: what each round of it holds for sure."""
    last: frozenset[str] = frozenset()
    for code, value in items:
        if code in NO_WIDTH:
            anchored = value if code is op.AT else code
            continue
        if code in REPEATS:
            least, most, inner = value
            endless = most is op.MAXREPEAT
            takes = _takes(inner)
            if endless and inside and (not takes or not parted - takes):
                yield "a repeat without a bound inside another"
            if endless and beginning and (anchored is None or (anchored is op.AT_BEGINNING and "\n" in takes)):
                yield "a repeat without a bound at the beginning"
            if endless and last & takes:
                yield "two repeats without a bound beside each other, of the same characters"
            yield from _of_sequence(
                list(inner),
                anchored=anchored,
                beginning=beginning,
                inside=inside or endless,
                parted=_surely(inner) if endless else parted,
            )
            last = takes if endless else last if not least else frozenset()
            beginning = beginning and not least
        elif code is op.SUBPATTERN:
            yield from _of_sequence(
                list(value[3]), anchored=anchored, beginning=beginning, inside=inside, parted=parted
            )
            beginning, last = beginning and not _width(value[3]), frozenset()
        elif code is op.BRANCH:
            for branch in value[1]:
                yield from _of_sequence(
                    list(branch), anchored=anchored, beginning=beginning, inside=inside, parted=parted
                )
            beginning = beginning and not all(_width(branch) for branch in value[1])
            last = frozenset()
        else:
            beginning, last = False, frozenset()
            continue


def _surely(parsed: Iterable[Any]) -> frozenset[str]:
    """Return the sample's characters of which each round of a repeated part holds one, between what it repeats."""
    return NONE.union(*(_takes([item]) for item in parsed if item[0] in {op.LITERAL, op.IN}))


def _width(parsed: Any) -> int:
    return int(parsed.getwidth()[0])


def _takes(parsed: Iterable[Any]) -> frozenset[str]:
    """Return the sample's characters that a repeated part can begin with; none for one of several characters."""
    items = list(parsed)
    if len(items) != 1:
        return frozenset()
    code, value = items[0]
    if code is op.ANY:
        return frozenset(SAMPLE) - {"\n"}
    if code is op.LITERAL:
        return frozenset({chr(value)} & set(SAMPLE))
    if code is op.NOT_LITERAL:
        return frozenset(SAMPLE) - {chr(value)}
    if code is not op.IN:
        return frozenset()
    negated = value[0][0] is op.NEGATE
    inside = {char for char in SAMPLE if any(_in_class(char, each) for each in value)}
    return frozenset(set(SAMPLE) - inside if negated else inside)


def _in_class(char: str, item: Any) -> bool:
    code, value = item
    if code is op.LITERAL:
        return ord(char) == value
    if code is op.RANGE:
        return bool(value[0] <= ord(char) <= value[1])
    if code is op.CATEGORY:
        letter = {
            op.CATEGORY_DIGIT: r"\d",
            op.CATEGORY_NOT_DIGIT: r"\D",
            op.CATEGORY_SPACE: r"\s",
            op.CATEGORY_NOT_SPACE: r"\S",
            op.CATEGORY_WORD: r"\w",
            op.CATEGORY_NOT_WORD: r"\W",
        }[value]
        return re.match(letter, char) is not None
    return False


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_cost_of_a_pattern_is_bounded(name: str) -> None:
    found = [(pattern, why) for owner, pattern in PATTERNS if owner == name for why in problems(pattern)]

    assert not found, found[:3]


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?:\w+\s?)*x",
        r"\w+ is not defined",
        r"^\s*Killed",
        r"(?:a|\d+) failed",
        r"\s*(?:\S+)\S*x",
        r"x \S+\S*y",
        r"(?P<v>\S+) was",
    ],
)
def test_a_pattern_that_costs_too_much_is_named(pattern: str) -> None:
    assert problems(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        r"^[ \t]*Killed",
        r"\b\w+ is not defined",
        r"x \S+ y",
        r"(?:\w{1,40}\s)?x",
        r"(?<!\S)\S+ was",
        r"x (?:\w+\.)*y",
        r"x[A-Z]+(?:_[A-Z]+)*",
    ],
)
def test_a_bounded_pattern_passes(pattern: str) -> None:
    assert not problems(pattern)
