"""Rows that earlier rescues have written since the damage: later changes to them by others are newer, and stay.

A row that a rescue put back and that is gone again was removed by others: neither the same rescue, resumed, nor its
check takes that for damage. It leaves no trace in the table, so the rescue's own records must show it.
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backout.providers.postgres.provenance.evidence import format_array
from backout.providers.postgres.provenance.packing import pack_numbers
from backout.providers.postgres.rescue.conflicts import SHOWN, count_conflicts
from backout.providers.postgres.schema.quoting import quote_identifier
from backout.providers.postgres.schema.rowsql import join_identifiers, match_keys, match_rows, write_key_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.providers.postgres.provenance.earlier_rescues import Done
    from backout.providers.postgres.rescue.scope import Session, Work


def leave_done(session: Session, work: Work) -> None:
    """Remove from the old rows those that a rescue put back since the damage: their later changes are newer."""
    live, before = session.live, work.name("before")
    gone = work.gone
    done = [each for each in session.done.rows.get(work.table.oid, ()) if each.key == tuple(work.key)]
    if done:
        _load_done(live, work, done)
        was_there = f"{gone} AND {_is_done(work, 'I', 'b')}"
        there = f"SELECT FROM ONLY {work.table.sql} l WHERE {match_keys(work.key, 'l', 'b')}"
        note_away(session, work, f"{was_there} AND NOT EXISTS ({there})", "a rescue had put back")
        live.execute(f"DELETE FROM {before} b WHERE {was_there}")


def leave_anew(session: Session, work: Work) -> None:
    """Remove from the old rows those that others made anew: they are conflicts where they hold something else."""
    live, before = session.live, work.name("before")
    gone = work.gone
    anew = f"JOIN ONLY {work.table.sql} l ON {match_keys(work.key, 'l', 'b')} WHERE {gone}"
    report = count_conflicts(
        session, work, f"FROM {before} b {anew} AND NOT ({match_rows(work.columns, 'l', 'b')})", "b"
    )
    work.kept_rows += report.conflicts - work.report.conflicts
    work.kept_examples = (*work.kept_examples, *report.examples)[:SHOWN]
    live.execute(f"DELETE FROM {before} WHERE ctid = ANY(ARRAY(SELECT b.ctid FROM {before} b {anew}))")


def note_away(session: Session, work: Work, which: str, why: str) -> None:
    """Note old rows that are not brought back, since others removed them after the damage.

    Args:
        which: a condition on `b`.
        why: what shows that they were there, such as `a rescue had put back`.
    """
    rows = f"FROM {work.name('before')} b WHERE {which}"
    keys = ", ".join(f"b.{quote_identifier(name)}" for name in work.key)
    hashed = session.live.execute(f"SELECT hashtextextended(ROW({keys})::text, 1) {rows}").fetchall()
    if not hashed:
        return
    if session.kept is not None:
        session.kept.note_away(work.before.oid, pack_numbers(number for (number,) in hashed))
    shown = f"SELECT {write_key_text(work.key, 'b')} {rows} ORDER BY 1 LIMIT {SHOWN}"
    some = [key for (key,) in session.live.execute(shown)]
    more = ", ..." if len(hashed) > len(some) else ""
    work.notes.append(
        f"{work.table.shown}: {len(hashed):,} rows that {why} are gone since: they stay away ({', '.join(some)}{more})"
    )


def build_changed_condition(session: Session, work: Work) -> str:
    """Return the condition that a rescue of this damage changed the row `l` already, and others wrote it since."""
    if not work.done:
        return "false"
    known = session.damage.xids | session.ours | (session.kept.writers if session.kept is not None else frozenset())
    return f"({_is_done(work, 'U', 'l')} AND NOT l.xmin = ANY('{format_array(known)}'::xid[]))"


def _load_done(live: Any, work: Work, done: Sequence[Done]) -> None:
    temp, key = work.name("done"), join_identifiers(work.key)
    live.execute(f"DROP TABLE IF EXISTS {temp}")
    live.execute(f"CREATE TEMP TABLE {temp} AS SELECT {key} FROM ONLY {work.table.sql} WITH NO DATA")
    live.execute(f"ALTER TABLE {temp} ADD COLUMN backout_op text")
    with live.cursor().copy(f"COPY {temp} ({key}, backout_op) FROM STDIN") as copy:
        for each in done:
            for values in each.written():
                copy.write(values + b"\t" + each.op.encode() + b"\n")
    live.execute(f"CREATE INDEX ON {temp} ({key})")
    live.execute(f"ANALYZE {temp}")
    work.done = True


def _is_done(work: Work, op: str, alias: str) -> str:
    written = f"SELECT FROM {work.name('done')} x WHERE {match_keys(work.key, 'x', alias)} AND x.backout_op = '{op}'"
    return f"EXISTS ({written})"
