"""New numbers for old rows whose numbers newer rows have, where a person chose that (`--conflicts new-keys`).

The old rows get them, and no newer row is touched: what refers to a newer row, in the database or outside, goes on
doing so. The numbers take the place of the old ones in the rows of before, wherever a foreign key of before the damage
refers to them, however far. From there on these are rows like any others: they are inserted, kept for the undo and
compared under their new keys.

Which number became which is durable before the first of these rows is written, and holds for each later rescue of the
same damage: a row does not come back twice.

Source: PostgreSQL 18, "Sequence Manipulation Functions" (nextval, setval), "pg_sequence", "pg_constraint".
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec import UNSET
from msgspec.structs import replace

from backout.model.value import Value
from backout.providers.postgres.provenance.evidence import format_array
from backout.providers.postgres.rescue.number_columns import trace_numbers
from backout.providers.postgres.rescue.numbers import find_sequence, note_given_again, read_given_again
from backout.providers.postgres.rescue.rows_of_others import leave_done
from backout.providers.postgres.schema.quoting import quote_identifier

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from backout.providers.postgres.rescue.scope import Session, Work
    from backout.providers.postgres.schema.definitions import Catalog

_SEQUENCE: Final = """
SELECT seqrelid::bigint, seqincrement, seqmin, seqmax, seqcycle FROM pg_sequence WHERE seqrelid = %s::regclass
"""
_LARGEST: Final = {"smallint": (1 << 15) - 1, "integer": (1 << 31) - 1, "bigint": (1 << 63) - 1}
_SINGLE_STEPS: Final = 10_000
"""Up to so many numbers are passed by taking them: what others take meanwhile is never handed out again."""
_Columns = dict[tuple[int, str], int]
"""The table, by object id, whose numbers stand in a column, by its table and its name."""


class Numbers(Value, frozen=True):
    """What a table's numbers come from.

    Args:
        sql: its name.
        step: negative where it falls.
        last: the last number handed out, before the damage or since; `edge`: the one behind which no row has one.
    """

    sql: str
    step: int
    last: int
    edge: int


def renumber(session: Session, works: Sequence[Work]) -> None:
    """Put new numbers in the place of those that newer rows have, in the loaded rows of before.

    The numbers that earlier rescues of this damage gave always hold; more are given where a person chose that.

    Args:
        works: with rows loaded; from them is taken what rescues have done since.
    """
    there = [work for work in works if not work.refused]
    for work in there:  # what a rescue that gave no new numbers put back
        with work.attempt():
            leave_done(session.of(work.table.owner), work)
    numbered = {work.table.oid: work for work in there if work.table.oid in work.numbered}
    for oid, work in numbered.items():
        work.given = dict(session.done.renumbered.get(oid, {}))
    _put(session, there, _trace(session, numbered, {oid for oid, work in numbered.items() if work.given}))
    for work in there:
        with work.attempt():
            mine = session.of(work.table.owner)
            if work.moves:  # and what one that gave them did
                leave_done(mine, work)
            note_given_again(mine, work)
    if session.damage.gives_new_keys:
        wanted = {
            oid: work for oid, work in numbered.items() if not work.refused and (work.given or _find(session, work))
        }
        columns = _trace(session, numbered, wanted.keys())
        for oid, work in wanted.items():
            if len(work.key) == 1 and oid not in columns.values():
                work.not_given = "a column refers to the keys of several such tables"
            with work.attempt():
                _give(session, work)
        _put(session, there, columns)
    for work in numbered.values():
        if work.given and not work.refused:
            _note_numbers(session, work)


def replace_numbers(
    live: Any, rows: str, columns: Mapping[str, Mapping[int, int]], which: Mapping[str, str] | None = None
) -> int:
    """Put numbers in the place of others in a table of rows, and return in how many places.

    Args:
        rows: a temporary table.
        columns: the new numbers by the old ones, by column.
        which: conditions on the row `b`, by column; where there is none, every row counts.
    """
    count = 0
    for name, numbers in columns.items():
        live.execute("DROP TABLE IF EXISTS backout_numbers")
        live.execute("CREATE TEMP TABLE backout_numbers (old bigint, new bigint)")
        with live.cursor().copy("COPY backout_numbers FROM STDIN") as copy:
            copy.write("".join(f"{was}\t{becomes}\n" for was, becomes in numbers.items()))
        live.execute("ANALYZE backout_numbers")
        place, only = quote_identifier(name), (which or {}).get(name, "true")
        count += live.execute(
            f"UPDATE {rows} b SET {place} = m.new FROM backout_numbers m "
            f"WHERE b.{place} OPERATOR(pg_catalog.=) m.old AND {only}"
        ).rowcount
        live.execute("DROP TABLE backout_numbers")
    return count


def count_renumbered(session: Session, work: Work) -> None:
    """Report how many rows have their new numbers, in the live table; in a dry run, how many would get them."""
    if not work.given:
        return
    where = work.table.sql if session.kept is not None else work.name("before")
    key, news = f"l.{quote_identifier(work.key[0])}", f"ANY('{format_array(work.given.values())}'::int8[])"
    count = f"SELECT count(*) FROM ONLY {where} l WHERE {key} OPERATOR(pg_catalog.=) {news}"
    work.report = replace(work.report, renumbered=int(session.live.execute(count).fetchone()[0]) or UNSET)


def describe_new_numbers(
    session: Session, works: Sequence[Work], left: Collection[str], before: Catalog
) -> Iterator[str]:
    """Yield how many rows get new numbers, of which tables, what follows them, and what does not.

    Args:
        left: the tables of which no row comes back.
        before: the definitions before the damage.
    """
    given = [work for work in works if work.report.renumbered]
    written = session.kept is not None
    for work in given:
        said = "have new numbers" if written else "would get new numbers"
        kept = f" (old and new: {work.kept_numbers})" if work.kept_numbers else ""
        yield (
            f"{work.table.shown}: {work.report.renumbered:,} rows {said}, since newer rows have theirs{kept}. "
            "References to the old numbers from outside (URLs, e-mails, other systems) no longer fit: "
            "they lead to the newer rows"
        )
    for work in works if given else ():
        if work.followed:
            said = "follow" if written else "would follow"
            yield f"{work.table.shown}: {work.followed:,} references {said} them, in the rows that come back"
    numbered = {work.table.oid: work for work in given}
    for oid, column in sorted(_trace(session, numbered, numbered.keys()) if given else ()):
        if oid in before.tables and before.tables[oid].shown in left:
            name = f"{before.tables[oid].shown}.{column}"
            yield f"{name}: rows of this table that you bring back by hand hold the old numbers there"
    if given:
        yield "references to those rows without a foreign key are not known: they still hold the old numbers"


def _trace(session: Session, numbered: Mapping[int, Work], wanted: Collection[int]) -> _Columns:
    """Return in which columns numbers of these tables stand.

    Where a column holds numbers of two tables, neither of them is there.
    """
    left = set(wanted)
    while True:
        found = trace_numbers(session, numbered, left)
        twice = set().union(*(roots for roots in found.values() if len(roots) > 1))
        if not twice:
            return {column: root for column, (root,) in found.items()}
        left -= twice


def _put(session: Session, works: Sequence[Work], columns: _Columns) -> None:
    """Put the numbers that were given in the place of the old ones, in the rows of before."""
    given = {oid: work.given for oid, work in works[0].numbered.items() if work.given} if works else {}
    for work in works:
        work.moves = {
            name: given[root] for (oid, name), root in columns.items() if oid == work.table.oid and root in given
        }
        moves = {name: work.moves[former] for name, former in work.called.items() if former in work.moves}
        if not moves or work.refused:
            continue
        own = {str(work.key[0])} if work.given else set()
        live, rows = session.of(work.table.owner).live, work.name("before")
        with work.attempt():
            # A row that the damage left there keeps its key.
            which = {name: work.gone for name in moves if name in work.key}
            replace_numbers(live, rows, {name: moves[name] for name in own & moves.keys()}, which)
            work.followed += replace_numbers(live, rows, {n: moves[n] for n in moves.keys() - own}, which)
            live.execute(f"ANALYZE {rows}")


def _give(session: Session, work: Work) -> None:
    """Give new numbers to the old rows of a table whose numbers newer rows have, or note why they get none."""
    live, found = session.of(work.table.owner).live, _find(session, work)
    elsewhere = {str(number) for number in session.done.elsewhere.get(work.table.oid, ())}
    olds = [old for old in found if old not in elsewhere]
    work.not_given = work.not_given or (_explain_refusal(session, work, len(olds)) if olds else "")
    if work.not_given:
        return
    if len(olds) < len(found):
        work.not_given = "a rescue of another choice among these transactions gave them some"
    if not olds:
        return
    numbers = _measure_numbers(session, work)
    if session.kept is None:
        news = [numbers.edge + numbers.step * (place + 1) for place in range(len(olds))]
    else:
        news = _take(live, numbers, len(olds))
    work.given = {**work.given, **{int(old): new for old, new in zip(olds, news, strict=True)}}


def _find(session: Session, work: Work) -> list[str]:
    """Return the numbers of old rows that newer rows have, and that no rescue gave."""
    known = {str(number) for pair in work.given.items() for number in pair}
    return [key for key in read_given_again(session.of(work.table.owner).live, work) if key not in known]


def _explain_refusal(session: Session, work: Work, count: int) -> str:
    """Return why no new numbers can be given, "" when they can."""
    live = session.of(work.table.owner).live
    if len(work.key) > 1:
        return "its key has several columns"
    largest = _LARGEST.get(next(column.type for column in work.table.columns if column.name == work.key[0]))
    sql = find_sequence(live, work)
    if sql is None or largest is None:
        return "no sequence of whole numbers belongs to its key"
    _, step, low, high, cycles = live.execute(_SEQUENCE, (sql,)).fetchone()
    if cycles:
        return "its sequence begins anew at its end (CYCLE)"
    last = _measure_numbers(session, work).edge + step * count
    if not max(low, -largest - 1) <= last <= min(high, largest):
        return "its sequence has too few numbers left"
    return ""


def _measure_numbers(session: Session, work: Work) -> Numbers:
    """Return how far the numbers of a table go, live and before the damage."""
    mine, key = session.of(work.table.owner), quote_identifier(work.key[0])
    sql = find_sequence(mine.live, work)
    assert sql is not None
    oid, step, *_ = mine.live.execute(_SEQUENCE, (sql,)).fetchone()
    value, called = mine.live.execute(f"SELECT last_value, is_called FROM {sql}").fetchone()
    last = int(value) if called else int(value) - step
    best = "max" if step > 0 else "min"
    ends = [last, session.set_back.get(oid, last)]
    for end, table in ((mine.live, work.table.sql), (mine.before, work.before.sql)):
        (there,) = end.execute(f"SELECT {best}({key}) FROM ONLY {table}").fetchone()
        ends += [] if there is None else [int(there)]
    return Numbers(sql, step, last, max(ends) if step > 0 else min(ends))


def _take(live: Any, numbers: Numbers, count: int) -> list[int]:
    """Take numbers from a sequence, none of which a row has or had."""
    behind = -(-(numbers.edge - numbers.last) // numbers.step)
    if 0 < behind <= _SINGLE_STEPS:
        live.execute("SELECT count(nextval(%s::regclass)) FROM generate_series(1, %s)", (numbers.sql, behind))
    elif behind > 0:
        live.execute("SELECT setval(%s::regclass, %s)", (numbers.sql, numbers.last + behind * numbers.step))
    query = "SELECT nextval(%s::regclass) FROM generate_series(1, %s)"
    return [int(number) for (number,) in live.execute(query, (numbers.sql, count)).fetchall()]


def _note_numbers(session: Session, work: Work) -> None:
    """Keep which number became which, before any such row is written; old references to them lead elsewhere."""
    live = session.of(work.table.owner).live
    if session.kept is not None:
        column = f"{work.table.shown}.{work.key[0]}"
        path = session.kept.note_renumbered(session.live, work.table.oid, column, work.given)
        work.kept_numbers = str(path)
    again, key = work.name("again"), quote_identifier(work.key[0])
    olds = f"unnest('{format_array(work.given)}'::int8[]) AS k(old)"
    there = f"SELECT FROM {again} a WHERE a.{key} OPERATOR(pg_catalog.=) k.old"
    live.execute(f"INSERT INTO {again} SELECT k.old FROM {olds} WHERE NOT EXISTS ({there})")
