"""Verify: the runbook's success criteria as evidence over time ("Rollback Success Criteria")."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from backout.analysis.criteria import CriteriaEngine
from backout.analysis.remarks import underneath
from backout.errors import BackoutError
from backout.model.notice import NoticeKind
from backout.model.verdict import CriterionResult, CriterionState, Verification
from backout.ports import NotDone
from backout.runbook.carry import keep
from backout.runbook.checks import is_late, listed_after
from backout.runbook.prober import Prober
from backout.runbook.prove import chosen
from backout.runbook.pulse import Pulse
from backout.runbook.tell import tell_rollback

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.model.deployment import Deployment
    from backout.model.plan import Json
    from backout.model.signals import Counts
    from backout.ports import Probe, StepContext
    from backout.runbook.toolbox import Toolbox

TICK_S = 1.0


@dataclass(frozen=True, slots=True)
class Watched:
    """What is verified: the live version, the one that was left (or None), since when, and where its baseline ends."""

    live: str
    left: str | None
    started_at: float
    baseline_until: float
    fails_early: bool = False


LOOK_AGAIN_S = 5.0
"""How often it is made sure that the version is live still: "verified" is said of what has the traffic (rule 14)."""


@dataclass(slots=True)
class _Lookout:
    """Watches whether the deployment that this run made still decides what has traffic."""

    tools: Toolbox
    made: str
    since: float
    version: str
    look_again_at: float = 0.0

    def moved(self, now: float) -> str:
        """Return which deployment took its place, or ""; it asks every few seconds, and no answer is no move."""
        if now < self.look_again_at:
            return ""
        self.look_again_at = now + LOOK_AGAIN_S
        try:
            return self._said(self.tools.deployments.history())
        except BackoutError:
            return ""

    def concluded(self, verification: Verification) -> Verification:
        """Return the verification, without its proof when the version is not live any more, or nobody can tell."""
        try:
            moved = self._said(listed_after(self.tools, self.made))
        except BackoutError as error:
            moved = f"what is live at the end could not be read ({error})" if verification.verified else ""
        return void(verification, moved) if moved else verification

    def _said(self, history: Sequence[Deployment]) -> str:
        if not history:
            return "nothing is deployed any more"
        if is_late(history, self.made, self.since):
            return ""
        live = underneath(history)
        return "" if live.sole == self.version else f"deployment {live.id} (version {live.main}) took its place"


def void(verification: Verification, why: str) -> Verification:
    """Return a verification that proves nothing about what is live now, and says why."""
    return replace(verification, verified=None, summary=f"{why}; until then: {verification.summary}")


class Verify:
    """Step `verify` {version, left, baseline_until}: watch until the criteria are decided, at most `watch` seconds.

    After an automatic rollback a failure that is certain ends it at once, so that `settle` can do something about it.

    Reads only, so it is repeated freely after a crash; its deadline survives in the journal.
    """

    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: Mapping[str, Json], key: str, context: StepContext) -> Json:  # noqa: ARG002 the Action protocol
        """Return the Verification as JSON."""
        earlier = context.last_progress()
        started_at = float(str(earlier["started_at"])) if earlier else self._tools.clock.now()
        if not earlier:
            context.progress({"started_at": started_at})
        left = str(args["left"]) if args.get("left") else None
        if left is not None:
            keep(self._tools, left)
        live, baseline_until = (
            chosen(self._tools, context.run, args),
            float(str(args.get("baseline_until") or started_at)),
        )
        watched = Watched(live, left, started_at, baseline_until, fails_early=_is_automatic(self._tools, context.run))
        verification = watch_criteria(self._tools, context, watched, self._lookout(context.run, live))
        result: Json = msgspec.to_builtins(verification)
        return result

    def _lookout(self, run: str, live: str) -> _Lookout:
        read_back = self._tools.runs.result(run, "read_back") or self._tools.runs.result(run, "read_new")
        told = read_back if isinstance(read_back, dict) else {}
        return _Lookout(self._tools, str(told.get("deployment", "")), float(str(told.get("since", 0.0))), live)

    def probe(self, args: Mapping[str, Json], key: str, context: StepContext) -> Probe:  # noqa: ARG002
        """Nothing outside changes, so doing it (again) is right."""
        return NotDone()


def watch_criteria(tools: Toolbox, context: StepContext, watched: Watched, lookout: _Lookout) -> Verification:
    """Return the verification since `started_at`; the baseline is the live version's own traffic before."""
    engine = CriteriaEngine(
        tools.policy.criteria,
        tools.policy,
        started_at=watched.started_at,
        live_version=watched.live,
        left_version=watched.left,
        baseline=_baseline(tools, watched.live, watched.baseline_until),
        has_health=tools.health is not None,
        has_traffic=tools.traffic is not None,
        fails_early=watched.fails_early,
    )
    look = tools.health.look if tools.health is not None else None
    prober = Prober("health", look, tools.clock, tools.policy.guard.probe_every_s, in_background=tools.in_background)
    pulse, feed = Pulse(tools), _Feed(math.ceil(watched.started_at))
    news = _News(tools, context.run, watched.started_at + TOLD_AFTER_S)
    told: tuple[tuple[str, CriterionState], ...] = ()
    try:
        while True:
            context.check()
            pulse.beat()
            _add_counts(tools, engine, feed)
            for report in prober.collect():
                engine.add_health(report)
            now = tools.clock.now()
            results = engine.results(now)
            states = tuple((result.name, result.state) for result in results)
            if states != told:
                told = states
                context.progress(
                    {"started_at": watched.started_at, "criteria": {name: str(state) for name, state in states}}
                )
            if tools.watching is not None:
                tools.watching(results)
            if _decided(results) or now >= watched.started_at + tools.policy.criteria.watch_s:
                ended = replace(engine.verification(now), sampled=feed.sampled, counted_until=feed.complete_until)
                return lookout.concluded(ended)
            news.tick(now)
            moved = lookout.moved(now)
            if moved:
                return void(engine.verification(now), moved)
            tools.clock.sleep(TICK_S)
    finally:
        prober.close()


TOLD_AFTER_S = 20.0
"""A verification that takes longer than this does not keep the news of the rollback itself back."""


@dataclass(slots=True)
class _News:
    """Tells of the rollback, once, when its verification takes its time."""

    tools: Toolbox
    run: str
    at: float
    told: bool = False

    def tick(self, now: float) -> None:
        if now >= self.at and not self.told:
            self.told = True
            tell_rollback(self.tools, NoticeKind.ROLLED_BACK, self.run, pending=True)


def _is_automatic(tools: Toolbox, run: str) -> bool:
    found = tools.runs.find(run)
    return found is not None and any(s.args.get("detected") for s in found.plan.steps if s.action == "activate")


def _decided(results: tuple[CriterionResult, ...]) -> bool:
    """Whether nothing is open any more, or one has failed already, which decides the whole."""
    states = {result.state for result in results}
    return CriterionState.FAILED in states or CriterionState.WAITING not in states


@dataclass(slots=True)
class _Feed:
    """Where the counts are read to, how far they reach, and whether estimates were among them."""

    read_until: int
    complete_until: int | None = None
    sampled: bool = False


def _add_counts(tools: Toolbox, engine: CriteriaEngine, feed: _Feed) -> None:
    """Feed the final seconds that are new; a source that does not answer is a gap."""
    if tools.traffic is None:
        return
    try:
        page = tools.traffic.read(feed.read_until, int(tools.clock.now()) + 1)
    except BackoutError:
        return
    engine.add(row for row in page.counts if row.second < page.complete_until)
    feed.read_until = max(feed.read_until, page.complete_until)
    feed.complete_until = page.complete_until
    feed.sampled = feed.sampled or page.sampled


def _baseline(tools: Toolbox, version: str, until: float) -> tuple[Counts, ...]:
    if tools.traffic is None:
        return ()
    since = int(until - tools.policy.guard.baseline_s)
    try:
        page = tools.traffic.read(since, int(until))
    except BackoutError:
        return ()
    return tuple(row for row in page.counts if row.version == version)
