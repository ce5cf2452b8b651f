"""The history of drills, in the journal: events of their own, which no statistics of incidents or guard count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from backout.decoding import Undecodable, decode_own, decode_values
from backout.model.drill import DrillEnd, DrillPlace, DrillRecord, DrillResult
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.deployment import Deployment
    from backout.model.plan import Json
    from backout.ports import Journal

STARTED: Final = "drill.started"
ENDED: Final = "drill.ended"
FAILED: Final = "drill.failed"
BREAKS: Final = "drill.breaks"
BROKE: Final = "drill.broke"
_KINDS: Final = "drill.*"
_LONGEST_S: Final = 3600.0
CLOCKS_APART_S: Final = 2.0
"""A deployment is dated by the provider's clock."""


class LeftBroken(Value, frozen=True):
    """A version that a drill broke on purpose, and that is still live.

    Args:
        name: of the drill.
        bad, good: the version that is live, and the one that was to be live again.
    """

    name: str
    bad: str
    good: str


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


def record_breaking(journal: Journal, run: str, name: str, environment: str, good: str, *, actor: str) -> None:
    """Record that a broken version is about to be deployed to an environment of the team's own.

    Args:
        environment: its name in backout.toml.
        good: the version that has to be live again in the end.

    Raises:
        BackoutError: it cannot be recorded.
    """
    journal.note(DrillPlace.STAGING, BREAKS, run, {"name": name, "environment": environment, "good": good}, actor=actor)


def record_broken(journal: Journal, run: str, name: str, bad: str, *, actor: str) -> None:
    """Record which version that is, once it was read back. Raises BackoutError: it cannot be recorded."""
    journal.note(DrillPlace.STAGING, BROKE, run, {"name": name, "bad": bad}, actor=actor)


def find_left_broken(journal: Journal, environment: str, listed: Sequence[Deployment]) -> LeftBroken | None:
    """Return what a drill that did not come to its end left live in an environment, None where that is not live.

    A drill that was stopped before it knew its broken version is asked what came first while it lasted.

    Args:
        listed: the provider's list of deployments, newest first.
    """
    events = tuple(journal.events(environment=DrillPlace.STAGING, kind=_KINDS))
    breaking = {
        str(event.data.get("key", "")): event
        for event in events
        if event.kind == BREAKS and event.data.get("environment") == environment
    }
    stopped = [each for each in list_drills(journal) if each.run in breaking and each.result is None]
    if not stopped or not listed:
        return None
    run = max(stopped, key=lambda each: each.at).run
    newest, live = breaking[run], listed[0].main
    its_own = {event.kind: event for event in events if event.data.get("key") == run}
    good, bad = str(newest.data.get("good", "")), str(its_own[BROKE].data.get("bad", "")) if BROKE in its_own else ""
    if not bad:
        until = (its_own[FAILED].at if FAILED in its_own else newest.at + _LONGEST_S) + CLOCKS_APART_S
        its = (each for each in reversed(listed) if newest.at - CLOCKS_APART_S < each.created_at <= until)
        bad = next((each.main for each in its if each.main != good), "")
    return LeftBroken(str(newest.data.get("name", "")), live, good) if live == bad else None


def list_spans(journal: Journal, environment: str) -> tuple[tuple[float, float], ...]:
    """Return from when to when drills deployed something to an environment of the team's own, Unix seconds.

    One without an end is taken to have lasted an hour at most.
    """
    began: dict[str, float] = {}
    spans: dict[str, tuple[float, float]] = {}
    for event in journal.events(environment=DrillPlace.STAGING, kind=_KINDS):
        run = str(event.data.get("key", ""))
        if event.kind == STARTED:
            began[run] = event.at
        elif event.kind == BREAKS and event.data.get("environment") == environment:
            spans[run] = began.get(run, event.at), event.at + _LONGEST_S
        elif run in spans and event.kind != BROKE:
            spans[run] = spans[run][0], event.at
    return tuple(spans.values())


def list_drills(journal: Journal) -> tuple[DrillRecord, ...]:
    """Return all drills of the history, oldest first; of one that is recorded otherwise no result is known."""
    found: dict[str, DrillRecord] = {}
    for event in journal.events(kind=_KINDS):
        if event.kind in {BREAKS, BROKE}:
            continue
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
    places = {DrillPlace.TWIN, DrillPlace.HOSTS, environment}
    passed = [each for each in list_drills(journal) if each.end is DrillEnd.PASSED and each.environment in places]
    return max(passed, key=lambda each: each.at, default=None)
