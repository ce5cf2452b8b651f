"""Explain: why a watch ended as it did, from the journal and the stored counts, without asking any other system."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.hindsight.counterfactual import would_change
from backout.analysis.hindsight.explained import Explained
from backout.analysis.hindsight.retrace import Recorded, retrace
from backout.errors import Unmeasured, UsageError
from backout.model.guard.verdict import Decision, Verdict
from backout.model.steps.guard import ConcludeStep, WatchResult, WatchStep
from backout.ports import find_result
from backout.runbook.guard.held import apply_expectations
from backout.runbook.incident.report import find_watch

if TYPE_CHECKING:
    from backout.analysis.hindsight.retrace import Trace
    from backout.model.guard.policy import Policy
    from backout.model.incident.incident import Run
    from backout.ports import CountsStore, Runs


def find_newest_watch(runs: Runs, environment: str | None) -> str:
    """Return the newest watch that has decided.

    Args:
        environment: None for any.

    Raises:
        UsageError: there is none.
    """
    for run in runs.walk_runs(environment):
        if run.plan.has(WatchStep) and find_result(runs, run.id, WatchStep) is not None:
            return run.id
    raise UsageError("no watch has decided yet", where=environment or "", hint="backout runs list")


def explain(runs: Runs, counts: CountsStore, policy: Policy, run: str) -> Explained:
    """Explain why the watch of a run (or the watch that led to it) ended as it did.

    Raises:
        UsageError: no such run, or a run that no watch led to.
        Unmeasured: its watch has not decided yet.
    """
    found = runs.find(run)
    if found is None:
        raise UsageError(f"no run '{run}'", hint="backout runs list")
    watch = find_watch(runs, found.id)
    if watch is None:
        raise UsageError(
            f"run {found.id} was typed by a person: no watch led to it, so there is no verdict to explain",
            hint=f"backout runs show {found.id}",
        )
    watched, concluded = find_result(runs, watch.id, WatchStep), find_result(runs, watch.id, ConcludeStep)
    if watched is None:
        raise Unmeasured(f"run {watch.id} has not decided yet", where=watch.environment, hint="backout runs list")
    decision = watched.decision
    policy = apply_expectations(policy, watch.plan.arguments(WatchStep))
    recorded = load_recorded_watch(counts, watch, policy, decision.at)
    trace = retrace(recorded, policy) if recorded.counts else None
    return Explained(
        run=watch.id,
        environment=watch.environment,
        decision=decision,
        action=concluded.action if concluded is not None else "",
        why=concluded.why if concluded is not None else "",
        rule=concluded.rule if concluded is not None else "",
        recorded=recorded,
        trace=trace,
        would_change=would_change(recorded, trace, policy) if trace is not None else (),
        notes=_list_notes(watched, decision, recorded, trace),
    )


def load_recorded_watch(counts: CountsStore, watch: Run, policy: Policy, until: float) -> Recorded:
    """Return what a watch of the journal was based on, as far as its counts are stored."""
    args = watch.plan.arguments(WatchStep)
    version, old, since = args.version, args.old, args.since
    earliest = int(since - policy.guard.baseline_s)
    (_, first), *later = args.shares
    rows = counts.load_counts(watch.environment, earliest, int(until) + 1)
    return Recorded(
        version=version,
        old=old,
        split=first,
        since=since,
        until=until,
        baseline=tuple(row for row in rows if old and row.version == old and row.second < int(since)),
        counts=tuple(row for row in rows if row.second >= int(since)),
        steps=tuple(later),
        for_s=args.for_s,
    )


def _list_notes(watched: WatchResult, decision: Decision, recorded: Recorded, trace: Trace | None) -> tuple[str, ...]:
    notes = []
    if trace is None:
        notes.append("its requests were not counted, or are not kept any more (35 days): the journal alone tells")
    elif recorded.old and not recorded.baseline:
        notes.append("what was normal before is not kept, so the evidence over time is that against the SLO")
    if trace is not None and (trace.regressed_at is not None) is not (decision.verdict is Verdict.REGRESSED):
        today = "regressed" if trace.regressed_at is not None else "not regressed"
        notes.append(f"by requests alone today's detector and policy say {today}; health looks are not kept")
    notes += filter(None, (watched.downgraded, watched.token_lost))
    return tuple(notes)
