"""Recovery points: made on demand, and listed with what is known now of how far each part can go back."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from backout.analysis.history.remarks import find_underneath
from backout.analysis.recovery.points import ObjectsPast, PointFacts, list_points, resolve
from backout.analysis.recovery.recovery import Machine, Unreachable, find_route
from backout.errors import BackoutError, Unmeasured, UsageError
from backout.model.recovery_point import NotedPoint
from backout.model.value import Value
from backout.plan.target import parse_time
from backout.runbook.observe import observe
from backout.runbook.recovery.facts import read_archive, read_facts
from backout.runbook.recovery.restore_points import (
    ON_DEMAND,
    list_noted,
    list_recorded_points,
    note_point,
    record_point,
)
from backout.runbook.rollback.triggers import read_snapshots
from backout.runbook.secrets.secrets import list_pushes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from backout.model.database.capability import VendorState
    from backout.model.database.recovery import DatabaseFacts, RestorePoint
    from backout.model.recovery_point import RecoveryPoint
    from backout.model.situation import Situation
    from backout.model.version import Version
    from backout.ports import PointMarker
    from backout.runbook.objects.tools import ObjectTools
    from backout.runbook.recovery.tools import RestoreTools
    from backout.runbook.toolbox import Toolbox


def mark_recovery_point(tools: Toolbox, name: str, marker: PointMarker | None) -> NotedPoint:
    """Record a recovery point on demand: the live version, a restore point of the database, and the time.

    The configured source of secrets is asked for them, so that their fingerprints are known where backout set none.

    Args:
        marker: of the database, None without one.

    Raises:
        UsageError: the name is taken, or there is nothing but the code to return to.
        Unmeasured: nothing is live.
        AuthError, ProviderUnavailable: the platform or the database does not answer.
    """
    if marker is None and not tools.recovery.keeps_objects:
        raise UsageError(
            "there is nothing to bring back but the code: no database and no bucket is set up",
            where=tools.environment,
            hint=f"backout rollback -e {tools.environment} --dry-run",
        )
    if any(point.name == name for point in list_noted(tools.journal, tools.environment)):
        raise UsageError(
            f"a recovery point named {name!r} exists", hint=f"backout recover --list -e {tools.environment}"
        )
    history = tools.deployments.history()
    if not history:
        raise Unmeasured("nothing was ever deployed here", where=tools.environment, hint="deploy once, then try again")
    version, at = find_underneath(history).main, tools.clock.now()
    if marker is not None:
        record_point(tools.journal, tools.environment, marker, name, why=ON_DEMAND, actor=tools.actor)
    took_s = max(0.0, tools.clock.now() - at)
    marks = _read_fingerprints(tools, version)
    noted = NotedPoint(name=name, at=at, why=ON_DEMAND, version=version, took_s=took_s, fingerprints=marks)
    note_point(tools.journal, tools.environment, noted, tools.actor)
    return noted


class PointSources(Value, frozen=True):
    """What is asked of how far the data can go back; both raise BackoutError where they cannot be asked.

    Args:
        objects: makes the tools of the bucket, None without one.
        vendor: asks who runs the database, None where we back it up ourselves.
    """

    objects: Callable[[], ObjectTools] | None = None
    vendor: Callable[[], VendorState] | None = None


def list_recovery_points(tools: Toolbox, sources: PointSources) -> tuple[RecoveryPoint, ...]:
    """Return every recovery point, newest first; what does not answer is a part that is missing."""
    return _list_points(tools, observe(tools), sources)[0]


def find_recovery_point(tools: Toolbox, text: str, sources: PointSources) -> RecoveryPoint:
    """Return the moment that TIME, the name of a point, or a version means; what each part of it lacks is in it.

    Raises:
        UsageError: it means nothing, or lies in the future.
    """
    situation = observe(tools)
    points, facts = _list_points(tools, situation, sources)
    at = parse_time(text, situation.read_at)
    if at is not None and at > situation.read_at and all(point.name != text.strip() for point in points):
        raise UsageError(f"{text!r} lies in the future", where=tools.environment)
    found = resolve(text, points, situation.history, at, facts)
    if found is None:
        hint = f"backout recover --list -e {tools.environment}"
        raise UsageError(f"{text!r} is no time, no recovery point and no version of one", hint=hint)
    return found


def _list_points(
    tools: Toolbox, situation: Situation, sources: PointSources
) -> tuple[tuple[RecoveryPoint, ...], PointFacts]:
    noted = list_noted(tools.journal, tools.environment)
    restore_points = list_recorded_points(tools.journal, tools.environment)
    reach, wal_end = _judge_database(tools, sources)
    live = situation.live.main
    wanted = {each.version for each in noted} | {each.deployment for each in restore_points} | {live}
    facts = PointFacts(
        now=situation.read_at,
        live=live,
        versions=_find_versions(tools, situation, wanted),
        snapshots=read_snapshots(tools),
        pushes=list_pushes(tools),
        has_database=tools.recovery.points is not None,
        reach=reach,
        wal_end=wal_end,
        objects=_judge_objects(sources.objects) if sources.objects is not None else None,
    )
    return list_points(noted, restore_points, facts), facts


def _find_versions(tools: Toolbox, situation: Situation, wanted: Iterable[str]) -> dict[str, Version]:
    """Return those of the versions that can be made live, in full where the provider tells."""
    found = {}
    for name in wanted:
        known = situation.version(name)
        if known is None:
            continue
        if known.code_hash is None:
            try:
                known = tools.versions.detail(name)
            except BackoutError:
                continue
        found[name] = known
    return found


def _judge_database(tools: Toolbox, sources: PointSources) -> tuple[Callable[[RestorePoint], str], int | None]:
    """Return why a restore point cannot be reached ("": it can), and where the live WAL ends."""
    opened = tools.recovery.restoring
    if tools.recovery.points is None or opened is None:
        return lambda _point: "", None
    try:
        if sources.vendor is not None:
            return _make_vendor_reach(sources.vendor()), None
        restoring = opened()
        facts = read_facts(restoring)
        return _make_reach(restoring, facts), facts.lsn if facts is not None else None
    except BackoutError as error:
        why = f"the backups cannot be looked at: {error.what}"
        return lambda _point: why, None


def _make_reach(tools: RestoreTools, facts: DatabaseFacts | None) -> Callable[[RestorePoint], str]:
    archive = read_archive(tools, facts)
    machine = Machine(
        tools.tools_version,
        facts.system_identifier if facts else None,
        facts.server_version if facts else None,
        copies=tools.sides.copies,
    )

    def reach(point: RestorePoint) -> str:
        found = find_route(archive, point.lsn, point.timeline, machine)
        return "; ".join(found.reasons) if isinstance(found, Unreachable) else ""

    return reach


def _make_vendor_reach(state: VendorState) -> Callable[[RestorePoint], str]:
    earliest = min((way.earliest for way in state.ways if way.earliest is not None), default=None)

    def reach(point: RestorePoint) -> str:
        if not state.answers:
            return f"{state.vendor} cannot be asked: {state.problem}"
        if point.branch:
            return ""
        if earliest is None:
            return f"{state.vendor} goes back to no moment, and no branch keeps this one"
        return "" if point.at >= earliest else f"{state.vendor} does not go back that far any more"

    return reach


def _judge_objects(opened: Callable[[], ObjectTools]) -> ObjectsPast:
    try:
        tools = opened()
        if tools.snapshots is not None:
            return ObjectsPast(snapshots=tuple(sorted(each.at for each in tools.snapshots.list_manifests())))
        facts = tools.look.read()
    except BackoutError as error:
        return ObjectsPast(problem=f"the bucket cannot be looked at: {error.what}")
    if facts.versioning == "unknown":
        return ObjectsPast(problem="the access key may not ask whether the bucket keeps versions")
    if facts.versioning != "enabled":
        return ObjectsPast()
    kept_s = facts.expires_after_s
    return ObjectsPast(since=-inf if kept_s is None else tools.clock.now() - kept_s)


def _read_fingerprints(tools: Toolbox, version: str) -> dict[str, str]:
    """Return the fingerprints of the values that the configured source has now; {} where it cannot be asked."""
    if tools.pushing is None:
        return {}
    try:
        pushing = tools.pushing()
        if pushing.configured is None:
            return {}
        values = pushing.opened(pushing.configured).read(tools.versions.detail(version).secret_names)
        return {name: pushing.fingerprints.of(name, values.reveal(name)) for name in values.names}
    except BackoutError as error:
        tools.say(f"the values of the secrets cannot be compared later: {error.what}")
        return {}
