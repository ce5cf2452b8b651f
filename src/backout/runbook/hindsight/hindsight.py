"""Hindsight: today's detector and policy on every deployment whose counts are stored; it only reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.detector.wording import count
from backout.analysis.hindsight.hindsight import Hindsight, Judged, find_truth, list_trials
from backout.analysis.hindsight.retrace import Recorded, find_regression
from backout.analysis.hindsight.track_record import WITHIN_S
from backout.model.guard.signals import sum_counts
from backout.model.plan import PlanKind
from backout.model.steps.guard import WatchStep
from backout.runbook.hindsight.track_record import read_past, read_rows

if TYPE_CHECKING:
    from backout.analysis.hindsight.hindsight import Trial
    from backout.analysis.hindsight.track_record import Past
    from backout.runbook.toolbox import Toolbox


def look_again(tools: Toolbox, *, since: float) -> Hindsight:
    """Return what today's detector would have done with each deployment since then (Unix seconds)."""
    runs = tools.runs.runs(tools.environment)
    past, notes = read_past(tools, runs)
    watched = {run.plan.arguments(WatchStep).deployment for run in runs if run.plan.kind is PlanKind.GUARD}
    watch_s = tools.policy.criteria.watch_s
    found = [
        _judge_trial(tools, trial, past) for trial in list_trials(past, since=since, watch_s=watch_s, watched=watched)
    ]
    lost = sum(not each.counted for each in found)
    if lost:
        notes = (
            *notes,
            f"of {count(lost, 'deployment')} no request is kept: not watched here, or too long ago",
        )
    if found:
        notes = (*notes, "what was served after a watch counts as far as the source still tells it")
    return Hindsight(tools.environment, since, tuple(found), notes)


def _judge_trial(tools: Toolbox, trial: Trial, past: Past) -> Judged:
    truth, why = find_truth(trial, past)
    rows = tools.counts.load_counts(
        tools.environment, int(trial.at - tools.policy.guard.baseline_s), int(trial.until) + 1
    )
    watched = tuple(row for row in rows if row.second >= int(trial.at))
    if not any(row.version == trial.version for row in watched):
        return Judged(trial, truth, why, counted=False)
    recorded = Recorded(
        version=trial.version,
        old=trial.old,
        split=trial.split,
        since=trial.at,
        until=trial.until,
        baseline=tuple(row for row in rows if row.version == trial.old and row.second < int(trial.at)),
        counts=watched,
    )
    found = find_regression(recorded, tools.policy)
    if found is None:
        return Judged(trial, truth, why, counted=True)
    at, reason = found
    saved = sum_counts(read_rows(tools, trial.version, at, min(trial.left_at or past.now, at + WITHIN_S)))[1]
    return Judged(trial, truth, why, counted=True, rolled_back_at=at, reason=reason, saved=saved)
