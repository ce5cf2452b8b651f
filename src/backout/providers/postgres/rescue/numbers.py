"""Numbers handed out again after the damage had set back their sequence: a row with such a number is another row.

A person must decide which of the two keeps its number, so the old row is left out, with the SQL for either
way. What referred to it is left out as well: it would refer to the newer row.

Source: PostgreSQL 18, TRUNCATE (RESTART IDENTITY), "System Information Functions" (pg_get_serial_sequence).
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from backout.model.database.rescue import LeftOut
from backout.providers.postgres.provenance.evidence import format_array
from backout.providers.postgres.rescue.number_columns import trace_numbers
from backout.providers.postgres.schema.quoting import fit_in_line, quote_identifier, quote_literal
from backout.providers.postgres.schema.rowsql import (
    copy_rows,
    join_identifiers,
    match_keys,
    match_rows,
    refers,
    write_key_literals,
    write_key_text,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from backout.providers.postgres.rescue.scope import Session, Work

_COLUMNS: Final = """
SELECT t.oid::bigint, a.attname FROM pg_depend d
JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid,
LATERAL (SELECT d.refobjid AS oid UNION SELECT relid::oid FROM pg_partition_tree(d.refobjid)) AS t
WHERE d.classid = 'pg_class'::regclass AND d.objid = ANY(%s::oid[]) AND d.deptype IN ('a', 'i')
"""
_NAMES: Final = (
    "ARRAY(SELECT attname::text FROM unnest({}) WITH ORDINALITY AS k(number, place) JOIN pg_attribute "
    "ON attrelid = {} AND attnum = number ORDER BY place)"
)
_REFERENCES: Final = f"""
SELECT c.conrelid::bigint, c.confrelid::bigint,
  CASE r.relkind WHEN 'p' THEN '' ELSE 'ONLY ' END || format('%%I.%%I', n.nspname, r.relname),
  format('%%s.%%s', n.nspname, r.relname), pg_get_userbyid(r.relowner)::text, c.conparentid <> 0,
  {_NAMES.format("c.conkey", "c.conrelid")}, {_NAMES.format("c.confkey", "c.confrelid")}
FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid JOIN pg_namespace n ON n.oid = r.relnamespace
WHERE c.contype = 'f' AND (c.conrelid = %s OR c.confrelid = %s) ORDER BY c.conname
"""
_SEQUENCE: Final = (
    "SELECT CASE WHEN NOT relispartition THEN pg_get_serial_sequence(%s, %s) END FROM pg_class WHERE oid = %s"
)
_MOST: Final = 100
"""The most rows named, where each has to be checked."""


class _Reference(NamedTuple):
    """A foreign key: from which table to which, by object id; of the first its rows as SQL, its name and its owner."""

    child: int
    parent: int
    rows: str
    shown: str
    owner: str
    inherited: bool
    columns: list[str]
    referred: list[str]

    def matches(self, child: str, parent: str) -> str:
        """Return the condition that one row refers to another, by their aliases."""
        return refers(self.columns, self.referred, child, parent)


class Stranger(NamedTuple):
    """Columns of a table that refer to another, and the condition that what `b` refers to is another row by now."""

    columns: frozenset[str]
    condition: str


def find_numbered(session: Session, works: Sequence[Work]) -> dict[int, Work]:
    """Return the tables in whose keys are numbers of a sequence that the damage set back, by object id."""
    if not session.set_back:
        return {}
    columns = {(oid, name) for oid, name in session.before.execute(_COLUMNS, (sorted(session.set_back),)).fetchall()}
    return {work.table.oid: work for work in works if columns & {(work.before.oid, str(name)) for name in work.key}}


def note_columns(session: Session, works: Sequence[Work], numbered: Mapping[int, Work]) -> None:
    """Note in which columns of tables numbers stand that may have been handed out again."""
    columns = trace_numbers(session, numbered, numbered.keys()) if numbered else {}
    for work in works:
        work.holds = {name: frozenset(roots) for (oid, name), roots in columns.items() if oid == work.before.oid}


def note_given_again(session: Session, work: Work) -> None:
    """Keep the keys of old rows that newer rows have by now, before these are removed from the old ones."""
    if work.table.oid in work.numbered:
        again = work.name("again")
        session.live.execute(f"DROP TABLE IF EXISTS {again}")
        session.live.execute(f"CREATE TEMP TABLE {again} AS SELECT {_write_keys(work)} {_build_taken_clause(work)}")


def read_given_again(live: Any, work: Work) -> list[str]:
    """Return those keys as text, in their order."""
    key = ", ".join(f"a.{quote_identifier(name)}" for name in work.key)
    texts = write_key_text(work.key, "a")
    return [str(text) for (text,) in live.execute(f"SELECT {texts} FROM {work.name('again')} a ORDER BY {key}")]


def find_sequence(live: Any, work: Work) -> str | None:
    """Return the sequence that belongs to the first column of a key, as SQL; None for none, and of a partition."""
    (sequence,) = live.execute(_SEQUENCE, (work.table.sql, str(work.key[0]), work.table.oid)).fetchone()
    return None if sequence is None else str(sequence)


def find_strangers(session: Session, work: Work) -> list[Stranger]:
    """Return where old rows would refer to another row than before.

    The numbers lie in the sessions of those who own the tables that are referred to, and come into this one as they are
    now: what `parents_first` put before this table is written.
    """
    found, known = [], set[tuple[str, int]]()
    for each in _list_references(session.live, work.table.oid) if work.numbered else ():
        parent = work.numbered.get(each.parent)
        if each.child != work.table.oid or parent is None or not _is_by_key(each, parent):
            continue
        if set(each.columns) <= set(work.columns) and (given := _load_given(session, parent)):
            condition = f"EXISTS (SELECT FROM {given} p WHERE {each.matches('b', 'p')})"
            found.append(Stranger(frozenset(each.columns), condition))
            known |= {(each.columns[0], each.parent)}
    return [*found, *_find_strangers_far(session, work, known)]


def _find_strangers_far(session: Session, work: Work, known: Collection[tuple[str, int]]) -> Iterator[Stranger]:
    """Yield where old rows refer to a number by the key of another table, or by other columns beside it.

    Args:
        known: columns that refer to a table by its own key, each with that.
    """
    for name, former in work.called.items():
        for oid in work.holds.get(former, ()):
            parent = work.numbered[oid]
            if parent is not work and (name, oid) not in known and (given := _load_given(session, parent)):
                key = f"p.{quote_identifier(parent.key[0])}"
                condition = (
                    f"EXISTS (SELECT FROM {given} p WHERE b.{quote_identifier(name)} OPERATOR(pg_catalog.=) {key})"
                )
                yield Stranger(frozenset({name}), condition)


def _load_given(session: Session, parent: Work) -> str:
    """Bring the numbers that newer rows of a table have into a temporary table; return it, "" where none are known."""
    there, live = session.of(parent.table.owner).live, session.live
    if not _is_noted(there, parent):
        return ""
    given, columns = parent.name("given"), join_identifiers(parent.key)
    live.execute(f"DROP TABLE IF EXISTS {given}")
    live.execute(f"CREATE TEMP TABLE {given} AS SELECT {columns} FROM ONLY {parent.table.sql} WITH NO DATA")
    if there is live:  # it cannot copy to itself
        live.execute(f"INSERT INTO {given} {_build_given_query(parent)}")
    else:
        copy_rows(there, f"COPY ({_build_given_query(parent)}) TO STDOUT", live, f"COPY {given} ({columns}) FROM STDIN")
    live.execute(f"ANALYZE {given}")
    return given


def find_taken_numbers(session: Session, works: Sequence[Work]) -> Iterator[LeftOut]:
    """Yield the tables in which newer rows have the numbers of rows that the damage removed, with either way out.

    And what a rescue wrote nevertheless that refers to them: in a table or a column that it made again.
    """
    for work in find_numbered(session, works).values():
        live = session.of(work.table.owner).live
        if not _is_noted(live, work):
            continue
        given = f"FROM ({_build_given_query(work)}) AS g ORDER BY {join_identifiers(work.key)}"
        numbers = [str(key) for (key,) in live.execute(f"SELECT {write_key_literals(work.key, 'g')} {given}")]
        if not numbers:
            continue
        for each in _list_references(live, work.table.oid) if session.kept is not None else ():
            if each.parent == work.table.oid and not each.inherited and _is_by_key(each, work):
                yield from _list_written(session, work, each, numbers)
        renumbered = {f"'{number}'" for pair in work.given.items() for number in pair}
        numbers = [number for number in numbers if number not in renumbered]
        if not numbers:
            continue
        reason = "their numbers were given to newer rows, after the sequence was set back"
        reason += f"; they got no new ones: {work.not_given}" if work.not_given else ""
        yield LeftOut(f"{len(numbers):,} rows of table {work.table.shown}", reason, _write_ways(live, work, numbers))


def _list_written(session: Session, work: Work, each: _Reference, numbers: Sequence[str]) -> Iterator[LeftOut]:
    """Yield how many rows that a rescue wrote refer to a number that was given out again."""
    assert session.kept is not None
    live = session.of(each.owner).live
    (readable,) = live.execute("SELECT has_table_privilege(%s::oid, 'SELECT')", (each.child,)).fetchone()
    if not readable:
        return
    place = {name: number for number, name in enumerate(each.referred)}
    columns = ", ".join(quote_identifier(each.columns[place[str(name)]]) for name in work.key)
    which = f"({columns}) IN ({', '.join(f'({number})' for number in numbers)})"
    ours = f"xmin = ANY('{format_array(session.ours | session.kept.writers)}'::xid[])"
    (count,) = live.execute(f"SELECT count(*) FROM {each.rows} WHERE {which} AND {ours}").fetchone()
    if count:
        some = f"({columns}) IN ({', '.join(f'({number})' for number in numbers[:_MOST])})"
        reason = (
            f"they came back with their whole table or column and refer to numbers of {work.table.shown} that newer "
            f"rows have: {_advise(session, work)}"
        )
        query = f"SELECT * FROM {each.rows} WHERE {some};"
        yield LeftOut(f"{count:,} rows of table {each.shown}", reason, query, seen=False)


def _advise(session: Session, work: Work) -> str:
    """Return what a person does with rows that refer to a number which an old row and a newer one have had."""
    if not work.given:
        return "look at them first, for they go along when those get other numbers"
    path = session.kept.locate_renumbered(work.table.oid) if session.kept is not None else ""
    return f"give those that mean an old row its new number, which {path} holds"


def _write_ways(live: Any, work: Work, numbers: Sequence[str]) -> str:
    """Return the SQL that gives other numbers to the newer rows, or to the old ones; else a query for the newer."""
    key = work.key[0]
    sequence = find_sequence(live, work)
    some = ", ".join(numbers)
    if len(work.key) > 1 or sequence is None:
        rows = ", ".join(f"({number})" for number in numbers[:_MOST])
        return f"SELECT * FROM ONLY {work.table.sql} WHERE ({join_identifiers(work.key)}) IN ({rows});"
    newer = (
        f"-- The newer rows get new numbers, and what refers to them by a foreign key goes with them; then "
        f"the same rescue again brings the old ones back:\n{_write_renumbering(live, work, sequence, some)}"
    )
    called = {each: work.called[each] for each in work.columns if each != key}
    tables = work.before.schema, work.before.name, work.table.schema, work.table.name
    if not called or not fit_in_line(*tables, *called, *called.values()):
        return newer
    return (
        f"{newer}\n-- Or the old ones get new numbers{_explain_renumbering(work)}.\n"
        "-- In psql of a side instance (backout db restore TARGET --side):\n"
        f"\\copy (SELECT {join_identifiers([*called.values()])} FROM ONLY {work.before.sql} WHERE "
        f"{quote_identifier(work.called[key])} IN ({some})) TO 'rows.before'\n"
        f"-- and in psql of the live database:\n\\copy {work.table.sql} ({join_identifiers([*called])}) "
        "FROM 'rows.before'"
    )


def _explain_renumbering(work: Work) -> str:
    """Return that a rescue gives new numbers to old rows, "" where it does not; those by hand leave all else alone."""
    if work.not_given:
        return ""
    return ", with what refers to them: the same rescue with --conflicts new-keys. By hand, without what refers to them"


def _write_renumbering(live: Any, work: Work, sequence: str, numbers: str) -> str:
    """Return the SQL that gives rows the next numbers of their sequence, together with what refers to them.

    All of it is one statement, at whose end foreign keys are checked.
    """
    table, key = work.table.sql, quote_identifier(work.key[0])
    moved = f"SELECT {key} AS old, nextval({quote_literal(sequence)}) AS new FROM ONLY {table}"
    parts = [f"WITH moved AS MATERIALIZED ({moved} WHERE {key} IN ({numbers}))"]
    own = [f"{key} = coalesce(m.new, t.{key})"]
    joins, hit = [f"LEFT JOIN moved m ON m.old = x.{key}"], ["m.old IS NOT NULL"]
    for number, each in enumerate(_list_references(live, work.table.oid)):
        if each.parent != work.table.oid or each.inherited or not _is_by_key(each, work):
            continue
        name, to = quote_identifier(each.columns[0]), f"m{number}"
        if each.child == work.table.oid:
            own.append(f"{name} = coalesce({to}.new, t.{name})")
            joins.append(f"LEFT JOIN moved {to} ON {to}.old = x.{name}")
            hit.append(f"{to}.old IS NOT NULL")
        else:
            change = f"UPDATE {each.rows} c SET {name} = m.new FROM moved m WHERE c.{name} = m.old"
            parts.append(f", r{number} AS ({change})")
    parts.append(f"UPDATE ONLY {table} t SET {', '.join(own)} FROM ONLY {table} x {' '.join(joins)}")
    parts.append(f"WHERE x.ctid = t.ctid AND ({' OR '.join(hit)});")
    lines = [" ".join(parts)]
    if any(column.name == work.key[0] and column.identity == "a" for column in work.table.columns):
        set_how = f"ALTER TABLE {table} ALTER COLUMN {key} SET GENERATED"
        lines = ["BEGIN;", f"{set_how} BY DEFAULT;", *lines, f"{set_how} ALWAYS;", "COMMIT;"]
    return "\n".join(lines)


def _list_references(live: Any, oid: int) -> list[_Reference]:
    """Return the foreign keys at both ends of a table."""
    return [_Reference(*row) for row in live.execute(_REFERENCES, (oid, oid)).fetchall()]


def _is_by_key(each: _Reference, parent: Work) -> bool:
    return set(each.referred) == set(map(str, parent.key))


def _is_noted(live: Any, work: Work) -> bool:
    """Whether its old rows were read, so that the numbers are known."""
    (there,) = live.execute("SELECT to_regclass(%s) IS NOT NULL", (f"pg_temp.{work.name('again')}",)).fetchone()
    return bool(there)


def _build_given_query(work: Work) -> str:
    """Return the query for the keys that newer rows have: what was so at the beginning, and what came since."""
    again = f"SELECT {join_identifiers(work.key)} FROM {work.name('again')}"
    return f"{again} UNION SELECT {_write_keys(work)} {_build_taken_clause(work)}"


def _build_taken_clause(work: Work) -> str:
    """Return, as FROM and WHERE, old rows that the damage removed and another row has replaced."""
    gone = work.gone
    newer = f"{match_keys(work.key, 'l', 'b')} AND NOT {match_rows(work.columns, 'l', 'b')}"
    return f"FROM {work.name('before')} b JOIN ONLY {work.table.sql} l ON {newer} WHERE {gone}"


def _write_keys(work: Work) -> str:
    return ", ".join(f"b.{quote_identifier(name)}" for name in work.key)
