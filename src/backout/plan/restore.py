"""Restores of the database as plans: a side instance alone, the damaged rows, the whole, and back again; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from backout.model.plan import Plan, PlanKind, Step
from backout.model.recovery import RecoveryTarget, TargetKind, parse_lsn, show_lsn
from backout.plan.target import parse_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.analysis.recovery import Route
    from backout.model.plan import Json
    from backout.model.recovery import Damage, RestorePoint

_BEFORE_MIGRATION = re.compile(r"before\s+migration\s+(\S+)", re.IGNORECASE)
_BEFORE_DROP = re.compile(r"before\s+drop\s+of\s+(\S+)", re.IGNORECASE)
_LATEST = "latest"
_MIN_PREFIX = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person typed as TARGET, read: `value` is a name, a position, an id or Unix seconds."""

    kind: TargetKind
    text: str
    value: str | int | float
    point: RestorePoint | None = None


def read_target(text: str, points: Sequence[RestorePoint], now: float) -> Asked | None:
    """Return what TARGET means, None when it means nothing.

    A point's own name wins; of several points of a deployment the one before it is meant.
    """
    text = text.strip()
    named = [point for point in points if point.name == text]
    if named:
        return Asked(TargetKind.POINT, text, text, named[-1])
    if text.lower() == _LATEST:
        return Asked(TargetKind.LATEST, text, _LATEST)
    for pattern, kind in ((_BEFORE_MIGRATION, TargetKind.MIGRATION), (_BEFORE_DROP, TargetKind.DROP)):
        found = pattern.fullmatch(text)
        if found:
            return Asked(kind, text, found[1])
    try:
        return Asked(TargetKind.LSN, text, parse_lsn(text))
    except ValueError:
        pass
    if text.isdecimal() and len(text) <= 10:  # noqa: PLR2004 - of a 32-bit number
        return Asked(TargetKind.XID, text, int(text))
    at = parse_time(text, now)
    if at is not None:
        return Asked(TargetKind.TIME, text, at)
    belongs = [point for point in points if len(text) >= _MIN_PREFIX and point.deployment.startswith(text)]
    if belongs:
        before = [point for point in belongs if point.why.startswith("before")]
        return Asked(TargetKind.DEPLOYMENT, text, text, (before or belongs)[-1])
    return None


def of_point(asked: Asked) -> RecoveryTarget:
    """Return the target that a recorded point is; no search is needed."""
    point = asked.point
    assert point is not None  # noqa: S101 of these two kinds only
    how = f"recorded as {point.name} ({point.why})"
    return RecoveryTarget(asked.kind, asked.text, point.lsn, point.timeline, at=point.at, how=how)


@dataclass(frozen=True, slots=True)
class Look:
    """What a side instance must show before anybody rests on it; "" is not asked.

    Args:
        database: where to look. relation: that has to be there. no_migration: that must not be.
    """

    database: str
    relation: str = ""
    no_migration: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """Of which environment a restore is, what its side instance must show, and a word that tells its folders apart.

    Args:
        accepted: the ids of what a person takes although it is not signed.
    """

    environment: str
    look: Look
    mark: str
    accepted: tuple[str, ...] = ()


def side_plan(job: Job, target: RecoveryTarget, route: Route) -> Plan:
    """Return the plan that makes a side instance and leaves it running."""
    name = f"side-{job.mark}"
    steps = (_side(name, target, route), _check(name, job.look), _open(name))
    why = f"a side instance of the database {_until(target)}"
    return Plan(PlanKind.RECOVER, job.environment, why, _accepting(job, steps), _notes(target, route))


def swap_plan(job: Job, target: RecoveryTarget, route: Route, data: str) -> Plan:
    """Return the plan that replaces the whole; the old data directory is kept beside the new one.

    Args:
        data: the live data directory.
    """
    name = f"swap-{job.mark}"
    incoming, kept = f"{data}.backout-new-{job.mark}", f"{data}.backout-old-{job.mark}"
    who = (route.base.system_identifier, job.look.database)
    steps = (
        _side(name, target, route, place=incoming),
        _check(name, job.look),
        Step("db_promote", "let the side instance become a database of its own, and stop it", {"name": name}),
        *_exchange((data, incoming, kept), who, name),
    )
    notes = (
        *_notes(target, route),
        f"what was committed {_behind(target)} is not in the restored database; it stays in {kept}",
        "there is no verified base backup of the restored database until the next `backout db backup`",
    )
    why = f"the whole database {_until(target)}"
    return Plan(PlanKind.RECOVER, job.environment, why, _accepting(job, steps), notes)


def undo_swap_plan(environment: str, swapped: dict[str, Json], mark: str, database: str) -> Plan:
    """Return the plan that brings the kept data directory back and keeps the one that is live now."""
    data, incoming = str(swapped["data_directory"]), str(swapped["kept"])
    kept = f"{data}.backout-old-{mark}"
    steps = _exchange((data, incoming, kept), (str(swapped["system_identifier"]), database), "")
    notes = (f"what was committed since the swap stays in {kept}",)
    return Plan(PlanKind.RECOVER, environment, f"undo of a swap: {incoming} comes back", steps, notes)


def rescue_plan(job: Job, target: RecoveryTarget, route: Route, damage: Damage) -> Plan:
    """Return the plan that copies the rows back that one commit damaged, and leaves newer good ones alone."""
    first, second = f"before-{job.mark}", f"after-{job.mark}"
    written: list[Json] = [[node, [*kinds]] for node, kinds in damage.written or ()]
    record: dict[str, Json] = {
        "xids": [*sorted(damage.xids)],
        "written": written,
        "conflicts": damage.conflicts,
        "skip": list(damage.skip),
        "queues": damage.queues,
    }
    sides: dict[str, Json] = {"before": first, "after": second, "database": job.look.database}
    steps = (
        _side(first, target, route),
        _side(second, target, route, inclusive=True),
        _check(first, job.look),
        _open(first),
        _open(second),
        Step(
            "db_note_newer", "note which rows others have written since", {**sides, "damage": record, "mark": job.mark}
        ),
        Step("db_rescue", "copy the damaged rows and columns back", {**sides, "damage": record, "mark": job.mark}),
        Step("db_rescue_check", "compare again: nothing of the damage is left", {**sides, "damage": record}),
        Step(
            "db_compare",
            "the second check, in a process of its own: hashes of rows before the damage and now",
            {**sides, "damage": record, "mark": job.mark},
        ),
        Step("db_drop_sides", "remove the side instances", {"names": [first, second]}),
    )
    why = f"the rows that transaction {target.xid} damaged, as they were before it"
    return Plan(PlanKind.RECOVER, job.environment, why, _accepting(job, steps), _notes(target, route))


def undo_rescue_plan(environment: str, mark: str, database: str) -> Plan:
    """Return the plan that takes a rescue back, where nobody has written since."""
    step = Step("db_undo_rescue", "put back what the rescue replaced", {"mark": mark, "database": database})
    return Plan(PlanKind.RECOVER, environment, "undo of a rescue", (step,))


def _side(name: str, target: RecoveryTarget, route: Route, *, inclusive: bool = False, place: str = "") -> Step:
    inclusive = inclusive or target.inclusive
    end = "after" if inclusive else "before"
    args: dict[str, Json] = {
        "name": name,
        "backup": route.base.id,
        "lsn": show_lsn(target.lsn),
        "timeline": target.timeline,
        "wal": list(route.names),
        "inclusive": inclusive,
        "xid": None if inclusive else target.xid,
        "place": place,
    }
    flag = "on" if inclusive else "off"
    line = f"pg_ctl start with recovery_target_lsn='{show_lsn(target.lsn)}' recovery_target_inclusive={flag}"
    title = f"make side instance {name} from {route.base.id}, replayed to just {end} {show_lsn(target.lsn)}"
    return Step("db_side", title, args, equivalent=f"# {line} recovery_target_action=pause")


def _accepting(job: Job, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Return the steps, side instances with what a person takes although it is not signed."""
    if not job.accepted:
        return steps
    more: dict[str, Json] = {"accepted": list(job.accepted)}
    return tuple(replace(each, args={**each.args, **more}) if each.action == "db_side" else each for each in steps)


def _check(name: str, look: Look) -> Step:
    args: dict[str, Json] = {
        "name": name,
        "database": look.database,
        "relation": look.relation,
        "no_migration": look.no_migration,
    }
    return Step("db_side_check", f"look at side instance {name}, read-only", args)


def _open(name: str) -> Step:
    return Step("db_side_open", f"open side instance {name} for reading", {"name": name}, equivalent="# pg_promote()")


def _exchange(folders: tuple[str, str, str], who: tuple[str, str], name: str) -> tuple[Step, ...]:
    """Return the steps that move a data directory in.

    Args:
        folders: the live one, the one that comes, and where the live one goes. who: (system identifier, database)
            that has to answer afterwards. name: of the side instance that comes, "" when none does.
    """
    data, incoming, kept = folders
    ends: dict[str, Json] = {"data_directory": data, "incoming": incoming, "kept": kept}
    answers: dict[str, Json] = {"system_identifier": who[0], "database": who[1]}
    return (
        Step("db_stop_server", "stop the live server", {"data_directory": data}),
        Step(
            "db_exchange",
            f"move {data} to {kept}, and {incoming} to its place",
            {**ends, **answers, "name": name},
            equivalent=f"mv {data} {kept} && mv {incoming} {data}",
        ),
        Step("db_start_server", "start the server", {"data_directory": data}),
        Step("db_read_back", "read back who answers", {**ends, **answers}),
    )


def _behind(target: RecoveryTarget) -> str:
    return f"after the record at {show_lsn(target.lsn)}" if target.inclusive else f"from {show_lsn(target.lsn)} on"


def _until(target: RecoveryTarget) -> str:
    if target.inclusive:
        return f"as it was just after {show_lsn(target.lsn)}"
    xid = f", before the commit of transaction {target.xid}" if target.xid is not None else ""
    return f"as it was at {show_lsn(target.lsn)}{xid}"


def _notes(target: RecoveryTarget, route: Route) -> tuple[str, ...]:
    base = route.base
    return (
        f"target {show_lsn(target.lsn)} on timeline {target.timeline}: {target.how}",
        f"base {base.id} ({base.kind}), then {len(route.names)} WAL segment(s) without a gap",
    )
