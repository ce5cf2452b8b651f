"""Notes the state of a whole cluster and compares a cluster with such a note, in the process of the second check."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from backout.errors import BackoutError
from backout.model.database.comparison import Comparison, Statistics, TableComparison
from backout.model.value import Value
from backout.providers.postgres.comparison.copies import (
    Bound,
    ClusterReader,
    Limits,
    admits,
    count_added_since,
    count_removed_since,
    count_transactions,
    label_table,
    list_databases,
    read_standing,
    session_with,
)
from backout.providers.postgres.comparison.copy_judging import Counts, judge
from backout.providers.postgres.comparison.copy_tables import NEW_ENTRY, SEQUENCES, Part
from backout.providers.postgres.tls.dsn import make_connection_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import psycopg

    from backout.model.plan import Json

WHOLE: Final = Limits()
_FLUSHED_S: Final = 15.0
"""How long a session may delay reporting its counts (10 s of idleness)."""
_SHOWN: Final = 5
_OTHERS: Final = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND coalesce(backend_type, 'client backend') = 'client backend'
  AND pid <> pg_backend_pid()
"""
"""Sessions that may not have told yet; one that is over has. Of other roles' sessions the type may be hidden."""
_DROPPED: Final = "dropped since by others"
_ALTERED: Final = "altered since by others"
_CLASS: Final = 1259


def note_cluster(
    url: str, progress: Callable[[str, int, int], None], limits: Limits = WHOLE, *, own: str = ""
) -> dict[str, Json]:
    """Return what every database of a server holds now, as `compare_cluster` wants it.

    Args:
        own: the application's database where a vendor has some beside it: what may not be read in those is named, and
            is no failure. "" where all of them are ours.

    Raises:
        ProviderUnavailable, AuthError: it does not answer, or refuses the login.
    """
    import psycopg

    try:
        with session_with(url) as connection:
            standing, names = read_standing(connection), list_databases(connection)
            shut: list[Json] = [each for each in names if own not in ("", each) and not admits(connection, each)]
        names = [each for each in names if each not in shut]
        reader = ClusterReader(_parse_bound(standing), progress, limits)
        found: dict[str, Json] = {}
        room = limits.all_bytes
        for number, name in enumerate(names):
            with session_with(url, name) as connection:
                found[name], room = reader.note(connection, room, shared=number == 0)
    except psycopg.Error as error:
        raise make_connection_error(
            error, url, "the second check"
        ) from None  # its text may quote the connection string
    return {**standing, "own": own, "shut": shut, "databases": found}


def compare_cluster(
    noted: Mapping[str, Any],
    url: str,
    *,
    goes_on: bool,
    progress: Callable[[str, int, int], None],
    statistics: Statistics = Statistics.CONTINUED,
) -> Comparison:
    """Compare a server with what was noted.

    Args:
        goes_on: whether it goes on from what was noted. Else it is the one that the copy was made of, and only what was
            not written since is compared.
        statistics: how its own stand to those noted, where it goes on from them. `CONTINUED`: so does its timeline, and
            rows that are gone are missing if it did not count them. `ANEW`: it was started on the copy; rows that it
            did not count are not written since, either. `LOST`: rows that are gone count as removed by others.

    Raises:
        ProviderUnavailable, AuthError: it does not answer, or refuses the login.
    """
    import psycopg

    try:
        return _Clusters(noted, url, goes_on=goes_on, progress=progress, statistics=statistics).compare()
    except psycopg.Error as error:
        raise make_connection_error(error, url, "the second check") from None


class _Read(Value, frozen=True):
    """A table that was read, or that is missing (then `part` is None).

    Args:
        newer: rows written since the bound of the note.
        beside: rows that are read nowhere.
        removed: how many had been updated or deleted when it was noted.
        added: the newer rows without those that were there when it was noted.
    """

    shown: str
    part: Part | None
    counts: Counts
    newer: int
    beside: int
    removed: int
    examples: tuple[str, ...]
    added: int = 0

    def judge(self, missing: int) -> TableComparison:
        counts = self.counts
        if self.part is None:
            if not missing:
                return TableComparison(self.shown, reason=_DROPPED)
            return TableComparison(self.shown, counts.rows, missing=missing, examples=("the table is not there",))
        return TableComparison(
            self.shown,
            rows=counts.rows,
            equal=counts.equal,
            newer=self.newer + max(0, counts.gone - counts.wrong - missing),
            unread=counts.unread + self.beside,
            missing=missing,
            wrong=counts.wrong,
            examples=self.examples,
        )


class _Clusters:
    def __init__(
        self,
        noted: Mapping[str, Any],
        url: str,
        *,
        goes_on: bool,
        progress: Callable[[str, int, int], None],
        statistics: Statistics,
    ) -> None:
        self._noted = noted
        self._url = url
        self._goes_on = goes_on
        self._statistics = statistics
        self._progress = progress
        self._reader = ClusterReader(_parse_bound(noted), progress, WHOLE)
        self._several = len(noted["databases"]) > 1

    def compare(self) -> Comparison:
        with session_with(self._url) as connection:
            standing, there = read_standing(connection), list_databases(connection)
        behind = self._other(standing)
        why = "the role may not connect to this database"
        tables = [TableComparison(f"database {name}", reason=why) for name in self._noted.get("shut", ())]
        for name, held in self._noted["databases"].items():
            if name in there:
                with session_with(self._url, name) as connection:
                    made, set_back = self._database(connection, name, held)
                tables, behind = tables + made, behind + set_back
            else:
                behind.append(f"database {name} is not there, or refuses logins")
        return Comparison(tuple(tables), tuple(behind))

    def _other(self, standing: Mapping[str, Any]) -> list[str]:
        """Return what shows that another server answers than the one that was noted."""
        noted = self._noted
        if standing["system_identifier"] != noted["system_identifier"]:
            raise BackoutError(f"another cluster answers: system identifier {standing['system_identifier']}")
        if not self._goes_on:
            return []
        if self._statistics is Statistics.CONTINUED:
            if standing["timeline"] != noted["timeline"]:
                return [f"the server is on timeline {standing['timeline']}, what was noted on {noted['timeline']}"]
            if None not in (standing["history"], noted["history"]) and standing["history"] != noted["history"]:
                return [f"timeline {noted['timeline']} of this server began at another position than was noted"]
        if (standing["xid"] - noted["xid"]) % (1 << 32) >= 1 << 31:
            return [f"the server's next transaction is {standing['xid']}, and was {noted['xid']} when it was noted"]
        return []

    def _database(
        self, connection: psycopg.Connection[Any], name: str, held: Mapping[str, Any]
    ) -> tuple[list[TableComparison], list[str]]:
        tells = self._counts_removed(connection, held)
        is_anew = tells and self._statistics is Statistics.ANEW
        found: list[TableComparison] = []
        reads: list[_Read] = []
        for number, (table, told) in enumerate(held["tables"].items()):
            self._progress("comparing rows", number, len(held["tables"]))
            shown = label_table(name, table, several=self._several)
            one = self._table(connection, shown, told, tells=tells)
            (reads if isinstance(one, _Read) else found).append(one)  # type: ignore[arg-type]
        dropped = 0 if is_anew else int(held["tables"]["catalog pg_class"].get("removed", 0))
        missing = self._missing(connection, reads, dropped) if tells else {}
        found += [each.judge(missing.get(each.shown, 0)) for each in reads]
        more = self._uncounted(connection, reads) if is_anew else {}
        behind = [
            f"{shown} holds {rows:,} rows that were not there when it was noted, and that nobody wrote since"
            for shown, rows in more.items()
        ]
        return found, behind + self._sequences(connection, name, held)

    def _counts_removed(self, connection: psycopg.Connection[Any], held: Mapping[str, Any]) -> bool:
        """Whether the server's statistics tell how many rows others have removed since."""
        counts, commits = count_transactions(connection)
        if not self._goes_on or not counts or self._statistics is Statistics.LOST:
            return False
        return self._statistics is Statistics.ANEW or bool(held["counts"] and commits >= held["commits"])

    def _table(
        self,
        connection: psycopg.Connection[Any],
        shown: str,
        told: Mapping[str, Any],
        *,
        tells: bool,
    ) -> TableComparison | _Read:
        if told.get("reason"):
            return TableComparison(shown, reason=told["reason"], failed=self._fails(connection, told))
        part = Part.of(told)
        rows = sum(count for count, _ in told["sums"].values())
        if not part.catalog and (why := self._find_change(connection, part)):
            if why != _DROPPED or not tells:
                return TableComparison(shown, reason=why)
            return _Read(shown, None, Counts(rows, 0, 0, max(1, rows), 0, (), ()), 0, 0, 0, (_DROPPED,))
        read: Mapping[str, Any] = self._reader.read(connection, part)
        if "reason" in read:
            if read.get("damaged"):
                return TableComparison(shown, rows, missing=max(1, rows), examples=(str(read["reason"]),))
            return TableComparison(shown, reason=read["reason"], failed=self._fails(connection, read))
        counts = judge(told["sums"], read["sums"])
        beside = max(0, int(told.get("about", 0)) - rows)
        examples: tuple[str, ...] = ()
        if counts.wrong:
            examples = tuple(self._reader.examples(connection, part, (counts.hashes, counts.parts), _SHOWN))
        removed = 0 if self._statistics is Statistics.ANEW else int(told["removed"])
        newer = int(read["newer"])
        return _Read(shown, part, counts, newer, beside, removed, examples, max(0, newer - int(told["newer"])))

    def _fails(self, connection: psycopg.Connection[Any], told: Mapping[str, Any]) -> bool:
        """Whether a table that was not read had to be: not the vendor's own ones, beside the application's database."""
        beside = self._noted.get("own", "") not in ("", connection.info.dbname)
        return bool(told.get("failed")) and not (beside and told.get("denied"))

    def _missing(self, connection: psycopg.Connection[Any], reads: list[_Read], dropped: int) -> dict[str, int]:
        """Return how many rows are gone without having been removed, by table; sessions report that some seconds later.

        Args:
            dropped: how many entries of the catalog had been removed or changed when it was noted.
        """
        gone = [each for each in reads if each.part is None]

        def look() -> dict[str, int]:
            told = count_removed_since(connection, _CLASS) - dropped
            missing = {each.shown: each.counts.gone for each in gone} if told < len(gone) else {}
            for each in reads:
                if each.part is None:
                    continue
                removed = max(0, count_removed_since(connection, each.part.oid) - each.removed)
                left = each.counts.missing(removed)
                if left and not self._is_new_entry(connection, each.part):
                    missing[each.shown] = left
            return missing

        return _await_told(connection, look)

    def _uncounted(self, connection: psycopg.Connection[Any], reads: list[_Read]) -> dict[str, int]:
        """Return how many newer rows a server has that it did not write, by table; it was started on the copy."""
        tables = [(each, each.part) for each in reads if each.part is not None and not each.part.catalog]

        def look() -> dict[str, int]:
            more = {}
            for each, part in tables:
                left = each.added - count_added_since(connection, part.oid)
                if left > 0 and not self._is_new_entry(connection, part):
                    more[each.shown] = left
            return more

        return _await_told(connection, look)

    def _is_new_entry(self, connection: psycopg.Connection[Any], part: Part) -> bool:
        """Whether the table was emptied or rewritten since, or its columns were changed."""
        if part.catalog:
            return False
        query = NEW_ENTRY.format(xid=self._noted["xid"])
        (new,) = connection.execute(query.encode(), (part.oid,)).fetchone() or (True,)
        return bool(new)

    def _find_change(self, connection: psycopg.Connection[Any], part: Part) -> str:
        """Return "" for an unchanged table, else what happened to it."""
        query = (
            "SELECT n.nspname::text, c.relname::text, c.relkind::text FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s::oid"
        )
        found = connection.execute(query, (part.oid,)).fetchone()
        if found is None:
            return _DROPPED
        if found[:2] != (part.schema, part.name):
            return _ALTERED
        query = (
            "SELECT array_agg(attname::text), array_agg(atttypid::bigint) FROM pg_attribute "
            "WHERE attrelid = %s::oid AND attnum > 0 AND NOT attisdropped"
        )
        names, types = connection.execute(query, (part.oid,)).fetchone() or ([], [])
        there = set(zip(names or (), types or (), strict=True))
        if not there >= set(zip(part.columns, part.types, strict=True)):
            return _ALTERED
        (node,) = connection.execute("SELECT pg_relation_filenode(%s::oid)::bigint", (part.oid,)).fetchone() or (0,)
        return "rewritten since by others" if part.pages is not None and node != part.node else ""

    def _sequences(self, connection: psycopg.Connection[Any], name: str, held: Mapping[str, Any]) -> list[str]:
        """Return the sequences that hand numbers out again that the noted ones had handed out."""
        if not self._goes_on:
            return []
        now = {str(oid): row for oid, *row in connection.execute(SEQUENCES)}
        found = []
        for oid, (shown, step, cycles, last, node) in held["sequences"].items():
            here = now.get(oid)
            if here is None or cycles or last is None or here[4] != node:  # dropped, or restarted by hand
                continue
            if here[3] is None or (here[3] - last) * step < 0:
                stands = "its start" if here[3] is None else here[3]
                sequence = label_table(name, f"sequence {shown}", several=self._several)
                found.append(f"{sequence} stands at {stands}, and had handed out {last}")
        return found


def _await_told(connection: psycopg.Connection[Any], look: Callable[[], dict[str, int]]) -> dict[str, int]:
    """Return what is still unexplained once no session may have counts that it has not told of."""
    end = time.monotonic() + _FLUSHED_S
    while True:
        (others,) = connection.execute(_OTHERS).fetchone() or (0,)
        found = look()
        if not found or not others or time.monotonic() > end:
            return found
        time.sleep(1.0)


def _parse_bound(standing: Mapping[str, Any]) -> Bound:
    return Bound(int(standing["xid"]), tuple(map(int, standing["running"])))
