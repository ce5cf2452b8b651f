"""The history of drills, in the journal: events of their own, which no statistics of incidents or guard count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from backout.decoding import Undecodable, decode_own, decode_values
from backout.model.drill import DrillEnd, DrillPlace, DrillRecord, DrillResult

if TYPE_CHECKING:
    from backout.model.plan import Json
    from backout.ports import Journal

STARTED: Final = "drill.started"
ENDED: Final = "drill.ended"
FAILED: Final = "drill.failed"
_KINDS: Final = "drill.*"


def record_start(journal: Journal, run: str, name: str, place: DrillPlace, *, actor: str, batch: str = "") -> None:
    """Record that a drill begins.

    Args:
        batch: the id of the command that runs it with others.

    Raises:
        BackoutError: it cannot be recorded.
    """
    journal.note(place, STARTED, run, {"name": name, "batch": batch}, actor=actor)


def record_end(journal: Journal, run: str, result: DrillResult, *, actor: str) -> None:
    """Record the result of a drill. Raises BackoutError: it cannot be recorded."""
    data: Json = decode_own(msgspec.json.encode(result).decode())
    journal.note(result.environment, ENDED, run, {"name": result.name, "result": data}, actor=actor)


def record_failure(journal: Journal, run: str, name: str, place: DrillPlace, why: str, *, actor: str) -> None:
    """Record why a drill ended without a result. Raises BackoutError: it cannot be recorded."""
    journal.note(place, FAILED, run, {"name": name, "why": why}, actor=actor)


def list_drills(journal: Journal) -> tuple[DrillRecord, ...]:
    """Return all drills of the history, oldest first; of one that is recorded otherwise no result is known."""
    found: dict[str, DrillRecord] = {}
    for event in journal.events(kind=_KINDS):
        run, name = str(event.data.get("key", "")), str(event.data.get("name", ""))
        if event.environment not in list(DrillPlace):
            continue
        batch = str(event.data.get("batch", ""))
        known = found.get(run) or DrillRecord(run, name, DrillPlace(event.environment), event.at, batch=batch)
        if event.kind == ENDED:
            try:
                known = msgspec.structs.replace(known, result=decode_values(event.data.get("result"), DrillResult))
            except Undecodable as error:
                known = msgspec.structs.replace(known, why=error.what)
        elif event.kind == FAILED:
            known = msgspec.structs.replace(known, why=str(event.data.get("why", "")))
        found[run] = known
    return tuple(found.values())


def list_newest_batch(journal: Journal) -> tuple[DrillRecord, ...]:
    """Return the drills of the newest command that ran some, oldest first; none where none is known."""
    records = list_drills(journal)
    newest = max((each for each in records if each.batch), key=lambda each: each.at, default=None)
    return tuple(each for each in records if newest is not None and each.batch == newest.batch)


def find_last_drill(journal: Journal, environment: str = "") -> DrillRecord | None:
    """Return the newest drill that passed, on the twin or in this environment; None: none ever did.

    Args:
        environment: its name in backout.toml, "" for the twin alone.
    """
    places = {DrillPlace.TWIN, environment}
    passed = [each for each in list_drills(journal) if each.end is DrillEnd.PASSED and each.environment in places]
    return max(passed, key=lambda each: each.at, default=None)
