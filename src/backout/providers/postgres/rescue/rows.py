"""The rows of a rescue: three states compared by primary key, and written in batches of a bounded size."""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from backout.model.value import Value
from backout.providers.postgres.provenance.chains import load_chains
from backout.providers.postgres.provenance.claims import count_deleted_so_far, list_claimed, list_keys, put_back
from backout.providers.postgres.provenance.evidence import (
    BY_VALUES,
    build_explained_condition,
    build_untouched_condition,
    format_array,
    get_node,
    is_key_made_anew,
    note_gone,
    note_newer,
)
from backout.providers.postgres.rescue.conflicts import count_conflicts
from backout.providers.postgres.rescue.kept import encode_key
from backout.providers.postgres.rescue.keys import load_by_key
from backout.providers.postgres.rescue.numbers import find_strangers
from backout.providers.postgres.rescue.references import (
    list_parent_conditions,
    list_unreferenced_conditions,
    refers_to_itself,
)
from backout.providers.postgres.rescue.rows_of_others import build_changed_condition
from backout.providers.postgres.rescue.scope import format_xids
from backout.providers.postgres.rescue.writing import lock_table, write_quietly
from backout.providers.postgres.schema.quoting import quote_identifier
from backout.providers.postgres.schema.rowsql import (
    build_key_condition,
    copy_rows,
    differ,
    join_identifiers,
    match_keys,
    match_rows,
    name_new,
    name_old,
)
from backout.providers.postgres.server.copy_out import read_copy

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from backout.providers.postgres.rescue.scope import Session, Work

_BATCH: Final = 50_000
_CHUNK: Final = 10_000
PENDING: Final = "backout_todo t"
"""The temporary table of the rows that are to be written next, with its alias."""
_PASSES: Final = 3


def load(session: Session, work: Work) -> None:
    """Load the rows before and after the damage into temporary tables of the live session."""
    names = join_identifiers(work.columns)
    ends = {"before": (session.before, work.before), "after": (session.after, work.after)}
    for what in ends:
        temp = work.name(what)
        session.live.execute(f"DROP TABLE IF EXISTS {temp}")
        session.live.execute(f"CREATE TEMP TABLE {temp} AS SELECT {names} FROM ONLY {work.table.sql} WITH NO DATA")
        session.live.execute(f"ALTER TABLE {temp} ADD COLUMN backout_no bigserial")
    written = {"before": "xmax::text <> '0'", "after": f"xmin = ANY('{format_xids(session)}'::xid[])"}
    by_key = session.damage.written is None and not work.whole
    followed = session.damage.chains is not None and not work.whole
    for what, (source, table) in ends.items():
        if followed or (by_key and what == "before"):  # nothing marks its rows
            continue
        where = "" if work.whole else f" WHERE {written[what]}"
        query = f"COPY (SELECT {work.read(table)} FROM ONLY {table.sql}{where}) TO STDOUT"
        copy_rows(source, query, session.live, f"COPY {work.name(what)} ({names}) FROM STDIN")
    if by_key:
        load_by_key(session, work)
    if followed:
        load_chains(session, work)
    for what in ends:
        session.live.execute(f"CREATE UNIQUE INDEX ON {work.name(what)} ({join_identifiers(work.key)})")
        session.live.execute(f"ANALYZE {work.name(what)}")
    if not work.whole and not by_key:
        _forget_locked(session, work)
    work.standing, why = build_untouched_condition(session, work)
    work.notes += [why] if why else []


def _forget_locked(session: Session, work: Work) -> None:
    """Of the rows that look deleted, forget those that are still there after the damage: they were only locked."""
    live, before = session.live, work.name("before")
    if not work.deletes:
        live.execute(f"DELETE FROM {before} b WHERE {work.gone}")
        return
    texts = ", ".join(f"b.{quote_identifier(name)}::text" for name in work.key)
    gone = live.execute(f"SELECT {texts} FROM {before} b WHERE {work.gone}").fetchall()
    types = {column.name: column.type for column in work.table.columns}
    arrays = ", ".join(f"%s::text[]::{types[name]}[]" for name in work.key)
    keys = join_identifiers(work.key)
    for begin in range(0, len(gone), _CHUNK):
        lists = [list(values) for values in zip(*gone[begin : begin + _CHUNK], strict=True)]
        there = session.after.execute(
            f"SELECT {', '.join(f't.{quote_identifier(name)}::text' for name in work.key)} FROM ONLY "
            f"{work.after.sql} t "
            f"JOIN unnest({arrays}) AS k({keys}) ON {match_keys(work.key, 't', 'k')}",
            lists,
        ).fetchall()
        if there:
            live.execute(
                f"DELETE FROM {before} b USING unnest({arrays}) AS k({keys}) WHERE {match_keys(work.key, 'b', 'k')}",
                [list(values) for values in zip(*there, strict=True)],
            )


def repair(session: Session, ordered: Sequence[Work]) -> None:
    """Remove, insert and update rows of all these tables, parents first, until what is in the way of others is gone.

    A row may wait for one that comes later: a key that is still referred to, a unique value that is still taken.
    """
    for number in range(_PASSES):
        for work in ordered:
            work.waiting = work.written = 0
            work.report = replace(work.report, conflicts=work.kept_rows, examples=work.kept_examples)
        for place, work in enumerate(reversed(ordered)):
            session.progress("removing rows that the damage made", place, len(ordered))
            attempt(remove, session, work)
        for step in (insert, update):
            for work in ordered:
                attempt(step, session, work)
        moved, waiting = sum(work.written for work in ordered), sum(work.waiting for work in ordered)
        if session.kept is None or not (moved and waiting):
            break
        session.progress("rows that waited for others", number + 1, _PASSES)


def attempt(step: Callable[[Session, Work], None], session: Session, work: Work) -> None:
    """Do a step with one table in the session of its owner, unless Postgres has refused one for good."""
    if not work.refused:
        with work.attempt():
            step(session.of(work.table.owner), work)


def remove(session: Session, work: Work) -> None:
    """Remove rows that the damage made, where they were neither touched nor referred to since."""
    live, row = session.live, work.columns
    made = f"NOT EXISTS (SELECT FROM {work.name('before')} b WHERE {match_keys(work.key, 'b', 'd')})"
    as_made = f"({match_rows(row, 'l', 'd')} AND {work.standing})" if session.damage.keeps_newer else "true"
    ours = f" AND NOT x.xmin = ANY('{format_xids(session)}'::xid[])" if session.kept is None else ""
    free = " AND ".join(["true", *list_unreferenced_conditions(live, work.table.oid, ours)])
    select = (
        f"FROM {work.name('after')} d JOIN ONLY {work.table.sql} l ON {match_keys(work.key, 'l', 'd')} WHERE {made}"
    )
    held = ", ".join(f"l.{quote_identifier(name)} AS {name_old(name)}" for name in row)
    # Asked again when the rows are locked: what came to refer to one meanwhile would go along with it.
    apply = (
        f"DELETE FROM ONLY {work.table.sql} l USING {PENDING} WHERE {build_key_condition(work.key, 'o_')} AND {free}"
    )
    writing = Writing("D", "after", "d", f"SELECT {held} {select} AND {as_made} AND {free}", apply)
    count = found = write_batches(session, work, writing)
    while found and session.kept is not None and refers_to_itself(live, work.table.oid):  # leaves first, then theirs
        count += (found := write_batches(session, work, writing))
    work.report = replace(work.report, deleted=work.report.deleted + count)
    before = work.report.conflicts
    work.report = count_conflicts(session, work, f"{select} AND NOT ({as_made} AND {free})", "l")
    if work.report.conflicts > before:
        (held,) = live.execute(f"SELECT count(*) {select} AND {as_made} AND NOT ({free})").fetchone()
        work.waiting += held


def insert(session: Session, work: Work) -> None:
    """Insert rows that the damage deleted, where they were not made anew and their parents are there."""
    row = work.columns
    gone = work.gone
    free = f"NOT EXISTS (SELECT FROM ONLY {work.table.sql} l WHERE {match_keys(work.key, 'l', 'b')})"
    asked = () if session.kept is not None else work.others  # a dry run does not know which rows of these come back
    strangers = [f"NOT {each.condition}" for each in find_strangers(session, work)]
    parents = " AND ".join(["true", *list_parent_conditions(session.live, work, asked), *strangers])
    other = (
        f"FROM {work.name('before')} b JOIN ONLY {work.table.sql} l ON {match_keys(work.key, 'l', 'b')} WHERE {gone}"
    )
    work.report = count_conflicts(session, work, f"{other} AND NOT ({match_rows(row, 'l', 'b')})", "b")
    orphans = f"FROM {work.name('before')} b WHERE {gone} AND {free} AND NOT ({parents})"
    before = work.report.conflicts
    work.report = count_conflicts(session, work, orphans, "b")
    work.orphans = work.report.conflicts - before
    work.waiting += work.orphans
    values = ", ".join(f"b.{quote_identifier(name)} AS {name_new(name)}" for name in row)
    names = join_identifiers(row)
    taken = ", ".join(f"t.{name_new(name)}" for name in row)
    apply = (
        f"INSERT INTO {work.table.sql} ({names}) OVERRIDING SYSTEM VALUE SELECT {taken} FROM {PENDING} "
        "ON CONFLICT DO NOTHING"
    )
    select = f"SELECT {values} FROM {work.name('before')} b WHERE {gone} AND {free} AND {parents}"
    count = write_batches(session, work, Writing("I", "before", "b", select, apply))
    work.report = replace(work.report, inserted=work.report.inserted + count)


def update(session: Session, work: Work) -> None:
    """Set columns that the damage changed back to what they were, where they were not changed since."""
    live = session.live
    pair = (
        f"FROM {work.name('before')} b JOIN {work.name('after')} d ON {match_keys(work.key, 'b', 'd')} "
        f"JOIN ONLY {work.table.sql} l ON {match_keys(work.key, 'l', 'b')}"
    )
    others = [name for name in work.columns if name not in work.key]
    if not others:
        return
    asked = ", ".join(f"coalesce(bool_or({differ(name, 'b', 'd')}), false)" for name in others)
    *told, there, newer_rows = live.execute(
        f"SELECT {asked}, count(*), count(*) FILTER (WHERE NOT {work.standing}) {pair}"
    ).fetchone()
    damaged = tuple(name for name, is_damaged in zip(others, told, strict=True) if is_damaged)
    note_gone(session, work, there)
    if not damaged:
        return
    work.report = replace(work.report, columns=damaged)
    keys_made_anew = is_key_made_anew(session, work)
    fix, since = {}, build_changed_condition(session, work)
    conflicts, unclear, strange = [], [], []
    strangers = find_strangers(session, work)
    for name in damaged:
        harmed, ours = differ(name, "b", "d"), differ(name, "l", "b")
        newer = differ(name, "l", "d")
        if work.standing != BY_VALUES:
            other = "false" if keys_made_anew else build_explained_condition(work, name)
            newer = f"({newer} OR NOT ({work.standing} OR {other}))"
        again = f"{harmed} AND {newer} AND {ours}"
        conflicts += [again] if session.damage.keeps_newer else []
        unclear.append(f"({again} AND NOT {differ(name, 'l', 'd')} AND NOT {since})")
        kept = "" if not session.damage.keeps_newer else f" AND NOT ({again})"
        fix[name] = f"{harmed} AND {ours} AND NOT {since}{kept}"
        if lost := " OR ".join(each.condition for each in strangers if name in each.columns):
            strange.append(f"{fix[name]} AND ({lost})")
            fix[name] += f" AND NOT ({lost})"
    if strange:
        (held,) = live.execute(f"SELECT count(*) {pair} WHERE {' OR '.join(strange)}").fetchone()
        work.waiting, work.orphans = work.waiting + held, work.orphans + held
    if conflicts := [f"({each})" for each in (*conflicts, *strange)]:
        work.report = count_conflicts(session, work, f"{pair} WHERE {' OR '.join(conflicts)}", "l")
    if session.damage.keeps_newer:
        work.unclear = f"{pair} WHERE {' OR '.join(unclear)}"
    parts = [f"l.{quote_identifier(name)} AS {name_old(name)}" for name in (*work.key, *damaged)]
    parts += [
        f"CASE WHEN {fix[name]} THEN b.{quote_identifier(name)} ELSE l.{quote_identifier(name)} END AS {name_new(name)}"
        for name in damaged
    ]
    fixed = " OR ".join(f"({each})" for each in fix.values())
    if newer_rows:
        note_newer(session, work, f"{pair} WHERE NOT {work.standing} AND ({fixed})")
    select = f"SELECT {', '.join(parts)} {pair} WHERE ({fixed})"
    assigned = ", ".join(f"{quote_identifier(name)} = t.{name_new(name)}" for name in damaged)
    apply = f"UPDATE ONLY {work.table.sql} l SET {assigned} FROM {PENDING} WHERE {build_key_condition(work.key, 'o_')}"
    count = write_batches(session, work, Writing("U", "before", "b", select, apply))
    work.report = replace(work.report, updated=work.report.updated + count)


class Writing(Value, frozen=True):
    """One kind of write to a table.

    Args:
        op: `U`, `I` or `D`.
        source: the temporary table whose numbering cuts it into batches; `alias` is its name in `select`, which yields
            what is to be written, old values as `o_NAME`, new ones as `n_NAME`; in it `l` is the live row.
        apply: the statement that writes the rows of `backout_todo`, there `t`.
    """

    op: str
    source: str
    alias: str
    select: str
    apply: str


def write_batches(session: Session, work: Work, writing: Writing) -> int:
    """Do it in transactions of a bounded size: what is written is kept before the commit. Return how many rows.

    A row that cannot be written, since its unique value is taken or its parent is missing, is a conflict.
    """
    live, select = session.live, writing.select
    if session.kept is None:
        return int(live.execute(f"SELECT count(*) FROM ({select}) AS rows").fetchone()[0])
    (last,) = live.execute(f"SELECT coalesce(max(backout_no), 0) FROM {work.name(writing.source)}").fetchone()
    count = 0
    for begin in range(0, last, _BATCH):
        bounds = f" AND {writing.alias}.backout_no > {begin} AND {writing.alias}.backout_no <= {begin + _BATCH}"
        with live.transaction():
            (wanted,) = live.execute(f"SELECT EXISTS ({select}{bounds})").fetchone()
            if wanted:  # a table in which nothing is to be written is not locked
                lock_table(live, work.table.oid, work.table.sql)
                count += _write_batch(session, work, writing, bounds)
        session.progress(f"rows of {work.table.shown}", min(begin + _BATCH, last), last)
    return count


def _write_batch(session: Session, work: Work, writing: Writing, bounds: str) -> int:
    """Write and keep the rows of one batch; return how many were written."""
    live, kept = session.live, session.kept
    assert kept is not None
    session.forget("backout_todo")
    locks = "" if writing.op == "I" else " FOR UPDATE OF l"
    made = live.execute(f"CREATE TEMP TABLE backout_todo AS {writing.select}{bounds}{locks}")
    if not made.rowcount:
        return 0
    before, counted = kept.writers, count_deleted_so_far(live)
    over = list_claimed(session, work) if writing.op == "U" else {}
    written = write_quietly(live, work.table.oid, work.table.sql, writing.apply, PENDING, wrote=kept.note_writer)
    if written:
        if written < made.rowcount:
            _forget_unwritten(live, work, writing.op, kept.writers - before)
        removed = list_keys(session, work) if writing.op == "D" else []
        there = put_back(live, work, kept.writers - before) if writing.op == "I" else ""
        deleted = {
            oid: n - counted.get(oid, 0) for oid, n in count_deleted_so_far(live).items() if n > counted.get(oid, 0)
        }
        _keep(session, work, writing, {"over": over, "removed": removed, "deleted": deleted, "put_back": there})
    work.waiting += made.rowcount - written
    work.written += written
    work.report = replace(work.report, conflicts=work.report.conflicts + made.rowcount - written)
    return written


def _forget_unwritten(live: Any, work: Work, op: str, ids: Collection[int]) -> None:
    """Forget the rows that could not be written: an undo must not take back what others write to them later.

    Args:
        ids: under which this batch wrote.
    """
    here = build_key_condition(work.key, "n_" if op == "I" else "o_")
    there = f"SELECT FROM ONLY {work.table.sql} l WHERE {here}"
    ours = f"l.xmin = ANY('{format_array(ids)}'::xid[])"
    unwritten = f"EXISTS ({there})" if op == "D" else f"NOT EXISTS ({there} AND {ours})"
    live.execute(f"DELETE FROM {PENDING} WHERE {unwritten}")


def _keep(session: Session, work: Work, writing: Writing, claims: Mapping[str, object]) -> None:
    """Keep the written rows, before the commit, and the notes for the second check."""
    live, kept = session.live, session.kept
    assert kept is not None
    content = [*read_copy(live, "COPY backout_todo TO STDOUT")]
    names = [d.name for d in live.execute("SELECT * FROM backout_todo LIMIT 0").description]
    entry = {
        "op": writing.op,
        "filled": writing.source == "lost",
        "sql": work.table.sql,
        "table": work.table.shown,
        "oid": work.table.oid,
        "node": get_node(live, work.table.sql),
        **encode_key(work.key),
        "columns": names,
        **{name: what for name, what in claims.items() if what},
    }
    kept.write(live, entry, content)
