r"""What to type to bring rows of one table back by hand: in psql of a side instance, and then of the live database.

What the damage wrote is known by the transaction that wrote it (`xmin`), as in a rescue: what others wrote since stays.
All of it is one transaction, in which the application's triggers are off and row security does not hold for the owner;
nobody else sees the table like that, since ALTER TABLE locks it until the end. Rows that the damage made are removed
only where nobody else can have made them: between several bad transactions, or beside one, others may have.

Source: PostgreSQL 18, psql (\copy, \i, \setenv), ALTER TABLE (DISABLE TRIGGER, NO FORCE ROW LEVEL SECURITY), SET
CONSTRAINTS, "Composite Type Input and Output Syntax".
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final, NamedTuple

from backout.providers.postgres.rescue.references import list_unreferenced_conditions
from backout.providers.postgres.rescue.scope import format_xids, list_triggers, read_key
from backout.providers.postgres.rescue.writing import ENABLE
from backout.providers.postgres.schema.definitions import add_column, find_shared_columns, finish_column
from backout.providers.postgres.schema.quoting import fit_in_line, quote_identifier
from backout.providers.postgres.schema.rowsql import join_identifiers, match_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.providers.postgres.rescue.scope import Session
    from backout.providers.postgres.schema.definitions import Catalog, Column, Table

_AT_SIDE: Final = "-- psql of the side instance (backout db restore TARGET --side):\n"
_AT_LIVE: Final = "-- psql of the live database"


class _Copying(NamedTuple):
    """The rows of one table, on their way.

    Args:
        was: the table before the damage; now: as it is live.
        key: columns that identify a row in both; () for none.
        called: the former name of each column, by its name.
        lost: columns that the damage dropped and that are still missing.
    """

    was: Table
    now: Table
    key: Sequence[str]
    called: dict[str, str]
    lost: Sequence[Column]

    @property
    def columns(self) -> list[str]:
        """The columns that are copied, as they are called live."""
        return [*self.called, *(column.name for column in self.lost)]

    @property
    def temporary(self) -> str:
        """The temporary table that holds the old rows."""
        return quote_identifier(f"{self.now.name[:40]}_before")

    @property
    def fits(self) -> bool:
        """Whether its names fit in the lines of psql's commands."""
        tables = self.was.schema, self.was.name, self.now.schema, self.now.name
        return fit_in_line(*tables, *self.columns, *self.called.values())

    def write_reading(self) -> str:
        """Return how the old rows are read in a side instance."""
        names = join_identifiers([*self.called.values(), *(column.name for column in self.lost)])
        return f"\\copy (SELECT {names} FROM ONLY {self.was.sql}) TO '{_name_file(self.was)}'\n"

    def write_loading(self) -> list[str]:
        """Return the lines that bring them into a temporary table, for the transaction."""
        lost = [f"NULL::{column.type} AS {quote_identifier(column.name)}" for column in self.lost]
        names = ", ".join([quote_identifier(name) for name in self.called] + lost)
        empty = f"SELECT {names} FROM ONLY {self.now.sql} WITH NO DATA"
        return [
            f"CREATE TEMP TABLE {self.temporary} ON COMMIT DROP AS {empty};",
            f"\\copy {self.temporary} FROM '{_name_file(self.was)}'",
        ]


def write_copying(session: Session, was: Table, after: Catalog, live: Catalog) -> str:
    """Return the text that brings the rows of a table back, as far as others have not written them since.

    Args:
        was: the table before the damage.
    """
    copying = _prepare(session, was, after, live)
    if not fit_in_line(was.schema, was.name) or (copying is not None and not copying.fits):
        return ""
    if copying is None:
        return _write_dump(was)
    comment = "rows that others wrote since stay; rows that they deleted since come back"
    if not copying.key:
        comment = "rows that others changed or deleted since come back, beside what they are now"
    if not _is_sole_maker(session):
        comment += "; rows that the damage wrote, and others perhaps before it, are shown first"
    around = _list_alterations(session, copying.now)
    added = [f"{add_column(copying.now, column)};" for column in copying.lost]
    lines = ["BEGIN;", *(before for before, _ in around), *added, *copying.write_loading()]
    lines += _list_writes(session, copying)
    lines += ["SET CONSTRAINTS ALL IMMEDIATE;"] if around else []
    lines += [*(behind for _, behind in around), "COMMIT;"]
    lines += [f"{each};" for column in copying.lost for each in finish_column(copying.now, column)]
    return f"{_AT_SIDE}{copying.write_reading()}{_AT_LIVE}; {comment}:\n" + "\n".join(lines)


def write_showing(session: Session, was: Table, after: Catalog, live: Catalog) -> str:
    """Return the text that shows the rows of a table which are not as before, for what is in their way is not known."""
    copying = _prepare(session, was, after, live)
    if copying is None or not copying.key or not copying.fits:
        return ""
    theirs = f"l.xmin <> ALL('{format_xids(session)}'::xid[])"
    there = f"SELECT FROM ONLY {copying.now.sql} l WHERE {match_keys(copying.key, 'l', 'b')} AND {theirs}"
    query = f"SELECT * FROM {copying.temporary} b WHERE NOT EXISTS ({there}) ORDER BY {join_identifiers(copying.key)};"
    lines = "\n".join(["BEGIN;", *copying.write_loading(), query, "COMMIT;"])
    return (
        f"{_AT_SIDE}{copying.write_reading()}{_AT_LIVE}, which shows the rows that are not there, or as the damage "
        f"left them;\n-- once nothing is in their way, the same rescue again brings them back:\n{lines}"
    )


def _prepare(session: Session, was: Table, after: Catalog, live: Catalog) -> _Copying | None:
    """Return what is copied, None where the table is not there."""
    then, now = after.tables.get(was.oid), live.tables.get(was.oid)
    if now is None or then is None:
        now = next((each for each in live.tables.values() if each.shown == was.shown), None)
        then = now
    if now is None or then is None:
        return None
    called, _ = find_shared_columns(was, then, now)
    there = {column.name for column in now.columns}
    numbers = {column.number for column in then.columns}
    lost = [c for c in was.columns if c.number not in numbers and c.name not in there and c.local and not c.generated]
    key = read_key(session.live, now)
    is_same = key and all(called.get(name) == name for name in key) and key == read_key(session.before, was)
    return _Copying(was, now, key if is_same else (), called, lost)


def _list_alterations(session: Session, now: Table) -> list[tuple[str, str]]:
    """Return what is switched off around the writes, each with what switches it on again."""
    begin = f"ALTER TABLE {now.sql}"
    found = [
        (
            f"{begin} DISABLE TRIGGER {quote_identifier(name)};",
            f"{begin} {ENABLE[how]} TRIGGER {quote_identifier(name)};",
        )
        for name, how in list_triggers(session.live, now.oid)
    ]
    if now.forced:
        found.insert(0, (f"{begin} NO FORCE ROW LEVEL SECURITY;", f"{begin} FORCE ROW LEVEL SECURITY;"))
    return found


def _list_writes(session: Session, copying: _Copying) -> list[str]:
    """Return the statements that remove what the damage made, change what it changed, and add what it removed."""
    now, temporary, columns = copying.now, copying.temporary, join_identifiers(copying.columns)
    ours = f"l.xmin = ANY('{format_xids(session)}'::xid[])"
    removing = "DELETE" if _is_sole_maker(session) else "SELECT *"
    inserting = f"INSERT INTO {now.sql} ({columns}) OVERRIDING SYSTEM VALUE SELECT"
    if not copying.key:
        row = f"ROW({', '.join(f'l.{quote_identifier(name)}' for name in copying.columns)})::text"
        missing = f"SELECT b::text AS line FROM {temporary} b EXCEPT ALL SELECT {row} FROM ONLY {now.sql} l"
        return [
            f"{removing} FROM ONLY {now.sql} l WHERE {ours};",
            f"{inserting} (m.line::{temporary}).* FROM ({missing}) AS m;",
        ]
    same = match_keys(copying.key, "l", "b")
    alone = [
        f"NOT EXISTS (SELECT FROM {temporary} b WHERE {same})",
        *list_unreferenced_conditions(session.live, now.oid),
    ]
    always = {column.name for column in now.columns if column.identity == "a"}
    lost = [column.name for column in copying.lost]
    given = [name for name in copying.called if name not in {*copying.key, *always}]
    pair = f"FROM {temporary} b WHERE {same}"
    lines = [f"{removing} FROM ONLY {now.sql} l WHERE {ours} AND {' AND '.join(alone)};"]
    lines += [f"UPDATE ONLY {now.sql} l SET {_write_assignments(given)} {pair} AND {ours};"] if given else []
    lines += [f"UPDATE ONLY {now.sql} l SET {_write_assignments(lost)} {pair};"] if lost else []
    absent = f"NOT EXISTS (SELECT FROM ONLY {now.sql} l WHERE {same})"
    return [*lines, f"{inserting} {columns} FROM {temporary} b WHERE {absent};"]


def _is_sole_maker(session: Session) -> bool:
    """Whether what the damage wrote, and what was not there before, is of its own making."""
    return session.damage.exact and session.damage.chains is None


def _write_assignments(names: Sequence[str]) -> str:
    return ", ".join(f"{quote_identifier(name)} = b.{quote_identifier(name)}" for name in names)


def _write_dump(was: Table) -> str:
    """Return the text that brings a table back that is not there, with its rows and all that belongs to it."""
    wanted = shlex.quote(f"{quote_identifier(was.schema)}.{quote_identifier(was.name)}")
    into = "".join(f"\\setenv PG{name} :{name}\n" for name in ("HOST", "PORT", "USER"))
    file = _name_file(was)
    return (
        f"{_AT_SIDE}{into}\\setenv PGDATABASE :DBNAME\n\\! pg_dump --table {wanted} --file {shlex.quote(file)}\n"
        f"{_AT_LIVE}, in which it is not there:\n\\i '{file}'"
    )


def _name_file(table: Table) -> str:
    return re.sub(r"[^\w.-]", "_", f"{table.schema}.{table.name}.before")
