"""Explain: why a watch ended as it did, from the journal and the counts that were kept; nobody outside is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.counterfactual import would_change
from backout.analysis.explained import Explained
from backout.analysis.retrace import Recorded, retrace
from backout.decoding import decode_values
from backout.errors import Unmeasured, UsageError
from backout.model.verdict import Decision, Verdict
from backout.runbook.guard import expecting, shares_over_time
from backout.runbook.incident import watch_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.analysis.retrace import Trace
    from backout.model.incident import Run
    from backout.model.plan import Json
    from backout.model.policy import Policy
    from backout.ports import CountsStore, Runs


def explain(runs: Runs, counts: CountsStore, policy: Policy, run: str) -> Explained:
    """Return why the watch of a run (or the watch that led to it) ended as it did.

    Raises:
        UsageError: no such run, or a run that no watch led to. Unmeasured: its watch has not decided yet.
    """
    found = runs.find(run)
    if found is None:
        raise UsageError(f"no run '{run}'", hint="backout runs list")
    watch = watch_of(runs, found.id)
    if watch is None:
        raise UsageError(
            f"run {found.id} was typed by a person: no watch led to it, so there is no verdict to explain",
            hint=f"backout runs show {found.id}",
        )
    watched, concluded = (_table(runs.result(watch.id, action)) for action in ("watch", "conclude"))
    if not watched:
        raise Unmeasured(f"run {watch.id} has not decided yet", where=watch.environment, hint="backout runs list")
    decision = decode_values(watched["decision"], Decision)
    policy = expecting(policy, watch.plan.step("watch").args)
    recorded = recorded_watch(counts, watch, policy, decision.at)
    trace = retrace(recorded, policy) if recorded.counts else None
    return Explained(
        run=watch.id,
        environment=watch.environment,
        decision=decision,
        action=str(concluded.get("action") or ""),
        why=str(concluded.get("why") or ""),
        rule=str(concluded.get("rule") or ""),
        recorded=recorded,
        trace=trace,
        would_change=would_change(recorded, trace, policy) if trace is not None else (),
        notes=_notes(watched, decision, recorded, trace),
    )


def recorded_watch(counts: CountsStore, watch: Run, policy: Policy, until: float) -> Recorded:
    """Return what a watch of the journal rested on, as far as its counts are kept."""
    args = watch.plan.step("watch").args
    version, old, since = str(args["version"]), str(args["old"]), float(str(args["since"]))
    earliest = int(since - policy.guard.baseline_s)
    (_, first), *later = shares_over_time(args)
    rows = counts.kept(watch.environment, earliest, int(until) + 1)
    return Recorded(
        version=version,
        old=old,
        split=first,
        since=since,
        until=until,
        baseline=tuple(row for row in rows if old and row.version == old and row.second < int(since)),
        counts=tuple(row for row in rows if row.second >= int(since)),
        steps=tuple(later),
        for_s=float(str(args["for_s"])),
    )


def _notes(watched: Mapping[str, Json], decision: Decision, recorded: Recorded, trace: Trace | None) -> tuple[str, ...]:
    notes = []
    if trace is None:
        notes.append("its requests were not counted, or are not kept any more (35 days): the journal alone tells")
    elif recorded.old and not recorded.baseline:
        notes.append("what was normal before is not kept, so the evidence over time is that against the SLO")
    if trace is not None and (trace.regressed_at is not None) is not (decision.verdict is Verdict.REGRESSED):
        today = "regressed" if trace.regressed_at is not None else "not regressed"
        notes.append(f"by requests alone today's detector and policy say {today}; health looks are not kept")
    notes += [str(watched[key]) for key in ("downgraded", "token_lost") if watched.get(key)]
    return tuple(notes)


def _table(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}
