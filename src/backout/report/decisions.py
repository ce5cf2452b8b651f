"""What people decided about a run, in words: who paused it, approved its plan, or went on without an approval; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.escaping import shorten
from backout.model.incident.incident import RunState
from backout.report.times import format_clock

if TYPE_CHECKING:
    from backout.model.approval import Approval, BrokenGlass
    from backout.model.incident.incident import Pause, Run


def list_decisions(run: Run) -> list[str]:
    """Return one line each, with who and why."""
    found: list[tuple[str, Pause | Approval | BrokenGlass]] = []
    if run.glass is not None:
        found.append(("WITHOUT THE APPROVAL that it needs (break-glass)", run.glass))
    if run.approval is not None:
        found.append((f"approved until {format_clock(run.approval.expires_at)} UTC", run.approval))
    if run.pause is not None:
        is_driven = run.state is RunState.RUNNING
        found.append(("to pause at its next step boundary" if is_driven else "paused", run.pause))
    return [
        f"{word}, by {shorten(it.by)}{_name_role(it)} at {format_clock(it.at)} UTC: {shorten(it.why)}"
        for word, it in found
    ]


def _name_role(it: Pause | Approval | BrokenGlass) -> str:
    """Return the role of the journal's database that it was given with, "" where no server says it.

    The pages write with their own, and say whose login it was.
    """
    person, login = getattr(it, "person", ""), getattr(it, "on_behalf_of", "")
    of_login = f", for a login of role {shorten(login)}" if login else ""
    return f" (role {shorten(person)}{of_login})" if person else ""
