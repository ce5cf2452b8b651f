"""Which restore an undo takes back: the newest one, or the one that a person names by its run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import UsageError
from backout.escaping import shorten
from backout.model.value import Value
from backout.report.times import format_time
from backout.runbook.recovery.tools import RESCUED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.plan import Json
    from backout.runbook.recovery.tools import RestoreTools


class Undoable(Value, frozen=True):
    """A swap or rescue that was not undone.

    Args:
        kind: of the event that recorded it.
        run: the id of its run.
        at: when it was done, in Unix seconds.
        data: what the event keeps of it.
        tried: whether an undo of it was made, which left something.
    """

    kind: str
    run: str
    at: float
    data: Mapping[str, Json]
    tried: bool = False

    @property
    def is_rescue(self) -> bool:
        """Whether rows were put back, as opposed to the whole."""
        return self.kind == RESCUED


def list_undoable(tools: RestoreTools, swapped: str) -> tuple[Undoable, ...]:
    """Return the swaps and rescues that were not undone, oldest first; the undo of a swap is a swap.

    An undo of a rescue that left something can be made again, so the rescue stays in the list.

    Args:
        swapped: the kind of event that records a swap.
    """
    journal, environment = tools.journal, tools.environment
    rescues = tuple(journal.events(environment=environment, kind=RESCUED))
    undos = {str(event.data["mark"]): event.data["undone"] for event in rescues if "undone" in event.data}
    swaps = journal.events(environment=environment, kind=swapped)
    made = [event for event in rescues if "undone" not in event.data and undos.get(str(event.data["mark"])) is not True]
    return tuple(
        Undoable(
            event.kind,
            str(event.data["key"]),
            event.at,
            event.data,
            tried=event.kind == RESCUED and str(event.data["mark"]) in undos,
        )
        for event in sorted((*swaps, *made), key=lambda event: event.seq)
    )


def choose_undoable(tools: RestoreTools, swapped: str, run: str | None) -> Undoable:
    """Return what is to be undone: what was restored by `run`, or last.

    Args:
        run: a run's id or an unambiguous prefix; None is the newest restore.

    Raises:
        UsageError: nothing is recorded that could be undone, this run restored nothing, or something that was restored
            after it is to be undone first.
    """
    found = list_undoable(tools, swapped)
    if not found:
        raise UsageError("no restore of this database is recorded that could be undone", where=tools.environment)
    if run is None:
        return found[-1]
    known = tools.runs.find(run)
    place = next((place for place, each in enumerate(found) if known is not None and each.run == known.id), None)
    if place is None:
        runs = ", ".join(f"{each.run} ({format_time(each.at)})" for each in reversed(found[-8:]))
        text = f"no run {shorten(run)!r} is recorded that restored this database and was not undone"
        raise UsageError(text, where=tools.environment, hint=f"one of: {runs}")
    for each in found[place + 1 :]:
        if not each.tried:
            what = "rescued rows" if each.is_rescue else "replaced the whole"
            text = f"run {each.run} {what} after it, and is to be undone first"
            raise UsageError(text, where=tools.environment, hint=f"backout db restore --undo -e {tools.environment}")
    return found[place]


def find_earlier(tools: RestoreTools, swapped: str, mark: str) -> str | None:
    """Return the run of the restore before a rescue of which an undo was made; None if there is none.

    Args:
        mark: the rescue's.
    """
    found = list_undoable(tools, swapped)
    place = next((place for place, each in enumerate(found) if each.is_rescue and each.data["mark"] == mark), None)
    earlier = found[-1:] if place is None else found[:place][-1:]
    return earlier[0].run if earlier else None


def describe_rescue(tools: RestoreTools, rescue: Undoable) -> str:
    """Return which rescue it was, for a plan: its run, when it was, and what it restored."""
    run = tools.runs.find(rescue.run)
    why = f": {run.plan.why}" if run is not None else ""
    return f"by run {rescue.run} at {format_time(rescue.at)}{why}"
