"""Reads both sides and the live database table by table, each server hashing its own rows; nothing is written."""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from backout.errors import Refused
from backout.model.database.comparison import Comparison, Noted, TableComparison
from backout.providers.postgres.comparison.absent import Absent
from backout.providers.postgres.comparison.dumped import read_definitions
from backout.providers.postgres.comparison.judging import Verdicts, judge_written, select_hashes
from backout.providers.postgres.comparison.parts import group_parts, hold_snapshot, read_rows, read_sums, run_beside
from backout.providers.postgres.comparison.renumbered import Renumbered
from backout.providers.postgres.comparison.tables import (
    Reading,
    Relation,
    find_oldest_running,
    find_running_then,
    list_relations,
    list_sequences_behind,
    write_since,
    write_written_by,
)
from backout.providers.postgres.comparison.undone import explain_unread, note_tables
from backout.providers.postgres.provenance.packing import pack_numbers
from backout.providers.postgres.server.copy_out import read_copy
from backout.providers.postgres.server.owner_session import OWNER_INSIDE, OwnerSessions, SideSessions, make_inside_dsn
from backout.providers.postgres.server.plain import write_foreign_code
from backout.providers.postgres.server.session import open_working
from backout.providers.postgres.tls.dsn import make_connection_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backout.model.database.comparison import Evidence
    from backout.providers.postgres.comparison.judging import Rows

SMALL_BYTES: Final = 8 << 20
"""A table up to this size is read whole, row by row."""
WHOLE_BYTES: Final = 64 << 20
"""How much is read besides in small tables that the damage did not write to, smallest first."""
_MOST: Final = 400_000
_CONNECT_S: Final = 60.0


class Place(NamedTuple):
    """Where to compare: the live server's connection string, the database, and both side instances'."""

    url: str
    database: str
    before: str
    after: str


class Ends(NamedTuple):
    """The sessions with the side just before the damage, the one just after it, and the live database."""

    before: SideSessions
    after: SideSessions
    live: OwnerSessions


@contextmanager
def comparing(place: Place, evidence: Evidence, progress: Callable[[str, int, int], None]) -> Iterator[Comparer]:
    """Yield what compares, while its sessions are open.

    Raises:
        ProviderUnavailable, AuthError: one of the three does not answer.
    """
    import psycopg

    with ExitStack() as stack:

        def side(dsn: str) -> SideSessions:
            def session(user: str) -> Any:
                more: dict[str, Any] = {"user": user, "options": OWNER_INSIDE} if user else {}
                settings = {"default_transaction_read_only": "on"}
                try:
                    made = open_working(
                        make_inside_dsn(dsn),
                        connect_timeout_s=_CONNECT_S,
                        settings=settings,
                        dbname=place.database,
                        **more,
                    )
                except psycopg.Error as error:
                    if user:
                        raise
                    raise make_connection_error(
                        error, dsn, "the database beside the live one"
                    ) from None  # a branch's has a password
                return stack.enter_context(made)

            return SideSessions(session)

        try:
            live = OwnerSessions(place.url, place.database, stack, lock_timeout_s=2.0)
            yield Comparer(Ends(side(place.before), side(place.after), live), evidence, progress)
        except psycopg.Error as error:
            raise make_connection_error(
                error, place.url, "the second check"
            ) from None  # its text may quote the connection string


class Comparer:
    """Compares one database on all three servers.

    Args:
        progress: hears (what is done, tables so far, tables in all).
    """

    def __init__(self, ends: Ends, evidence: Evidence, progress: Callable[[str, int, int], None]) -> None:
        self._ends = ends
        self._evidence = evidence
        self._progress = progress
        self._before = list_relations(ends.before.main)
        self._after = list_relations(ends.after.main)
        self._now = list_relations(ends.live.administrator)
        first = min(evidence.damage, default=0)
        self._running = find_running_then(ends.after.main, first) if first else frozenset[int]()
        self._absent = Absent(ends.before, evidence)
        self._renumbered = Renumbered(ends.before, evidence, self._before, self._after.keys())
        self._names = {(each.schema, each.name): each for each in self._now.values()}

    def note(self) -> Noted:
        """Return what others have written until now where the damage wrote to, and which tables cannot be read."""
        import psycopg

        found = Noted(xid=find_oldest_running(self._ends.live.administrator))
        touched = [table for table in self._before.values() if self._is_touched(table)]
        for number, table in enumerate(touched):
            self._progress("noting newer rows", number, len(touched))
            now = self._live_of(table)
            if now is None or now.kind != "r" or table.kind != "r":
                continue
            try:
                why = self._strange(table, now) or self._note_rows(table, now, found)
            except (psycopg.Error, Refused) as error:
                why = explain_unread(error)
            if why:
                found.skipped[table.shown] = why
        return found

    def _note_rows(self, table: Relation, now: Relation, found: Noted) -> str:
        """Note the rows of one table; return "", for it was read."""
        key = table.key if set(table.key) <= set(now.columns) else ()
        reading = Reading(now, key, table.columns, frozenset(table.columns) & frozenset(now.columns))
        theirs = write_written_by(self._evidence.damage)
        rows, full = self._live_rows(reading, f"{self._recent()} AND NOT ({theirs})")
        found.rows[table.shown] = {key: row.hashes for key, row in rows.items()}
        found.damaged[table.shown] = self._hash_damaged_rows(reading, theirs)
        if full:
            found.full.add(table.shown)
        return ""

    def note_tables(self, noted: Noted) -> dict[str, Any]:
        """Return what the tables hold now that a rescue may write to, for the check of its undo."""
        touched = (self._live_of(table) for table in self._before.values() if self._is_touched(table))
        return note_tables(self._ends.live, [each for each in touched if each is not None], noted.xid)

    def definitions(self) -> dict[str, str]:
        """Return a digest of each definition as it is live."""
        return read_definitions(self._ends.live.administrator)

    def compare(self, noted: Noted | None) -> Comparison:
        """Compare each table; see `TableComparison`."""
        import psycopg

        found, room = [], WHOLE_BYTES
        ordered = sorted(self._before.values(), key=lambda each: (not self._is_touched(each), each.size_bytes))
        for number, table in enumerate(ordered):
            self._progress("comparing rows", number, len(ordered))
            touched = self._is_touched(table)
            if not touched:
                room -= table.size_bytes
            try:
                found.append(self._table(table, noted, reads=touched or room >= 0))
            except (psycopg.Error, Refused) as error:
                found.append(TableComparison(table.shown, reason=explain_unread(error), failed=touched))
        behind = list_sequences_behind(self._ends.before.main, self._ends.after.main, self._ends.live.administrator)
        return Comparison(tuple(sorted(found, key=lambda each: each.table)), tuple(behind))

    # --- one table ----------------------------------------------------------------------------------------------

    def _table(self, table: Relation, noted: Noted | None, *, reads: bool) -> TableComparison:
        if table.kind != "r":
            return TableComparison(table.shown, reason="a materialized view, whose rows are its query's")
        if table.persistence == "u":
            return TableComparison(table.shown, reason="unlogged: no WAL holds its rows")
        if not reads:
            return TableComparison(table.shown, reason="the damage did not write to it, and it is large")
        reading = self._reading(table, self._live_of(table))
        if reading is None:
            return self._gone(table)
        if why := self._strange(table, reading.table):
            return TableComparison(table.shown, reason=why)
        if noted is not None and (why := noted.skipped.get(table.shown, "")):
            return TableComparison(table.shown, reason=why, failed=True)
        seen = select_hashes(noted.rows.get(table.shown, {}), table.columns, reading.columns) if noted else None
        verdicts = Verdicts(
            self._renumbered.evidence(table), seen, table.oid, begin=noted.xid if noted is not None else None
        )
        whole = self._is_whole(table, reading.table)
        total, same = self._whole(reading, verdicts, table) if whole else self._written(reading, verdicts, table)
        if noted is not None and verdicts.vanished:
            damaged = noted.damaged.get(table.shown, "")
            verdicts.was_gone(self._absent.not_among(damaged, seen or {}, verdicts.vanished))
        if verdicts.absent:
            verdicts.was_put_back(self._absent.put_back(table, verdicts.absent))
        counts, examples = verdicts.finish()
        equal = counts["equal"] + same
        unread = max(0, total - same - counts.total()) if not whole else 0
        then = self._after.get(table.oid)
        dropped = set(table.columns) - set(reading.table.columns) - set(then.columns if then else ())
        columns = tuple(sorted(dropped))
        return TableComparison(
            table.shown,
            rows=total,
            equal=equal,
            newer=counts["newer"],
            unread=unread,
            left=counts["left"],
            missing=counts["missing"],
            wrong=counts["wrong"],
            examples=examples,
            columns=columns,
        )

    def _gone(self, table: Relation) -> TableComparison:
        """Judge a table that is not there: others may have dropped it, if the damage did not."""
        if table.oid in self._after:
            return TableComparison(table.shown, reason="dropped since by others")
        if self._absent.was_made_whole(table):
            return TableComparison(table.shown, reason="dropped since by others, after the rescue had made it again")
        rows = self._count(self._ends.before.of(table.owner), table)
        return TableComparison(table.shown, rows, missing=rows, examples=("the table is not there",))

    def _whole(self, reading: Reading, verdicts: Verdicts, table: Relation) -> tuple[int, int]:
        """Judge every row: parts of the table whose sums are the same are equal; return (rows, rows of such parts)."""
        before, after, live = self._readings(reading, table)
        at_before, at_live = self._ends.before.of(table.owner), self._ends.live.of(reading.table.owner)
        ends = [(at_before, before), (at_live, live)]
        if after is not None:
            ends.append((self._ends.after.of(after.table.owner), after))
        with hold_snapshot(at_live):
            sums = run_beside([partial(read_sums, *at) for at in (ends if verdicts.has_noted else ends[:2])])
            buckets = sorted({bucket for each in sums for bucket in each})
            differ = [bucket for bucket in buckets if len({each.get(bucket) for each in sums}) > 1]
            same = sum(rows for bucket, (rows, *_) in sums[0].items() if bucket not in set(differ))
            total = sum(rows for rows, *_ in sums[0].values())
            done = 0
            for together in group_parts(differ, sums):
                self._progress(f"comparing rows of {table.shown}", done, len(differ))
                done += len(together)
                where = before.in_buckets(together)
                was, now, *then = run_beside([partial(read_rows, *at, where) for at in ends])
                left = then[0] if then else {}
                for key in was.keys() | left.keys() | now.keys():
                    verdicts.judge(key, was.get(key), left.get(key), now.get(key))
        return total, same

    def _written(self, reading: Reading, verdicts: Verdicts, table: Relation) -> tuple[int, int]:
        """Judge the rows that the damage or the rescue wrote; the others are counted alone.

        What the damage wrote and what the rescue wrote are the same rows where all is well: parts of them whose sums
        are the same are equal, and only of the others are rows read.
        """
        before, after, live = self._readings(reading, table)
        evidence, mine = self._evidence, self._ends
        assert after is not None
        at_before, at_live = mine.before.of(table.owner), mine.live.of(reading.table.owner)
        theirs, locked = write_written_by(evidence.damage), "t.xmax::text <> '0'"
        ours = write_written_by(evidence.damage | evidence.ours)
        with hold_snapshot(at_live):
            was_sums, now_sums = run_beside(
                [
                    partial(read_sums, at_before, before, write_written_by(evidence.damage, "xmax")),
                    partial(read_sums, at_live, live, ours),
                ]
            )
            buckets = sorted({*was_sums, *now_sums})
            differ = [bucket for bucket in buckets if was_sums.get(bucket) != now_sums.get(bucket)]
            same = sum(rows for bucket, (rows, *_) in was_sums.items() if bucket not in set(differ))
            done = 0
            for together in group_parts(differ, (was_sums, now_sums)):
                self._progress(f"comparing rows of {table.shown}", done, len(differ))
                done += len(together)
                part = before.in_buckets(together)
                was, now, then = run_beside(
                    [
                        partial(read_rows, at_before, before, f"{locked} AND {part}"),
                        partial(read_rows, at_live, live, f"({ours} OR {self._recent()}) AND {part}"),
                        partial(
                            read_rows, mine.after.of(after.table.owner), after, f"({theirs} OR {locked}) AND {part}"
                        ),
                    ]
                )
                judge_written(verdicts, evidence, was, then, now)
            return self._count(at_before, table), same

    # --- pieces -------------------------------------------------------------------------------------------------

    def _is_touched(self, table: Relation) -> bool:
        """Whether the damage wrote to a table, or took something of it."""
        if self._evidence.written is None:
            return True
        then = self._after.get(table.oid)
        if then is None or then.columns != table.columns or then.nodes != table.nodes:
            return True
        return not self._evidence.written.isdisjoint(table.nodes)

    def _is_whole(self, table: Relation, now: Relation) -> bool:
        """Whether every row is read: of a small table, and of one that the damage made anew or took columns of."""
        then = self._after.get(table.oid)
        if then is None or then.columns != table.columns:
            return True
        if not self._is_touched(table):
            return True
        same_file = not then.nodes.isdisjoint(table.nodes)
        return max(table.size_bytes, now.size_bytes) <= SMALL_BYTES or not same_file

    def _live_of(self, table: Relation) -> Relation | None:
        """Return a table as it is live: the same one, or the one that was made again under its name."""
        return self._now.get(table.oid) or self._names.get((table.schema, table.name))

    def _reading(self, table: Relation, now: Relation | None) -> Reading | None:
        """Return how the live table is read, None where it is not there."""
        if now is None or now.kind != "r":
            return None
        columns = tuple(name for name in table.columns if name in now.columns)
        key = table.key if set(table.key) <= set(columns) else ()
        return Reading(now, key, columns, frozenset(columns))

    def _readings(self, reading: Reading, table: Relation) -> tuple[Reading, Reading | None, Reading]:
        """Return how a table is read at all three ends; after is None where the damage had dropped it."""
        then = self._after.get(table.oid)
        key, columns = reading.key, reading.columns
        if then is not None and not set(key) <= set(then.columns):
            key = ()
        before = Reading(table, key, columns, frozenset(columns), self._renumbered.of(table))
        after = Reading(then, key, columns, frozenset(columns) & frozenset(then.columns)) if then else None
        return before, after, Reading(reading.table, key, columns, frozenset(columns))

    def _strange(self, table: Relation, now: Relation) -> str:
        """Return why a table is not read: a superuser's session would run another role's code. "" when it is."""
        ends = ((self._ends.before, table), (self._ends.live, now))
        for end, each in ends:
            if end.runs_superusers_code(each.owner):
                (why,) = end.of(each.owner).execute(write_foreign_code(f"{each.oid}::oid")).fetchone() or (None,)
                if why is not None:
                    return f"a superuser does not run {why}, which belongs to another role"
        return ""

    def _recent(self) -> str:
        """Return the condition that a live row is newer than the damage."""
        damage = self._evidence.damage
        return write_since(min(damage), self._running) if damage else "true"

    def _hash_damaged_rows(self, reading: Reading, theirs: str) -> str:
        """Return hashes of the keys of the rows still as the damage left them, up to a limit."""
        query = f"COPY ({reading.keys(theirs)} LIMIT {_MOST}) TO STDOUT"
        return pack_numbers(map(int, read_copy(self._ends.live.of(reading.table.owner), query)))

    def _live_rows(self, reading: Reading, where: str) -> tuple[Rows, bool]:
        session = self._ends.live.of(reading.table.owner)
        with hold_snapshot(session):
            rows = read_rows(session, reading, f"{where} LIMIT {_MOST + 1}")
        return rows, len(rows) > _MOST

    def _count(self, session: Any, table: Relation) -> int:
        (rows,) = session.execute(f"SELECT count(*) FROM ONLY {table.sql}").fetchone()
        return int(rows)
