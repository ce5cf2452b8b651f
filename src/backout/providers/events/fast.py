"""A block of compact tail events without decoding the ordinary ones: they are counted by the bytes that they share.

The first block of a source is decoded. When the ordinary events in it begin alike, up to their version and their
outcome, and end alike, then in later blocks a line with such a beginning and end is an ordinary one, unless somewhere
in it stands one of the byte sequences without which nothing is thrown, logged or answered that counts. Lines that have
one of those are decoded, and decide for themselves. The sums must agree: otherwise the whole block is decoded.

What is taken for granted: a line that begins and ends as those of its writer do was written by it, so that there are no
spaces between its tokens and each key stands in it once; and what stands in between is not damaged.

Searching needs stringzilla, which is an optional part: without it every event is decoded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from backout.model.events import OK

try:
    import stringzilla
except ImportError:  # the optional part `fast`
    stringzilla = None

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backout.providers.events.worker import TailEvent

_VERSION: Final = b'"scriptVersion":{"id":"'
_OK: Final = f'"outcome":"{OK}"'.encode()
_TRUNCATED, _COMPLETE = b'"truncated":true', b'"truncated":false'
_TELLING: Final = (
    b'"exceptions":[{', b'"level":"error"', b'"level":"warn"', b'"status":5', b'"status":207',
    b'"type":"overload', _TRUNCATED,
)  # fmt: skip
"""Without one of these, in this spelling, a compact event says nothing; see `worker.sift`."""
_ESCAPE: Final = b"\\u00"
_ESCAPED_ASCII: Final = re.compile(rb"\\u00[2-7]")
_NESTED: Final = re.compile(rb"[{\\]|\[(?!\])")
_MOST_HEADS: Final = 8
_LONGEST_TAIL: Final = 48
_LOOKED_AT: Final = 100
_LINE: Final = b"\n"
_END: Final = _LINE[0]


@dataclass(frozen=True, slots=True)
class Sifted:
    """What a block holds: ordinary invocations by version, the lines that are not, and how many lines there are."""

    quiet: dict[str, int]
    lines: list[bytes]
    number: int
    last: bytes


@dataclass(slots=True)
class Layout:
    """How the ordinary events of one writer begin and end.

    Args:
        heads: {beginning up to outcome and version: version}. tail: what they end with, the line's end included.
        telling: byte sequences of lines that must be decoded.
    """

    heads: dict[bytes, str]
    tail: bytes
    telling: list[bytes]

    def sift(self, block: memoryview) -> Sifted | None:
        """Return what is in a block of whole lines, None when that cannot be told without decoding."""
        count = stringzilla.count
        if block[-1] != _END or (count(block, _ESCAPE) and _ESCAPED_ASCII.search(block)):
            return None
        number = count(block, _LINE)
        lines = self._telling_lines(block)
        ordinary = number - len(lines)
        if count(block, self.tail) - sum(line.endswith(self.tail) for line in lines) != ordinary:
            return None
        quiet: dict[str, int] = {}
        for head, version in self.heads.items():
            found = count(block, _LINE + head) + (block[: len(head)] == head)
            found -= sum(line.startswith(head) for line in lines)
            if found:
                quiet[version] = quiet.get(version, 0) + found
        if sum(quiet.values()) != ordinary:
            return None
        last = bytes(block[stringzilla.rfind(block, _LINE, 0, len(block) - 1) + 1 :])
        return Sifted(quiet, lines, number, last)

    def _telling_lines(self, block: memoryview) -> list[bytes]:
        """Return the lines that must be decoded, in their order."""
        find, rfind = stringzilla.find, stringzilla.rfind
        places: dict[int, int] = {}
        for telling in self.telling:
            at = find(block, telling)
            while at >= 0:
                end = find(block, _LINE, at) + 1
                places[rfind(block, _LINE, 0, at) + 1] = end
                at = find(block, telling, end)
        return [bytes(block[begin : places[begin]]) for begin in sorted(places)]


def learn(lines: Sequence[bytes], events: Sequence[TailEvent], others: Iterable[int]) -> Layout | None:
    """Return how the ordinary ones of these lines begin and end; None when they are not alike enough.

    Args:
        lines: with their ends. events: the same, decoded. others: which are not ordinary.
    """
    if stringzilla is None or len(lines) != len(events):
        return None
    strange = set(others)
    ordinary = [index for index in range(len(lines)) if index not in strange][:_LOOKED_AT]
    heads: dict[bytes, str] = {}
    tail: bytes | None = None
    for index in ordinary:
        version = events[index].version
        head = _head(lines[index], version)
        if head is None:
            return None
        heads[head] = version
        tail = lines[index][-_LONGEST_TAIL:] if tail is None else tail
        if not lines[index].endswith(tail):
            tail = _common_end(tail, lines[index])
    if not heads or len(heads) > _MOST_HEADS or not tail or not tail.endswith(b"}\n") or _is_ambiguous(heads):
        return None
    telling = [one for one in _TELLING if one != _TRUNCATED or _COMPLETE not in tail]
    return Layout(heads, tail, telling)


def _head(line: bytes, version: str) -> bytes | None:
    """Return how a line begins, up to its outcome and its version; None when these do not stand in the open in front.

    In front of them nothing is nested and nothing is escaped, so quotes are in pairs and the keys are the event's own.
    """
    at = line.find(_VERSION)
    end = line.find(b"}", at) + 1
    if at < 0 or not end or not line.startswith(b'{"') or _NESTED.search(line, 1, at):
        return None
    inside = line[at + len(b'"scriptVersion":') : end]
    if _NESTED.search(inside, 1) or not inside.startswith(f'{{"id":"{version}"'.encode()):
        return None
    if _OK in line[:at]:
        return line[:end]
    outcome = line.find(_OK, end)
    if outcome < 0 or _NESTED.search(line, end, outcome):
        return None
    return line[: outcome + len(_OK)]


def _common_end(one: bytes, other: bytes) -> bytes:
    length = 0
    while length < min(len(one), len(other)) and one[-length - 1] == other[-length - 1]:
        length += 1
    return one[len(one) - length :]


def _is_ambiguous(heads: Iterable[bytes]) -> bool:
    """Whether one beginning is the beginning of another: lines would be counted twice."""
    ordered = sorted(heads)
    return any(after.startswith(before) for before, after in pairwise(ordered))
