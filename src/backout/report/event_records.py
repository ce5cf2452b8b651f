"""Runs, plans, criteria and events as the JSON values of `--json`; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from backout.report.times import format_time

if TYPE_CHECKING:
    from backout.model.guard.verdict import CriterionResult
    from backout.model.incident.incident import Event, Run
    from backout.model.plan import Plan

_TIMES = frozenset(
    {
        "at",
        "since",
        "until",
        "started_at",
        "ended_at",
        "passed_at",
        "read_at",
        "detected_at",
        "deployed_at",
        "first_bad_at",
        "leaving_since",
        "baseline_until",
    }
)
"""Keys whose numbers are Unix seconds inside; outside, times are RFC 3339."""


def format_times(value: object) -> object:
    """Return JSON values with the times in them as RFC 3339.

    >>> format_times({"at": 0.5, "n": 3, "steps": [{"since": None}]})
    {'at': '1970-01-01T00:00:00.500Z', 'n': 3, 'steps': [{'since': None}]}
    """
    if isinstance(value, Mapping):
        return {
            k: format_time(v) if k in _TIMES and isinstance(v, int | float) else format_times(v)
            for k, v in value.items()
        }
    return [format_times(item) for item in value] if isinstance(value, list | tuple) else value


def make_plan_record(plan: Plan) -> dict[str, object]:
    """Return a plan as JSON values."""
    return {
        "hash": plan.hash,
        "kind": plan.kind,
        "environment": plan.environment,
        "why": plan.why,
        "steps": [
            {"action": s.action, "title": s.title, "args": format_times(s.args), "equivalent": s.equivalent}
            for s in plan.steps
        ],
        "notes": list(plan.notes),
        "not_covered": list(plan.not_covered),
        "coverage": [{"what": line.what, "fate": line.fate, "why": line.why} for line in plan.coverage],
    }


def make_criterion_record(result: CriterionResult) -> dict[str, object]:
    """Return a criterion as JSON values."""
    return {
        "name": result.name,
        "state": result.state,
        "evidence": result.evidence,
        "passed_at": None if result.passed_at is None else format_time(result.passed_at),
    }


def make_event_record(event: Event) -> dict[str, object]:
    """Return an event as JSON values."""
    return {
        "seq": event.seq,
        "at": format_time(event.at),
        "run_id": event.run,
        "step": event.step,
        "kind": event.kind,
        "actor": event.actor,
        "data": format_times(event.data) if event.kind != "run.submitted" else {"reason": event.data.get("reason")},
    }


def make_run_record(run: Run) -> dict[str, object]:
    """Return a run as JSON values."""
    pause, approval, glass = run.pause, run.approval, run.glass
    return {
        "run_id": run.id,
        "environment": run.environment,
        "kind": run.plan.kind,
        "state": run.state,
        "why": run.plan.why,
        "started_at": format_time(run.started_at),
        "ended_at": None if run.ended_at is None else format_time(run.ended_at),
        "steps_done": run.steps_done,
        "steps": len(run.plan.steps),
        "holder": run.holder,
        "actor": run.actor,
        "plan_hash": run.plan.hash,
        "pause": None if pause is None else {"by": pause.by, "why": pause.why, "at": format_time(pause.at)},
        "approval": None
        if approval is None
        else {
            "by": approval.by,
            "person": approval.person or None,
            "on_behalf_of": approval.on_behalf_of or None,
            "why": approval.why,
            "at": format_time(approval.at),
            "expires_at": format_time(approval.expires_at),
            "plan_hash": approval.hash,
        },
        "break_glass": None if glass is None else {"by": glass.by, "why": glass.why, "at": format_time(glass.at)},
    }
