"""Guard on recorded events: contract lines in, one verdict line per tick out. The same detector as the live guard."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from backout.analysis.detector.decision import Detector
from backout.analysis.detector.unseen import describe_unseen
from backout.analysis.statistics.quantiles import make_histogram
from backout.model.guard.answers import EVERY_CLASS, AnswerClass, classify
from backout.model.guard.bodies import find_size_bucket
from backout.model.guard.policy import GuardPolicy, Policy
from backout.model.guard.routes import add_up, parse_route_name, select_most_used
from backout.model.guard.signals import Counts, RouteCounts, SourceTraits
from backout.model.guard.verdict import Verdict
from backout.model.outcomes import has_failed, is_canceled
from backout.runbook.hindsight.contract_lines import Remarks, read_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from backout.runbook.hindsight.contract_lines import Line

DONE, NOTHING_READ = 0, 7
PLAIN: Final = Policy(guard=GuardPolicy(slow_start_s=0.0))
"""The policy of a replay without a configuration: alpha 1e-3, no confirm time, no warm-up, no slow start forgiven."""
HEALTHY_AFTER = 2 / 3
"""A replay calls a version healthy only after this part of the watch: a leak takes minutes to show."""
FAR_S: Final = 86_400.0
"""A request this long before the deployment, or after the newest line, is a mistake (milliseconds, another epoch).

If counted, it would stretch the baseline, or open a minute that all later ones would fall into.
"""
_MOST_KINDS: Final = 4096
"""How many kinds of requests are kept apart at a time, however many an attacker makes up."""
_OK: Final = 200
_NOTHING_OPEN = (math.inf, -math.inf)
_NO_START = "before the start line"


class Answer(msgspec.Struct):
    """One answer to a tick."""

    ts: float
    verdict: str
    reason: str


class Kind(NamedTuple):
    """What requests of one second that are counted together have in common."""

    version: str
    outcome: str
    status: int | None
    route: str | None


@dataclass(slots=True)
class _Sum:
    requests: int = 0
    errors: int = 0
    latencies_ms: list[float | None] = field(default_factory=list)
    classes: dict[AnswerClass, int] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    started: int = 0


class Second:
    """The answers of one version in the open second, by route."""

    def __init__(self) -> None:
        self._canceled = 0
        self._routes: dict[str, _Sum] = {}  # "" for the requests that have none

    def add(self, kind: Kind, latencies_ms: list[float | None]) -> None:
        """Count requests of a kind, one for each latency; None where it was not measured."""
        number = len(latencies_ms)
        if is_canceled(kind.outcome):
            self._canceled += number
            return
        found = self._of(kind.route)
        found.requests += number
        found.latencies_ms += latencies_ms
        if has_failed(kind.outcome, kind.status):
            found.errors += number
            return
        answered = classify(kind.status)
        if answered is not None and answered is not AnswerClass.GOOD:
            found.classes[answered] = found.classes.get(answered, 0) + number

    def add_size(self, route: str | None, bucket: int, number: int) -> None:
        """Count bodies of answers with status 200."""
        sizes = self._of(route).sizes
        sizes[bucket] = sizes.get(bucket, 0) + number

    def add_started(self, route: str | None, number: int) -> None:
        """Count requests that began."""
        self._of(route).started += number

    def _of(self, route: str | None) -> _Sum:
        return self._routes.setdefault(parse_route_name(route) if route else "", _Sum())

    def as_counts(self, version: str, second: int) -> Counts:
        """Return the noun."""
        routes = {
            name: RouteCounts(
                found.requests,
                found.errors,
                make_histogram(found.latencies_ms),
                found.classes,
                found.sizes,
                found.started,
            )
            for name, found in self._routes.items()
        }
        whole = add_up(routes.values())
        routes.pop("", None)
        return Counts(
            version,
            second,
            whole.requests,
            whole.errors,
            self._canceled,
            whole.latency,
            select_most_used(routes),
            whole.classes,
            whole.started,
        )


class Replay:
    """Counts the requests of a recorded watch per second and asks the detector at each tick.

    The work done for each single request decides the speed. So a request only joins those of its second that are alike
    in all but latency; they are interpreted once for all of them, when the second is over.

    Args:
        answer: is called with each answer.
        passed: notes lines that do not count.
        odd: notes odd lines that still count.
    """

    def __init__(self, policy: Policy, answer: Callable[[Answer], None], passed: Remarks, odd: Remarks) -> None:
        self._policy = policy
        self._answer = answer
        self._passed = passed
        self._odd = odd
        self._start: Line | None = None
        self._span = _NOTHING_OPEN  # the times [since, until) whose requests are in `_alike`
        self._second = -1
        self._late_from = 0  # number of the line that went back to this second, 0: none did
        self._alike: dict[tuple[str, str, int | None, str | None], list[float | None]] = {}  # by `Kind`
        self._sizes: Counter[tuple[str, str | None, int]] = Counter()  # (version, route, bucket) of answers with 200
        self._started: Counter[tuple[str, str | None]] = Counter()  # (version, route)
        self._newest = -math.inf
        self._baseline: list[Counts] = []
        self._detector: Detector | None = None
        self._rolled_back: str | None = None
        self._requests = 0
        self._seen = SourceTraits("the recording", 0.0, sampled=False, has_status=False, has_version=True)

    def take(self, first: int, lines: Iterable[Line]) -> None:
        """Take lines in the order of the recording; the first one has that number."""
        alike = self._alike
        since, until = self._span
        for number, line in enumerate(lines, start=first):
            if line.type:
                self._control(line, number)
                since, until = self._span
                continue
            if not since <= line.ts < until:
                if not self._opens(line, number):
                    continue
                since, until = self._span
            try:
                alike[line.version, line.outcome, line.status, line.route].append(line.latency_ms)
            except KeyError:
                if not self._begin_kind(line, number):
                    continue
            if line.bytes is not None and line.status == _OK:
                self._add_size(line, number)

    def finish(self) -> int:
        """Return how many requests were counted."""
        self._flush()
        return self._requests

    def _add_size(self, line: Line, number: int) -> None:
        length = line.bytes
        if isinstance(length, int) and not isinstance(length, bool) and length >= 0:
            self._sizes[line.version, line.route, find_size_bucket(length)] += 1
        else:
            self._odd.note("its bytes are no number of bytes", number)

    def _begin_kind(self, line: Line, number: int) -> bool:
        lacking = _describe_missing(line)
        if lacking:
            self._passed.note(lacking, number)
            return False
        if len(self._alike) >= _MOST_KINDS:
            self._flush()  # the second stays open: a row may come in parts
        self._alike[line.version, line.outcome, line.status, line.route] = [line.latency_ms]
        return True

    def _control(self, line: Line, number: int) -> None:
        if line.type == "start":
            if line.deploy_ts < 0 or not line.new or line.old == line.new:
                self._passed.note("a start without a time, or without two versions", number)
            else:
                self._begin(line)
        elif line.type == "started":
            self._begin_request(line, number)
        elif line.type != "tick":
            self._passed.note("its type is neither start, started nor tick", number)
        elif self._start is None:
            self._passed.note(_NO_START, number)
        elif line.ts < 0:
            self._passed.note("no ts", number)
        else:
            verdict, reason = self._tick(line.ts, self._start)
            self._answer(Answer(line.ts, verdict, reason))

    def _begin_request(self, line: Line, number: int) -> None:
        """Count a request that began."""
        lacking = _describe_missing(line, ends=False)
        if lacking:
            self._passed.note(lacking, number)
            return
        if len(self._started) >= _MOST_KINDS:
            self._flush()
        since, until = self._span
        if since <= line.ts < until or self._opens(line, number, ends=False):
            self._started[line.version, line.route] += 1

    def _begin(self, start: Line) -> None:
        self._flush()
        self._start = start
        self._span = _NOTHING_OPEN
        self._newest = start.deploy_ts
        self._baseline = []
        self._detector = None
        self._rolled_back = None

    def _opens(self, line: Line, number: int, *, ends: bool = True) -> bool:
        """Open the second of a request; False: it does not count, which is noted.

        Args:
            ends: whether it ended then, and not only began.
        """
        ts, start = line.ts, self._start
        why = _describe_missing(line, ends=ends)
        if start is None:
            why = _NO_START
        elif not why and not start.deploy_ts - FAR_S <= ts <= self._newest + FAR_S:
            why = "its ts is more than a day away"
        elif not why and self._detector is not None and ts < start.deploy_ts:
            why = "out of order: older than the deployment, which is over"
        if why or start is None:
            self._passed.note(why, number)
            return False
        self._flush()
        second = int(ts)
        self._late_from = 0
        if ts < start.deploy_ts:
            self._span = (second, min(second + 1, start.deploy_ts))
        else:
            self._deploy(start)
            self._span = (max(second, start.deploy_ts), second + 1)
            if second < int(self._newest):
                self._late_from = number
        self._second = second
        self._newest = max(self._newest, ts)
        return True

    def _tick(self, now: float, start: Line) -> tuple[str, str]:
        """Return (verdict, reason) as of `now`."""
        self._flush()
        if now >= start.deploy_ts:
            self._deploy(start)
        if now <= self._newest + FAR_S:
            self._newest = max(self._newest, now)
        if self._rolled_back is not None:
            return "rollback", self._rolled_back
        if self._detector is None:
            return "continue", "the deployment is still to come"
        self._detector.note_until(now)
        verdict, _, reason = self._detector.judge(now)
        if verdict is Verdict.REGRESSED:
            self._rolled_back = reason
            return "rollback", reason
        if verdict is not Verdict.HEALTHY:
            return "continue", reason
        blind = describe_unseen(self._seen)
        return "healthy", f"{reason}; {blind}" if blind else reason

    def _deploy(self, start: Line) -> None:
        """Close the baseline and begin the watch, once."""
        if self._detector is not None:
            return
        self._detector = Detector(
            version=start.new,
            old=start.old,
            deployed_at=start.deploy_ts,
            split=start.split,
            baseline=self._baseline,
            policy=self._policy,
            healthy_after_s=HEALTHY_AFTER * start.watch_s,
            watch_s=start.watch_s,
        )
        self._baseline = []
        self._span = _NOTHING_OPEN

    def _flush(self) -> None:
        """Pass the open second so far to the baseline or to the detector."""
        if not self._alike and not self._started:
            return
        found: dict[str, Second] = {}
        number = 0
        self._note_seen()
        for kind, latencies_ms in self._alike.items():
            found.setdefault(kind[0], Second()).add(Kind(*kind), latencies_ms)
            number += len(latencies_ms)
        for (version, route, bucket), many in self._sizes.items():
            found.setdefault(version, Second()).add_size(route, bucket, many)
        for (version, route), many in self._started.items():
            found.setdefault(version, Second()).add_started(route, many)
        for kept in (self._alike, self._sizes, self._started):
            kept.clear()
        self._requests += number
        if self._late_from:
            self._odd.note("out of order, each in its own second", self._late_from, number)
        rows = [row.as_counts(version, self._second) for version, row in found.items()]
        if self._detector is None:
            self._baseline += rows
        else:
            self._detector.add(rows)

    def _note_seen(self) -> None:
        """Note which optional fields the lines have; none of them tells types or what a schedule did."""
        seen = self._seen
        has_status = seen.has_status or any(status is not None for _, _, status, _ in self._alike)
        has_method = seen.has_method or any(" " in (route or "") for _, _, _, route in self._alike)
        self._seen = replace(
            seen,
            has_status=has_status,
            classes=EVERY_CLASS if has_status else frozenset(),
            has_method=has_method,
            has_started=seen.has_started or bool(self._started),
            has_sizes=seen.has_sizes or bool(self._sizes),
        )


def replay(
    blocks: Iterable[bytes],
    write: Callable[[str], None],
    policy: Policy | None = None,
    warn: Callable[[str], None] | None = None,
) -> int:
    """Answer every tick with one line and return the exit code: 0 at the end of input, 7 when no request line was read.

    Args:
        blocks: contract lines, in pieces of any size.
        write: takes one complete line with its end, and flushes.
        policy: None means `PLAIN`.
        warn: takes a sentence about the lines passed over, and one about those that count although something is odd
            about them.
    """
    encode = msgspec.json.Encoder().encode
    passed, odd = Remarks(), Remarks()
    run = Replay(policy or PLAIN, lambda answer: write(encode(answer).decode() + "\n"), passed, odd)
    for first, lines in read_batches(blocks, passed):
        run.take(first, lines)
    requests = run.finish()
    if warn is not None:
        for remarks, what in ((passed, "passed over"), (odd, "counted all the same")):
            if remarks.lines:
                warn(remarks.sentence(what))
    return DONE if requests else NOTHING_READ


def _describe_missing(line: Line, *, ends: bool = True) -> str:
    """Return what is missing from a request that ended, or only began, or ""."""
    if line.ts < 0:
        return "no ts"
    if not line.version:
        return "no version"
    return "" if line.outcome or not ends else "no outcome"
