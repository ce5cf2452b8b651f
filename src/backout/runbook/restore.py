"""Restore ("Database Recovery"): name the moment exactly, prove that it can be reached, plan; nothing is touched."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from backout.analysis.recovery import (
    Archive,
    Machine,
    Route,
    Unreachable,
    base_before,
    chain,
    first_at_or_after,
    newest_timeline,
    of_transaction,
    route,
)
from backout.errors import Refused, Unmeasured, UsageError
from backout.model.recovery import Damage, RecoveryTarget, RestorePoint, SideOrder, TargetKind
from backout.plan.restore import (
    Asked,
    Job,
    Look,
    of_point,
    read_target,
    rescue_plan,
    side_plan,
    swap_plan,
    undo_rescue_plan,
    undo_swap_plan,
)
from backout.report.times import rfc3339
from backout.runbook.points import ON_DEMAND, record_point, recorded_points

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.model.plan import Json, Plan
    from backout.model.recovery import Commit, DatabaseFacts, MigrationClue, WalSpan
    from backout.ports import (
        Backups,
        Clock,
        DatabaseServer,
        Journal,
        LiveDatabase,
        Rescuer,
        Runs,
        SideBases,
        SideControl,
        SideInstances,
        WalReader,
    )

SWAPPED = "database.swapped"
RESCUED = "database.rescued"
RELEASED = "database.released"
PROMISE_LOST = "wal.promise_lost"
"""Commits are safe no longer the moment they are acknowledged; the watchdog of synchronous mode records the same."""
NO_TARGET = (
    'a time, a restore point, a deployment, an LSN, a transaction id, "before migration NAME" or '
    '"before drop of TABLE[.COLUMN]"; see `backout db points list`'
)
_RULE = "preflight"
_SCHEMA_AND_TABLE = 2
"""Dots in the name of a column whose schema is named too."""
_NOTHING = Archive((), (), {})
_HERE = Machine(0)


@dataclass(frozen=True, slots=True)
class RestoreTools:
    """What a restore may use.

    Args:
        live: the live database; it may be down. server: None when the configuration names no server of one's own.
        tools_version: the major version of the Postgres programs here. free_bytes: where side instances lie.
        database: the application's. pinned: who the database has to be, "SYSTEM IDENTIFIER/NAME" (safety rule 1).
        kept: the folder in which rescues keep what they replaced. receiver: the name for which commits wait in
            synchronous mode, "" where no WAL is received.
    """

    environment: str
    actor: str
    clock: Clock
    journal: Journal
    runs: Runs
    backups: Backups
    wal: WalReader
    sides: SideInstances
    beside: SideControl
    bases: SideBases
    live: LiveDatabase
    rescuer: Callable[[str], Rescuer]
    kept: Path
    tools_version: int
    free_bytes: Callable[[Path | None], int]
    database: str
    pinned: str | None = None
    server: DatabaseServer | None = None
    receiver: str = ""
    say: Callable[[str], None] = lambda _text: None


@dataclass(frozen=True, slots=True)
class Found:
    """A target with the way to it.

    Args:
        damage: the commits that did the damage, in the order of the WAL; empty when it is not known.
    """

    target: RecoveryTarget
    route: Route | None
    facts: DatabaseFacts | None
    damage: tuple[Commit, ...] = ()
    relation: str = ""
    migration: str = ""
    database: str = ""
    archive: Archive = _NOTHING
    machine: Machine = _HERE

    @property
    def look(self) -> Look:
        """What the side instance has to show."""
        return Look(self.database, self.relation, self.migration)


# --- restore points --------------------------------------------------------------------------------------------------


def mark_point(tools: RestoreTools, name: str) -> RestorePoint:
    """Record a restore point on demand. Raises as `record_point`."""
    return record_point(tools.journal, tools.environment, tools.live, name, why=ON_DEMAND, actor=tools.actor)


def points(tools: RestoreTools) -> tuple[RestorePoint, ...]:
    """Return the recorded points, oldest first."""
    return recorded_points(tools.journal, tools.environment)


# --- where exactly ---------------------------------------------------------------------------------------------------


def find(tools: RestoreTools, text: str, *, place: Path | None = None) -> Found:
    """Return the exact target and the way to it; nothing is touched.

    Args:
        place: where a data directory is to be laid out, None for a side instance.

    Raises:
        UsageError: TARGET means nothing, or nothing there fits it. Refused: it cannot be reached, each reason named.
    """
    asked = read_target(text, points(tools), tools.clock.now())
    if asked is None:
        raise UsageError(f"{text!r} is no target", hint=NO_TARGET)
    if asked.kind is TargetKind.TIME and float(asked.value) > tools.clock.now():
        raise Refused(f"{text!r} lies in the future", where=tools.environment, rule=_RULE)
    facts = facts_of(tools)
    check_identity(tools, facts)
    archive = Archive(tools.backups.backups(), tools.backups.wal(), tools.wal.history())
    machine = Machine(
        tools.tools_version,
        facts.system_identifier if facts else None,
        facts.server_version if facts else None,
        tools.free_bytes(place),
        copies=tools.sides.copies or place is not None,
    )
    found = replace(
        _Search(tools, archive, facts, machine).find(asked), archive=archive, machine=machine, database=tools.database
    )
    return replace(found, route=_way(tools, found, found.target))


def _way(tools: RestoreTools, found: Found, target: RecoveryTarget) -> Route:
    way = route(found.archive, target.lsn, target.timeline, found.machine)
    if isinstance(way, Unreachable):
        raise Refused("; ".join(way.reasons), where=tools.environment, rule=_RULE, options=way.options)
    return way


def facts_of(tools: RestoreTools) -> DatabaseFacts | None:
    """Return who the live database is, None when it is down: then only what needs its catalog is refused."""
    try:
        return tools.live.facts()
    except Unmeasured as error:
        tools.say(f"the live database does not answer ({error.what}); going on from the archive alone")
        return None


def check_identity(tools: RestoreTools, facts: DatabaseFacts | None) -> None:
    """Raise Refused when another database answers than the one that is pinned (safety rule 1)."""
    found = f"{facts.system_identifier}/{facts.database}" if facts is not None else None
    if tools.pinned is not None and found is not None and found != tools.pinned:
        raise Refused(
            f"database {found} answers, and {tools.pinned} is pinned", where=tools.environment, rule="1 identity"
        )


class _Search:
    """Looks for the position that TARGET means."""

    def __init__(self, tools: RestoreTools, archive: Archive, facts: DatabaseFacts | None, machine: Machine) -> None:
        self._tools = tools
        self._archive = archive
        self._facts = facts
        self._machine = machine
        known = {each.timeline for each in archive.wal} | {each.timeline for each in archive.backups}
        # After the undo of a swap the live database is on the older timeline again, and the newest is the undone one.
        here = facts is not None and facts.timeline in known
        self._timeline = facts.timeline if facts is not None and here else newest_timeline(archive)

    def find(self, asked: Asked) -> Found:
        """Return the target; its route is still to be found."""
        if asked.kind in (TargetKind.POINT, TargetKind.DEPLOYMENT):
            return self._found(of_point(asked))
        if asked.kind is TargetKind.LSN:
            return self._found(RecoveryTarget(asked.kind, asked.text, int(asked.value), self._timeline, how="as typed"))
        if asked.kind is TargetKind.TIME:
            return self._time(asked)
        if asked.kind is TargetKind.XID:
            commit = self._commit_of(int(asked.value))
            return self._found(_target(asked, commit, f"the COMMIT record of transaction {commit.xid}"), commit)
        if asked.kind is TargetKind.MIGRATION:
            return self._migration(asked)
        return self._drop(asked)

    def _time(self, asked: Asked) -> Found:
        at = float(asked.value)
        before = [each for each in self._archive.backups if each.ended_at <= at]
        spans = self._spans(max((each.end_lsn for each in before), default=0))
        commit = first_at_or_after(self._tools.wal.commits(spans), at) if before else None
        if not before:
            first = min((each.ended_at for each in self._archive.backups), default=None)
            since = f"the first base backup ended at {rfc3339(first)}" if first else "there is no base backup"
            raise Refused(f"{asked.text!r} lies before everything that is kept: {since}", rule=_RULE)
        if commit is None:
            raise Refused(
                f"nothing was committed at or after {rfc3339(at)} as far as the archived WAL goes",
                rule=_RULE,
                options=("`backout db points add NAME` writes a record; then try again, or name a restore point.",),
            )
        how = f"the first commit at or after {rfc3339(at)}: transaction {commit.xid} at {rfc3339(commit.at)}"
        return self._found(_target(asked, commit, how))

    def _drop(self, asked: Asked) -> Found:
        name = str(asked.value)
        parent = name.rpartition(".")[0]
        whole = parent if name.count(".") == _SCHEMA_AND_TABLE else name
        clue = self._tools.live.dropped(whole)
        if clue.exists:
            return self._column(asked, whole, clue.xids)
        if parent and parent != whole and (of_parent := self._tools.live.dropped(parent)).exists:
            return self._column(asked, parent, of_parent.xids)
        drops = [
            commit
            for commit in self._tools.wal.commits(self._spans())
            if any(oid not in clue.present for oid in commit.dropped)
        ]
        if not drops:
            raise Refused(f"no transaction in the archived WAL dropped a table that is gone now: {name}", rule=_RULE)
        commit = drops[0] if len(drops) == 1 else self._named(name, drops)
        how = f"transaction {commit.xid} dropped it at {rfc3339(commit.at)}"
        return replace(self._found(_target(asked, commit, how), commit), relation=name)

    def _named(self, name: str, drops: Sequence[Commit]) -> Commit:
        """Return the commit that dropped the table of this name, which the WAL does not tell, but its object id.

        Side instances just before the drops are asked for the name, the earliest first: mostly one is enough.
        """
        tools = self._tools
        for commit in drops:
            way = route(self._archive, commit.lsn, commit.timeline, self._machine)
            if isinstance(way, Unreachable):
                continue
            side = SideOrder(f"find-{commit.xid}", way.base.id, commit.lsn, commit.timeline, way.names)
            try:
                tools.sides.start(side, lambda _doing, _done, _whole: None)
                oid = tools.beside.look(side.name, tools.database, name, "").relation_oid
            finally:
                tools.sides.drop(side.name)
            if oid:
                found = next((each for each in drops if oid in each.dropped), None)
                if found is None:
                    break
                return found
        raise Refused(
            f"{len(drops)} transactions dropped tables that are gone now, and none of them {name}",
            where=tools.environment,
            rule=_RULE,
            options=tuple(
                f"Before transaction {each.xid} at {rfc3339(each.at)}: `backout db restore {each.xid} --side`."
                for each in drops
            ),
        )

    def _column(self, asked: Asked, table: str, xids: Sequence[int]) -> Found:
        """Return the target before the newest drop of a column; the side instance shows whether it was this one."""
        if not xids:
            raise UsageError(f"table {table} has lost no column", where=self._tools.environment)
        commit = self._commit_of(xids[-1])
        others = f"; others were dropped by {', '.join(map(str, xids[:-1]))}" if len(xids) > 1 else ""
        how = f"transaction {commit.xid} dropped a column of {table} at {rfc3339(commit.at)}{others}"
        relation = asked.text.split()[-1]
        return replace(self._found(_target(asked, commit, how), commit), relation=relation)

    def _migration(self, asked: Asked) -> Found:
        name = str(asked.value)
        clue = self._tools.live.migrated(name)
        if clue is None:
            raise UsageError(
                f"no migration {name!r} was applied here",
                hint="backout db migrations status",
                where=self._tools.environment,
            )
        commits = list(self._tools.wal.commits(self._spans()))
        last = of_transaction(commits, clue.xid)
        if last is None:
            raise self._not_there(clue.xid)
        # The tool writes its row first, then runs the script, then completes the row: three transactions, or one.
        began = of_transaction(commits, self._inserted(clue, last)) or last
        between = [each for each in commits if began.lsn <= each.lsn <= last.lsn]
        damage = tuple(each for each in between if each.changes_schema) or tuple(between[1:-1])
        target = _target(asked, began, f"transaction {began.xid} began the migration at {rfc3339(began.at)}")
        return replace(self._found(target), damage=damage, migration=name)

    def _inserted(self, clue: MigrationClue, last: Commit) -> int:
        """Return who inserted the migration's row: the newest insert up to whoever wrote it last."""
        inserted = last.xid
        for xid, kind in self._tools.wal.writers(self._spans(), clue.relation):
            if kind == "INSERT":
                inserted = xid
            if xid in last.xids:
                break
        return inserted

    def _commit_of(self, xid: int) -> Commit:
        commit = of_transaction(self._tools.wal.commits(self._spans()), xid)
        if commit is None:
            raise self._not_there(xid)
        return commit

    def _not_there(self, xid: int) -> Refused:
        return Refused(
            f"the archived WAL has no commit of transaction {xid}: it was rolled back, or it lies outside",
            where=self._tools.environment,
            rule=_RULE,
            options=("What is there: backout db backups.",),
        )

    def _spans(self, lsn: int = 0) -> tuple[WalSpan, ...]:
        """Return the WAL that can be replayed, from the oldest base on, or the newest one before a position."""
        archive = self._archive
        if not archive.backups:
            raise Refused("there is no base backup", rule=_RULE, options=("Make one: backout db backup.",))
        base = base_before(archive, self._timeline, lsn) if lsn else None
        oldest = min(archive.backups, key=lambda each: each.begin_lsn)
        return chain(archive, base or oldest, self._timeline)[0]

    def _found(self, target: RecoveryTarget, *damage: Commit) -> Found:
        return Found(target, None, self._facts, damage)


def _target(asked: Asked, commit: Commit, how: str) -> RecoveryTarget:
    return RecoveryTarget(asked.kind, asked.text, commit.lsn, commit.timeline, commit.xid, commit.at, how)


# --- plans -----------------------------------------------------------------------------------------------------------


def plan_side(tools: RestoreTools, text: str) -> Plan:
    """Return the plan of a side instance that stays. Raises as `find` does."""
    found = find(tools, text)
    assert found.route is not None  # noqa: S101 `find` set it
    return side_plan(_job(tools, found, text), found.target, found.route)


def plan_swap(tools: RestoreTools, text: str) -> Plan:
    """Return the plan that replaces the whole.

    Raises:
        UsageError: the configuration names no server of one's own. As `find` does.
    """
    server = _server(tools)
    data = server.data_directory
    found = find(tools, text, place=data.parent)
    assert found.route is not None  # noqa: S101 `find` set it
    server.check(found.route.base.system_identifier)
    return swap_plan(_job(tools, found, text), found.target, found.route, str(data))


def plan_rescue(tools: RestoreTools, text: str, *, conflicts: str, skip: tuple[str, ...], queues: bool) -> Plan:
    """Return the plan that copies damaged rows back.

    Raises:
        Refused: which transactions did the damage is not known. As `find` does.
    """
    found = find(tools, text)
    if not found.damage:
        raise Refused(
            f"{text!r} is a moment, and does not say which transaction did the damage",
            where=tools.environment,
            rule=_RULE,
            options=(
                'Name it: a transaction id, "before migration NAME" or "before drop of TABLE[.COLUMN]".',
                f"Look at that moment: `backout db restore {text!r} --side`.",
                f"Replace the whole: `backout db restore {text!r} --swap`.",
            ),
        )
    if len(found.damage) > 1:
        raise Refused(
            f"{text!r} names {len(found.damage)} transactions, some of which may be good ones of the application",
            where=tools.environment,
            rule=_RULE,
            options=tuple(
                f"Transaction {each.xid}, committed at {rfc3339(each.at)}: `backout db restore {each.xid}`."
                for each in found.damage
            ),
        )
    if found.facts is None:
        raise Refused("rows are copied back into the live database, and it does not answer", rule=_RULE)
    (commit,) = found.damage
    how = f"transaction {commit.xid}, committed at {rfc3339(commit.at)}"
    target = replace(found.target, lsn=commit.lsn, timeline=commit.timeline, xid=commit.xid, at=commit.at, how=how)
    way, xids = _way(tools, found, target), frozenset(commit.xids)
    written = tools.wal.touched(way.spans, xids)
    rows = tuple(sorted((node, tuple(sorted(kinds))) for (_, node), kinds in written.items()))
    damage = Damage(xids, rows, conflicts, skip, queues)
    return rescue_plan(_job(tools, found, text), target, way, damage)


def plan_undo(tools: RestoreTools) -> Plan:
    """Return the plan that takes back the latest swap or rescue. Raises UsageError when there is none."""
    latest = _latest(tools)
    if latest is None:
        raise UsageError("no restore of this database is recorded that could be undone", where=tools.environment)
    kind, data = latest
    check_identity(tools, facts_of(tools))
    database = str(data["database"])
    if kind == RESCUED:
        return undo_rescue_plan(tools.environment, str(data["mark"]), database)
    _server(tools).check(str(data["system_identifier"]), Path(str(data["kept"])))
    return undo_swap_plan(tools.environment, data, _mark(tools, "undo"), database)


def kept(tools: RestoreTools) -> tuple[str, ...]:
    """Return the data directories that swaps kept and nobody released, oldest first."""
    released = {str(e.data["kept"]) for e in tools.journal.events(environment=tools.environment, kind=RELEASED)}
    gone = {str(e.data["incoming"]) for e in tools.journal.events(environment=tools.environment, kind=SWAPPED)}
    swaps = tools.journal.events(environment=tools.environment, kind=SWAPPED)
    names = dict.fromkeys(str(event.data["kept"]) for event in swaps)
    return tuple(name for name in names if name not in released and name not in gone)


def unprotected(tools: RestoreTools) -> bool:
    """Whether the database was swapped, or a swap undone, and no verified base of it was made since."""
    at = max((e.at for e in tools.journal.events(environment=tools.environment, kind=SWAPPED)), default=None)
    if at is None:
        return False
    return not any(base.began_at > at and base.verified_at is not None for base in tools.backups.backups())


def _latest(tools: RestoreTools) -> tuple[str, dict[str, Json]] | None:
    """Return the newest swap or rescue that was not undone; the undo of a swap is a swap, and can be undone again."""
    events = [e for kind in (SWAPPED, RESCUED) for e in tools.journal.events(environment=tools.environment, kind=kind)]
    undone = {str(event.data["mark"]) for event in events if event.data.get("undone") is True}
    left = [event for event in events if event.kind == SWAPPED or str(event.data["mark"]) not in undone]
    newest = max(left, key=lambda event: event.seq, default=None)
    if newest is None or (newest.kind == SWAPPED and str(newest.data["kept"]) not in kept(tools)):
        return None
    return newest.kind, dict(newest.data)


def release(tools: RestoreTools) -> tuple[str, ...]:
    """Remove the data directories that swaps kept, and return them; a swap can be undone no more.

    The unpacked bases go as well.
    """
    tools.bases.release()
    found = kept(tools)
    for name in found:
        _server(tools).discard(name)
        tools.journal.note(tools.environment, RELEASED, name, {"kept": name}, actor=tools.actor)
    return found


def _server(tools: RestoreTools) -> DatabaseServer:
    if tools.server is None:
        raise UsageError(
            "the whole can be replaced only on a server of one's own, and none is configured",
            where=tools.environment,
            hint="set database.server (data_directory, start, stop), or use --rescue or --side",
        )
    return tools.server


def _job(tools: RestoreTools, found: Found, text: str) -> Job:
    return Job(tools.environment, found.look, _mark(tools, text))


def _mark(tools: RestoreTools, text: str) -> str:
    """Return a short word that tells this restore's folders from another one's."""
    return hashlib.sha256(f"{text} {tools.clock.now()}".encode()).hexdigest()[:8]


def prepare_base(tools: RestoreTools) -> str:
    """Unpack the newest verified base ahead of time, and return which. Raises Refused when there is none."""
    verified = [base for base in tools.backups.backups() if base.verified_at is not None]
    if not verified:
        raise Refused("there is no verified base backup", rule=_RULE, options=("Make one: backout db backup.",))
    newest = max(verified, key=lambda base: base.end_lsn)
    tools.bases.prepare(newest.id, lambda _doing, _done, _whole: None)
    return newest.id
