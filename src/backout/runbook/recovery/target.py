"""Resolve TARGET to one position in the WAL, and judge the way to it before anything is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from msgspec.structs import replace

from backout.analysis.recovery.recovery import (
    FOREVER,
    Archive,
    ByTime,
    Machine,
    Route,
    Unreachable,
    find_base_before,
    find_chain,
    find_first_after,
    find_route,
    find_stretches,
    find_transaction,
)
from backout.errors import Refused, UsageError
from backout.model.database.recovery import RecoveryTarget, SideOrder, TargetKind
from backout.model.database.wal import list_replayable, show_lsn
from backout.model.value import Value
from backout.plan.restore import (
    Asked,
    Look,
    make_point_target,
    read_target,
)
from backout.report.times import format_time
from backout.runbook.recovery.facts import check_identity, find_timeline, read_archive, read_facts
from backout.runbook.recovery.restore_points import list_recorded_points
from backout.runbook.recovery.unsigned import add_refused
from backout.runbook.recovery.window import PREFLIGHT, find_commits, make_not_there_error

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from backout.model.database.recovery import BaseBackup, Commit, DatabaseFacts, MigrationClue
    from backout.model.database.wal import WalSpan
    from backout.runbook.recovery.tools import RestoreTools

NO_TARGET = (
    'a time, a restore point, a deployment, an LSN, a transaction id, several of them, "between TIME and TIME", '
    '"during DEPLOYMENT", "latest", "before migration NAME" or '
    '"before drop of TABLE[.COLUMN]"; see `backout db points list`'
)


_SCHEMA_AND_TABLE = 2
"""Dots in the name of a column whose schema is named too."""


_NOTHING = Archive((), (), {})


_HERE = Machine(0)


class Found(Value, frozen=True):
    """A target with the way to it.

    Args:
        damage: the commits that did the damage, in the order of the WAL; empty when it is not known.
        meanwhile: for several, all commits from the first to the last of them.
    """

    target: RecoveryTarget
    route: Route | None
    facts: DatabaseFacts | None
    damage: tuple[Commit, ...] = ()
    meanwhile: tuple[Commit, ...] = ()
    relation: str = ""
    migration: str = ""
    database: str = ""
    archive: Archive = _NOTHING
    machine: Machine = _HERE

    @property
    def look(self) -> Look:
        """What the side instance has to show."""
        return Look(self.database, self.relation, self.migration)


def find(tools: RestoreTools, text: str, *, place: Path | None = None) -> Found:
    """Return the exact target and the way to it; nothing is touched.

    Args:
        place: where a data directory is to be laid out, None for a side instance.

    Raises:
        UsageError: TARGET means nothing, or nothing there fits it.
        Refused: it cannot be reached, each reason named.
        BackoutError: no backup may be used; it says why not the newest.
    """
    asked = read_target(text, list_recorded_points(tools.journal, tools.environment), tools.clock.now())
    if asked is None:
        raise UsageError(f"{text!r} is no target", hint=NO_TARGET)
    if asked.kind is TargetKind.TIME and float(asked.value) > tools.clock.now():
        raise Refused(f"{text!r} lies in the future", where=tools.environment, rule=PREFLIGHT)
    facts = read_facts(tools)
    check_identity(tools, facts)
    try:
        return _search(tools, asked, facts, place)
    except (Refused, UsageError) as error:
        raise add_refused(tools, error) from None


def _search(tools: RestoreTools, asked: Asked, facts: DatabaseFacts | None, place: Path | None) -> Found:
    archive = read_archive(tools, facts)
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
    return replace(found, route=find_way(tools, found, found.target))


def find_way(tools: RestoreTools, found: Found, target: RecoveryTarget) -> Route:
    """Return how the target is reached. Raises Refused: it cannot be, each reason named."""
    archive, reasons = found.archive, tuple[str, ...]()
    way = find_route(archive, target.lsn, target.timeline, found.machine, is_last=target.inclusive)
    if isinstance(way, Route):  # before replay finds out half-way, when it is too late
        gaps = tools.useless(way.names)
        cut = list_replayable(archive.wal, gaps)
        if cut != archive.wal:
            way = find_route(
                replace(archive, wal=cut), target.lsn, target.timeline, found.machine, is_last=target.inclusive
            )
            reasons = tuple(f"WAL from {show_lsn(each.begin_lsn)} on cannot be replayed: {each.why}" for each in gaps)
    if isinstance(way, Unreachable):
        raise Refused("; ".join((*reasons, *way.reasons)), where=tools.environment, rule=PREFLIGHT, options=way.options)
    return way


class _Search:
    """Looks for the position that TARGET means."""

    def __init__(self, tools: RestoreTools, archive: Archive, facts: DatabaseFacts | None, machine: Machine) -> None:
        self._tools = tools
        self._archive = archive
        self._facts = facts
        self._machine = machine
        oid = facts.oid_of(tools.database) if facts is not None else None
        self._database = oid or 0
        self._timeline = find_timeline(archive, facts)

    def find(self, asked: Asked) -> Found:
        """Return the target; its route is still to be found."""
        if asked.kind in (TargetKind.POINT, TargetKind.DEPLOYMENT):
            return self._make_found(make_point_target(asked))
        if asked.kind is TargetKind.LSN:
            return self._make_found(
                RecoveryTarget(asked.kind, asked.text, int(asked.value), self._timeline, how="as typed")
            )
        if asked.kind is TargetKind.LATEST:
            return self._latest(asked)
        if asked.kind in (TargetKind.TRANSACTIONS, TargetKind.WINDOW):
            return self._several(asked)
        if asked.kind is TargetKind.TIME:
            return self._time(asked)
        if asked.kind is TargetKind.XID:
            commit = self._commit_of(int(asked.value))
            return self._make_found(
                _make_target(asked, commit, f"the COMMIT record of transaction {commit.xid}"), commit
            )
        if asked.kind is TargetKind.MIGRATION:
            return self._migration(asked)
        return self._drop(asked)

    def _several(self, asked: Asked) -> Found:
        """Return the moment before the first of several transactions, with all of them."""
        found, meanwhile = find_commits(self._tools, self._archive, self._stretches(), asked)
        how = f"the first of {len(found)} transactions, {found[0].xid}, committed at {format_time(found[0].at)}"
        return replace(self._make_found(_make_target(asked, found[0], how), *found), meanwhile=meanwhile)

    def _latest(self, asked: Asked) -> Found:
        """Return the end of the archive: the last complete record is replayed, too."""
        base = find_base_before(self._archive, self._timeline, FOREVER)
        spans, missing = find_chain(self._archive, base, self._timeline) if base is not None else ((), "")
        if base is None or not spans:
            raise Refused("there is no verified base backup with WAL behind it", rule=PREFLIGHT)
        end = show_lsn(spans[-1].end_lsn)
        if missing:
            raise Refused(
                f"the archive has a hole behind the newest base backup: WAL segment {missing} is missing",
                where=self._tools.environment,
                rule=PREFLIGHT,
                options=(f"A position before {end} can be reached: name it, or a time before it.",),
            )
        lsn = self._tools.wal.last(spans)
        if lsn is None or spans[-1].end_lsn < base.end_lsn:
            raise Refused(
                f"the WAL that base backup {base.id} needs is not all there: it ends at {end}",
                where=self._tools.environment,
                rule=PREFLIGHT,
                options=("Take a new one: backout db backup.",),
            )
        how = f"the last record of the archive, which ends at {end}"
        return self._make_found(
            RecoveryTarget(asked.kind, asked.text, lsn, spans[-1].timeline, how=how, inclusive=True)
        )

    def _time(self, asked: Asked) -> Found:
        at = float(asked.value)
        before = [each for each in self._archive.backups if each.ended_at <= at]
        if not before:
            first = min((each.ended_at for each in self._archive.backups), default=None)
            since = f"the first base backup ended at {format_time(first)}" if first else "there is no base backup"
            raise Refused(f"{asked.text!r} lies before everything that is kept: {since}", rule=PREFLIGHT)
        newest = max(before, key=lambda each: each.end_lsn)
        base: BaseBackup | None = find_base_before(self._archive, self._timeline, newest.end_lsn) or newest
        found, missing = ByTime(), ""
        while base is not None:
            spans, missing = find_chain(self._archive, base, self._timeline)
            found = find_first_after(self._tools.wal.commits(spans), at)
            if found.commit is None or not found.is_first:
                break
            # Nothing here is older: if another clock dated the base too early, the time is before it.
            base = find_base_before(self._archive, self._timeline, base.begin_lsn)
        commit = found.commit
        if commit is None and missing:
            raise Refused(
                f"{asked.text!r} lies in a hole of the archive, or behind it and before the next base backup: WAL "
                f"segment {missing} is missing",
                where=self._tools.environment,
                rule=PREFLIGHT,
                options=(f"What can be returned to: `backout db backups list -e {self._tools.environment}`.",),
            )
        if commit is None:
            raise Refused(
                f"nothing was committed at or after {format_time(at)} as far as the archived WAL goes",
                rule=PREFLIGHT,
                options=("`backout db points add NAME` writes a record; then try again, or name a restore point.",),
            )
        if found.older is not None:
            self._refuse_two_places(asked, at, found, commit)
        how = f"the first commit at or after {format_time(at)}: transaction {commit.xid} at {format_time(commit.at)}"
        return self._make_found(_make_target(asked, commit, how))

    def _refuse_two_places(self, asked: Asked, at: float, found: ByTime, commit: Commit) -> NoReturn:
        """Raise Refused: the server's clock went back, so the time means two places in the WAL."""
        older, later = found.older, found.after_them
        assert older is not None
        many = f"{found.count} later transactions bear" if found.count > 1 else "a later transaction bears"
        options = [f"Before transaction {commit.xid} at {format_time(commit.at)}: `backout db restore {commit.xid}`."]
        if later is not None:
            options.append(
                f"Before transaction {later.xid} at {format_time(later.at)}: `backout db restore {later.xid}`."
            )
        else:
            options.append("After all of them: `backout db restore latest`.")
        raise Refused(
            f"{asked.text!r} means two places, for the server's clock went back: transaction {commit.xid} bears "
            f"{format_time(commit.at)}, and {many} a time before {format_time(at)} (the last is {older.xid}, "
            f"{format_time(older.at)})",
            where=self._tools.environment,
            rule=PREFLIGHT,
            options=tuple(options),
        )

    def _drop(self, asked: Asked) -> Found:
        name = str(asked.value)
        parent = name.rpartition(".")[0]
        whole = parent if name.count(".") == _SCHEMA_AND_TABLE else name
        clue = self._tools.live.find_drop(whole)
        if clue.exists:
            return self._column(asked, whole, clue.xids)
        if parent and parent != whole and (of_parent := self._tools.live.find_drop(parent)).exists:
            return self._column(asked, parent, of_parent.xids)
        drops = [
            commit
            for stretch in self._stretches()
            for commit in self._tools.wal.commits(stretch)
            if self._database in (0, commit.database) and any(oid not in clue.present for oid in commit.dropped)
        ]
        if not drops:
            raise Refused(
                f"no transaction in the archived WAL dropped a table that is gone now: {name}", rule=PREFLIGHT
            )
        commit = drops[0] if len(drops) == 1 else self._find_drop_by_name(name, drops)
        how = f"transaction {commit.xid} dropped it at {format_time(commit.at)}"
        return replace(self._make_found(_make_target(asked, commit, how), commit), relation=name)

    def _find_drop_by_name(self, name: str, drops: Sequence[Commit]) -> Commit:
        """Return the commit that dropped the table of this name; the WAL holds only its object id, not its name.

        Side instances just before the drops are asked for the name, the earliest first: usually one is enough.
        """
        tools = self._tools
        for commit in drops:
            way = find_route(self._archive, commit.lsn, commit.timeline, self._machine)
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
            rule=PREFLIGHT,
            options=tuple(
                f"Before transaction {each.xid} at {format_time(each.at)}: `backout db restore {each.xid} --side`."
                for each in drops
            ),
        )

    def _column(self, asked: Asked, table: str, xids: Sequence[int]) -> Found:
        """Return the target before the newest drop of a column; the side instance shows whether it was this one."""
        if not xids:
            raise UsageError(f"table {table} has lost no column", where=self._tools.environment)
        commit = self._commit_of(xids[-1])
        others = f"; others were dropped by {', '.join(map(str, xids[:-1]))}" if len(xids) > 1 else ""
        how = f"transaction {commit.xid} dropped a column of {table} at {format_time(commit.at)}{others}"
        relation = asked.text.split()[-1]
        return replace(self._make_found(_make_target(asked, commit, how), commit), relation=relation)

    def _migration(self, asked: Asked) -> Found:
        name = str(asked.value)
        clue = self._tools.live.find_migration(name)
        if clue is None:
            raise UsageError(
                f"no migration {name!r} was applied here",
                hint="backout db migrations status",
                where=self._tools.environment,
            )
        stretch, commits, last = self._where(clue.xid)
        # The tool writes its row first, then runs the script, then completes the row: three transactions, or one.
        began = find_transaction(commits, self._find_inserter(clue, stretch, last)) or last
        between = [each for each in commits if began.lsn <= each.lsn <= last.lsn]
        damage = tuple(each for each in between if each.changes_schema) or tuple(between[1:-1])
        target = _make_target(asked, began, f"transaction {began.xid} began the migration at {format_time(began.at)}")
        return replace(self._make_found(target), damage=damage, migration=clue.stored or name)

    def _find_inserter(self, clue: MigrationClue, stretch: Sequence[WalSpan], last: Commit) -> int:
        """Return the transaction that inserted the migration's row: the newest insert up to the last write of it.

        Raises:
            Refused: a row that is completed later (Prisma's) was inserted before this WAL begins.
        """
        inserted = None
        for xid, kind in self._tools.wal.writers(stretch, clue.relation):
            if kind == "INSERT":
                inserted = xid
            if xid in last.xids:
                break
        if inserted is None and clue.began_at is not None:
            raise Refused(
                "the archived WAL has the end of the migration, and not its beginning",
                where=self._tools.environment,
                rule=PREFLIGHT,
                options=(f"What can be returned to: `backout db backups list -e {self._tools.environment}`.",),
            )
        return last.xid if inserted is None else inserted

    def _commit_of(self, xid: int) -> Commit:
        return self._where(xid)[2]

    def _where(self, xid: int) -> tuple[Sequence[WalSpan], list[Commit], Commit]:
        """Return where a transaction was committed: the stretch of WAL, its commits, and the one. Raises Refused."""
        stretches = self._stretches()
        for stretch in reversed(stretches):
            commits = list(self._tools.wal.commits(stretch))
            commit = find_transaction(commits, xid)
            if commit is not None:
                return stretch, commits, commit
        raise make_not_there_error(self._tools.environment, xid, stretches)

    def _stretches(self) -> tuple[tuple[WalSpan, ...], ...]:
        """Return the WAL to search. Raises Refused: there is no base backup to replay any of it from."""
        if not self._archive.backups:
            raise Refused("there is no base backup", rule=PREFLIGHT, options=("Make one: backout db backup.",))
        return find_stretches(self._archive, self._timeline)

    def _make_found(self, target: RecoveryTarget, *damage: Commit) -> Found:
        return Found(target, None, self._facts, damage)


def _make_target(asked: Asked, commit: Commit, how: str) -> RecoveryTarget:
    return RecoveryTarget(asked.kind, asked.text, commit.lsn, commit.timeline, commit.xid, commit.at, how)
