"""Restore ("Database Recovery"): the plans of side instance, rescue, swap and undo; nothing is touched here."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.errors import Refused, UsageError
from backout.model.database.recovery import RestorePoint, TargetKind
from backout.model.database.rescue import Damage
from backout.plan.restore import (
    Job,
    make_side_plan,
    make_swap_plan,
    rescue_plan,
    rescue_together_plan,
    undo_rescue_plan,
    undo_swap_plan,
)
from backout.plan.whole import Rest, add_rest
from backout.report.times import format_time
from backout.runbook.recovery.damage import find_spans, select_database
from backout.runbook.recovery.facts import check_identity, read_facts
from backout.runbook.recovery.restore_points import ON_DEMAND, list_recorded_points, record_point
from backout.runbook.recovery.several import make_several
from backout.runbook.recovery.target import Found, find, find_way
from backout.runbook.recovery.tools import RELEASED, SWAPPED, RestoreTools
from backout.runbook.recovery.undoable import choose_undoable, describe_rescue
from backout.runbook.recovery.whole_cluster import Comes, explain_one_alone, look_at_cluster
from backout.runbook.recovery.window import PREFLIGHT

if TYPE_CHECKING:
    from backout.model.database.recovery import DatabaseFacts
    from backout.model.plan import Plan
    from backout.ports import DatabaseServer, PointMarker


# --- restore points --------------------------------------------------------------------------------------------------


def mark_point(tools: RestoreTools, name: str, marker: PointMarker | None = None) -> RestorePoint:
    """Record a restore point on demand, by the database itself unless a marker does more. Raises as `record_point`."""
    marker = marker or tools.live
    return record_point(tools.journal, tools.environment, marker, name, why=ON_DEMAND, actor=tools.actor)


def list_points(tools: RestoreTools) -> tuple[RestorePoint, ...]:
    """Return the recorded points, oldest first."""
    return list_recorded_points(tools.journal, tools.environment)


# --- plans -----------------------------------------------------------------------------------------------------------


def plan_side(tools: RestoreTools, text: str, *, place: Path | None = None) -> Plan:
    """Return the plan of a side instance that stays; `place`: as in `find`. Raises as that does."""
    found = find(tools, text, place=place)
    assert found.route is not None
    return make_side_plan(_make_job(tools, found, text), found.target, found.route)


def plan_swap(tools: RestoreTools, text: str, mark: str | None = None) -> Plan:
    """Return the plan that replaces the whole.

    Args:
        mark: tells its folders from those of others, None: by the time.

    Raises:
        UsageError: the configuration names no self-hosted server.
        As `find` does.
    """
    server = _get_server(tools)
    data = server.data_directory
    found = find(tools, text, place=data.parent)
    assert found.route is not None
    server.check(found.route.base.system_identifier)
    plan = make_swap_plan(_make_job(tools, found, text, mark), found.target, found.route, str(data))
    target, base = found.target, found.route.base
    way = (*found.archive.history.get(target.timeline, ()), (target.timeline, target.lsn))
    return _add_rest(tools, plan, found.facts, Comes(way, base.began_at), text)


def plan_rescue(
    tools: RestoreTools, text: str, *, conflicts: str, skip: tuple[str, ...], queues: bool, mark: str | None = None
) -> Plan:
    """Return the plan that copies damaged rows back.

    Args:
        mark: as of `plan_swap`.

    Raises:
        Refused: it is not known which transactions did the damage.
        As `find` does.
    """
    found = find(tools, text)
    if not found.damage:
        raise Refused(
            f"{text!r} is a moment, and does not say which transaction did the damage",
            where=tools.environment,
            rule=PREFLIGHT,
            options=(
                'Name it: a transaction id, "before migration NAME" or "before drop of TABLE[.COLUMN]".',
                f"Look at that moment: `backout db restore {text!r} --side`.",
                f"Replace the whole: `backout db restore {text!r} --swap`.",
            ),
        )
    if len(found.damage) > 1 and found.target.kind in (TargetKind.TRANSACTIONS, TargetKind.WINDOW):
        if found.facts is None:
            raise Refused("rows are copied back into the live database, and it does not answer", rule=PREFLIGHT)
        several = make_several(tools, found, conflicts, skip, queues=queues)
        return rescue_together_plan(_make_job(tools, found, text, mark), several)
    if len(found.damage) > 1:
        raise Refused(
            f"{text!r} names {len(found.damage)} transactions, some of which may be good ones of the application",
            where=tools.environment,
            rule=PREFLIGHT,
            options=tuple(
                f"Transaction {each.xid}, committed at {format_time(each.at)}: `backout db restore {each.xid}`."
                for each in found.damage
            ),
        )
    if found.facts is None:
        raise Refused("rows are copied back into the live database, and it does not answer", rule=PREFLIGHT)
    (commit,) = found.damage
    how = f"transaction {commit.xid}, committed at {format_time(commit.at)}"
    target = replace(found.target, lsn=commit.lsn, timeline=commit.timeline, xid=commit.xid, at=commit.at, how=how)
    way, xids = find_way(tools, found, target), frozenset(commit.xids)
    spans = find_spans(tools, found, (commit,))
    rows, _ = select_database(tools, found.facts, tools.wal.find_written_relations(spans, xids))
    damage = Damage(xids, rows, conflicts, skip, queues)
    return rescue_plan(_make_job(tools, found, text, mark), target, way, damage, spans[0].begin_lsn)


def plan_undo(tools: RestoreTools, run: str | None = None, mark: str | None = None) -> Plan:
    """Return the plan that takes back the latest swap or rescue, or that of a run.

    Args:
        mark: as of `plan_swap`.

    Raises:
        UsageError: as `choose_undoable`; the data directory that was kept is gone, or no self-hosted server is
            configured.
        Refused: this is another database, or the data directory cannot be exchanged.
    """
    chosen = choose_undoable(tools, SWAPPED, run)
    data = chosen.data
    if not chosen.is_rescue and str(data["kept"]) not in list_kept(tools):
        what = f"the data directory that run {chosen.run} kept is not there any more, so its swap cannot be undone"
        raise UsageError(what, where=tools.environment)
    facts = read_facts(tools)
    check_identity(tools, facts)
    database = str(data["database"])
    if chosen.is_rescue:
        return undo_rescue_plan(tools.environment, str(data["mark"]), database, describe_rescue(tools, chosen))
    _get_server(tools).check(str(data["system_identifier"]), Path(str(data["kept"])))
    plan = undo_swap_plan(tools.environment, data, mark or _make_mark(tools, "undo"), database)
    incoming = Path(str(data["kept"]))
    timeline, end, before = _get_server(tools).history_of(incoming)
    comes = Comes((*before, (timeline, end)), incoming=incoming, is_undo=True)
    return _add_rest(tools, plan, facts, comes, "")


def _add_rest(tools: RestoreTools, plan: Plan, facts: DatabaseFacts | None, comes: Comes, text: str) -> Plan:
    """Return a plan of an exchange with what else goes back; text: the target as it was typed, "" of an undo."""
    also = look_at_cluster(tools, facts, comes)
    lines = (*also.lines, explain_one_alone(tools, text)) if also.things else also.lines
    superuser = facts.superuser if facts is not None else tools.superuser
    return add_rest(plan, Rest(also.things, lines, comes.record(), superuser, text))


def list_kept(tools: RestoreTools) -> tuple[str, ...]:
    """Return the data directories that swaps kept and that were not released, oldest first."""
    released = {str(e.data["kept"]) for e in tools.journal.events(environment=tools.environment, kind=RELEASED)}
    gone = {str(e.data["incoming"]) for e in tools.journal.events(environment=tools.environment, kind=SWAPPED)}
    swaps = tools.journal.events(environment=tools.environment, kind=SWAPPED)
    names = dict.fromkeys(str(event.data["kept"]) for event in swaps)
    return tuple(name for name in names if name not in released and name not in gone)


def list_kept_sizes(tools: RestoreTools) -> tuple[tuple[str, int], ...]:
    """Return the data directories that swaps kept, oldest first, each with its size in bytes."""
    server = tools.server
    return tuple((name, server.size_of(name) if server is not None else 0) for name in list_kept(tools))


def is_unprotected(tools: RestoreTools) -> bool:
    """Whether the database was swapped, or a swap undone, and no verified base backup of it was made since."""
    at = max((e.at for e in tools.journal.events(environment=tools.environment, kind=SWAPPED)), default=None)
    if at is None:
        return False
    return not any(base.began_at > at and base.verified_at is not None for base in tools.backups.backups())


def release(tools: RestoreTools) -> tuple[str, ...]:
    """Remove the data directories that swaps kept, and return them; a swap can then no longer be undone.

    The unpacked bases go as well.

    Raises:
        Refused: one does not lie beside the data directory; the others are removed.
        BackoutError: one cannot be removed.
    """
    tools.bases.release()
    found, refused = list_kept(tools), None
    for name in found:
        try:
            _get_server(tools).discard(name)
        except Refused as error:
            refused = error
            continue
        tools.journal.note(tools.environment, RELEASED, name, {"kept": name}, actor=tools.actor)
    if refused is not None:
        raise refused
    return found


def _get_server(tools: RestoreTools) -> DatabaseServer:
    if tools.has_server_withheld:
        raise Refused(
            "the whole is replaced with the commands of database.server, and with --no-commands none of them is run",
            where=tools.environment,
            hint=f"leave out --no-commands, on code that you trust; or {_explain_alternatives(tools)}",
        )
    if tools.server is None:
        raise UsageError(
            "the whole can be replaced only on a self-hosted server, and none is configured",
            where=tools.environment,
            hint=f"set database.server (data_directory, start, stop), or {_explain_alternatives(tools)}",
        )
    return tools.server


def _explain_alternatives(tools: RestoreTools) -> str:
    """Return what works without a self-hosted server; the commands in full, as another command may have led here."""
    ways = (f"`backout db restore TARGET {way} -e {tools.environment}`" for way in ("--rescue", "--side"))
    return " or ".join(ways)


def _make_job(tools: RestoreTools, found: Found, text: str, mark: str | None = None) -> Job:
    return Job(tools.environment, found.look, mark or _make_mark(tools, text), tools.accepted.names)


def _make_mark(tools: RestoreTools, text: str) -> str:
    """Return a short word that tells this restore's folders from those of others."""
    return hashlib.sha256(f"{text} {tools.clock.now()}".encode()).hexdigest()[:8]


def prepare_base(tools: RestoreTools) -> str:
    """Unpack the newest verified base ahead of time, and return which. Raises Refused when there is none."""
    verified = [base for base in tools.backups.backups() if base.verified_at is not None]
    if not verified:
        raise Refused("there is no verified base backup", rule=PREFLIGHT, options=("Make one: backout db backup.",))
    newest = max(verified, key=lambda base: base.ended_at)  # positions of two clusters cannot be compared
    tools.bases.prepare(newest.id, lambda _doing, _done, _whole: None)
    return newest.id
