"""Counts a block of tail events without decoding the ordinary ones, by the bytes that they share.

The first block of a source is decoded. When the ordinary events in it begin alike, up to their version and their
outcome, and end alike, then in later blocks an event with such a beginning and end is an ordinary one, unless somewhere
in it stands one of the byte sequences without which nothing is thrown, logged or answered that counts. Events that have
one of those are decoded, and decide for themselves. The sums must agree: otherwise the whole block is decoded.

What is taken for granted: an event that begins and ends as those of its writer do was written by it, so that the spaces
between its tokens are the same and each key stands in it once; and what stands in between is not damaged.

Searching needs stringzilla, which is an optional part: without it every event is decoded.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from backout.model.outcomes import OK
from backout.model.value import Value

try:
    import stringzilla
except ImportError:  # the optional part `fast`
    stringzilla = None

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backout.providers.events.worker import TailEvent

_ESCAPE: Final = b"\\u00"
_ESCAPED_ASCII: Final = re.compile(rb"\\u00[2-7]")
_NESTED: Final = re.compile(rb"[{\\]|\[(?!\])")
_MOST_HEADS: Final = 8
_LONGEST_TAIL: Final = 48
_LOOKED_AT: Final = 100
_LINE: Final = b"\n"


class Spelling(Value, frozen=True):
    """The layout of a JSON writer: its indentation in spaces, None for one line each without any."""

    indent: int | None

    @property
    def end(self) -> bytes:
        """What an event ends with."""
        return _LINE if self.indent is None else b"\n}\n"

    @property
    def begin(self) -> bytes:
        """What an event begins with."""
        return b"{" + self._inside(1) + b'"'

    @property
    def version(self) -> bytes:
        """The bytes before the version's id."""
        return self._key("scriptVersion") + b"{" + self._inside(2) + self._key("id") + b'"'

    @property
    def ok(self) -> bytes:
        """The outcome of an ordinary event."""
        return self._key("outcome") + f'"{OK}"'.encode()

    @property
    def complete(self) -> bytes:
        """The bytes that state that nothing was left out."""
        return self._key("truncated") + b"false"

    @property
    def truncated(self) -> bytes:
        """The bytes that state that something was left out."""
        return self._key("truncated") + b"true"

    @property
    def telling(self) -> tuple[bytes, ...]:
        """Without one of these byte sequences an event is an ordinary one; see `worker.sift`."""
        return (
            self._key("exceptions") + b"[" + self._inside(2) + b"{",
            self._key("level") + b'"error"',
            self._key("level") + b'"warn"',
            self._key("status") + b"5",
            self._key("status") + b"207",
            self._key("type") + b'"overload',
            self.truncated,
        )

    def _key(self, name: str) -> bytes:
        return f'"{name}":'.encode() + (b"" if self.indent is None else b" ")

    def _inside(self, depth: int) -> bytes:
        return b"" if self.indent is None else _LINE + b" " * (self.indent * depth)


COMPACT: Final = Spelling(None)


class Sifted(Value, frozen=True):
    """The content of a block: ordinary invocations by version, the other events, the total, and the last one."""

    quiet: dict[str, int]
    others: list[bytes]
    number: int
    last: bytes


class Layout(Value, frozen=True):
    """How the ordinary events of one writer begin and end.

    Args:
        heads: {beginning up to outcome and version: version}.
        tail: their common ending.
        end: the ending of every event.
        telling: byte sequences of events that must be decoded.
    """

    heads: dict[bytes, str]
    tail: bytes
    end: bytes
    telling: tuple[bytes, ...]

    def sift(self, block: memoryview) -> Sifted | None:
        """Return the content of a block of whole events, None when that requires decoding."""
        count = stringzilla.count
        if block[-len(self.end) :] != self.end or (count(block, _ESCAPE) and _ESCAPED_ASCII.search(block)):
            return None
        number = count(block, self.end)
        others = self._others(block)
        ordinary = number - len(others)
        if count(block, self.tail) - sum(one.endswith(self.tail) for one in others) != ordinary:
            return None
        quiet: dict[str, int] = {}
        for head, version in self.heads.items():
            found = count(block, _LINE + head) + (block[: len(head)] == head)
            found -= sum(one.startswith(head) for one in others)
            if found:
                quiet[version] = quiet.get(version, 0) + found
        if sum(quiet.values()) != ordinary:
            return None
        before = stringzilla.rfind(block, self.end, 0, len(block) - 1)
        return Sifted(quiet, others, number, bytes(block[before + len(self.end) if before >= 0 else 0 :]))

    def _others(self, block: memoryview) -> list[bytes]:
        """Return the events that must be decoded, in their order."""
        find, rfind, size = stringzilla.find, stringzilla.rfind, len(self.end)
        places: dict[int, int] = {}
        for telling in self.telling:
            at = find(block, telling)
            while at >= 0:
                end = find(block, self.end, at) + size
                before = rfind(block, self.end, 0, at)
                places[before + size if before >= 0 else 0] = end
                at = find(block, telling, end)
        return [bytes(block[begin : places[begin]]) for begin in sorted(places)]


def learn(
    written: Sequence[bytes], events: Sequence[TailEvent], others: Iterable[int], spelling: Spelling
) -> Layout | None:
    """Return how the ordinary ones of these events begin and end; None when they are not alike enough.

    Args:
        written: with their ends.
        events: the same, decoded.
        others: which are not ordinary.
    """
    if stringzilla is None or len(written) != len(events):
        return None
    strange = set(others)
    ordinary = [index for index in range(len(written)) if index not in strange][:_LOOKED_AT]
    heads: dict[bytes, str] = {}
    tail: bytes | None = None
    for index in ordinary:
        version = events[index].version
        head = _find_head(written[index], version, spelling)
        if head is None:
            return None
        heads[head] = version
        tail = written[index][-_LONGEST_TAIL:] if tail is None else tail
        if not written[index].endswith(tail):
            tail = _find_common_end(tail, written[index])
    if not heads or len(heads) > _MOST_HEADS or not tail or not tail.endswith(b"}\n") or _is_ambiguous(heads):
        return None
    told = spelling.complete in tail
    telling = tuple(one for one in spelling.telling if not (told and one == spelling.truncated))
    return Layout(heads, tail, spelling.end, telling)


def _find_head(event: bytes, version: str, spelling: Spelling) -> bytes | None:
    """Return how an event begins, up to its outcome and its version; None when these do not stand in the open in front.

    In front of them nothing is nested and nothing is escaped, so quotes are in pairs and the keys are the event's own.
    """
    at = event.find(spelling.version)
    identified = at + len(spelling.version)
    end = event.find(b"}", identified) + 1
    if at < 0 or not end or not event.startswith(spelling.begin) or _NESTED.search(event, 1, at):
        return None
    if not event.startswith(f'{version}"'.encode(), identified) or _NESTED.search(event, identified, end):
        return None
    if spelling.ok in event[:at]:
        return event[:end]
    outcome = event.find(spelling.ok, end)
    if outcome < 0 or _NESTED.search(event, end, outcome):
        return None
    return event[: outcome + len(spelling.ok)]


def _find_common_end(one: bytes, other: bytes) -> bytes:
    length = 0
    while length < min(len(one), len(other)) and one[-length - 1] == other[-length - 1]:
        length += 1
    return one[len(one) - length :]


def _is_ambiguous(heads: Iterable[bytes]) -> bool:
    """Whether one beginning is the beginning of another: lines would be counted twice."""
    ordered = sorted(heads)
    return any(after.startswith(before) for before, after in pairwise(ordered))
