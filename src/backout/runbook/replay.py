"""Guard on recorded events: contract lines in, one verdict line per tick out. The same detector as the live guard."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from backout.analysis.decision import Detector
from backout.model.policy import Policy
from backout.model.routes import OTHER, added, most_used, route_named
from backout.model.signals import BUCKET_RATIO, BUCKETS, Counts, RouteCounts
from backout.model.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DONE, NOTHING_READ = 0, 7
HEALTHY_AFTER = 2 / 3
"""A replay calls a version healthy only after this part of the watch: a leak takes minutes to show."""
_SCALE = 1.0 / math.log(BUCKET_RATIO)
_SERVER_ERROR = 500
_MOST_S = 1e12
"""Times beyond this are no Unix seconds."""
_MOST_OPEN = 256
"""Of one version, so many routes are told apart in the second that is open."""


class Line(msgspec.Struct, gc=False):
    """Any line of the contract: a start, a tick, or (without `type`) a request."""

    type: str = ""
    ts: float = -1.0
    version: str = ""
    outcome: str = ""
    status: int | None = None
    latency_ms: float | None = None
    route: str | None = None
    deploy_ts: float = -1.0
    old: str = ""
    new: str = ""
    split: float = 1.0
    watch_s: float = 900.0


class Answer(msgspec.Struct):
    """One answer to a tick."""

    ts: float
    verdict: str
    reason: str


class Route:
    """What one version answered on one route in the second that is open."""

    __slots__ = ("errors", "latency", "requests")

    def __init__(self) -> None:
        self.requests = self.errors = 0
        self.latency: dict[int, int] = {}


class Second:
    """What one version answered in the second that is open, by route as it was written."""

    __slots__ = ("canceled", "routes")

    def __init__(self) -> None:
        self.canceled = 0
        self.routes: dict[str | None, Route] = {}

    def of(self, route: str | None) -> Route:
        """Return the counts of a route, of all others where too many were seen in this second."""
        key = route if route in self.routes or len(self.routes) < _MOST_OPEN else OTHER
        return self.routes.setdefault(key, Route())

    def as_model(self, version: str, second: int) -> Counts:
        """Return the noun; nothing was added up before, so that a request costs no more for having a route."""
        requests = errors = 0
        latency: dict[int, int] = {}
        routes: dict[str, RouteCounts] = {}
        for written, found in self.routes.items():
            requests += found.requests
            errors += found.errors
            for bucket, number in found.latency.items():
                latency[bucket] = latency.get(bucket, 0) + number
            if written:
                name = route_named(written)
                part = RouteCounts(found.requests, found.errors, found.latency)
                routes[name] = added((routes[name], part)) if name in routes else part
        return Counts(version, second, requests, errors, self.canceled, latency, most_used(routes))


class Replay:
    """Turns the requests of one recorded watch into counts per second and asks the detector at each tick."""

    def __init__(self, start: Line, policy: Policy) -> None:
        self._start = start
        self._policy = policy
        self._second = -1
        self._open: dict[str, Second] = {}
        self._baseline: list[Counts] = []
        self._detector: Detector | None = None
        self._rolled_back: str | None = None

    def request(self, line: Line) -> None:
        """Count one request."""
        second = int(line.ts)
        if second != self._second:
            self._flush()
            self._second = second
        counts = self._open.get(line.version)
        if counts is None:
            counts = self._open[line.version] = Second()
        outcome = line.outcome
        if outcome == "canceled":
            counts.canceled += 1
            return
        route = counts.routes.get(line.route)
        if route is None:
            route = counts.of(line.route)
        route.requests += 1
        if outcome != "ok" or (line.status is not None and line.status >= _SERVER_ERROR):
            route.errors += 1
        latency = line.latency_ms
        if latency is not None:
            bucket = 0 if latency <= 1.0 else min(int(math.log(min(latency, 1e9)) * _SCALE), BUCKETS - 1)
            route.latency[bucket] = route.latency.get(bucket, 0) + 1

    def tick(self, now: float) -> tuple[str, str]:
        """Return (verdict, reason) as of `now`."""
        self._flush()
        if self._rolled_back is not None:
            return "rollback", self._rolled_back
        if self._detector is None:
            return "continue", "the deployment is still to come"
        verdict, _, reason = self._detector.judge(now)
        if verdict is Verdict.REGRESSED:
            self._rolled_back = reason
            return "rollback", reason
        return ("healthy" if verdict is Verdict.HEALTHY else "continue"), reason

    def deploy(self) -> None:
        """Close the baseline and begin the watch."""
        if self._detector is not None:
            return
        self._flush()
        start = self._start
        self._detector = Detector(
            version=start.new,
            old=start.old,
            deployed_at=start.deploy_ts,
            split=start.split,
            baseline=self._baseline,
            policy=self._policy,
            healthy_after_s=HEALTHY_AFTER * start.watch_s,
        )
        self._baseline = []

    def _flush(self) -> None:
        if not self._open:
            return
        rows = [found.as_model(version, self._second) for version, found in self._open.items()]
        self._open = {}
        if self._detector is None:
            self._baseline.extend(rows)
        else:
            self._detector.add(rows)


def replay(
    lines: Iterable[bytes],
    write: Callable[[str], None],
    policy: Policy | None = None,
    warn: Callable[[str], None] | None = None,
) -> int:
    """Answer every tick with one line and return the exit code: 0 at the end of input, 7 when no request line was read.

    Args:
        lines: contract lines, with or without line ends. write: takes one complete line with its end, and flushes.
        policy: None means alpha 1e-3, no confirm time, no warm-up. warn: takes one sentence about lines passed over.
    """
    decode = msgspec.json.Decoder(Line).decode
    encode = msgspec.json.Encoder().encode
    run: Replay | None = None
    deploy_ts = math.inf
    requests = unreadable = 0
    for raw in lines:
        try:
            line = decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            unreadable += bool(raw.strip())
            continue
        if not _is_sound(line):
            unreadable += 1
        elif line.type == "start":
            run, deploy_ts = Replay(line, policy or Policy()), line.deploy_ts
        elif run is None:
            unreadable += 1
        else:
            if line.ts >= deploy_ts:
                run.deploy()
                deploy_ts = math.inf
            if line.type == "tick":
                verdict, reason = run.tick(line.ts)
                write(encode(Answer(line.ts, verdict, reason)).decode() + "\n")
            else:
                requests += 1
                run.request(line)
    if unreadable and warn is not None:
        warn(f"{unreadable} lines could not be read and were passed over")
    return DONE if requests else NOTHING_READ


def _is_sound(line: Line) -> bool:
    """Whether the line has what its type needs."""
    kind = line.type
    if not kind:
        return 0 <= line.ts < _MOST_S and line.version != "" and line.outcome != ""
    if kind == "tick":
        return 0 <= line.ts < _MOST_S
    return kind == "start" and 0 <= line.deploy_ts < _MOST_S and 0 < line.split <= 1 and line.old != line.new != ""
