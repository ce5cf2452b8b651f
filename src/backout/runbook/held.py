"""A watch that is held for a shift in what is answered: which shifts of it still wait for a person's word.

Whoever asks (`guard accept`, `status`, a diagnosis) asks here, so that all of them say the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.decoding import decode_values
from backout.model.shift import ACCEPTED, Outcome
from backout.model.verdict import Decision

if TYPE_CHECKING:
    from backout.model.incident import Run
    from backout.model.shift import Shift
    from backout.runbook.toolbox import Toolbox

SHIFT_RULE: Final = "shift in answers"


def decision_of(tools: Toolbox, run: Run) -> Decision | None:
    """Return the verdict of a watch that has ended, None while it goes on.

    Raises:
        Undecodable: it is not as it was written.
    """
    watched = tools.runs.result(run.id, "watch")
    return decode_values(watched["decision"], Decision) if isinstance(watched, dict) else None


def accepted(tools: Toolbox, version: str) -> tuple[str, ...]:
    """Return the shifts that somebody accepted of a version: what is intended of it is so in its next watch as well."""
    noted = tools.journal.events(environment=tools.environment, kind=ACCEPTED)
    return tuple(str(event.data["shift"]) for event in noted if event.data.get("version") == version)


def open_shifts(tools: Toolbox, run: Run) -> tuple[Shift, ...]:
    """Return the shifts of a watch's verdict that were more than told, and that nobody accepted since.

    The gravest first; () while the watch goes on. Undecodable: as `decision_of`.
    """
    decision = decision_of(tools, run)
    if decision is None:
        return ()
    known = accepted(tools, str(run.plan.step("watch").args["version"]))
    return tuple(each for each in decision.shifts if each.outcome is not Outcome.TOLD and each.name not in known)


def holding(tools: Toolbox, run: Run) -> tuple[Shift, ...]:
    """Return those of `open_shifts` about which a person has to decide."""
    return tuple(each for each in open_shifts(tools, run) if each.outcome is Outcome.HOLD)


def ended_held(tools: Toolbox, run: Run) -> bool:
    """Whether a watch is over, and ended held for a shift."""
    ended = tools.runs.result(run.id, "conclude") if run.state.is_over else None
    return isinstance(ended, dict) and ended.get("rule") == SHIFT_RULE
