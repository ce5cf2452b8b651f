"""Port Ranges on the journal's server: rows that any machine reaches; procrastinate's jobs only say where to look.

Who may work on a range is decided by its row alone: one statement takes it, says that it is worked on, or keeps its
result, and only while the run is driven with the lease for which the range was made. So a job that comes twice, late,
or not at all changes nothing in what is done. All times are the server's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from backout import __version__
from backout.decoding import decode_json
from backout.errors import BackoutError, Busy, Refused
from backout.model.objects.ranges import Claimed, RangesLeft, RangeState, RangeWork
from backout.model.objects.versions import Attempt, Carried
from backout.providers.tasks import tables
from backout.providers.tasks.link import Transactions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.model.objects.ranges import RangeOrder
    from backout.providers.postgres.server.journal_link import PostgresLink

Spans = list[tuple[float, float]]

_NOW: Final = "extract(epoch FROM clock_timestamp())::float8"
_DRIVEN: Final = (
    "EXISTS (SELECT FROM backout.lease AS l WHERE l.environment = r.lane AND l.run = r.run AND l.fence = r.fence"
    f" AND l.expires_at > {_NOW})"
)
_MINE: Final = f"r.run = ? AND r.first = ? AND r.claim = ? AND r.worker <> '' AND r.carried IS NULL AND {_DRIVEN}"
_FREE: Final = f"r.run = ? AND r.worker = '' AND r.carried IS NULL AND {_DRIVEN}"
_CLAIM: Final = (
    f"WITH free AS (SELECT r.run, r.first FROM range AS r WHERE {_FREE} %s LIMIT 1 FOR UPDATE SKIP LOCKED)"  # noqa: S608
    f" UPDATE range AS t SET worker = ?, claim = claim + 1, began = {_NOW}, until = {_NOW}, done = 0 FROM free"
    " WHERE t.run = free.run AND t.first = free.first RETURNING t.first, t.claim, t.work, t.spans"
)
# What was worked on is added to the spans, whoever takes it back: the next one has to know of it.
_SPANNED: Final = (
    "spans = CASE WHEN began IS NULL THEN spans ELSE (spans::jsonb || jsonb_build_array(jsonb_build_array(began,"
    f" least(until + {{grace}}, {_NOW}))))::text END, began = NULL"
)
_SETTLES_S: Final = 8.0
"""A worker that cannot say that it is at work goes on for so long (`runbook/objects/ranges.py`)."""
_LOCK: Final = "SELECT pg_advisory_xact_lock(7306357456645743974)"
"""Of whoever makes the tables; the number is ours alone."""
_HAS: Final = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'backout_tasks')"
_FORGET: Final = f"DELETE FROM range WHERE until < {_NOW} - 30 * 86400"  # noqa: S608 - constants
"""Of restores that were given up, and never taken back."""
_POLL_S: Final = 0.3


class PostgresRanges:
    """The table `backout_tasks.range`.

    Args:
        make_jobs: of a run, for ranges [(lane, first), ...], in the transaction of a connection of psycopg's;
            None on machines that only work on them.
        read_schema: returns procrastinate's schema as SQL, and its version.
    """

    def __init__(
        self,
        link: PostgresLink,
        *,
        make_jobs: Callable[[Any, str, Sequence[tuple[str, int]]], None] | None = None,
        read_schema: Callable[[], tuple[str, str]] | None = None,
        patience_s: float = 15.0,
    ) -> None:
        self._transactions = Transactions(link, patience_s)
        self._make_jobs = make_jobs
        self._read_schema = read_schema

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        self._transactions.close()

    # --- working on ranges -------------------------------------------------------------------------------------------

    def claim(self, run: str, first: int | None, worker: str, *, place: str) -> Claimed | None:
        """Take a range, see `RangeClaims.claim`; of all, the last: jobs are taken from the first on."""
        which = "ORDER BY r.first DESC" if first is None else "AND r.first = ?"
        values = (run,) if first is None else (run, first)

        def act(link: PostgresLink) -> Any:
            if first is not None:
                asked = "SELECT place, version FROM range WHERE run = ? AND first = ?"
                self._check_same(link.execute(asked, values).fetchone(), place)
            return link.execute(_CLAIM.replace("%s", which), (*values, worker)).fetchone()

        row = self._transactions.run(act)
        if row is None:
            return None
        found, claim, text, spans = row
        work = decode_json(text, RangeWork, what="a range of a restore")
        before = [
            Attempt(began - work.ahead_s, until - work.ahead_s, work.skew_s)
            for began, until in decode_json(spans, Spans, what="who had a range")
        ]
        return Claimed(run, int(found), int(claim), work, (*work.attempts, *before))

    def _check_same(self, row: tuple[str, str] | None, place: str) -> None:
        if row is None or row == (place, __version__):
            return
        if row[1] != __version__:
            what = f"the restore is driven by backout {row[1]}, and this worker is {__version__}"
            raise Refused(what, options=("Run the same version on both machines.",))
        raise Refused(
            "the environment has another bucket here than where the restore is driven",
            where=place,
            options=(f"Let storage name the same one, at the same endpoint: {row[0]}.",),
        )

    def beat(self, claimed: Claimed, done: int) -> bool:
        """Say that it is still worked on; a server that does not answer is not waited for: the next beat asks again."""
        statement = f"UPDATE range AS r SET until = {_NOW}, done = ? WHERE {_MINE}"  # noqa: S608 - constants
        values = (done, claimed.run, claimed.first, claimed.claim)
        return bool(self._transactions.run(lambda link: link.execute(statement, values).rowcount, patience_s=0.0))

    def settle(self, claimed: Claimed, carried: Sequence[Carried]) -> bool:
        """Keep what became of its changes; asked twice, it is there once."""
        statement = f"UPDATE range AS r SET carried = ?, until = {_NOW}, worker = '' WHERE {_MINE}"  # noqa: S608
        again = "SELECT EXISTS (SELECT FROM range WHERE run = ? AND first = ? AND claim = ? AND carried IS NOT NULL)"
        which = (claimed.run, claimed.first, claimed.claim)
        text = msgspec.json.encode(carried).decode()

        def act(link: PostgresLink) -> bool:
            return bool(link.execute(statement, (text, *which)).rowcount or _ask(link, again, which))

        return self._transactions.run(act)

    def release(self, claimed: Claimed, why: str) -> None:
        """Give it back."""
        statement = (
            f"UPDATE range SET worker = '', why = ?, {_SPANNED.format(grace=_SETTLES_S)}"  # noqa: S608 - constants
            " WHERE run = ? AND first = ? AND claim = ? AND worker <> '' AND carried IS NULL"
        )
        values = (why, claimed.run, claimed.first, claimed.claim)
        self._transactions.run(lambda link: link.execute(statement, values).rowcount)

    # --- driving a restore -------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the schema where there is none, as its owner; several processes may try at once.

        Raises:
            BackoutError: this role may not, or the schema is of another version.
        """
        assert self._read_schema is not None
        schema, version = self._read_schema()

        def act(link: PostgresLink) -> tuple[int, str]:
            if not _ask(link, _HAS):
                link.execute(_LOCK)
            if not _ask(link, _HAS):
                for statement in (*tables.RANGES, tables.MAKE_PATH, schema):
                    link.execute(statement)
                made = f"INSERT INTO {tables.SCHEMA}.made VALUES (?, ?)"  # noqa: S608 - a constant
                link.execute(made, (tables.VERSION, version))
            link.execute(_FORGET)
            made = f"SELECT version, procrastinate FROM {tables.SCHEMA}.made"  # noqa: S608 - a constant
            row: Any = link.execute(made).fetchone()
            return int(row[0]), str(row[1])

        found = self._transactions.run(act)
        if (found[0], _shorten(found[1])) != (tables.VERSION, _shorten(version)):
            raise BackoutError(
                f"the schema {tables.SCHEMA} is of another version (procrastinate {found[1]}, here {version})",
                where=self._transactions.link.place,
                hint=f"while no restore is spread, as its owner: DROP SCHEMA {tables.SCHEMA} CASCADE",
            )

    def find_fence(self, lane: str, run: str) -> tuple[int, float]:
        """Return the fence of the lease. Raises Busy: the run has none."""
        statement = f"SELECT fence, {_NOW} FROM backout.lease WHERE environment = ? AND run = ? AND host <> ''"  # noqa: S608
        row = self._transactions.run(lambda link: link.execute(statement, (lane, run)).fetchone())
        if row is None:
            raise Busy("the run is not driven by this process any more", where=run)
        return int(row[0]), float(row[1])

    def publish(self, orders: Sequence[RangeOrder]) -> None:
        """Let others work on ranges: rows and jobs in one transaction."""
        assert self._make_jobs is not None
        make_jobs = self._make_jobs
        statement = (
            "INSERT INTO range (run, first, lane, fence, place, version, work, until)"  # noqa: S608 - constants
            f" VALUES (?, ?, ?, ?, ?, ?, ?, {_NOW}) ON CONFLICT (run, first) DO UPDATE SET fence = excluded.fence,"
            " place = excluded.place, version = excluded.version, work = excluded.work, until = excluded.until,"
            " worker = '', claim = range.claim + 1, began = NULL, spans = '[]', done = 0, carried = NULL, why = ''"
            " WHERE range.fence < excluded.fence"
        )
        rows = [
            (each.run, each.first, each.lane, each.fence, each.work.place, each.work.version, _encode(each.work))
            for each in orders
        ]

        def act(link: PostgresLink) -> None:
            link.executemany(statement, rows)
            make_jobs(link.lend(), orders[0].run, [(each.lane, each.first) for each in orders])

        if orders:
            self._transactions.run(act)

    def recall(self, run: str, firsts: Sequence[int], silent_s: float) -> None:
        """Take ranges back, and make another job for each that nobody has then."""
        assert self._make_jobs is not None
        make_jobs = self._make_jobs
        statement = (
            f"UPDATE range SET worker = '', {_SPANNED.format(grace=_SETTLES_S)}, until = {_NOW}"  # noqa: S608
            f" WHERE run = ? AND first = ANY(?) AND carried IS NULL AND until < {_NOW} - ? RETURNING lane, first"
        )

        def act(link: PostgresLink) -> None:
            found = link.execute(statement, (run, list(firsts), silent_s)).fetchall()
            if found:
                make_jobs(link.lend(), run, [(str(lane), int(first)) for lane, first in found])

        self._transactions.run(act)

    def look(self, run: str) -> Sequence[RangeState]:
        """Return how the ranges of a run stand, in their order."""
        statement = (
            f"SELECT first, worker, {_NOW} - until, done, carried IS NOT NULL, why FROM range WHERE run = ?"  # noqa: S608
            " ORDER BY first"
        )
        rows = self._transactions.run(lambda link: link.execute(statement, (run,)).fetchall())
        return [RangeState(*row) for row in rows]

    def take(self, run: str, first: int) -> Sequence[Carried] | None:
        """Return what became of the changes of a range."""
        statement = "SELECT carried FROM range WHERE run = ? AND first = ?"
        row = self._transactions.run(lambda link: link.execute(statement, (run, first)).fetchone())
        if row is None or row[0] is None:
            return None
        return decode_json(row[0], tuple[Carried, ...], what="what became of a range")

    def remove(self, run: str, first: int | None = None) -> None:
        """Forget ranges; a job without its range does nothing."""
        which, values = ("", (run,)) if first is None else (" AND first = ?", (run, first))
        statement = f"DELETE FROM range WHERE run = ?{which}"  # noqa: S608 - constants

        def act(link: PostgresLink) -> None:
            link.execute(statement, values)
            if first is None:
                jobs = "DELETE FROM procrastinate_jobs WHERE status = 'todo' AND args ->> 'run' = ?"
                link.execute(jobs, (run,))

        self._transactions.run(act)

    def withdraw(self, run: str, silent_s: float) -> RangesLeft:
        """Wait until nobody works on ranges of an earlier lease: no beat of theirs is taken any more."""
        while any(each.worker and each.silent_s < silent_s for each in self.look(run)):
            time.sleep(_POLL_S)
        statement = f"SELECT first, carried, began, until, spans, {_NOW} FROM range WHERE run = ?"  # noqa: S608
        rows = self._transactions.run(lambda link: link.execute(statement, (run,)).fetchall())
        settled: dict[int, tuple[Carried, ...]] = {}
        spans: dict[int, tuple[tuple[float, float], ...]] = {}
        for first, carried, began, heard, before, now in rows:
            if carried is not None:
                settled[first] = decode_json(carried, tuple[Carried, ...], what="what became of a range")
                continue
            all_spans = decode_json(before, Spans, what="who had a range")
            all_spans += [] if began is None else [(began, min(now, heard + _SETTLES_S))]
            spans[first] = tuple((now - begin, now - end) for begin, end in all_spans)
        return RangesLeft(settled, spans)


def _ask(link: PostgresLink, question: str, values: Sequence[Any] = ()) -> bool:
    """Return the answer to a question of yes or no."""
    row: Any = link.execute(question, values).fetchone()
    return bool(row[0])


def _encode(work: RangeWork) -> str:
    return msgspec.json.encode(work).decode()


def _shorten(version: str) -> str:
    """Return the part of a version that decides about the schema."""
    return ".".join(version.split(".")[:2])
