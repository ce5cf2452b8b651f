"""Port Rescuer: damaged rows come back from a side instance, newer good ones stay.

Three states of each row are compared by its primary key: before the damage and after it (two side instances), and live.
What the damage changed and was not changed since is written back; what was changed again is a conflict, shown and
kept. Rows travel by COPY through this process, so that a live server needs neither an extension nor a route to the
side instance, and TLS is the client's.

Source: PostgreSQL 18, "System Columns" (xmin, xmax), "Composite Type Comparison" (images can be compared for
every type; the operators `*=` and `*<>` are the functions record_image_eq and record_image_ne).
"""

from __future__ import annotations

import functools
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from backout.errors import BackoutError, Busy
from backout.model.database.rescue import LeftOut, RescueReport, TableRescue
from backout.providers.postgres.provenance.chains import list_images
from backout.providers.postgres.provenance.earlier_rescues import find_done_since
from backout.providers.postgres.provenance.removed import describe_tail, find_removed_since, leave_removed
from backout.providers.postgres.rescue import columns as rescue_columns
from backout.providers.postgres.rescue.circles import close_circles, describe_circles
from backout.providers.postgres.rescue.conflicts import list_unclear_rows
from backout.providers.postgres.rescue.definitions import DefinitionRescue
from backout.providers.postgres.rescue.foreseen import count_rows_in_way
from backout.providers.postgres.rescue.kept import Kept, read_own_ids
from backout.providers.postgres.rescue.left import describe_unlogged, list_copies, list_tables_left_out, list_unseen
from backout.providers.postgres.rescue.numbers import find_numbered, find_taken_numbers, note_columns
from backout.providers.postgres.rescue.renumbering import count_renumbered, describe_new_numbers, renumber
from backout.providers.postgres.rescue.rows import attempt, load, repair
from backout.providers.postgres.rescue.rows_of_others import leave_anew
from backout.providers.postgres.rescue.scope import (
    Session,
    explain_left,
    explain_strange_code,
    is_left_alone,
    sort_heirs_first,
    sort_parents_first,
    works_of,
)
from backout.providers.postgres.rescue.sequences import advance, note_set_back
from backout.providers.postgres.rescue.settings import compare_settings, list_settings_left_out, read_settings
from backout.providers.postgres.schema.definition_changes import list_differences
from backout.providers.postgres.schema.definition_columns import list_order_differences, list_parts
from backout.providers.postgres.schema.definition_reading import DefinitionReader, read_live_definitions
from backout.providers.postgres.schema.definitions import read_catalog
from backout.providers.postgres.server.message import get_message
from backout.providers.postgres.server.owner_session import OWNER_INSIDE, OwnerSessions, SideSessions, make_inside_dsn
from backout.providers.postgres.server.session import open_working
from backout.providers.postgres.tls.dsn import drop_secrets, make_connection_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from backout.model.database.chains import Image
    from backout.model.database.removed import RemovedSince
    from backout.model.database.rescue import Damage, DefinitionDifference
    from backout.providers.postgres.rescue.scope import Work
    from backout.providers.postgres.rescue.settings import Settings
    from backout.providers.postgres.schema.definition_changes import Definitions
    from backout.providers.postgres.schema.definition_reading import Reading
    from backout.providers.postgres.schema.definitions import Catalog, Table
    from backout.providers.postgres.server.binaries import Binaries


_CONNECT_S: Final = 60.0
"""A branch's compute sleeps until it is asked."""
_LOCK_S: Final = 2.0
_STANDBY_LOCK_S: Final = 1.0
"""A lock there lasts until the replay goes on."""


class PostgresRescuer:
    """Rescues into one database of the live server.

    Args:
        url: returns the connection string of an administrator; it is never shown.
        kept: the folder in which each rescue keeps what it replaced: what an earlier one wrote, or its undo, is
            not a newer row.
    """

    def __init__(self, url: Callable[[], str], binaries: Binaries, database: str, kept: Path) -> None:
        self._url = url
        self._binaries = binaries
        self._database = database
        self._kept = kept

    def damage(self, damage: Damage, before: str, after: str, removed: RemovedSince | None = None) -> RescueReport:
        """Return what would be written, by table, without writing anything."""
        with self._session(damage, before, after, None, _ignore_progress) as session:
            session.removed = removed
            return self._all(session, before, after)

    def rescue(
        self,
        damage: Damage,
        before: str,
        after: str,
        kept: Path,
        progress: Callable[[str, int, int], None],
        *,
        removed: RemovedSince | None = None,
    ) -> RescueReport:
        """Write it; doing it again finds nothing left to do.

        Raises:
            BackoutError: Postgres refused a statement, which is quoted; what was committed stays, and can be resumed.
        """
        folder = Kept(kept)
        folder.note_damage(damage.xids)
        with self._session(damage, before, after, folder, progress) as session:
            session.removed = removed
            report = self._all(session, before, after)
            folder.settle(session.live)
            return report

    @contextmanager
    def images(self) -> Iterator[Callable[[str, Mapping[int, Sequence[str]]], dict[tuple[int, str], Image]]]:
        """Yield what returns versions of rows by (file node, place), of the tables that are there.

        It takes the connection string of a side instance, and places by file node; sessions stay open for the next. It
        raises Busy where something is locked.
        """
        from psycopg.errors import LockNotAvailable

        with ExitStack() as stack:
            opened = functools.cache(lambda side: self._side(side, stack, lock_timeout_s=_STANDBY_LOCK_S))

            def read(side: str, places: Mapping[int, Sequence[str]]) -> dict[tuple[int, str], Image]:
                try:
                    return list_images(opened(side), places)
                except LockNotAvailable as error:
                    raise Busy(f"the side instance holds a lock: {get_message(error)}", where="side instance") from None

            yield read

    def undo(self, kept: Path, progress: Callable[[str, int, int], None]) -> RescueReport:
        """Put back what `kept` holds, newest first, where it was not written to since.

        Raises:
            BackoutError: what the rescue replaced is no longer kept, a lock is not granted, or Postgres refuses a
                statement.
            ProviderUnavailable: the database does not answer.
            AuthError: it refuses the role.
        """
        from backout.providers.postgres.undo.undo import undo

        if not kept.is_dir():
            raise BackoutError("what the rescue replaced is no longer kept", where=str(kept))
        with self._live() as live:
            folder = Kept(kept)

            @functools.cache
            def read_definitions() -> Definitions:
                whole = read_live_definitions(self._url(), live.administrator, self._database, self._binaries)
                return {**list_parts(read_catalog(live.administrator)), **whole}

            return undo(live, folder, progress, read_definitions)

    # --- connections --------------------------------------------------------------------------------------------

    @contextmanager
    def _session(
        self, damage: Damage, before: str, after: str, kept: Kept | None, progress: Callable[[str, int, int], None]
    ) -> Iterator[Session]:
        with ExitStack() as stack:
            live = stack.enter_context(self._live())
            sides = [self._side(dsn, stack) for dsn in (before, after)]

            left_out: list[LeftOut] = []
            ours = read_own_ids(self._kept, live.administrator)
            done = find_done_since(self._kept, damage, sides[1].main, live.administrator)

            def of(owner: str) -> Session:
                ends = (sides[0].of(owner), sides[1].of(owner), live.of(owner))
                acting = "" if ends[2] is live.administrator else owner
                return Session(*ends, damage, kept, progress, of, strange, acting, left_out, ours, done)

            def strange(table: Table, then: Table | None, now: Table | None) -> str:
                owner = (now or table).owner
                ends = (sides[0], table), (sides[1], then), (live, now)
                found = (explain_strange_code(end, each, owner, written=end is live) for end, each in ends if each)
                return next(filter(None, found), "")

            main = (sides[0].main, sides[1].main, live.administrator)
            yield Session(*main, damage, kept, progress, of, strange, left_out=left_out, ours=ours, done=done)

    def _side(self, dsn: str, stack: ExitStack, *, lock_timeout_s: float = 10.0) -> SideSessions:
        import psycopg

        def open_session(user: str) -> Any:
            more: dict[str, Any] = {"user": user, "options": OWNER_INSIDE} if user else {}
            settings = {"default_transaction_read_only": "on"}
            made = open_working(
                make_inside_dsn(dsn),
                connect_timeout_s=_CONNECT_S,
                lock_timeout_s=lock_timeout_s,
                settings=settings,
                dbname=self._database,
                **more,
            )
            return stack.enter_context(made)

        try:
            return SideSessions(open_session)
        except psycopg.OperationalError as error:
            raise make_connection_error(
                error, dsn, "the side instance"
            ) from None  # its text may quote the connection string

    @contextmanager
    def _live(self) -> Iterator[OwnerSessions]:
        import psycopg

        url = self._url()
        try:
            with ExitStack() as stack:
                yield OwnerSessions(url, self._database, stack, lock_timeout_s=_LOCK_S)
        except psycopg.errors.LockNotAvailable as error:
            why = make_connection_error(error, url, "a table").what
            raise BackoutError(
                f"no lock was granted within 2 s; the rescue stopped rather than block others: {why}",
                where="database",
                hint="resume it when the session that holds the lock is done",
            ) from None
        except psycopg.OperationalError as error:
            raise make_connection_error(
                error, url, "the damaged rows"
            ) from None  # its text may quote the connection string
        except psycopg.Error as error:
            said = drop_secrets(url, get_message(error))
            raise BackoutError(f"Postgres refused a statement of the rescue: {said}", where="database") from None

    # --- all of it ----------------------------------------------------------------------------------------------

    def _all(self, session: Session, before_dsn: str, after_dsn: str) -> RescueReport:
        before, after, live = (read_catalog(each) for each in (session.before, session.after, session.live))
        ends = session.before, session.after, session.live
        reader = DefinitionReader((before_dsn, after_dsn, self._url()), ends, self._database, self._binaries)
        reading = reader.read()
        session.left_out.extend(reading.left_out)
        defined = DefinitionRescue(session, (reading.before, reading.after, reading.live), (before, after, live))
        defined.first()
        if defined.statements and session.kept is not None:
            live = read_catalog(session.live)
        reports = _list_made_before(session, before, after, live, defined.reports)
        found = works_of(session, before, after, live)
        works = [work for work in found if not is_left_alone(session, work, reports)]
        widened = [
            work for work in found if work in works or (work.table.partitioned and not explain_left(session, work))
        ]
        in_order = sort_heirs_first(session.live, widened)
        columns = [made for work in in_order for made in rescue_columns.add(session, work.table, work.lost)]
        ordered = sort_parents_first(session.live, works)
        others = _add_ancestors(session, ordered)
        note_set_back(session)
        # Before newer rows are looked at, so that no more of them get the number of an old one.
        advanced = tuple(advance(session)) if session.damage.gives_new_keys else ()
        _load_all(session, ordered, others)
        leave_removed(session, [work for work in ordered if not work.refused])
        repair(session, ordered)
        if close_circles(session, ordered):
            repair(session, ordered)  # what waited for their rows
        for work in ordered:
            attempt(rescue_columns.fill, session, work)
        for work in widened:
            rescue_columns.finish(session, work.table, work.lost)
        defined.then()
        advanced = advanced if session.damage.gives_new_keys else tuple(advance(session))
        for work in ordered:
            unwritten = min(work.waiting, work.report.conflicts)
            if session.kept is None and not work.refused:
                unwritten = work.orphans + count_rows_in_way(session.of(work.table.owner), work)
            work.report = replace(work.report, unwritten=unwritten, left=work.refused or work.report.left)
            attempt(count_renumbered, session, work)
        reports += [*defined.reports, *(work.report for work in ordered)]
        circles = describe_circles(session.live, ordered, written=session.kept is not None)
        session.left_out.extend((*find_taken_numbers(session, ordered), *list_copies(session, ordered)))
        session.left_out.extend(left for work in ordered for left in list_unclear_rows(session, work))
        session.left_out.extend(find_removed_since(session, [work for work in ordered if not work.refused]))
        session.left_out.extend((*list_tables_left_out(session, reports, before, after, live), *list_unseen(session)))
        settings = read_settings(ends[0]), read_settings(ends[1]), read_settings(ends[2])
        session.left_out.extend(list_settings_left_out(*settings, seen=session.damage.exact))
        return RescueReport(
            (*columns, *defined.statements, *advanced),
            tuple(sorted(reports, key=lambda each: each.table)),
            (
                *circles,
                *describe_new_numbers(session, ordered, {each.table for each in reports if each.is_left_alone}, before),
                *(note for work in ordered for note in dict.fromkeys(work.notes)),
                *describe_unlogged(session),
                *describe_tail(session, ordered),
            ),
            tuple(session.left_out),
            (*_list_differences(reader, reading, session, before), *_list_setting_differences(session, settings)),
        )


def _load_all(session: Session, works: Sequence[Work], others: frozenset[int]) -> None:
    """Load the rows of all tables, without those that others made anew; old ones with the numbers that they will have.

    Args:
        others: object ids of all tables to which rows come back, with those that they are partitions of.
    """
    numbered = find_numbered(session, works)
    note_columns(session, works, numbered)
    for work in works:
        work.others, work.numbered = others, numbered
        attempt(load, session, work)
    renumber(session, works)
    for work in works:
        attempt(leave_anew, session, work)


def _list_differences(
    reader: DefinitionReader, reading: Reading, session: Session, before: Catalog
) -> tuple[DefinitionDifference, ...]:
    """Return how definitions differ from before when all is written; a dry run does not know it."""
    if session.kept is None:
        return ()
    try:
        found = list_differences(reading.before, reader.live() if reading.damaged else reading.live)
        return (*found, *(list_order_differences(before, read_catalog(session.live)) if reading.before else ()))
    except BackoutError as error:
        session.left_out.append(LeftOut("definitions", f"not compared after the rescue: {error.what}", seen=False))
        return ()


def _list_setting_differences(session: Session, settings: Sequence[Settings]) -> tuple[DefinitionDifference, ...]:
    """Return how settings of roles and databases differ from before; a dry run tells what the rescue leaves alone."""
    return tuple(compare_settings(settings[0], settings[-1])) if session.kept is not None else ()


def _add_ancestors(session: Session, works: Sequence[Work]) -> frozenset[int]:
    """Return the object ids of tables, and of those that they are partitions of."""
    oids = [work.table.oid for work in works]
    query = "SELECT DISTINCT relid::oid::bigint FROM unnest(%s::oid[]) AS o, pg_partition_ancestors(o) AS a(relid)"
    return frozenset((*oids, *(oid for (oid,) in session.live.execute(query, (oids,)).fetchall())))


def _list_made_before(
    session: Session, before: Catalog, after: Catalog, live: Catalog, reports: Sequence[TableRescue]
) -> list[TableRescue]:
    """Return a line for each table that an interrupted rescue made whole already."""
    names = {each.shown for each in live.tables.values()} - {each.table for each in reports}
    lost = [before.tables[oid].shown for oid in sorted(before.tables.keys() - after.tables.keys())]
    kept = session.kept
    if kept is None:
        return []
    there = (name for name in lost if name in names)
    return [TableRescue(name) for name in there if kept.has(session.live, op="table", table=name)]


def _ignore_progress(_doing: str, _done: int, _whole: int) -> None:
    """Progress that is not shown."""
