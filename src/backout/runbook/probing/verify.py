"""Verify: the runbook's success criteria as evidence over time ("Rollback Success Criteria")."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.analysis.detector.criteria import CriteriaEngine
from backout.analysis.detector.monitored import MonitoringTally
from backout.analysis.history.remarks import find_underneath
from backout.decoding import decode_values
from backout.errors import BackoutError
from backout.model.guard.connections import ConnectionUse
from backout.model.guard.signals import get_bucket_floor_ms
from backout.model.guard.verdict import CriterionResult, CriterionState, Verification
from backout.model.incident.notice import NoticeKind
from backout.model.plan import PlanKind
from backout.model.steps.forward import ReadNewStep
from backout.model.steps.recovery import GoLiveStep
from backout.model.steps.rollback import ActivateStep, ReadBackStep
from backout.model.steps.verification import VerifyStep
from backout.model.value import Value
from backout.ports import Action, find_result
from backout.report.times import format_clock
from backout.runbook.guard.heartbeat import Heartbeat
from backout.runbook.incident.tell import tell_rollback
from backout.runbook.probing.looks import make_connections_prober
from backout.runbook.probing.pre_promotion import find_chosen
from backout.runbook.probing.prober import Prober
from backout.runbook.rollback.reupload import keep
from backout.runbook.safety.checks import await_listed, is_late

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.deployment import Deployment
    from backout.model.guard.monitored import Monitored
    from backout.model.guard.signals import Counts, HealthReport
    from backout.ports import StepContext
    from backout.runbook.toolbox import Toolbox

TICK_S = 1.0


class Watched(Value, frozen=True):
    """What to verify: the live version, the one that was left (or None), since when, and where its baseline ends.

    `for_s`: how long at least, although all is decided.
    """

    live: str
    left: str | None
    started_at: float
    baseline_until: float
    fails_early: bool = False
    for_s: float = 0.0


LOOK_AGAIN_S = 5.0
"""How often to check that the version is still live: "verified" is said of what has the traffic (rule 14)."""


@dataclass(slots=True)
class _Lookout:
    """Checks whether the deployment that this run made still decides what has traffic."""

    tools: Toolbox
    made: str
    since: float
    version: str
    look_again_at: float = 0.0

    def find_successor(self, now: float) -> str:
        """Return the deployment that took its place, or ""; it asks every few seconds; no answer is no move."""
        if now < self.look_again_at:
            return ""
        self.look_again_at = now + LOOK_AGAIN_S
        try:
            return self._describe_successor(self.tools.deployments.history())
        except BackoutError:
            return ""

    def conclude(self, verification: Verification) -> Verification:
        """Return the verification, without its proof when the version is no longer live, or that is not known."""
        try:
            moved = self._describe_successor(await_listed(self.tools, self.made))
        except BackoutError as error:
            moved = f"what is live at the end could not be read ({error})" if verification.verified else ""
        return make_void(verification, moved) if moved else verification

    def _describe_successor(self, history: Sequence[Deployment]) -> str:
        if not history:
            return "nothing is deployed any more"
        if is_late(history, self.made, self.since):
            return ""
        live = find_underneath(history)
        return "" if live.sole == self.version else f"deployment {live.id} (version {live.main}) took its place"


def make_void(verification: Verification, why: str) -> Verification:
    """Return a verification that proves nothing about what is live now, and says why."""
    return replace(verification, verified=None, summary=f"{why}; until then: {verification.summary}")


class Verify(Action[VerifyStep, Verification]):
    """Step `verify` {version, left, baseline_until}: watch until the criteria are decided, at most `watch` seconds.

    With `for_s` it goes on for so long, and keeps what was seen. After an automatic rollback a certain failure ends it
    at once, so that `settle` can act on it.

    It only reads, so it can be repeated after a crash; its deadline survives in the journal.
    """

    arguments = VerifyStep
    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: VerifyStep, context: StepContext) -> Verification:
        """Return the Verification as JSON."""
        earlier = context.last_progress()
        now = self._tools.clock.now()
        started_at = decode_values(earlier["started_at"], float) if earlier else now + args.cache_s
        if not earlier:
            context.progress({"started_at": started_at})
        _wait_until(self._tools, context, started_at)
        left = args.left or None
        if left is not None:
            keep(self._tools, left)
        live, baseline_until = find_chosen(self._tools, context.run, args.version), args.baseline_until or started_at
        automatic = _is_automatic(self._tools, context.run)
        watched = Watched(live, left, started_at, baseline_until, fails_early=automatic, for_s=args.for_s)
        return verify_criteria(self._tools, context, watched, self._lookout(context.run, live))

    def _lookout(self, run: str, live: str) -> _Lookout:
        runs = self._tools.runs
        made = next(
            filter(None, (find_result(runs, run, kind) for kind in (ReadBackStep, ReadNewStep, GoLiveStep))), None
        )
        if made is None:
            return _Lookout(self._tools, "", 0.0, live)
        return _Lookout(self._tools, made.deployment, made.since, live)


def verify_criteria(tools: Toolbox, context: StepContext, watched: Watched, lookout: _Lookout) -> Verification:
    """Return the verification since `started_at`; the baseline is the live version's own traffic before."""
    baseline = _read_baseline(tools, watched.live, watched.baseline_until)
    longest_s = max(tools.policy.criteria.watch_s, watched.for_s)
    engines = _Engines(tools, watched, baseline, longest_s)
    look = tools.health.look if tools.health is not None else None
    every_s = tools.policy.guard.probe_every_s
    prober = Prober("health", look, tools.clock, every_s, in_background=tools.guard.in_background)
    tally = _Tally(tools, watched, baseline) if watched.for_s else None
    heartbeat, feed = Heartbeat(tools), _Feed(math.ceil(watched.started_at))
    news = _News(tools, context.run, watched.started_at + TOLD_AFTER_S)
    told: tuple[tuple[str, CriterionState], ...] = ()
    try:
        while True:
            context.check()
            heartbeat.beat()
            counts, reports = _read_counts(tools, feed), prober.collect()
            engines.add(drop_earlier(counts, watched.left, lookout.since or watched.started_at), reports)
            if tally is not None:
                tally.add(counts, reports)
            now = tools.clock.now()
            engine = engines.choose(now)
            results = engine.results(now)
            states = tuple((result.name, result.state) for result in results)
            if states != told:
                told = states
                context.progress(
                    {"started_at": watched.started_at, "criteria": {name: str(state) for name, state in states}}
                )
            if tools.guard.watching is not None:
                tools.guard.watching(results)
            seen = None if tally is None else tally.summarize(now)
            if _is_decided(results, asked=now < watched.started_at + watched.for_s) or (
                now >= watched.started_at + longest_s
            ):
                ended = replace(
                    engine.verification(now), sampled=feed.sampled, counted_until=feed.complete_until, seen=seen
                )
                return lookout.conclude(ended)
            news.tick(now)
            moved = lookout.find_successor(now)
            if moved:
                return make_void(replace(engine.verification(now), seen=seen), moved)
            tools.clock.sleep(TICK_S)
    finally:
        prober.close()
        if tally is not None:
            tally.close()


def drop_earlier(counts: Sequence[Counts], left: str | None, since: float) -> list[Counts]:
    """Return the counts without the answers of the version left that began before the switch, as long as that is sure.

    A long answer, such as a download, is no request that reaches it; its latency says when it began at the latest.
    (From about a minute on latencies are not told apart, so later it may have begun behind the switch, and counts.)

    Args:
        since: when the switch was made, in Unix seconds.
    """

    def drop(row: Counts) -> Counts:
        limit_ms = 1000 * (row.second + 1 - since)
        earlier = sum(number for bucket, number in row.latency.items() if get_bucket_floor_ms(bucket) > limit_ms)
        return replace(row, requests=max(0, row.requests - earlier)) if earlier else row

    return [drop(row) if row.version == left else row for row in counts]


class _Engines:
    """The criteria over their own watch, and over the one that was asked for; at the end of each, looks are final."""

    def __init__(self, tools: Toolbox, watched: Watched, baseline: Sequence[Counts], longest_s: float) -> None:
        criteria = tools.policy.criteria
        self._until = watched.started_at + criteria.watch_s
        self._own, self._longer = (
            CriteriaEngine(
                replace(criteria, watch_s=watch_s),
                tools.policy,
                started_at=watched.started_at,
                live_version=watched.live,
                left_version=watched.left,
                baseline=baseline,
                has_health=tools.health is not None,
                has_traffic=tools.traffic is not None,
                fails_early=watched.fails_early,
            )
            for watch_s in (criteria.watch_s, longest_s)
        )

    def add(self, counts: Sequence[Counts], reports: Sequence[HealthReport]) -> None:
        for each in (self._own, self._longer):
            each.add(counts)
            for report in reports:
                each.add_health(report)

    def choose(self, now: float) -> CriteriaEngine:
        return self._own if now <= self._until else self._longer


class _Tally:
    """Adds up what is seen of the live version and of the database's connections, for whoever asked to watch."""

    def __init__(self, tools: Toolbox, watched: Watched, baseline: Sequence[Counts]) -> None:
        self._tally = MonitoringTally(tools.policy, watched.started_at, tools.policy.criteria.error_rate_for_s)
        usual_from = f"its own before {format_clock(watched.baseline_until)} UTC"
        self._tally.follow(watched.live, watched.started_at, baseline, usual_from)
        self._connections = make_connections_prober(tools)

    def add(self, counts: Sequence[Counts], reports: Sequence[HealthReport]) -> None:
        self._tally.add(counts)
        for report in reports:
            self._tally.add_health(report)
        for use in self._connections.collect():
            if isinstance(use, ConnectionUse):
                self._tally.add_connections(use)

    def summarize(self, until: float) -> Monitored:
        return self._tally.summarize(until)

    def close(self) -> None:
        self._connections.close()


def _wait_until(tools: Toolbox, context: StepContext, at: float) -> None:
    """Wait for the end of a cache, whose answers would prove nothing."""
    heartbeat, left_s = Heartbeat(tools), at - tools.clock.now()
    if left_s > 0:
        tools.say(f"verifying in {left_s:.0f} s: until then Hyperdrive may answer with rows from before")
    while tools.clock.now() < at:
        context.check()
        heartbeat.beat()
        tools.clock.sleep(min(TICK_S, max(at - tools.clock.now(), 0.0)))


TOLD_AFTER_S = 20.0
"""A verification that takes longer than this does not hold back the notice of the rollback."""


@dataclass(slots=True)
class _News:
    """Tells of the rollback, once, when its verification takes long."""

    tools: Toolbox
    run: str
    at: float
    told: bool = False

    def tick(self, now: float) -> None:
        if now >= self.at and not self.told:
            self.told = True
            found = self.tools.runs.find(self.run)
            if found is not None and found.plan.kind is PlanKind.RECOVER:  # it tells at its own end, of all its parts
                return
            tell_rollback(self.tools, NoticeKind.ROLLED_BACK, self.run, pending=True)


def _is_automatic(tools: Toolbox, run: str) -> bool:
    found = tools.runs.find(run)
    if found is None or not found.plan.has(ActivateStep):
        return False
    return bool(found.plan.arguments(ActivateStep).detected)


def _is_decided(results: tuple[CriterionResult, ...], *, asked: bool) -> bool:
    """Whether one criterion has failed, which decides the whole, or nothing is open and nobody `asked` for more."""
    states = {result.state for result in results}
    return CriterionState.FAILED in states or (CriterionState.WAITING not in states and not asked)


@dataclass(slots=True)
class _Feed:
    """Up to where the counts were read, how far they reach, and whether there were estimates among them."""

    read_until: int
    complete_until: int | None = None
    sampled: bool = False


def _read_counts(tools: Toolbox, feed: _Feed) -> list[Counts]:
    """Return the new final seconds; a source that does not answer leaves a gap."""
    if tools.traffic is None:
        return []
    try:
        page = tools.traffic.read(feed.read_until, int(tools.clock.now()) + 1)
    except BackoutError:
        return []
    feed.read_until = max(feed.read_until, page.complete_until)
    feed.complete_until = page.complete_until
    feed.sampled = feed.sampled or page.sampled
    return [row for row in page.counts if row.second < page.complete_until]


def _read_baseline(tools: Toolbox, version: str, until: float) -> tuple[Counts, ...]:
    if tools.traffic is None:
        return ()
    since = int(until - tools.policy.guard.baseline_s)
    try:
        page = tools.traffic.read(since, int(until))
    except BackoutError:
        return ()
    return tuple(row for row in page.counts if row.version == version)
