"""Restore points: moments recorded as they happen, so that no search is needed to return to them.

Guard records one when it sees a deployment, a rollback before and after its switch, `deployments check` before a
deployment, `db migrations apply` around each migration. Nothing waits for one: if the database is down, or not
writable, that costs a sentence. At deployments the live version is noted with it, so that code, database, objects and
secrets can go back to one moment (`analysis.recovery.points`).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.decoding import decode_values
from backout.errors import BackoutError, UsageError

if TYPE_CHECKING:
    from backout.model.database.recovery import RestorePoint
    from backout.model.plan import Json
    from backout.model.recovery_point import NotedPoint
    from backout.ports import Journal, PointMarker
    from backout.runbook.toolbox import Toolbox

POINT: Final = "database.point"
NOTED: Final = "recovery.point"
ON_DEMAND: Final = "on demand"
BEFORE_DEPLOYMENT: Final = "before deployment"
AFTER_DEPLOYMENT: Final = "after deployment"
BEFORE_MIGRATION: Final = "before migration"
AFTER_MIGRATION: Final = "after migration"
_WAIT_S: Final = 3.0


def record_point(
    journal: Journal, environment: str, marker: PointMarker, name: str, *, why: str, actor: str, deployment: str = ""
) -> RestorePoint:
    """Record a restore point: in the WAL, and in the journal.

    Raises:
        UsageError: the name is taken.
        AuthError, ProviderUnavailable: the database cannot be asked.
    """
    from backout.model.database.wal import show_lsn

    if any(point.name == name for point in list_recorded_points(journal, environment)):
        raise UsageError(f"a restore point named {name!r} exists", hint="backout db points list")
    point = replace(marker.mark(name), why=why, deployment=deployment)
    data: dict[str, Json] = {
        "name": point.name,
        "lsn": show_lsn(point.lsn),
        "timeline": point.timeline,
        "xid": point.xid,
        "at": point.at,
        "why": point.why,
        "deployment": point.deployment,
        "migration_head": point.migration_head,
        **({"branch": point.branch} if point.branch else {}),
    }
    journal.note(environment, POINT, name, data, actor=actor)
    return point


def list_recorded_points(journal: Journal, environment: str) -> tuple[RestorePoint, ...]:
    """Return the recorded points, oldest first."""
    from backout.model.database.recovery import RestorePoint
    from backout.model.database.wal import parse_lsn

    return tuple(
        decode_values({**data, "lsn": parse_lsn(str(data["lsn"]))}, RestorePoint, what="a restore point")
        for event in journal.events(environment=environment, kind=POINT)
        if (data := event.data)
    )


def note_point(journal: Journal, environment: str, noted: NotedPoint, actor: str) -> None:
    """Keep the note of a recovery point, whose restore point has the same name; once."""
    journal.note(environment, NOTED, noted.name, noted.to_json(), actor=actor)


def list_noted(journal: Journal, environment: str) -> tuple[NotedPoint, ...]:
    """Return the notes of recovery points, oldest first."""
    from backout.model.recovery_point import NotedPoint

    events = journal.events(environment=environment, kind=NOTED)
    return tuple(decode_values(event.data, NotedPoint, what="a recovery point") for event in events)


def mark_meanwhile(tools: Toolbox, why: str, deployment: str, key: str, *, live: str) -> threading.Thread | None:
    """Record a point in the background; None where there is nothing but the code to return to.

    Args:
        deployment: the version that it belongs to.
        key: tells this moment from another one of the same `why`.
        live: the version that is live now, "" where that is not known.
    """
    marker, at = tools.recovery.points, tools.clock.now()
    if marker is None and not tools.recovery.keeps_objects:
        return None
    name = f"{why.replace(' ', '-')}-{key}"

    def mark_database(marker: PointMarker) -> str:
        known = list_recorded_points(tools.journal, tools.environment)
        if any(point.name == name for point in known):  # a resumed run records its moments once
            return ""
        try:
            record_point(
                tools.journal, tools.environment, marker, name, why=why, actor=tools.actor, deployment=deployment
            )
        except BackoutError as error:
            tools.say(f"no restore point {why}: {error.what}")
            return error.what
        return ""

    def mark() -> None:
        from backout.model.recovery_point import NotedPoint

        try:
            problem = mark_database(marker) if marker is not None else ""
            took_s = max(0.0, tools.clock.now() - at)
            noted = NotedPoint(name=name, at=at, why=why, version=live, took_s=took_s, problem=problem)
            note_point(tools.journal, tools.environment, noted, tools.actor)
        except BackoutError as error:
            tools.say(f"no recovery point {why}: {error.what}")

    thread = threading.Thread(target=mark, name="backout-point", daemon=True)
    thread.start()
    return thread


def await_point(thread: threading.Thread | None) -> None:
    """Wait some seconds for a point; it would be lost with a process that ends."""
    if thread is not None:
        thread.join(_WAIT_S)
