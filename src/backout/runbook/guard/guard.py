"""Guard: watch a fresh deployment and decide with evidence ("Rollback Scenarios"); `conclude` then acts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from msgspec.structs import replace

from backout.analysis.blind_spots import describe_unseen
from backout.analysis.detector.decision import Detector
from backout.analysis.history.remarks import find_underneath, is_deciding
from backout.errors import AuthError, BackoutError, WorldMoved
from backout.model.guard.verdict import Decision, Verdict
from backout.model.incident.incident import RunState
from backout.model.plan import PlanKind
from backout.model.steps.guard import ConcludeStep, WatchResult, WatchStep
from backout.model.value import Value
from backout.plan.by_hand import add_by_hand
from backout.plan.guard import plan_guard
from backout.ports import Action
from backout.report.times import format_duration
from backout.runbook.guard.baseline import read_baseline
from backout.runbook.guard.checkpoint import take_up
from backout.runbook.guard.held import apply_expectations, list_accepted
from backout.runbook.guard.holdback import add_holdback, add_warnings
from backout.runbook.guard.labels import restore_source, say_chosen, say_left_out, settle_keyed
from backout.runbook.guard.late_counts import awaits_counts, wait_for
from backout.runbook.guard.mark_stable import announce
from backout.runbook.guard.preflight import run_preflight
from backout.runbook.guard.supervisor import WatchSupervisor
from backout.runbook.guard.telemetry_gate import PAGE_S, explain_unseen
from backout.runbook.guard.wanted_version import await_version, check_version
from backout.runbook.guard.watch_gap import measure_watch_gap_s, tell_watch_gap
from backout.runbook.guard.watch_notes import WatchNotes
from backout.runbook.observe import add_details, observe_application
from backout.runbook.probing.looks import (
    Looks,
    add_looks_before,
    find_health_before,
    find_long_down,
    find_probes_before,
    remember,
)
from backout.runbook.probing.obstacle import find_obstacle
from backout.runbook.probing.pairs import PairedProbe
from backout.runbook.recovery.restore_points import AFTER_DEPLOYMENT, mark_meanwhile
from backout.runbook.rollback.reupload import keep
from backout.runbook.rollback.triggers import read_triggers
from backout.runbook.rollback.triggers import remember as remember_triggers
from backout.runbook.safety.checks import is_late
from backout.runbook.safety.clock import measure_clock, say_clock

if TYPE_CHECKING:
    from backout.analysis.detector.checkpoints import LooksState
    from backout.model.deployment import Deployment
    from backout.model.guard.policy import Mode
    from backout.model.guard.shift import Noticed
    from backout.model.guard.signals import CountsPage, HealthReport
    from backout.model.incident.incident import Run
    from backout.model.plan import Json, Plan
    from backout.ports import StepContext
    from backout.runbook.probing.looks import Seen
    from backout.runbook.probing.obstacle import Obstacle
    from backout.runbook.toolbox import Toolbox

TICK_S = 1.0
KEEP_S = 35 * 86_400.0
"""How long counts are kept, so that a policy can be tried on the last month."""
_LOOKS = "looks"
LOOK_AGAIN_S = 5.0
"""How often the watch makes sure that its deployment is still the live one (safety rule 8)."""


class Tick(Value, frozen=True):
    """One second of a watch, for the live line. `source_ok` False: the counts could not be read just now."""

    at: float
    elapsed_s: float
    for_s: float
    version: str
    decision: Decision
    health: HealthReport | None
    source_ok: bool


def plan(tools: Toolbox, *, mode: Mode, for_s: float, early: bool = False, version: str = "") -> Plan:
    """Return the plan of a watch of what is live now, see `plan_guard`; first the preflight of such a watch.

    Of `version` and of no other, unless it is "": see `wanted_version`.
    """
    measure_clock(tools)
    say_clock(tools)
    run_preflight(tools, for_s)
    await_version(tools, version)
    situation = observe_application(tools)
    alone_s = measure_watch_gap_s(situation, tools.runs.walk_runs(tools.environment), for_s)
    if alone_s is not None:
        tools.say(f"this deployment was not watched for its first {format_duration(alone_s)}")
        tell_watch_gap(tools, situation, alone_s)
    before = (share.version for deployment in situation.history[1:] for share in deployment.shares)
    compared = next((version for version in before if not situation.live.serves(version)), None)
    situation = add_details(tools, situation, [compared] if compared else [])  # its code may be quarantined
    mark_meanwhile(tools, AFTER_DEPLOYMENT, situation.live.main, situation.live.id[:8], live=situation.live.main)
    guard = tools.policy.guard
    made = plan_guard(situation, mode=mode, for_s=for_s, early=early, ramp=guard.ramp, expect=guard.expect)
    check_version(tools, made, version)
    made = add_holdback(tools, situation, made, mode=mode, for_s=for_s)
    return add_by_hand(add_warnings(tools, situation, made), tools.rollback.equivalents)


def may_go_on(run: Run) -> bool:
    """Whether guard resumes this run: an interrupted watch of its own, holdback before one, or what a watch led to."""
    own = run.plan.kind in (PlanKind.GUARD, PlanKind.RAMP)
    return run.state is RunState.INTERRUPTED and (own or bool(run.plan.cause))


@dataclass(slots=True)
class _Feed:
    """How far the watch has read, and what it saw last."""

    read_until: int
    health: HealthReport | None = None
    source_ok: bool = True
    trouble: str = ""
    complete_until: int | None = None
    sampled: bool = False
    chosen: int = 0
    look_again_at: float = 0.0
    said: set[str] = field(default_factory=set)


class Watch(Action[WatchStep, WatchResult]):
    """Step `watch` {deployment, version, old, split, since, for_s}: collect evidence until it decides or time is up.

    The counts are kept beside the journal as they come in. After a crash the detector is rebuilt by feeding them again,
    so that a resumed watch decides as the uninterrupted one would have.
    """

    arguments = WatchStep
    effect = False

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    def do(self, args: WatchStep, context: StepContext) -> WatchResult:
        """Return {verdict, moved, downgraded, unseen, token_lost, not_asked, to_ask, noticed, decision}.

        `moved` names the deployment that took this one's place, or is ""; `downgraded` says why no automatic action may
        rest on the source, or is ""; `unseen` why a step of a ramp was not seen, or is ""; `token_lost` why the token
        counts as lost, or is ""; `not_asked` why both versions were not asked side by side although that was wanted, or
        is ""; `to_ask` what a person may do about that, sentences with commands; `noticed` the shifts that were told.
        """
        tools = self._tools = replace(self._tools, policy=apply_expectations(self._tools.policy, args))
        since, for_s = args.since, args.for_s
        early_from = since + args.at_least_s if args.early else math.inf
        if context.last_progress() is None:  # a resumed watch may find another deployment's triggers
            remember_triggers(tools, args.version, read_triggers(tools))
        announce(tools, args, context.run)
        tools.counts.prune(tools.clock.now() - KEEP_S)
        keep(tools, args.version)
        settle_keyed(tools, args)
        feed = _Feed(read_until=int(since))
        detector = self._take_up_detector(args, feed, context.run)
        notes = WatchNotes(tools, args, context)
        looks = Looks(tools)
        supervisor = WatchSupervisor(
            tools,
            context.run,
            reaches=feed.read_until,
            sampled=bool((context.last_progress() or {}).get("sampled")),
        )
        self._accept(detector, args.version)
        pairs = PairedProbe(tools, args, context.run, _get_mode(tools, context.run))
        try:
            while True:
                context.check()
                self._collect(detector, feed)
                self._look(detector, feed, looks.collect(), args.version, context.run)
                supervisor.tick(complete_until=feed.complete_until, sampled=feed.sampled, trouble=feed.trouble)
                asked = pairs.tick(wanted=_wants_pairs(detector), suspected=detector.suspected)
                if asked:
                    detector.add_pairs(asked)
                    self._save(detector, context.run)
                now = tools.clock.now()
                if now >= since + for_s:  # what a person accepted in the last seconds no longer holds
                    self._accept(detector, args.version)
                decision = self._decide(detector, now, context.run)
                is_early = decision.verdict is Verdict.HEALTHY and now >= early_from and not explain_unseen(tools, args)
                ends = decision.verdict is Verdict.REGRESSED or (
                    (is_early or now >= since + for_s) and not awaits_counts(tools, feed.complete_until, since + for_s)
                )
                notes.note(decision, supervisor.source, asking=_wants_pairs(detector) and pairs.goes_on, ends=ends)
                self._show(args, feed, decision)
                moved = self._find_successor(args, supervisor, pairs) if ends else ""
                if not ends and now >= feed.look_again_at:
                    feed.look_again_at = now + tools.pace(LOOK_AGAIN_S)
                    self._accept(detector, args.version)
                    moved = self._find_successor(args, supervisor, pairs)
                if ends or moved:
                    say_left_out(tools, feed.chosen)
                    ended = _Ended(decision, moved, explain_unseen(tools, args), pairs.obstacle, notes.noticed)
                    return _make_result(ended, supervisor)
                tools.clock.sleep(TICK_S)
        finally:
            looks.close()
            pairs.close()
            restore_source(tools)

    def _take_up_detector(self, args: WatchStep, feed: _Feed, run: str) -> Detector:
        """Return the detector of a watch, with all that it counted, saw and was told before it was interrupted."""
        detector = self._detector(args, feed, run)
        saved = self._tools.checkpoints.load_checkpoint(self._tools.environment, _LOOKS)
        seen = saved.get("looks") if isinstance(saved, dict) and saved.get("run") == run else None
        if seen is not None:
            take_up(seen, lambda looks: detector.accept_again(cast("LooksState", looks)))
        self._feed_again(detector, feed)
        if seen is not None:
            take_up(seen, lambda looks: detector.restore_looks(cast("LooksState", looks)))
        wait_for(self._tools, args.version)
        return detector

    def _feed_again(self, detector: Detector, feed: _Feed) -> None:
        """Take in the counts from before this watch was interrupted, in pages: a week of seconds is a lot at once."""
        now = int(self._tools.clock.now()) + 1
        for since in range(feed.read_until, now, PAGE_S):
            rows = self._tools.counts.load_counts(self._tools.environment, since, min(since + PAGE_S, now))
            detector.add(rows)
            if rows:
                feed.read_until = rows[-1].second + 1

    def _detector(self, args: WatchStep, feed: _Feed, run: str) -> Detector:
        tools = self._tools
        since, old = args.since, args.old
        baseline, feed.sampled = read_baseline(tools, old, since)
        if baseline and not feed.sampled:
            tools.counts.keep(tools.environment, baseline)  # what the verdict is based on, for `explain` and `replay`
        (_, first), *later = args.shares
        detector = Detector(
            version=args.version,
            old=old or None,
            deployed_at=since,
            split=first,
            baseline=baseline,
            policy=tools.policy,
            watch_s=args.for_s,
            unseen=describe_unseen(None if tools.traffic is None else tools.traffic.traits, tools.policy.guard, args),
            declared=tools.guard.declared(),
            can_ask=first >= 1 and find_obstacle(tools, args, _get_mode(tools, run)) is None,
            health_before=find_health_before(tools, old, since, baseline),
            long_down=find_long_down(tools, old, since),
            probed=find_probes_before(tools, old, since) if tools.health is not None else None,
        )
        add_looks_before(detector, tools, old, since)
        for at, share in later:
            detector.set_split(at, share)
        return detector

    def _collect(self, detector: Detector, feed: _Feed) -> None:
        tools = self._tools
        if tools.traffic is not None:
            try:
                page = tools.traffic.read(feed.read_until, int(tools.clock.now()) + 1)
            except BackoutError as error:
                if feed.source_ok:
                    tools.say(f"the source of counts does not answer: {error.what}")
                feed.source_ok, feed.trouble = False, error.what
            else:
                feed.source_ok, feed.trouble = True, ""
                feed.complete_until = page.complete_until
                feed.sampled = feed.sampled or page.sampled
                self._say_unreadable(page, feed)
                final = [row for row in page.counts if row.second < page.complete_until]
                if final:
                    tools.counts.keep(tools.environment, final)
                    detector.add(final)
                    feed.chosen = say_chosen(tools, final, feed.chosen)
                detector.note_until(page.complete_until)
                feed.read_until = max(feed.read_until, page.complete_until)

    def _look(self, detector: Detector, feed: _Feed, seen: Seen, version: str, run: str) -> None:
        """Take in the looks, and keep them: for this watch after a crash, and for the watch of its successor."""
        if not seen:
            return
        for report in seen.health:
            feed.health = report
            detector.add_health(report)
        for use in seen.connections:
            detector.add_connections(use)
        detector.add_synthetic(seen.synthetic)
        remember(self._tools, version, seen)
        self._save(detector, run)

    def _decide(self, detector: Detector, now: float, run: str) -> Decision:
        """Return the verdict; the time since when it awaits confirmation is kept, as no counts can restore it."""
        waited, decision = detector.waits(), detector.put_off(detector.decide(now))
        if detector.waits() != waited:
            self._save(detector, run)
        return decision

    def _save(self, detector: Detector, run: str) -> None:
        state: Json = {"run": run, "looks": cast("Json", detector.looks())}
        self._tools.checkpoints.save_checkpoint(self._tools.environment, _LOOKS, state)

    def _accept(self, detector: Detector, version: str) -> None:
        """Take in which shifts a person accepted in the meantime."""
        for name in list_accepted(self._tools, version):
            detector.accept(name)

    def _say_unreadable(self, page: CountsPage, feed: _Feed) -> None:
        """Report, once for each kind, what the source could not count: a typo in a field's name looks like that."""
        for what in page.unreadable.keys() - feed.said:
            feed.said.add(what)
            self._tools.say(f"the source of counts has what cannot be counted: {what}")

    def _show(self, args: WatchStep, feed: _Feed, decision: Decision) -> None:
        """Show a tick."""
        now = self._tools.clock.now()
        if self._tools.guard.watching is not None:
            elapsed_s = now - args.since
            tick = Tick(
                at=now,
                elapsed_s=elapsed_s,
                for_s=args.for_s,
                version=args.version,
                decision=decision,
                health=feed.health,
                source_ok=feed.source_ok,
            )
            self._tools.guard.watching(tick)

    def _find_successor(self, args: WatchStep, supervisor: WatchSupervisor, pairs: PairedProbe) -> str:
        """Return the id of the deployment that took the watched one's place, or ""."""
        try:
            history = self._read_history(pairs)
        except AuthError as error:
            # counts and health may come from elsewhere: the watch goes on
            supervisor.token.note_refused("call", error.what)
            return ""
        except BackoutError:
            return ""  # whatever the error: not knowing is not a move; the switch itself looks again
        supervisor.token.note_accepted("call")
        supervisor.look(history)
        if not history:
            return "none"
        if is_late(history, args.deployment, args.deployed_at):
            return ""
        decides = is_deciding(history, args.deployment, args.version)
        return "" if decides else find_underneath(history).id

    def _read_history(self, pairs: PairedProbe) -> tuple[Deployment, ...]:
        """Return the provider's history, after putting back what a deployment of this watch may have undone."""
        history = self._tools.deployments.history()
        try:
            pairs.put_back(history)
        except WorldMoved as error:
            self._tools.say(error.what)
            return self._tools.deployments.history()
        return history


def _wants_pairs(detector: Detector) -> bool:
    """Whether to send both versions the same requests: visitors, or guard itself, get other answers than before."""
    return detector.wants_probe or detector.asked_otherwise


def _get_mode(tools: Toolbox, run: str) -> Mode:
    """Return the mode that a watch was started with."""
    found = tools.runs.find(run)
    assert found is not None
    return found.plan.arguments(ConcludeStep).mode


class _Ended(Value, frozen=True):
    """How a watch ended, see `Watch.do`."""

    decision: Decision
    moved: str
    not_seen: str
    obstacle: Obstacle | None
    noticed: tuple[Noticed, ...]


def _make_result(ended: _Ended, supervisor: WatchSupervisor) -> WatchResult:
    return WatchResult(
        verdict=ended.decision.verdict,
        moved=ended.moved,
        downgraded=supervisor.source.downgraded,
        unseen=ended.not_seen,
        token_lost=supervisor.token.lost,
        not_asked=ended.obstacle.why if ended.obstacle else "",
        to_ask=tuple(ended.obstacle.options) if ended.obstacle else (),
        noticed=ended.noticed,
        decision=ended.decision,
    )
