"""The rows of the trial's tables as texts, and what of them is not there any more."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from psycopg import errors, sql

from backout.model.database.certificate import RowLoss, TableRows
from backout.providers.postgres.certify.log import WHO

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg

MOST_ROWS: Final = 10_000
"""Of one table; of a larger one the first are compared, in the order of its key."""
HISTORIES: Final = (
    "_prisma_migrations", "alembic_version", "django_migrations", "__drizzle_migrations", "d1_migrations",
    "schema_migrations", "flyway_schema_history", "goose_db_version", "pgmigrations",
)  # fmt: skip
TABLES: Final = """
SELECT c.oid, c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND c.relname <> ALL (%s)
  AND NOT EXISTS (SELECT FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 2
"""
_COLUMNS: Final = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), t.typcategory,
  coalesce(a.attnum = ANY (p.conkey), false),
  EXISTS (SELECT FROM pg_constraint f WHERE f.conrelid = a.attrelid AND f.contype = 'f' AND a.attnum = ANY (f.conkey))
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_constraint p ON p.conrelid = a.attrelid AND p.contype = 'p'
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_COLUMNS_OF: Final = _COLUMNS.replace("= %s", "= to_regclass(%s)")
_PRESENT: Final = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped
"""
DROP_ALL: Final = """
DO $$ DECLARE s name; BEGIN
  FOR s IN SELECT nspname FROM pg_namespace WHERE nspname <> 'information_schema' AND nspname !~ '^pg_' LOOP
    EXECUTE format('DROP SCHEMA %I CASCADE', s);
  END LOOP;
END $$
"""
_TIMES: Final = ("D", "T")

Row = tuple[str | None, ...]


def list_tables(connection: psycopg.Connection[Any]) -> list[tuple[int, str]]:
    """Return the application's tables: their oids, and their names as SQL writes them."""
    return [(int(oid), str(name)) for oid, name in connection.execute(TABLES, [list(HISTORIES)])]


def read_rows(connection: psycopg.Connection[Any]) -> dict[str, TableRows]:
    """Return the rows of all tables by table."""
    found = {}
    for oid, name in list_tables(connection):
        columns = connection.execute(_COLUMNS, [oid]).fetchall()
        names = tuple(str(column[0]) for column in columns)
        key = tuple(str(column[0]) for column in columns if column[3])
        rows, whole = _read(connection, name, names, key)
        found[name] = TableRows(
            table=name,
            columns=names,
            types=tuple(str(column[1]) for column in columns),
            key=key,
            plain=tuple(str(c[0]) for c in columns if not c[3] and not c[4] and c[2] not in _TIMES),
            rows=rows,
            whole=whole,
        )
    return found


def read_columns(connection: psycopg.Connection[Any], name: str) -> tuple[str, ...]:
    """Return the columns by which a table's rows are found: those of its key, all without one, () without a table."""
    columns = connection.execute(_COLUMNS_OF, [name]).fetchall()
    return tuple(str(c[0]) for c in columns if c[3]) or tuple(str(c[0]) for c in columns)


def find_losses(connection: psycopg.Connection[Any], before: Mapping[str, TableRows]) -> tuple[RowLoss, ...]:
    """Return what is gone, or has another value than before where its type is the old one again."""
    found: list[RowLoss] = []
    for name, table in before.items():
        present = {str(column): str(kind) for column, kind in connection.execute(_PRESENT, [name])}
        gone = [column for column in table.columns if column not in present]
        if connection.execute("SELECT to_regclass(%s) IS NULL", [name]).fetchone() == (True,):
            found.append(RowLoss(name, "", len(table.rows)))
            continue
        for column in gone:
            at = table.columns.index(column)
            found.append(RowLoss(name, column, sum(row[at] is not None for row in table.rows.values())))
        if not set(table.key) & set(gone):
            found.extend(_compare(connection, table, present))
    return tuple(found)


def _compare(connection: psycopg.Connection[Any], table: TableRows, present: Mapping[str, str]) -> list[RowLoss]:
    kept = tuple(column for column in table.columns if column in present)
    places = [table.columns.index(column) for column in kept]
    now, _ = _read(connection, table.table, kept, table.key, limited=table.whole)
    if not table.key:
        left = Counter(tuple(key[:-1]) for key in now)
        left.subtract(Counter(tuple(row[at] for at in places) for row in table.rows.values()))
        missing = -sum(count for count in left.values() if count < 0)
        return [RowLoss(table.table, "", missing)] if missing else []
    missing = sum(key not in now for key in table.rows)
    changed: Counter[str] = Counter()
    same: dict[tuple[str | None, ...], bool] = {}
    for key, row in table.rows.items():
        for column, at, value in zip(kept, places, now.get(key, ()), strict=False):
            if value != row[at]:
                case = (row[at], value, table.types[at])
                if case not in same:
                    same[case] = _is_same(connection, *case)
                changed[column] += not same[case]
    lost = [RowLoss(table.table, "", missing)] if missing else []
    return lost + [RowLoss(table.table, column, count) for column, count in changed.items() if count]


def _is_same(connection: psycopg.Connection[Any], old: str | None, new: str | None, kind: str | None) -> bool:
    """Whether a value is the old one again once it has the old type."""
    if old is None or new is None or kind is None:
        return False
    compared = "jsonb" if kind == "json" else kind
    typed = sql.SQL("%s::") + sql.SQL(compared)  # as format_type wrote it
    query = sql.SQL("SELECT ") + typed + sql.SQL(" IS NOT DISTINCT FROM ") + typed
    try:
        with connection.transaction():
            answer = connection.execute(query, [old, new]).fetchone()
    except errors.Error:
        return False
    return answer == (True,)


def _read(
    connection: psycopg.Connection[Any],
    name: str,
    columns: tuple[str, ...],
    key: tuple[str, ...],
    *,
    limited: bool = True,
) -> tuple[dict[Row, Row], bool]:
    """Return the rows by key, and whether these are all; without a key a row is its own, with a number."""
    if not columns:
        return {}, True
    texts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(column)) for column in columns)
    order = sql.SQL(" ORDER BY ") + sql.SQL(", ").join(map(sql.Identifier, key)) if key else sql.SQL("")
    most = sql.SQL(" LIMIT {}").format(sql.Literal(MOST_ROWS + 1)) if limited else sql.SQL("")
    query = sql.SQL("SELECT {} FROM ").format(sql.SQL(f"/* {WHO} */ ") + texts) + sql.SQL(name) + order + most
    rows = [tuple(row) for row in connection.execute(query)]
    whole = not limited or len(rows) <= MOST_ROWS
    rows = rows[:MOST_ROWS] if limited else rows
    if key:
        places = [columns.index(column) for column in key]
        return {tuple(row[at] for at in places): row for row in rows}, whole
    found: dict[Row, Row] = {}
    seen: Counter[Row] = Counter()
    for row in rows:
        seen[row] += 1
        found[(*row, str(seen[row]))] = row
    return found, whole
