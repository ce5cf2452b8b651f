"""Tables that refer to each other in a circle: rows that need each other come back, and go again, in one transaction.

A foreign key is checked at the end of the statement, or where it is deferred at the end of the transaction. So for the
length of one transaction the keys of a circle are deferrable, and then what they were: no other session sees it. Only
the owner of the tables may do that; where they belong to several, such rows stay away whole, and the report says with
which statements they come back.

Source: PostgreSQL 18, ALTER TABLE (ALTER CONSTRAINT), SET CONSTRAINTS; src/backend/commands/tablecmds.c
(CheckTableNotInUse: no ALTER TABLE while checks are pending).
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from backout.model.value import Value
from backout.providers.postgres.provenance.claims import put_back
from backout.providers.postgres.provenance.evidence import get_node
from backout.providers.postgres.rescue.kept import encode_key
from backout.providers.postgres.rescue.numbers import find_strangers
from backout.providers.postgres.rescue.references import write_rows_of
from backout.providers.postgres.rescue.scope import list_triggers
from backout.providers.postgres.schema.quoting import quote_identifier
from backout.providers.postgres.schema.rowsql import join_identifiers, match_keys, name_new, name_state_column, refers
from backout.providers.postgres.server.copy_out import read_copy
from backout.providers.postgres.server.message import may_pass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.providers.postgres.rescue.scope import Session, Work

_NAMES: Final = (
    "ARRAY(SELECT attname::text FROM unnest({}) WITH ORDINALITY AS k(number, place) JOIN pg_attribute "
    "ON attrelid = {} AND attnum = number ORDER BY place)"
)
_KEYS: Final = f"""
SELECT conrelid::bigint, confrelid::bigint, conrelid::regclass::text, {write_rows_of("conrelid")},
  {write_rows_of("confrelid")}, conname::text,
  pg_get_constraintdef(oid), condeferrable, condeferred, {_NAMES.format("conkey", "conrelid")},
  {_NAMES.format("confkey", "confrelid")}
FROM pg_constraint WHERE contype = 'f' AND (conrelid = ANY(%(oids)s::oid[]) OR confrelid = ANY(%(oids)s::oid[]))
ORDER BY conname
"""


class ForeignKey(Value, frozen=True):
    """A foreign key: from which table to which, as object ids, the rows by which it goes as SQL, and its columns."""

    child: int
    parent: int
    child_sql: str
    child_rows: str
    parent_rows: str
    name: str
    definition: str
    deferrable: bool
    deferred: bool
    columns: list[str]
    referred: list[str]

    def matches(self, child: str, parent: str) -> str:
        """Return the condition that one row refers to another, by their aliases."""
        return refers(self.columns, self.referred, child, parent)

    def empty(self, child: str) -> str:
        """Return the condition that a row refers to none."""
        return " OR ".join(f"{child}.{quote_identifier(name)} IS NULL" for name in self.columns)

    def alter(self, how: str) -> str:
        """Return the statement that changes when it is checked."""
        return f"ALTER TABLE {self.child_sql} ALTER CONSTRAINT {quote_identifier(self.name)} {how}"


def list_foreign_keys(live: Any, oids: Sequence[int]) -> list[ForeignKey]:
    """Return the foreign keys from tables and to them."""
    return [ForeignKey(*row) for row in live.execute(_KEYS, {"oids": list(oids)}).fetchall()]


def close_circles(session: Session, works: Sequence[Work]) -> int:
    """Bring back the rows that need each other, and return how many.

    What is in the way of some leaves all of their circle away, which `describe_circles` says.
    """
    import psycopg

    count = 0
    for circle, keys in _find_circles(session.live, works):
        if any(work.refused for work in circle):
            continue
        if session.kept is None or not any(work.orphans for work in circle) or _has_owners(circle):
            continue
        mine = session.of(circle[0].table.owner)
        try:
            with mine.live.transaction():
                count += _restore(mine, circle, keys)
        except psycopg.Error as error:
            if may_pass(error):
                raise
    return count


def describe_circles(live: Any, works: Sequence[Work], *, written: bool) -> tuple[str, ...]:
    """Return for each circle of tables whose rows did not come back, or would not, which they are and what to type.

    Args:
        works: the tables, in the order in which they are written.
        written: whether rows were; else it was only counted.
    """
    notes = []
    for circle, keys in _find_circles(live, works):
        if not written and not _has_owners(circle):
            continue
        missing = [(work, work.orphans if written else work.report.inserted) for work in circle]
        named = [f"{work.table.shown} ({count:,})" for work, count in missing if count]
        if len(named) < 2:
            continue
        place = {work.table.oid: number for number, work in enumerate(circle)}
        # Without those that lead forward in the circle, each table finds its parents before it.
        ours = [key for key in keys if place[key.child] < place[key.parent]]
        drop = " ".join(f"ALTER TABLE {key.child_sql} DROP CONSTRAINT {quote_identifier(key.name)};" for key in ours)
        back = " ".join(
            f"ALTER TABLE {key.child_sql} ADD CONSTRAINT {quote_identifier(key.name)} {key.definition};" for key in ours
        )
        said = "did not come back, and nothing of them was written" if written else "do not come back"
        notes.append(
            f"foreign keys in a circle: rows that need each other {said}: {', '.join(named)}. "
            f"As the owner of the tables: {drop} Then the same rescue again, and: {back}"
        )
    return tuple(notes)


def _has_owners(circle: Sequence[Work]) -> bool:
    return len({work.table.owner for work in circle}) > 1


def _find_circles(live: Any, works: Sequence[Work]) -> list[tuple[list[Work], list[ForeignKey]]]:
    """Return each circle with the keys that lead from one of its tables to another."""
    oids = {work.table.oid for work in works}
    keys = [
        key
        for key in list_foreign_keys(live, sorted(oids))
        if {key.child, key.parent} <= oids and key.child != key.parent
    ]
    found = []
    for circle in _group_circles(works, {(key.child, key.parent) for key in keys}):
        members = {work.table.oid for work in circle}
        found.append((circle, [key for key in keys if {key.child, key.parent} <= members]))
    return found


def _restore(session: Session, circle: Sequence[Work], keys: Sequence[ForeignKey]) -> int:
    """Insert the rows of a circle in the owner's session, within the same transaction; return how many."""
    kept, live = session.kept, session.live
    assert kept is not None
    members = {work.table.oid: f"backout_circle_{work.table.oid}" for work in circle}
    outward = [key for key in list_foreign_keys(live, sorted(members)) if key.child in members]
    deferred = Deferred(live, keys, {work.table.oid: work.table.sql for work in circle})
    deferred.begin()
    for work in circle:
        gone = work.gone
        free = f"NOT EXISTS (SELECT FROM ONLY {work.table.sql} l WHERE {match_keys(work.key, 'l', 'b')})"
        apart = "".join(f" AND NOT {each.condition}" for each in find_strangers(session, work))
        values = ", ".join(f"b.{quote_identifier(name)}" for name in work.columns)
        live.execute(f"DROP TABLE IF EXISTS {members[work.table.oid]}")
        live.execute(
            f"CREATE TEMP TABLE {members[work.table.oid]} ON COMMIT DROP AS SELECT {values} "
            f"FROM {work.name('before')} b WHERE {gone} AND {free}{apart}"
        )
    while sum(_drop_without_parents(live, key, members) for key in outward):
        pass
    written: dict[int, int] = {}
    for work in circle:
        rows = members[work.table.oid]
        names = [name_state_column("n_", name) for name in work.columns]
        stated_as = ", ".join(f"{quote_identifier(name)} AS {name_new(name)}" for name in work.columns)
        columns = join_identifiers(work.columns)
        made = live.execute(
            f"INSERT INTO {work.table.sql} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {rows}"
        )
        written[work.table.oid] = int(made.rowcount)
        content = [*read_copy(live, f"COPY (SELECT {stated_as} FROM {rows}) TO STDOUT")]
        entry = {"op": "I", "sql": work.table.sql, "table": work.table.shown, "oid": work.table.oid}
        entry |= {"node": get_node(live, work.table.sql), "circle": min(members)}
        kept.note_writer(live)
        there = put_back(live, work, kept.writers, f"{rows} t", "")
        kept.write(live, {**entry, **encode_key(work.key), "columns": names, "put_back": there}, content)
    deferred.end()
    for work in circle:
        work.report = replace(work.report, inserted=work.report.inserted + written[work.table.oid])
    return sum(written.values())


def _drop_without_parents(live: Any, key: ForeignKey, members: dict[int, str]) -> int:
    """Take rows out whose parent neither is there nor comes back; return how many."""
    found = [f"EXISTS (SELECT FROM {key.parent_rows} x WHERE {key.matches('b', 'x')})"]
    if key.parent in members:
        found.append(f"EXISTS (SELECT FROM {members[key.parent]} x WHERE {key.matches('b', 'x')})")
    condition = " OR ".join([key.empty("b"), *found])
    return int(live.execute(f"DELETE FROM {members[key.child]} b WHERE NOT ({condition})").rowcount)


class Deferred:
    """Foreign keys checked at the end, and the user's triggers off, within one transaction.

    Args:
        tables: by object id, as SQL.
    """

    def __init__(self, live: Any, keys: Sequence[ForeignKey], tables: dict[int, str]) -> None:
        self._live = live
        self._keys = [key for key in keys if not key.deferrable]
        self._tables = tables
        self._triggers = {oid: list_triggers(live, oid) for oid in tables}

    def begin(self) -> None:
        """Lock the tables, and let nothing fire or be checked."""
        for table in self._tables.values():
            self._live.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
        for oid, table in self._tables.items():
            for name, _ in self._triggers[oid]:
                self._live.execute(f"ALTER TABLE {table} DISABLE TRIGGER {quote_identifier(name)}")
        for key in self._keys:
            self._live.execute(key.alter("DEFERRABLE INITIALLY DEFERRED"))
        self._live.execute("SET CONSTRAINTS ALL DEFERRED")

    def end(self) -> None:
        """Check everything now, and make keys and triggers what they were. Raises psycopg.Error: a check failed."""
        self._live.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for key in self._keys:
            self._live.execute(key.alter("NOT DEFERRABLE"))
        words = {"O": "ENABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}
        for oid, table in self._tables.items():
            for name, how in self._triggers[oid]:
                self._live.execute(f"ALTER TABLE {table} {words[how]} TRIGGER {quote_identifier(name)}")


def _group_circles(works: Sequence[Work], edges: set[tuple[int, int]]) -> list[list[Work]]:
    """Return the tables that reach each other, each circle in the order of the tables."""
    parents: dict[int, set[int]] = {}
    for child, parent in edges:
        parents.setdefault(child, set()).add(parent)
    reached = {work.table.oid: _find_reachable(parents, work.table.oid) for work in works}
    found, seen = [], set[int]()
    for work in works:
        mine = work.table.oid
        circle = [each for each in works if each.table.oid in reached[mine] and mine in reached[each.table.oid]]
        if mine not in seen and circle:
            found.append(circle)
            seen |= {each.table.oid for each in circle}
    return found


def _find_reachable(parents: dict[int, set[int]], begin: int) -> set[int]:
    """Return the tables that a table refers to, however far."""
    found: set[int] = set()
    left = set(parents.get(begin, ()))
    while left:
        each = left.pop()
        found.add(each)
        left |= parents.get(each, set()) - found
    return found
