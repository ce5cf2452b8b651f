"""Restores of the database as plans: a side instance alone, the damaged rows, the whole, and back again; pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import structs
from msgspec.structs import replace

from backout.model.database.recovery import SWAP, RecoveryTarget, TargetKind, find_place
from backout.model.database.wal import parse_lsn, show_lsn
from backout.model.plan import Plan, PlanKind, Step
from backout.model.steps.rescue import (
    CompareStep,
    CompareUndoStep,
    DamageRecord,
    NoteNewerStep,
    NoteUndoStep,
    RescueCheckStep,
    RescueStep,
    UndoRescueStep,
)
from backout.model.steps.restore import (
    CompareCopyStep,
    DropSidesStep,
    ExchangeStep,
    NoteCopiesStep,
    PromoteStep,
    SideCheckStep,
    SideOpenStep,
    SideStep,
    StartServerStep,
    StopServerStep,
    SwappedStep,
)
from backout.model.value import Value
from backout.plan.rescue_notes import list_row_notes
from backout.plan.target import parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.analysis.recovery.recovery import Route
    from backout.model.database.recovery import RestorePoint
    from backout.model.database.rescue import Damage
    from backout.model.plan import Json
    from backout.model.steps.rescue import SeveralRecord

_BEFORE_MIGRATION = re.compile(r"before\s+migration\s+(\S+)", re.IGNORECASE)
_BEFORE_DROP = re.compile(r"before\s+drop\s+of\s+(\S+)", re.IGNORECASE)
_SEVERAL = re.compile(r"\d{1,10}(?:[\s,]+\d{1,10})+")
_BETWEEN = re.compile(r"between\s+(.+?)\s+and\s+(.+)", re.IGNORECASE)
_DURING = re.compile(r"during\s+(\S+)", re.IGNORECASE)
_FOREVER = 1 << 64
_LATEST = "latest"
_MIN_PREFIX = 4


class Asked(Value, frozen=True):
    """TARGET as a person typed it, parsed.

    Args:
        value: a name, a position, an id or Unix seconds.
        ids: of several transactions.
        window: from when to when they were committed, as Unix seconds; places: the same as positions in the WAL.
    """

    kind: TargetKind
    text: str
    value: str | int | float
    point: RestorePoint | None = None
    ids: frozenset[int] = frozenset()
    window: tuple[float, float] | None = None
    places: tuple[int, int] | None = None


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
    several = read_several(text, points, now)
    if several is not None:
        return several
    if text.isdecimal() and len(text) <= 10:
        return Asked(TargetKind.XID, text, int(text))
    at = parse_time(text, now)
    if at is not None:
        return Asked(TargetKind.TIME, text, at)
    belongs = [point for point in points if len(text) >= _MIN_PREFIX and point.deployment.startswith(text)]
    if belongs:
        before = [point for point in belongs if point.why.startswith("before")]
        return Asked(TargetKind.DEPLOYMENT, text, text, (before or belongs)[-1])
    return None


def read_several(text: str, points: Sequence[RestorePoint], now: float) -> Asked | None:
    """Return what TARGET means where it names several transactions: their ids, a time, or a deployment's; else None."""
    if _SEVERAL.fullmatch(text):
        ids = frozenset(int(word) for word in re.split(r"[\s,]+", text))
        return Asked(TargetKind.TRANSACTIONS, text, text, ids=ids)
    if found := _BETWEEN.fullmatch(text):
        ends = parse_time(found[1], now), now if found[2].lower() == "now" else parse_time(found[2], now)
        if ends[0] is None or ends[1] is None or ends[0] > ends[1]:
            return None
        return Asked(TargetKind.WINDOW, text, text, window=(ends[0], ends[1]))
    if found := _DURING.fullmatch(text):
        belongs = [point for point in points if len(found[1]) >= _MIN_PREFIX and point.deployment.startswith(found[1])]
        if not belongs:
            return None
        first = next((each for each in belongs if each.why.startswith("before")), belongs[0])
        later = [each for each in points if each.at > first.at and each.deployment and each not in belongs]
        end = min((each.lsn for each in later), default=_FOREVER)
        return Asked(TargetKind.WINDOW, text, text, first, places=(first.lsn, end))
    return None


def make_point_target(asked: Asked) -> RecoveryTarget:
    """Return the target of a recorded point; no search is needed."""
    point = asked.point
    assert point is not None
    how = f"recorded as {point.name} ({point.why})"
    return RecoveryTarget(asked.kind, asked.text, point.lsn, point.timeline, at=point.at, how=how)


class Look(Value, frozen=True):
    """What a side instance must show before it is relied on; "" is not checked.

    Args:
        database: where to look.
        relation: that has to be there.
        no_migration: that must not be.
    """

    database: str
    relation: str = ""
    no_migration: str = ""


class Job(Value, frozen=True):
    """The environment of a restore, what its side instance must show, and a word that tells its folders apart.

    Args:
        accepted: the ids of what a person accepts although it is not signed.
    """

    environment: str
    look: Look
    mark: str
    accepted: tuple[str, ...] = ()


def make_side_plan(job: Job, target: RecoveryTarget, route: Route) -> Plan:
    """Return the plan that makes a side instance and leaves it running."""
    name = f"side-{job.mark}"
    steps = (_make_side_step(name, target, route), _check(name, job.look), _open(name))
    why = f"a side instance of the database {_describe_until(target)}"
    return Plan(PlanKind.RECOVER, job.environment, why, _add_acceptances(job, steps), _list_notes(target, route))


def make_swap_plan(job: Job, target: RecoveryTarget, route: Route, data: str) -> Plan:
    """Return the plan that replaces the whole; the old data directory is kept beside the new one.

    Args:
        data: the live data directory.
    """
    name = f"{SWAP}{job.mark}"
    incoming, kept = find_place(name, "", data), f"{data}.backout-old-{job.mark}"
    who = (route.base.system_identifier, job.look.database)
    steps = (
        _make_side_step(name, target, route, place=incoming),
        _check(name, job.look),
        _open(name),
        _make_copies_step(name, kept),
        Step.of("let the side instance become a database of its own, and stop it", PromoteStep(name=name)),
        *list_exchange_steps((data, incoming, kept), who, name),
    )
    notes = (
        *_list_notes(target, route),
        f"what was committed {_describe_behind(target)} is not in the restored database; it stays in {kept}",
        "there is no verified base backup of the restored database until the next `backout db backup`",
    )
    why = f"the whole database {_describe_until(target)}"
    return Plan(PlanKind.RECOVER, job.environment, why, _add_acceptances(job, steps), notes)


def undo_swap_plan(environment: str, swapped: Mapping[str, Json], mark: str, database: str) -> Plan:
    """Return the plan that brings the kept data directory back and keeps the one that is live now."""
    data, incoming = str(swapped["data_directory"]), str(swapped["kept"])
    kept = f"{data}.backout-old-{mark}"
    ends = (data, incoming, kept), (str(swapped["system_identifier"]), database)
    steps = (_make_copies_step("", kept), *list_exchange_steps(*ends, ""))
    notes = (f"what was committed since the swap stays in {kept}",)
    return Plan(PlanKind.RECOVER, environment, f"undo of a swap: {incoming} comes back", steps, notes)


class Several(Value, frozen=True):
    """Several transactions to take back together.

    Args:
        first, last: the first commit of them and the last one, each with the way to it.
        record: what the steps need in order to follow their rows.
        since_lsn: a position in the WAL before any of them began.
        notes: what a person should know.
    """

    first: RecoveryTarget
    route: Route
    last: RecoveryTarget
    last_route: Route
    damage: Damage
    record: SeveralRecord
    since_lsn: int
    notes: tuple[str, ...]


def rescue_together_plan(job: Job, several: Several) -> Plan:
    """Return the plan that copies the rows back that several transactions damaged, as one rescue."""
    ends = (several.first, several.route), (several.last, several.last_route)
    record = DamageRecord.of(several.damage, several.first.lsn, several.since_lsn, several.record)
    plan = _rescue_plan(job, *ends, record)
    why = f"the rows that {len(several.record.ids)} transactions damaged, as if there had been none of them"
    return replace(plan, why=why, notes=(*several.notes, *plan.notes))


def rescue_plan(job: Job, target: RecoveryTarget, route: Route, damage: Damage, since_lsn: int) -> Plan:
    """Return the plan that copies the rows back that one commit damaged, and leaves newer good ones alone.

    Args:
        since_lsn: a position in the WAL before the damage's first record.
    """
    return _rescue_plan(job, (target, route), (target, route), DamageRecord.of(damage, target.lsn, since_lsn))


def _rescue_plan(
    job: Job, begin: tuple[RecoveryTarget, Route], end: tuple[RecoveryTarget, Route], damage: DamageRecord
) -> Plan:
    target, route = begin
    first, second = f"before-{job.mark}", f"after-{job.mark}"
    database, mark = job.look.database, job.mark
    steps = (
        _make_side_step(first, target, route),
        _make_side_step(second, *end, inclusive=True),
        _check(first, job.look),
        _open(first),
        _open(second),
        Step.of(
            "note which rows others have written since",
            NoteNewerStep(before=first, after=second, database=database, damage=damage, mark=mark),
        ),
        Step.of(
            "copy the damaged rows and columns back",
            RescueStep(before=first, after=second, database=database, damage=damage, mark=mark),
        ),
        Step.of(
            "compare again: nothing of the damage is left",
            RescueCheckStep(before=first, after=second, database=database, damage=damage),
        ),
        Step.of(
            "the second check, in a process of its own: hashes of rows before the damage and now",
            CompareStep(before=first, after=second, database=database, damage=damage, mark=mark),
        ),
        Step.of("remove the side instances", DropSidesStep(names=(first, second))),
    )
    why = f"the rows that transaction {target.xid} damaged, as they were before it"
    notes = (*_list_notes(target, route), *list_row_notes(damage.conflicts))
    return Plan(PlanKind.RECOVER, job.environment, why, _add_acceptances(job, steps), notes)


def undo_rescue_plan(environment: str, mark: str, database: str, which: str) -> Plan:
    """Return the plan that takes a rescue back, where nothing has been written since.

    Args:
        which: "by run 0d2f51: the rows that ...".
    """
    check = "the second check, in a process of its own: what was before the rescue and now"
    steps = (
        Step.of("note what is there, for the second check", NoteUndoStep(mark=mark, database=database)),
        Step.of("put back what the rescue replaced", UndoRescueStep(mark=mark, database=database)),
        Step.of(check, CompareUndoStep(mark=mark, database=database)),
    )
    return Plan(PlanKind.RECOVER, environment, f"undo of the rescue {which}", steps)


def _make_side_step(
    name: str, target: RecoveryTarget, route: Route, *, inclusive: bool = False, place: str = ""
) -> Step:
    inclusive = inclusive or target.inclusive
    end = "after" if inclusive else "before"
    side = SideStep(
        name=name,
        backup=route.base.id,
        lsn=show_lsn(target.lsn),
        timeline=target.timeline,
        wal=tuple(route.names),
        inclusive=inclusive,
        xid=None if inclusive else target.xid,
        place=place,
    )
    flag = "on" if inclusive else "off"
    line = f"pg_ctl start with recovery_target_lsn='{show_lsn(target.lsn)}' recovery_target_inclusive={flag}"
    title = f"make side instance {name} from {route.base.id}, replayed to just {end} {show_lsn(target.lsn)}"
    return Step.of(title, side, f"# {line} recovery_target_action=pause")


def _add_acceptances(job: Job, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Return the steps; side instances get what a person accepts although it is not signed."""
    if not job.accepted:
        return steps
    return tuple(
        each.replace_arguments(structs.replace(each.arguments(SideStep), accepted=job.accepted))
        if each.does(SideStep)
        else each
        for each in steps
    )


def _check(name: str, look: Look) -> Step:
    check = SideCheckStep(name=name, database=look.database, relation=look.relation, no_migration=look.no_migration)
    return Step.of(f"look at side instance {name}, read-only", check)


def _open(name: str) -> Step:
    return Step.of(f"open side instance {name} for reading", SideOpenStep(name=name), "# pg_wal_replay_resume()")


def _make_copies_step(name: str, kept: str) -> Step:
    title = "note what both clusters hold, while the live one serves" if name else "note what the live cluster holds"
    return Step.of(title, NoteCopiesStep(name=name, kept=kept))


def list_exchange_steps(folders: tuple[str, str, str], who: tuple[str, str], name: str) -> tuple[Step, ...]:
    """Return the steps that move a data directory in.

    Args:
        folders: the live one, the one that comes, and where the live one goes.
        who: (system identifier, database) that has to answer afterwards.
        name: of the side instance that comes, "" when none does.
    """
    data, incoming, kept = folders
    system, database = who
    exchange = ExchangeStep(
        data_directory=data, incoming=incoming, kept=kept, system_identifier=system, database=database, name=name
    )
    answers = SwappedStep(
        data_directory=data, incoming=incoming, kept=kept, system_identifier=system, database=database
    )
    line = f"mv {data} {kept} && mv {incoming} {data}"
    check = "the second check, in a process of its own: hashes of rows noted before and now"
    return (
        Step.of("stop the live server", StopServerStep(data_directory=data)),
        Step.of(f"move {data} to {kept}, and {incoming} to its place", exchange, line),
        Step.of("start the server", StartServerStep(data_directory=data)),
        Step.of("read back who answers", answers),
        Step.of(check, CompareCopyStep(incoming=incoming, kept=kept, name=name)),
    )


def _describe_behind(target: RecoveryTarget) -> str:
    return f"after the record at {show_lsn(target.lsn)}" if target.inclusive else f"from {show_lsn(target.lsn)} on"


def _describe_until(target: RecoveryTarget) -> str:
    if target.inclusive:
        return f"as it was just after {show_lsn(target.lsn)}"
    xid = f", before the commit of transaction {target.xid}" if target.xid is not None else ""
    return f"as it was at {show_lsn(target.lsn)}{xid}"


def _list_notes(target: RecoveryTarget, route: Route) -> tuple[str, ...]:
    base = route.base
    return (
        f"target {show_lsn(target.lsn)} on timeline {target.timeline}: {target.how}",
        f"base {base.id} ({base.kind}), then {len(route.names)} WAL segment(s) without a gap",
    )
