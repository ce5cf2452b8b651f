"""Reads one source of events or log lines of any shape into a tally; no content can make it raise.

Each block of a source is classified by its look: one event a line, events over several lines, or text.
"""

from __future__ import annotations

import contextlib
import re
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from backout.decoding import UNDECODABLE, is_nested_too_deep
from backout.model.incident.events import NO_VERSION
from backout.providers.events import telemetry
from backout.providers.events.blocks import LONGEST_LINE, read_blocks
from backout.providers.events.broken import BROKEN, CUT, explain_unreadable
from backout.providers.events.fast import COMPACT, Layout, Spelling, learn
from backout.providers.events.structured import parse_entry
from backout.providers.events.text import ANSI, SAMPLING, TextEntries
from backout.providers.events.worker import TAIL, TailEvent, decode_leniently, is_notice, sift

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from backout.model.incident.events import Invocation
    from backout.providers.events.blocks import Stream
    from backout.providers.events.tally import EventTally

_UNDECODABLE: Final = UNDECODABLE
_SPREAD_END: Final = b"\n}\n"
_BANNER: Final = re.compile(r"\s*(?:⛅|─+$|-+$|Successfully created tail|Connected to .*waiting for logs)")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_MOST_CONTROL: Final = 0.1
_SEEN: Final = 2000
_LESSONS: Final = 8
"""How often it is learnt how the ordinary events of a source look."""
_ENOUGH: Final = 64
"""Events from which it is learnt how the ordinary ones look."""

BINARY: Final = "binary data"
LATIN: Final = "text that is not UTF-8 (read as Latin-1)"


class EventReader:
    """Reads one source.

    Args:
        name: the name in places ("events.json, line 12").
        learns: whether ordinary events may be counted without decoding them; the counts are the same.
    """

    def __init__(self, tally: EventTally, name: str, *, learns: bool = True) -> None:
        self._tally = tally
        self._name = name
        self._text = TextEntries()
        self._requests = telemetry.Requests()
        self._object: list[bytes] = []  # lines of a JSON value that has not ended yet
        self._object_size = 0
        self._object_line = 0
        self._line = 0
        self._event = 0  # counted instead of lines where an event has several
        self._saw_events = False
        self._layout: Layout | None = None
        self._lessons = _LESSONS if learns else 0
        self._first = True
        self._last_at: float | None = None
        self._last_line = b""  # of events that were not decoded
        tally.begin_source()

    # --- files and pipes ---------------------------------------------------------------------------------------------

    def read(self, stream: Stream) -> None:
        """Read it to its end."""

        def unreadable(why: str) -> None:
            self._tally.unreadable(why, self._place(1))

        def odd(what: str) -> None:
            self._tally.odd(what, self._name)

        for block in read_blocks(stream, unreadable, odd):
            self._block(block)
        self.finish()

    def _block(self, block: memoryview) -> None:
        if not self._text.is_open:
            beginning = bytes(block[:3])
            if (
                not self._object
                and beginning.startswith(b'{"')
                and (self._sift_block(block, "line") or self._compact(block))
            ):
                return
            if (self._object or beginning == b"{\n ") and self._spread(block):
                return
        self._lines(bytes(block))

    def _sift_block(self, block: memoryview, unit: str) -> bool:
        """Read a block without decoding ordinary events; False when that is impossible, and nothing was read."""
        sifted = self._layout.sift(block) if self._layout is not None and len(block) else None
        if sifted is None:
            return False
        try:
            events = [TAIL.decode(one) for one in sifted.others]
        except _UNDECODABLE:
            return False
        if not all(event.is_tail for event in events):
            return False
        for index in sift(events, sifted.quiet):
            self._take(events[index], sifted.number, is_ascii=sifted.others[index].isascii())
        self._add_quiet(sifted.quiet, sifted.number)
        self._last_line = sifted.last
        if unit == "line":
            self._line += sifted.number
        else:
            self._event += sifted.number
        return True

    def _compact(self, block: memoryview) -> bool:
        """Read a block with one event a line; False when it is something else, and nothing was read."""
        try:
            events = TAIL.decode_lines(block)
        except _UNDECODABLE:
            return False
        if not events or not events[0].is_tail:
            return False
        lines: list[bytes] | None = None
        quiet: dict[str, int] = {}
        others = sift(events, quiet)
        number = len(events)
        for index in others:
            event = events[index]
            if event.is_tail:
                self._take(event, index + 1)
                continue
            number -= 1
            if lines is None:
                lines = [line for line in bytes(block).split(b"\n") if line.strip()]
            self._json_line(lines[index], index + 1)
        self._add_quiet(quiet, number)
        self._bounds(events[0].at, events[-1].at)
        self._line += len(events)
        if number == len(events) and number > _ENOUGH and self._lessons:
            self._lessons -= 1
            self._layout = learn(bytes(block).splitlines(keepends=True), events, others, COMPACT)
        return True

    def _spread(self, block: memoryview) -> bool:
        """Read a block of events over several lines each; False when it is something else, and nothing was read."""
        whole = b"".join((*self._object, block))
        if not whole.startswith(b"{\n ") or len(whole) > LONGEST_LINE:
            return False
        view, decode = memoryview(whole), TAIL.decode
        ends = whole.rfind(_SPREAD_END) + len(_SPREAD_END)
        if ends >= len(_SPREAD_END) and self._sift_block(view[:ends], "event"):
            self._keep(whole[ends:])
            return True
        events: list[TailEvent] = []
        begin = 0
        try:
            while (end := whole.find(_SPREAD_END, begin)) >= 0:
                events.append(decode(view[begin : end + 2]))
                begin = end + len(_SPREAD_END)
        except _UNDECODABLE:
            return False
        quiet: dict[str, int] = {}
        others = sift(events, quiet)
        if not all(events[index].is_tail for index in others):
            return False
        for index in others:
            self._take(events[index], index + 1)
        self._add_quiet(quiet, len(events))
        if events:
            self._bounds(events[0].at, events[-1].at)
        self._event += len(events)
        if len(events) > _ENOUGH and self._lessons:
            self._lessons -= 1
            indent = len(whole) - len(whole[2:].lstrip(b" ")) - 2
            written = [part + _SPREAD_END for part in whole[:begin].split(_SPREAD_END)[:-1]]
            self._layout = learn(written, events, others, Spelling(indent))
        self._keep(whole[begin:])
        return True

    def _keep(self, rest: bytes) -> None:
        """Keep the beginning of an event for the next block."""
        self._object, self._object_size = ([rest], len(rest)) if rest else ([], 0)

    def _add_quiet(self, quiet: Mapping[str, int], number: int) -> None:
        for version, times in quiet.items():
            self._tally.healthy(version, times)
        if number:
            self._tally.shape("tail", number)
            self._saw_events = True

    def _bounds(self, first: float | None, last: float | None) -> None:
        if self._first:
            self._tally.saw(first)
            self._first = False
        self._last_at, self._last_line = last, b""

    # --- single events, for live sources -----------------------------------------------------------------------------

    def take_event(self, raw: str | bytes) -> None:
        """Read one event as a tail's socket or a file has it."""
        line = raw.encode("utf-8", "replace") if isinstance(raw, str) else raw
        self._line += 1
        if not self._json_line(line, 0):
            self._tally.unreadable(BROKEN, self._place())

    def take_answer(self, answer: Mapping[str, object]) -> None:
        """Read one answer of a telemetry query."""
        self._value(dict(answer), 0)

    def finish(self) -> None:
        """Read what still waits for more, because nothing more comes."""
        self._give_up_object()
        self._texts(self._text.rest())
        for event in self._requests.rest():
            self._add(event, "telemetry")
        if self._last_line:
            with contextlib.suppress(*_UNDECODABLE):
                self._last_at = TAIL.decode(self._last_line).at
        self._tally.saw(self._last_at)

    # --- line by line ------------------------------------------------------------------------------------------------

    def _lines(self, block: bytes) -> None:
        lines = block.split(b"\n")
        if not lines[-1]:
            lines.pop()
        for raw in lines:
            self._line += 1
            line = raw.removesuffix(b"\r")
            if self._object and self._continues(line):
                continue
            first = line[:1]
            if first in (b"{", b"["):
                if self._json_line(line, 0):
                    continue
                if line in (b"{", b"["):
                    self._texts(self._text.rest())
                    self._open(line)
                    continue
                if line.startswith((b'{"', b'[{"', b'{ "')):
                    self._tally.unreadable(explain_unreadable(line), self._place())
                    continue
            self._plain(line)

    def _open(self, line: bytes) -> None:
        self._object, self._object_size, self._object_line = [line + b"\n"], len(line), self._line

    def _continues(self, line: bytes) -> bool:
        """Add a line to the open JSON value; False when it is not a part of it."""
        if line in (b"{", b"["):  # the one before was cut off
            self._give_up_object()
            self._open(line)
            return True
        self._object.append(line + b"\n")
        self._object_size += len(line) + 1
        if line in (b"}", b"]", b"},"):
            whole = b"".join(self._object).strip().removesuffix(b",")
            self._object, self._object_size = [], 0
            if not self._json_line(whole, 0):
                self._tally.unreadable(explain_unreadable(whole), self._place())
            return True
        if line and not line.startswith((b" ", b"\t", b"}", b"]", b'"')):  # text where the value should go on
            self._object.pop()
            self._give_up_object()
            return False
        if self._object_size > LONGEST_LINE:
            self._give_up_object()
        return True

    def _give_up_object(self) -> None:
        if self._object:
            whole = b"".join(self._object)
            if not (whole.strip() and self._json_line(whole, 0)):
                self._tally.unreadable(CUT, self._place())
            self._object, self._object_size = [], 0

    def _json_line(self, line: bytes, ahead: int) -> bool:
        """Read one whole JSON value; False when it is something else, and nothing was read."""
        try:
            event = TAIL.decode(line)
        except _UNDECODABLE:
            pass
        else:
            if event.is_tail:
                self._texts(self._text.rest())
                self._take_one(event, ahead)
                return True
        value = self._decode(line)
        if not isinstance(value, dict | list):
            return False
        self._texts(self._text.rest())
        self._value(value, ahead)
        return True

    def _decode(self, line: bytes) -> object:
        if is_nested_too_deep(line):
            return None
        try:
            return msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        try:
            line.decode()
        except UnicodeDecodeError:
            try:
                value: object = msgspec.json.decode(line.decode("latin-1").encode())
            except _UNDECODABLE:
                return None
            self._tally.odd(LATIN, self._place())
            return value
        return None

    def _take_one(self, event: TailEvent, ahead: int) -> None:
        quiet: dict[str, int] = {}
        if sift((event,), quiet):
            self._take(event, ahead)
        self._add_quiet(quiet, 1)
        self._bounds(event.at, event.at)

    def _take(self, event: TailEvent, ahead: int, *, is_ascii: bool = False) -> None:
        if event.is_notice:
            self._tally.sampled = True
            return
        if not is_ascii and not event.is_utf8:
            self._tally.odd(LATIN, self._place(ahead))
        self._tally.add(event.invocation(), partial(self._place, ahead))

    def _value(self, value: object, ahead: int) -> None:
        """Read a decoded JSON value of any known shape."""
        if isinstance(value, list):
            for one in value:
                if isinstance(one, dict):
                    self._value(one, ahead)
            return
        if not isinstance(value, dict):
            return
        answered = telemetry.list_events(value)
        if answered is not None:
            self._tally.sampled = self._tally.sampled or telemetry.is_sampled(value)
            self._join_events(answered)
        elif telemetry.is_telemetry(value):
            self._join_events([value])
        elif is_notice(value):
            self._tally.sampled = True
        elif (event := decode_leniently(value)) is not None:
            self._saw_events = True
            self._add(event, "tail" if "outcome" in value else "logpush", ahead)
        else:
            self._add(parse_entry(value), "json", ahead)

    def _join_events(self, events: Iterable[Mapping[str, object]]) -> None:
        self._saw_events = True
        for one in events:
            for event in self._requests.take(one):
                self._add(event, "telemetry")

    def _add(self, event: Invocation, shape: str, ahead: int = 0) -> None:
        self._tally.shape(shape)
        self._tally.add(event, partial(self._place, ahead))
        self._bounds(event.at, event.at)

    # --- text --------------------------------------------------------------------------------------------------------

    def _plain(self, line: bytes) -> None:
        if len(_CONTROL.findall(line, 0, _SEEN)) > _MOST_CONTROL * min(len(line), _SEEN) or b"\0" in line:
            self._tally.unreadable(BINARY, self._place())
            return
        try:
            text = line.decode()
        except UnicodeDecodeError:
            text = line.decode("latin-1")
            self._tally.odd(LATIN, self._place())
        if SAMPLING in text:
            self._tally.sampled = True
        elif not _BANNER.match(ANSI.sub("", text)):
            self._texts(self._text.take(text, self._line))

    def _texts(self, entries: Iterable[tuple[Invocation, str, int]]) -> None:
        for event, shape, line in entries:
            if shape == "tail_text":
                self._saw_events = True
            elif self._saw_events and not event.said and event.version == NO_VERSION and event.status is None:
                continue  # what a tool prints between the events
            self._tally.shape(shape)
            self._tally.add(event, partial("{}, line {}".format, self._name, line))
            self._bounds(event.at, event.at)

    def _place(self, ahead: int = 0) -> str:
        if self._event:
            return f"{self._name}, event {self._event + ahead}"
        return f"{self._name}, line {self._line + ahead}"
