"""Recovery points from what was noted, and what a return to each would lose; pure."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from msgspec import field
from msgspec.structs import replace

from backout.model.clock import format_duration, to_utc
from backout.model.database.wal import show_lsn
from backout.model.recovery_point import Coordinate, NotedPoint, PointPart, RecoveryPoint
from backout.model.triggers import Triggers
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from backout.model.database.recovery import RestorePoint
    from backout.model.deployment import Deployment
    from backout.model.secrets import PushedSecret
    from backout.model.version import Version

_SECOND: Final = 1.0
"""Most stores tell the time of an object in whole seconds."""
_DIGITS: Final = 12
_MIN_PREFIX: Final = 4


class ObjectsPast(Value, frozen=True):
    """How far back the objects can be brought.

    Args:
        since: Unix seconds from which on every moment can be reached, None where none can.
        snapshots: the moments at which snapshots were taken, oldest first; None: the bucket keeps versions.
        problem: why that is not known, "" where it is.
    """

    since: float | None = None
    snapshots: tuple[float, ...] | None = None
    problem: str = ""


class PointFacts(Value, frozen=True):
    """What is known beside the notes.

    Args:
        now: Unix seconds.
        live: the version that is live now.
        versions: those that can be made live, by id, in full.
        snapshots: what started the application when a version was live, by its id.
        pushes: every secret that backout set.
        has_database: whether the application has one; reach: returns why a restore point of it cannot be reached, ""
            where it can.
        wal_end: where the WAL of the database ends, None where it was not asked.
        objects: None without a bucket.
    """

    now: float
    live: str
    versions: Mapping[str, Version] = field(default_factory=dict)
    snapshots: Mapping[str, Triggers] = field(default_factory=dict)
    pushes: tuple[PushedSecret, ...] = ()
    has_database: bool = False
    reach: Callable[[RestorePoint], str] = lambda _point: ""
    wal_end: int | None = None
    objects: ObjectsPast | None = None


def list_points(
    noted: Sequence[NotedPoint], restore_points: Sequence[RestorePoint], facts: PointFacts
) -> tuple[RecoveryPoint, ...]:
    """Return every recovery point, newest first; a restore point without a note is one of the database alone."""
    by_name = {point.name: point for point in restore_points}
    known = {point.name for point in noted}
    alone = (_note_alone(point) for point in restore_points if point.name not in known)
    found = (make_point(each, by_name.get(each.name), facts) for each in (*noted, *alone))
    return tuple(sorted(found, key=lambda point: -point.at))


def make_point(noted: NotedPoint, point: RestorePoint | None, facts: PointFacts) -> RecoveryPoint:
    """Return the recovery point of a note, and of the restore point of the same name."""
    version = facts.versions.get(noted.version)
    parts = {PointPart.CODE: _find_code(noted, version)}
    if facts.has_database:
        parts |= _find_database(noted, point, facts)
    if facts.objects is not None:
        parts[PointPart.OBJECTS] = _find_objects(noted, facts.objects)
    parts[PointPart.SECRETS] = _find_secrets(noted, version, facts)
    parts[PointPart.CONFIGURATION] = _find_configuration(noted.version, version, facts)
    made = RecoveryPoint(noted.name, noted.at, noted.why, parts)
    return replace(made, losses=_list_losses(made, point, facts))


def resolve(
    text: str, points: Sequence[RecoveryPoint], history: Sequence[Deployment], at: float | None, facts: PointFacts
) -> RecoveryPoint | None:
    """Return the recovery point that TIME, POINT or a version means, None when it means nothing.

    A point's own name wins. Of a version the last moment is meant at which it was live. A time has no restore
    point: where the WAL was then is searched for when the database is restored.

    Args:
        points: newest first.
        history: deployments, newest first.
        at: `text` as a time, None where it is none.
    """
    text = text.strip()
    named = next((point for point in points if point.name == text), None)
    if named is not None:
        return named
    if at is None:
        return next((point for point in points if len(text) >= _MIN_PREFIX and point.version.startswith(text)), None)
    live = next((deployment for deployment in history if deployment.created_at <= at), None)
    before = next((point for point in points if point.at <= at and point.version), None)
    version = live.main if live is not None else (before.version if before is not None else "")
    made = make_point(NotedPoint(name="", at=at, why="a time", version=version), None, facts)
    if not facts.has_database:
        return made
    head = before.parts.get(PointPart.MIGRATIONS, Coordinate()) if before is not None else Coordinate()
    why = "which migration was the newest then shows when the database is restored"
    parts = {
        **made.parts,
        PointPart.MIGRATIONS: replace(head, error_s=None, missing="", detail={"note": why}),
        PointPart.DATABASE: Coordinate(_format_time(at), error_s=None, detail={"note": "searched for in the WAL"}),
    }
    return replace(made, parts=parts)


def _note_alone(point: RestorePoint) -> NotedPoint:
    """Return what a restore point says of the code: it names the version that was about to be live, or was then."""
    version = point.deployment if point.why.startswith("after") else ""
    return NotedPoint(name=point.name, at=point.at, why=point.why, version=version)


def _find_code(noted: NotedPoint, version: Version | None) -> Coordinate:
    if not noted.version:
        return Coordinate(missing="which version was live was not noted")
    if version is None:
        gone = "the provider does not deploy that version any more, and its code is not kept here"
        return Coordinate(noted.version, missing=gone)
    if version.is_maintenance:
        return Coordinate(noted.version, missing="a maintenance version was live, which is no target")
    code = {"code": version.code_hash or "", "commit": version.git_sha, "tag": version.tag}
    detail = {name: value for name, value in code.items() if value}
    return Coordinate(noted.version, error_s=noted.took_s, detail=detail)


def _find_database(noted: NotedPoint, point: RestorePoint | None, facts: PointFacts) -> dict[PointPart, Coordinate]:
    if point is None:
        lost = Coordinate(missing=noted.problem or "the database has no restore point of that name")
        return {PointPart.MIGRATIONS: lost, PointPart.DATABASE: lost}
    detail = {"point": point.name, "timeline": str(point.timeline), "xid": str(point.xid)}
    missing = facts.reach(point)
    return {
        PointPart.MIGRATIONS: Coordinate(point.migration_head or "none", missing=missing),
        PointPart.DATABASE: Coordinate(show_lsn(point.lsn), missing=missing, detail=detail),
    }


def _find_objects(noted: NotedPoint, past: ObjectsPast) -> Coordinate:
    at = _format_time(noted.at)
    if past.problem:
        return Coordinate(at, missing=past.problem)
    if past.snapshots is not None:
        before = bisect_right(past.snapshots, noted.at)
        if not before:
            return Coordinate(at, missing="no snapshot of the bucket is as old as that")
        taken = past.snapshots[before - 1]
        return Coordinate(_format_time(taken), error_s=noted.at - taken + _SECOND, detail={"kept in": "snapshots"})
    if past.since is None:
        return Coordinate(at, missing="the bucket keeps no versions, and there are no snapshots of it")
    if noted.at < past.since:
        return Coordinate(at, missing="the bucket has forgotten the versions of then")
    return Coordinate(at, error_s=noted.took_s + _SECOND, detail={"kept in": "versions"})


def _find_secrets(noted: NotedPoint, version: Version | None, facts: PointFacts) -> Coordinate:
    if version is None:
        return Coordinate(missing="which secrets there were is known with the version alone")
    pushed = {each.name: each.fingerprint for each in _sort_pushes(facts) if each.at <= noted.at}
    marks = {name: noted.fingerprints.get(name) or pushed.get(name, "") for name in version.secret_names}
    unknown = any(not mark for mark in marks.values())
    return Coordinate(_make_digest(marks), error_s=None if unknown else noted.took_s, detail=marks)


def _find_configuration(name: str, version: Version | None, facts: PointFacts) -> Coordinate:
    if version is None:
        return Coordinate(missing="what was bound is known with the version alone")
    triggers = facts.snapshots.get(name, Triggers()).list_known()
    detail = {str(kind): ", ".join(values) for kind, values in triggers.items()}
    value = _make_digest({"bindings": list(version.bindings), **detail})
    return Coordinate(value, error_s=0.0 if triggers else None, detail=detail)


def _list_losses(made: RecoveryPoint, point: RestorePoint | None, facts: PointFacts) -> dict[PointPart, str]:
    since = f"of the {format_duration(max(0.0, facts.now - made.at))} since"
    losses = {}
    code = made.parts[PointPart.CODE]
    if code.value and code.value != facts.live:
        losses[PointPart.CODE] = f"version {facts.live[:8]} is left"
    if PointPart.DATABASE in made.parts:
        written = facts.wal_end - point.lsn if point is not None and facts.wal_end is not None else -1
        size = f", in {_format_megabytes(written)} of WAL at most" if written >= 0 else ""
        losses[PointPart.DATABASE] = f"what was written to rows {since}{size}"
    if PointPart.OBJECTS in made.parts:
        objects = made.parts[PointPart.OBJECTS]
        older = objects.error_s if "snapshots" in objects.detail.values() else None
        more = f", and of up to {format_duration(older)} before" if older is not None else ""
        losses[PointPart.OBJECTS] = f"what was written to objects {since}{more}"
    changed = sorted({each.name for each in facts.pushes if each.at > made.at})
    if changed:
        losses[PointPart.SECRETS] = f"set since: {', '.join(changed)}"
    now = _find_configuration(facts.live, facts.versions.get(facts.live), facts)
    then = made.parts[PointPart.CONFIGURATION]
    if then.value and now.value and then.value != now.value:
        losses[PointPart.CONFIGURATION] = "what is bound, or starts the application, is another now"
    return losses


def _sort_pushes(facts: PointFacts) -> list[PushedSecret]:
    return sorted(facts.pushes, key=lambda each: each.at)


def _make_digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:_DIGITS]


def _format_time(at: float) -> str:
    return to_utc(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _format_megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
