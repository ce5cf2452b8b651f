"""Port Traffic on the tail of a Worker: every answer as it happens, as long as the tail is complete.

A tail has no past: what was before the connection is not known, and what was missed (a connection that broke, a tail
that leaves out events because there are too many) makes the counts estimates for that page (safety rule 13).
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Final

import msgspec

from backout.decoding import Undecodable, decode_json, make_readable
from backout.errors import ProviderUnavailable
from backout.model.guard.answers import EVERY_CLASS
from backout.model.guard.chosen import Choice, find_choice
from backout.model.guard.routes import make_template
from backout.model.guard.signals import CountsPage, SourceTraits
from backout.model.outcomes import OK, has_failed, is_canceled
from backout.model.triggers import name_queue, name_schedule
from backout.providers.clock import SystemClock
from backout.providers.cloudflare.permissions import READ_TAIL
from backout.providers.cloudflare.tailing import Opened, Tailing, check_address
from backout.providers.exchange import quote_segment
from backout.providers.tally import Answer, Lateness, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from backout.ports import Clock
    from backout.providers.cloudflare.client import ApiClient

SETTLE_S: Final = 3.0
"""How long after an answer its event is waited for at least."""
_FIRST_S: Final = 5.0
_DELETED_S: Final = 2.0
_MOST_KEPT: Final = 5000
_MOST_BYTES: Final = 32 * 1024 * 1024
"""Events that are kept for a diagnosis: 256 kB each at the very most, one or two as a rule."""
_PROBE: Final = "x-backout-probe"
_OBJECT: Final = "durableObject"
"""It runs the code of before for minutes after a switch, and throws while its code is replaced."""
_OVERLOAD, _OVERLOAD_STOP = "overload", "overload-stop"


class _Version(msgspec.Struct):
    id: str = ""


class _Request(msgspec.Struct):
    url: str = ""
    method: str = ""
    headers: dict[str, msgspec.Raw] = {}


class _Response(msgspec.Struct):
    status: int = 0


class _Inner(msgspec.Struct):
    """An event: a request with its response, a schedule, a queue's batch, a notice of the tail itself, or another."""

    request: _Request | None = None
    response: _Response | None = None
    type: str = ""
    cron: str = ""
    queue: str = ""

    @property
    def trigger(self) -> str:
        """The name of the schedule or the queue that ran, "" where it was neither."""
        if self.cron:
            return name_schedule(self.cron)
        return name_queue(self.queue) if self.queue else ""


_FAR_S, _NO_STATUS = 86_400.0, 1000
"""An event is no further away from now than a day; an HTTP status is smaller."""


_NOTHING: Final = frozenset((b"", b"null", b"[]"))


class _Event(msgspec.Struct, rename="camel"):
    """What is counted of an event; visitors can have written anything into its logs, which are not read here."""

    outcome: str = OK
    script_version: _Version | None = None
    event_timestamp: float | None = None
    wall_time: float = 0.0
    exceptions: msgspec.Raw = msgspec.Raw(b"")
    logs: msgspec.Raw = msgspec.Raw(b"")
    event: _Inner | None = None
    execution_model: str = ""

    @property
    def says_something(self) -> bool:
        """Whether it threw or logged."""
        return not {bytes(self.exceptions), bytes(self.logs)} <= _NOTHING


class _Made(msgspec.Struct):
    url: str
    id: str = ""


class TailTraffic:
    """Port Traffic of one Worker; the tail is opened at the first reading.

    Args:
        client: with a token that may tail.
        most: how many events may wait between two readings.

    Attributes:
        misses: events are missing since the last page of counts, which the next one has to say.
    """

    def __init__(
        self, client: ApiClient, account_id: str, script: str, *, clock: Clock | None = None, most: int = 20_000
    ) -> None:
        path = f"accounts/{quote_segment(account_id)}/workers/scripts/{quote_segment(script)}/tails"
        self._tailing = Tailing(_make_opener(client, path), most=most)
        self._clock = clock or SystemClock()
        self._tally = Tally()
        self._late = Lateness(SETTLE_S)
        self._unreadable: Counter[str] = Counter()
        self._since: float | None = None
        self._missed = 0
        self.misses = False
        self._overloaded = False
        self._kept: deque[tuple[float, str | bytes]] = deque()
        self._kept_size = 0
        self._kept_since: float | None = None

    @property
    def traits(self) -> SourceTraits:
        """What this source can see: everything, a few seconds later, until it reports that it leaves out events."""
        return SourceTraits(
            "tail",
            self._late.seconds,
            sampled=False,
            has_status=True,
            has_version=True,
            classes=EVERY_CLASS,
            has_method=True,
            has_triggers=True,
            has_choice=True,
        )

    def learn(self, names: Iterable[str]) -> None:
        """Take the names of routes that are known from before."""
        self._tally.learn(names)

    def count_keyed(self, *, wanted: bool) -> None:
        """Count requests whose version a key chose as all others, or leave them out."""
        self._tally.takes_keyed = wanted

    def read(self, since: int, until: int) -> CountsPage:
        """Return the counts of the seconds in [since, until) since the tail is open.

        Raises:
            AuthError, ProviderRejected: the tail is refused.
            ProviderUnavailable: it is not connected just now.
        """
        now, begun = self.take_in()
        if until <= begun:
            return CountsPage((), since)
        sampled, self.misses = self.misses, False
        return CountsPage(
            self._tally.counts(since, until), int(now - self._late.seconds), sampled, unreadable=dict(self._unreadable)
        )

    def take_in(self) -> tuple[float, float]:
        """Count what waits, and return the time, and that since when the tail is open; errors as `read`."""
        self._tailing.ensure(_FIRST_S)
        now = self._clock.now()
        if self._since is None:
            self._since = now
        overloaded = self._overloaded
        for event in self._tailing:
            overloaded = self._take(event, now) or overloaded
        missed = self._tailing.dropped + self._tailing.gaps
        self.misses = self.misses or overloaded or missed > self._missed
        self._missed = missed
        self._tally.forget(now)
        return now, self._since

    @property
    def kept(self) -> tuple[tuple[float, str | bytes], ...]:
        """The newest events that failed or said something, each with the Unix seconds of its end."""
        return tuple(self._kept)

    @property
    def heard_since(self) -> float | None:
        """Unix seconds from when on all of these are kept; None before the tail is open."""
        return self._since if self._kept_since is None else self._kept_since

    def _keep(self, at: float, text: str | bytes) -> None:
        self._kept.append((at, text))
        self._kept_size += len(text)
        while len(self._kept) > _MOST_KEPT or self._kept_size > _MOST_BYTES:
            gone, old = self._kept.popleft()
            self._kept_size -= len(old)
            self._kept_since = gone

    def close(self) -> None:
        """End the tail."""
        self._tailing.close()

    def _take(self, text: str | bytes, now: float) -> bool:
        """Count an event; return whether events were left out around it."""
        try:
            text, event = _decode_event(text)
        except Undecodable:  # never a reason to doubt its neighbours: a visitor may be able to cause it
            self._unreadable["an event of the tail in another shape"] += 1
            return False
        inner = event.event or _Inner()
        if inner.type in (_OVERLOAD, _OVERLOAD_STOP):
            self._overloaded = inner.type == _OVERLOAD
            return True
        if inner.request is None and not inner.trigger:
            return False
        if inner.request is not None and _has_header(inner.request.headers, _PROBE):
            return False
        if event.script_version is None or not event.script_version.id or event.event_timestamp is None:
            self._unreadable["an event of the tail without a version or a time"] += 1
            return False
        status = inner.response.status if inner.response else 0
        at = (event.event_timestamp + event.wall_time) / 1000
        if abs(at - now) > _FAR_S or not 0 <= event.wall_time <= _FAR_S * 1000 or not 0 <= status < _NO_STATUS:
            self._unreadable["an event of the tail with an impossible time or status"] += 1
            return False
        if event.outcome != OK or has_failed(OK, status) or event.says_something:
            self._keep(at, text)
        self._late.note(now, now - at - 1.0)  # a second of it is ours: it is read about once a second
        self._count(event, inner, at, status)
        return False

    def _count(self, event: _Event, inner: _Inner, at: float, status: int) -> None:
        """Count an event of a request, a schedule or a queue that ended at a time."""
        assert event.script_version is not None
        version = event.script_version.id
        if event.execution_model == _OBJECT:  # kept for a diagnosis; what it does to visitors, their own requests show
            return
        if inner.request is None:
            self._tally.add_trigger(version, at, inner.trigger, failed=event.outcome != OK)
            return
        choice = find_choice(inner.request.headers)
        if choice is Choice.SENDER:
            self._tally.leave_out(version, at)
            return
        self._tally.add(
            Answer(
                version,
                at,
                failed=has_failed(event.outcome, status),
                canceled=is_canceled(event.outcome, status),
                latency_ms=event.wall_time,
                status=status,
                route=make_template(inner.request.method, inner.request.url),
                keyed=choice is Choice.KEYED,
            )
        )


def _make_opener(client: ApiClient, path: str) -> Callable[[], Opened]:
    """Return what makes a tail; its deletion is tried once, since a process may wait for it to end."""

    def open_tail() -> Opened:
        made = client.post(path, {"filters": []}, _Made, permission=READ_TAIL)

        def delete() -> None:
            if made.id:
                client.make_hurried(_DELETED_S).delete(f"{path}/{quote_segment(made.id)}", permission=READ_TAIL)

        try:
            return Opened(check_address(made.url, client.origin), delete)
        except ProviderUnavailable:
            delete()
            raise

    return open_tail


def _decode_event(text: str | bytes) -> tuple[str | bytes, _Event]:
    """Return an event with the text that it can be read from again, which lacks what nobody could read."""
    try:
        return text, decode_json(text, _Event)
    except Undecodable:
        readable = make_readable(text)
        return readable, decode_json(readable, _Event)


def _has_header(headers: Iterable[str], wanted: str) -> bool:
    return any(name.lower() == wanted for name in headers)
