"""Rows that others made anew after a damage and removed again, before or during a rescue: they stay removed.

They leave no trace in the table: a row that the damage deleted looks the same, whether or not it was there again
meanwhile. The WAL tells.
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from backout.model.database.rescue import LeftOut
from backout.model.database.wal import parse_lsn, show_lsn
from backout.providers.postgres.provenance.evidence import format_array
from backout.providers.postgres.provenance.stored_keys import decode_key, read_layout
from backout.providers.postgres.rescue.conflicts import SHOWN
from backout.providers.postgres.rescue.rows_of_others import note_away
from backout.providers.postgres.schema.quoting import quote_identifier
from backout.providers.postgres.schema.rowsql import join_identifiers, match_keys, write_key_literals, write_key_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backout.model.database.removed import StoredRow
    from backout.providers.postgres.rescue.scope import Session, Work

_WHY = "others had made anew"


def leave_removed(session: Session, works: Sequence[Work]) -> None:
    """Remove them from the old rows; in the check of a rescue, also those that it left out."""
    for work in works:
        _leave_away(session, work)
    for work, rows in _read(session, works):
        here = session.of(work.table.owner)
        _load(here, work, rows)
        which = f"{_is_removed(work, 'b')} AND {work.gone}"
        there = f"SELECT FROM ONLY {work.table.sql} l WHERE {match_keys(work.key, 'l', 'b')}"
        note_away(here, work, f"{which} AND NOT EXISTS ({there})", _WHY)
        here.live.execute(f"DELETE FROM {work.name('before')} b WHERE {which}")


def find_removed_since(session: Session, works: Sequence[Work]) -> Iterator[LeftOut]:
    """Yield what was put back although others had removed it: behind the first look, and before it was written.

    And how many there are of which the WAL does not tell the keys.
    """
    if session.kept is None:
        return
    for work, rows in _read(session, [work for work in works if work.report.inserted]):
        here = session.of(work.table.owner)
        _load(here, work, rows)
        wrote = f"l.xmin = ANY('{format_array(session.kept.writers)}'::xid[])"
        found = f"FROM ONLY {work.table.sql} l WHERE {wrote} AND {_is_removed(work, 'l')}"
        texts = f"{write_key_text(work.key, 'l')}, {write_key_literals(work.key, 'l')}"
        keys = here.live.execute(f"SELECT {texts} {found} ORDER BY 1").fetchall()
        if keys:
            shown = ", ".join(shown for shown, _ in keys[:SHOWN]) + (", ..." if len(keys) > SHOWN else "")
            reason = f"others made them anew and removed them while the rescue ran, and it put them back: {shown}"
            values = ", ".join(f"({literal})" for _, literal in keys)
            sql = f"DELETE FROM ONLY {work.table.sql} WHERE ({join_identifiers(work.key)}) IN ({values});"
            yield LeftOut(f"{len(keys):,} rows of table {work.table.shown}", reason, sql)
        if unknown := sum(row is None for row in rows):
            reason = (
                f"others made {unknown:,} rows anew and removed them again since the damage, whose keys the WAL does "
                "not tell: they may be among those that came back"
            )
            query = f"SELECT * FROM ONLY {work.table.sql} ORDER BY {join_identifiers(work.key)};"
            yield LeftOut(f"{unknown:,} rows of table {work.table.shown}", reason, query, seen=False)


def describe_tail(session: Session, works: Sequence[Work]) -> tuple[str, ...]:
    """Return a note that says up to where it is known which rows others removed, where that is not up to now."""
    names = [work.table.shown for work in works if work.report.inserted]
    if session.kept is None or not names or (session.removed is not None and session.known_until is None):
        return ()
    where = f"from {show_lsn(session.known_until)} on" if session.known_until else "behind the damage"
    said = f"the WAL {where} was not available: rows that others made anew and removed again since then came back"
    return (f"{said}, if there were any: {', '.join(names)}",)


def _read(session: Session, works: Sequence[Work]) -> Iterator[tuple[Work, list[tuple[str, ...] | None]]]:
    """Yield the tables of which others removed rows that they had made, with their keys, None of what is unknown."""
    if session.removed is None or not works:
        return
    # What is committed is flushed (with synchronous_commit = off within 0.6 s); the rest of a page may not be for long.
    (lsn,) = session.live.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
    ours = session.ours | (session.kept.writers if session.kept is not None else frozenset())
    nodes = {work.after.nodes[0]: work for work in works if work.deletes or work.whole}
    if not nodes:
        return
    found = session.removed(nodes, ours, parse_lsn(str(lsn)))
    session.known_until = None if found.until_lsn >= parse_lsn(str(lsn)) else found.until_lsn
    rows: defaultdict[int, list[StoredRow | None]] = defaultdict(list)
    for node, row in found.rows:
        rows[node].append(row)
    for node, stored in rows.items():
        work = nodes[node]
        layout = read_layout(session.after, work.after.oid)
        names = [work.called[name] for name in work.key]
        yield work, [None if row is None else decode_key(row, layout, names) for row in stored]


def _load(session: Session, work: Work, keys: Sequence[tuple[str, ...] | None]) -> None:
    """Bring keys into a temporary table."""
    temp, live = work.name("removed"), session.live
    types = {column.name: column.type for column in work.table.columns}
    columns = ", ".join(
        f"k.v{number}::{types[name]} AS {quote_identifier(name)}" for number, name in enumerate(work.key)
    )
    lists = [[key[number] for key in keys if key is not None] for number in range(len(work.key))]
    arrays = ", ".join("%s::text[]" for _ in work.key)
    names = ", ".join(f"v{number}" for number in range(len(work.key)))
    live.execute(f"DROP TABLE IF EXISTS {temp}")
    live.execute(
        f"CREATE TEMP TABLE {temp} AS SELECT {join_identifiers(work.key)} FROM ONLY {work.table.sql} WITH NO DATA"
    )
    live.execute(f"INSERT INTO {temp} SELECT {columns} FROM unnest({arrays}) AS k({names})", lists)


def _leave_away(session: Session, work: Work) -> None:
    """Take out what a rescue of the same damage left away: its check sees no more than it did."""
    if hashes := session.done.away.get(work.before.oid):
        key = ", ".join(f"b.{quote_identifier(name)}" for name in work.key)
        query = (
            f"DELETE FROM {work.name('before')} b WHERE {work.gone} "
            f"AND hashtextextended(ROW({key})::text, 1) = ANY(%s::bigint[])"
        )
        session.of(work.table.owner).live.execute(query, (list(hashes),))


def _is_removed(work: Work, alias: str) -> str:
    removed = f"EXISTS (SELECT FROM {work.name('removed')} r WHERE {match_keys(work.key, 'r', alias)})"
    if not work.given:
        return removed
    # What others had removed was another row than the one that has this number now.
    key = f"{alias}.{quote_identifier(work.key[0])}"
    return f"{removed} AND {key} OPERATOR(pg_catalog.<>) ALL('{format_array(work.given.values())}'::int8[])"
