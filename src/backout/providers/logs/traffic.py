"""Port Traffic on a log of requests that the application, or the server before it, writes on this host."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from backout.model.guard.answers import EVERY_CLASS
from backout.model.guard.routes import make_template, parse_route_name
from backout.model.guard.signals import CountsPage, SourceTraits
from backout.providers.clock import SystemClock
from backout.providers.logs.growing import GrowingFile
from backout.providers.logs.request import Fields, Unreadable, parse_logged
from backout.providers.tally import Answer, Lateness, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from backout.ports import Clock

SETTLE_S: Final = 2.0
"""How long after a request ended its line is waited for at least."""


class Log:
    """One file of a log.

    Args:
        name: returns the version for what a line has in its place, and its time; None: lines have its id.
    """

    def __init__(self, file: GrowingFile, name: Callable[[str, float], str] | None = None) -> None:
        self.file = file
        self.name = name
        self.newest = 0.0


class LogTraffic:
    """Port Traffic; the counts of the last two hours are kept, as far as the files have them.

    Args:
        logs: the file, or one of each host; they are counted as one, as far as all of them were read.
        ignore_routes: these do not count, such as that of the health checks.
    """

    def __init__(
        self,
        logs: Path | Sequence[Log],
        fields: Fields | None = None,
        *,
        ignore_routes: Collection[str] = (),
        clock: Clock | None = None,
    ) -> None:
        self._logs = logs if not isinstance(logs, Path) else (Log(GrowingFile(logs)),)
        self._fields = fields or Fields()
        self._ignored = frozenset(ignore_routes)
        self._clock = clock or SystemClock()
        self._tally = Tally()
        self._looked_at: float | None = None
        self._late = Lateness(SETTLE_S)
        self._first: dict[str, str] = {}
        self._unreadable: Counter[str] = Counter()
        self._has_status = True
        self._has_method = self._has_sizes = self._has_types = True

    @property
    def traits(self) -> SourceTraits:
        """What this source can see: never more than the lines have shown; the lag is that of the last ten minutes."""
        return SourceTraits(
            "logs",
            self._late.seconds,
            sampled=False,
            has_status=self._has_status,
            has_version=True,
            classes=EVERY_CLASS if self._has_status else frozenset(),
            has_method=self._has_method,
            has_sizes=self._has_sizes,
            has_types=self._has_sizes and self._has_types,
        )

    def learn(self, names: Iterable[str]) -> None:
        """Take the names of routes that are known from before."""
        self._tally.learn(names)

    def read(self, since: int, until: int) -> CountsPage:
        """Return the counts of the seconds in [since, until), and every kind of line that could not be counted.

        A file without any line tells nothing, and one without a new line nothing newer: a log that is not written any
        more looks like an application without visitors.
        """
        now = self._clock.now()
        for log in self._logs:
            for place, line in log.file.lines():
                self._take(log, line, place, now)
        self._looked_at = now
        self._tally.forget(now)
        newest = min(log.newest for log in self._logs)
        complete_until = min(int(now - self._late.seconds), int(newest) + 1) if newest else since
        unreadable = {f"{why} (first {self._first[why]})": number for why, number in self._unreadable.items()}
        return CountsPage(self._tally.counts(since, until), complete_until, unreadable=unreadable)

    def _take(self, log: Log, text: bytes, place: int, now: float) -> None:
        if not text.strip():
            return
        try:
            line = parse_logged(text, self._fields)
            if line.at > now + SETTLE_S:
                raise Unreadable("its time is in the future")  # noqa: TRY301 - one of the reasons, named below as all of them
        except Unreadable as error:
            self._first.setdefault(str(error), f"at byte {place} of {log.file.path.name}")
            self._unreadable[str(error)] += 1
            return
        log.newest = max(log.newest, line.at)
        if self._looked_at is not None:  # it was not there yet at the look before
            self._late.note(now, self._looked_at - line.at)
        if not line.is_request or line.route.partition("?")[0] in self._ignored:
            return
        # Whoever leaves before the answer gets no status: that says nothing of the log.
        self._has_status = self._has_status and (line.status is not None or line.canceled)
        self._has_method = self._has_method and bool(line.method)
        self._has_sizes = self._has_sizes and (line.size is not None or not line.is_page)
        self._has_types = self._has_types and (bool(line.content_type) or not line.is_page)
        self._tally.add(
            Answer(
                line.version if log.name is None else log.name(line.version, line.at),
                line.at,
                failed=line.failed,
                canceled=line.canceled,
                latency_ms=line.latency_ms,
                status=line.status,
                route=_parse_route(line.method, line.route),
                size=line.size if line.is_page else None,
                content_type=line.content_type,
            )
        )


def _parse_route(method: str, written: str) -> str | None:
    """Return the route of what a log calls so: a path, or the application's own name of it."""
    if not written:
        return None
    return make_template(method, written) if written.startswith("/") else parse_route_name(written, method)
