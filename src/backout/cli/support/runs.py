"""A run as the commands about runs find and show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import UsageError
from backout.report.times import format_time

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.journal.stored import StoredJournal
    from backout.model.incident.incident import Run


def open_journal(shell: Shell) -> StoredJournal:
    """Return the journal of the configuration."""
    from backout.wiring import records

    return records.open_journal(shell.config())


def find_run(journal: StoredJournal, run: str) -> Run:
    """Return the run of an id, or of the beginning of one. Raises UsageError: there is none, or there are several."""
    found = journal.find(run)
    if found is None:
        raise UsageError(f"no run '{run}'", hint="backout runs list")
    return found


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
            "why": approval.why,
            "at": format_time(approval.at),
            "expires_at": format_time(approval.expires_at),
            "plan_hash": approval.hash,
        },
        "break_glass": None if glass is None else {"by": glass.by, "why": glass.why, "at": format_time(glass.at)},
    }
