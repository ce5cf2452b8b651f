"""Read the lines of a recorded watch from blocks of bytes, many at once; the rule: no line is fatal.

A block may end anywhere: lines come out as soon as they are whole, so a pipe is answered at once and a file is read in
large pieces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from backout.analysis.detector.wording import count
from backout.decoding import make_decoder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MOST_BYTES: Final = 1024 * 1024
"""A line that is longer than this, and than a block, is skipped, so that it need not be kept."""
_MOST_S: Final = 1e12
"""Times beyond this are not Unix seconds."""
_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

Time = Annotated[float, msgspec.Meta(ge=0, lt=_MOST_S)]


class Line(msgspec.Struct, gc=False):
    """Any line of the contract: a start, a tick, a request that began, or (without `type`) one that ended.

    A time of -1 means none. `id` identifies the request, `bytes` is the length of its body; both are optional, so that
    a bad value there costs no request.
    """

    type: str = ""
    ts: Time = -1.0
    version: str = ""
    outcome: str = ""
    status: int | None = None
    latency_ms: Annotated[float, msgspec.Meta(ge=0)] | None = None
    route: str | None = None
    id: object = None
    bytes: object = None
    deploy_ts: Time = -1.0
    old: str = ""
    new: str = ""
    split: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    watch_s: Annotated[float, msgspec.Meta(gt=0)] = 900.0


class Remarks:
    """What is wrong with lines, by kind: where it occurred first, and how often. No content of a line is kept."""

    def __init__(self) -> None:
        self._kinds: dict[str, list[int]] = {}

    def note(self, why: str, number: int, lines: int = 1) -> None:
        """Note this many lines, the first of them with that number (counted from 1)."""
        self._kinds.setdefault(why, [number, 0])[1] += lines

    @property
    def lines(self) -> int:
        """How many lines were noted."""
        return sum(lines for _, lines in self._kinds.values())

    def sentence(self, what: str) -> str:
        """Return "WHAT 3 lines: " and each kind with its number and first line.

        >>> remarks = Remarks()
        >>> remarks.note("no version", 7)
        >>> remarks.sentence("passed over")
        'passed over 1 line: no version (1, first in line 7)'
        """
        kinds = (f"{why} ({lines:,}, first in line {first:,})" for why, (first, lines) in self._kinds.items())
        return f"{what} {count(self.lines, 'line')}: {'; '.join(kinds)}"


def read_batches(blocks: Iterable[bytes], unreadable: Remarks) -> Iterator[tuple[int, list[Line]]]:
    """Yield (number of the first one, lines) of consecutive readable lines; blank lines cause no remark."""
    decoder = make_decoder(Line)
    for number, many, whole in _read_whole(blocks, unreadable):
        try:
            lines = decoder.decode_lines(whole)
        except _ERRORS:
            lines = []
        # Fewer or more values than lines: some lines are blank, or hold several values or a part of one.
        if len(lines) == many:
            yield number, lines
        else:
            yield from _decode_one_by_one(decoder, number, whole, unreadable)


def _read_whole(blocks: Iterable[bytes], unreadable: Remarks) -> Iterator[tuple[int, int, bytes]]:
    """Yield (number of the first line, how many, whole lines); at the end of input a line needs no end."""
    number, rest, skips = 1, b"", False
    for piece in blocks:
        block = piece
        if skips:
            cut = block.find(b"\n") + 1
            if not cut:
                continue
            block, skips, number = block[cut:], False, number + 1
        end = block.rfind(b"\n") + 1
        if end:
            whole = rest + block[:end]
            lines = whole.count(b"\n")
            yield number, lines, whole
            number += lines
            rest = block[end:]
        else:
            rest += block
        if len(rest) > MOST_BYTES:
            unreadable.note("longer than a megabyte", number)
            rest, skips = b"", True
    if rest:
        yield number, 1, rest


def _decode_one_by_one(
    decoder: msgspec.json.Decoder[Line], first: int, whole: bytes, unreadable: Remarks
) -> Iterator[tuple[int, list[Line]]]:
    found: list[Line] = []
    for number, text in enumerate(whole.removesuffix(b"\n").split(b"\n"), start=first):
        try:
            found.append(decoder.decode(text))
        except _ERRORS as error:
            if text.strip():
                unreadable.note(_explain_error(error), number)
            if found:
                yield number - len(found), found
            found = []
    if found:
        yield number - len(found) + 1, found


def _explain_error(error: Exception) -> str:
    """Return the kind of mistake, without its place in the line."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    return str(error).partition(" (byte ")[0]
