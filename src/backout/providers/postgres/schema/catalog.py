"""Port SchemaCatalog: the schema from Postgres's catalogs, in one read-only snapshot, always in the same order.

Left out: what belongs to an extension, temporary and system schemas, the table of the migration tool. Not read:
owners, privileges, comments, aggregates, foreign tables, operators, casts, collations, text search, event triggers,
publications.

Source: PostgreSQL 18 documentation, "System Catalogs", and "System Catalog Information Functions" (`pg_get_*def`).
The search path is pg_catalog alone, so that every other name comes out qualified.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.rows import dict_row

from backout.model.database.catalog import Catalog, ObjectKind, SchemaObject
from backout.providers.postgres.schema.catalog_queries import QUERIES
from backout.providers.postgres.schema.history import DRIZZLE
from backout.providers.postgres.schema.quoting import quote_literal
from backout.providers.postgres.server.pinned import begin_reading
from backout.providers.postgres.server.session import open_asking
from backout.providers.postgres.tls.dsn import make_connection_error

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    Row = Mapping[str, Any]

HISTORIES: Final = (
    "_prisma_migrations",
    "alembic_version",
    "django_migrations",
    "d1_migrations",
    "__drizzle_migrations",
)
"""What migration tools keep for themselves."""
_ORDER: Final = {kind: number for number, kind in enumerate(ObjectKind)}


class PostgresCatalog:
    """Port SchemaCatalog.

    Args:
        url: returns the connection string; it is never shown.
        ignore_schemas: schemas that belong to the vendor.
    """

    def __init__(
        self,
        url: Callable[[], str],
        *,
        ignore_schemas: Collection[str] = (),
        connect_timeout_s: float = 5.0,
        statement_timeout_s: float = 30.0,
    ) -> None:
        self._url = url
        self._ignore_schemas = frozenset(ignore_schemas)
        self._connect_timeout_s = max(2, round(connect_timeout_s))
        self._statement_timeout_ms = round(statement_timeout_s * 1000)

    def read(self) -> Catalog:
        """Return every object of the database's schema, in the order of their creation.

        Raises:
            AuthError: the database refuses the user.
            ProviderUnavailable: it does not answer.
        """
        url = self._url()
        try:
            version, rows = self._read(url)
        except psycopg.Error as error:
            raise make_connection_error(error, url, "the schema") from None  # its text may quote the connection string
        kept = {
            name: [row for row in found if row["schema"] not in self._ignore_schemas] for name, found in rows.items()
        }
        return Catalog(version, tuple(sorted(_make_objects(kept), key=lambda o: (_ORDER[o.kind], o.depth, o.name))))

    def _read(self, dsn: str) -> tuple[int, dict[str, list[Row]]]:
        with open_asking(dsn, connect_timeout_s=self._connect_timeout_s, row_factory=dict_row) as connection:
            connection.execute(begin_reading(self._statement_timeout_ms, isolation="REPEATABLE READ").encode())
            rows: dict[str, list[Row]] = {}
            for name, query in QUERIES.items():
                rows[name] = list(connection.execute(query.encode()).fetchall())
            connection.execute(b"COMMIT")
            return connection.info.server_version, rows


def _make_objects(rows: Mapping[str, Sequence[Row]]) -> Iterable[SchemaObject]:
    columns: dict[str, list[Row]] = {}
    for row in rows["columns"]:
        columns.setdefault(_get_text(row, "owner"), []).append(row)
    depths = _measure_depths(rows["inherits"])
    for row in rows["tables"]:
        name = _get_text(row, "name")
        if _get_text(row, "name_alone") not in HISTORIES:
            yield _make_table(row, columns.get(name, []), depths.get(name, 0))
    kept = {_get_text(row, "name") for row in rows["tables"] if _get_text(row, "name_alone") not in HISTORIES}
    for row in rows["columns"]:
        if row["owner"] in kept and row["local"]:
            yield _make_column(row)
            if row["default"]:
                yield _make_default(row)
    views = _measure_depths(rows["view_uses"])
    for row in rows["views"]:
        yield _make_view(row, views.get(_get_text(row, "name"), 0))
    left_out = set(_list_of_histories(rows))
    owners = {"", *kept, *(_get_text(row, "name") for row in (*rows["views"], *rows["domains"]))}
    for query, make in _MAKERS.items():
        found = (make(row) for row in rows[query] if (query, row.get("name")) not in left_out)
        yield from (made for made in found if made.owner in owners)


def _list_of_histories(rows: Mapping[str, Sequence[Row]]) -> Iterable[tuple[str, str]]:
    """Yield (query, name) of what belongs to histories besides their tables: sequences, and Drizzle's own schema."""
    tables = {_get_text(row, "name") for row in rows["tables"] if _get_text(row, "name_alone") in HISTORIES}
    for row in rows["sequence_owners"]:
        if row["owner"] in tables:
            yield "sequences", _get_text(row, "name")
    if f"{DRIZZLE.home}.{DRIZZLE.name}" in tables:
        yield "schemas", DRIZZLE.home


def _measure_depths(edges: Iterable[Row]) -> dict[str, int]:
    """Return how deep each name builds on others."""
    below: dict[str, set[str]] = {}
    for edge in edges:
        below.setdefault(_get_text(edge, "name"), set()).add(_get_text(edge, "parent"))
    found: dict[str, int] = {}

    def depth(name: str, seen: frozenset[str]) -> int:
        if name not in found:
            inner = [depth(parent, seen | {name}) + 1 for parent in below.get(name, ()) if parent not in seen]
            found[name] = max(inner, default=0)
        return found[name]

    for name in below:
        depth(name, frozenset({name}))
    return found


def _get_text(row: Row, key: str) -> str:
    value = row[key]
    return "" if value is None else str(value)


def _make_table(row: Row, columns: list[Row], depth: int) -> SchemaObject:
    name, parents, bound = _get_text(row, "name"), _get_text(row, "parents"), _get_text(row, "bound")
    lines = ",\n".join(f"    {_write_column(column)}" for column in columns if column["local"])
    unlogged = "UNLOGGED " if row["persistence"] == "u" else ""
    partitioned = f" PARTITION BY {row['partition_key']}" if row["partition_key"] else ""
    shape = f"PARTITION OF {parents} {bound}" if bound else f"(\n{lines}\n)" if lines else "()"
    inherits = f" INHERITS ({parents})" if parents and not bound else ""
    options = f" WITH ({row['options']})" if row["options"] else ""
    definition = " ".join(
        word for word in (unlogged, shape if bound else "", inherits, partitioned, options) if word.strip()
    )
    return SchemaObject(
        ObjectKind.TABLE,
        name,
        definition.strip(),
        f"CREATE {unlogged}TABLE {name} {shape}{inherits}{partitioned}{options}",
        f"DROP TABLE {name}",
        depth=depth,
    )


def _list_column_parts(row: Row) -> tuple[tuple[str, str], ...]:
    collation = f" COLLATE {row['collation']}" if row["collation"] else ""
    generated = f"GENERATED ALWAYS AS ({row['generated']}) {row['how']}" if row["generated"] else ""
    return (
        ("type", f"{row['type']}{collation}"),
        ("not null", "NOT NULL" if row["not_null"] else ""),
        ("identity", _get_text(row, "identity")),
        ("generated", generated),
    )


def _write_column(row: Row) -> str:
    parts = dict(_list_column_parts(row))
    words = (_get_text(row, "column"), parts["type"], parts["generated"], parts["identity"], parts["not null"])
    return " ".join(word for word in words if word)


def _make_column(row: Row) -> SchemaObject:
    table, column, line = _get_text(row, "owner"), _get_text(row, "column"), _write_column(row)
    return SchemaObject(
        ObjectKind.COLUMN,
        f"{table}.{column}",
        line,
        f"ALTER TABLE {table} ADD COLUMN {line}",
        f"ALTER TABLE {table} DROP COLUMN {column}",
        owner=table,
        parts=_list_column_parts(row),
    )


def _make_default(row: Row) -> SchemaObject:
    table, column = _get_text(row, "owner"), _get_text(row, "column")
    begin = f"ALTER TABLE {table} ALTER COLUMN {column}"
    default = _get_text(row, "default")
    create, drop = f"{begin} SET DEFAULT {default}", f"{begin} DROP DEFAULT"
    return SchemaObject(ObjectKind.DEFAULT, f"{table}.{column}", default, create, drop, owner=table)


def _make_view(row: Row, depth: int) -> SchemaObject:
    name, body = _get_text(row, "name"), _get_text(row, "definition").strip().rstrip(";")
    word = "MATERIALIZED VIEW" if row["materialized"] else "VIEW"
    options = f" WITH ({row['options']})" if row["options"] else ""
    create = f"CREATE {word} {name}{options} AS\n{body}"
    columns = tuple((column, "") for column in _get_text(row, "columns").split("\n"))
    parts = () if row["materialized"] else columns
    return SchemaObject(
        ObjectKind.VIEW, name, f"{word}{options} {body}", create, f"DROP {word} {name}", parts=parts, depth=depth
    )


def _make_schema(row: Row) -> SchemaObject:
    name = _get_text(row, "name")
    return SchemaObject(ObjectKind.SCHEMA, name, "", f"CREATE SCHEMA {name}", f"DROP SCHEMA {name} CASCADE")


def _make_extension(row: Row) -> SchemaObject:
    name = _get_text(row, "name")
    where = f" WITH SCHEMA {row['placed']}"
    return SchemaObject(ObjectKind.EXTENSION, name, "", f"CREATE EXTENSION {name}{where}", f"DROP EXTENSION {name}")


def _make_enum(row: Row) -> SchemaObject:
    name, labels = _get_text(row, "name"), row["labels"]
    texts = [str(label) for label in labels] if isinstance(labels, list) else []
    listed = ", ".join(map(quote_literal, texts))
    parts = tuple((text, "") for text in texts)
    return SchemaObject(
        ObjectKind.ENUM, name, listed, f"CREATE TYPE {name} AS ENUM ({listed})", f"DROP TYPE {name}", parts=parts
    )


def _make_type(row: Row) -> SchemaObject:
    name, definition = _get_text(row, "name"), _get_text(row, "definition")
    return SchemaObject(ObjectKind.TYPE, name, definition, f"CREATE TYPE {name} AS {definition}", f"DROP TYPE {name}")


def _make_domain(row: Row) -> SchemaObject:
    name = _get_text(row, "name")
    parts = (
        ("type", _get_text(row, "type")),
        ("default", f"DEFAULT {row['default']}" if row["default"] else ""),
        ("not null", "NOT NULL" if row["not_null"] else ""),
    )
    words = " ".join(word for _, word in parts if word)
    return SchemaObject(
        ObjectKind.DOMAIN, name, words, f"CREATE DOMAIN {name} AS {words}", f"DROP DOMAIN {name}", parts=parts
    )


def _make_domain_constraint(row: Row) -> SchemaObject:
    return _make_constraint_of(row, ObjectKind.DOMAIN_CONSTRAINT, "DOMAIN")


def _make_constraint(row: Row) -> SchemaObject:
    return _make_constraint_of(row, ObjectKind.FOREIGN_KEY if row["foreign"] else ObjectKind.CONSTRAINT, "TABLE")


def _make_constraint_of(row: Row, kind: ObjectKind, word: str) -> SchemaObject:
    owner, name, definition = (_get_text(row, key) for key in ("owner", "name", "definition"))
    begin = f"ALTER {word} {owner}"
    return SchemaObject(
        kind,
        f"{owner}.{name}",
        definition,
        f"{begin} ADD CONSTRAINT {name} {definition}",
        f"{begin} DROP CONSTRAINT {name}",
        owner=owner,
    )


def _make_sequence(row: Row) -> SchemaObject:
    name, options = _get_text(row, "name"), _get_text(row, "options")
    return SchemaObject(
        ObjectKind.SEQUENCE, name, options, f"CREATE SEQUENCE {name} {options}", f"DROP SEQUENCE {name}"
    )


def _make_sequence_owner(row: Row) -> SchemaObject:
    name, column = _get_text(row, "name"), _get_text(row, "column")
    return SchemaObject(
        ObjectKind.SEQUENCE_OWNER,
        name,
        column,
        f"ALTER SEQUENCE {name} OWNED BY {column}",
        f"ALTER SEQUENCE {name} OWNED BY NONE",
        owner=_get_text(row, "owner"),
    )


def _make_function(row: Row) -> SchemaObject:
    name, definition = _get_text(row, "name"), _get_text(row, "definition").strip()
    word = "PROCEDURE" if row["procedure"] else "FUNCTION"
    returns = (("returns", _get_text(row, "returns")), ("names", _get_text(row, "names")))
    return SchemaObject(ObjectKind.FUNCTION, name, definition, definition, f"DROP {word} {name}", parts=returns)


def _make_named_builder(kind: ObjectKind, word: str, *, on_table: bool) -> Callable[[Row], SchemaObject]:
    """Return how objects are made whose definition is the statement that creates them."""

    def make_object(row: Row) -> SchemaObject:
        owner, name, definition = (_get_text(row, key) for key in ("owner", "name", "definition"))
        return SchemaObject(
            kind,
            f"{owner}.{name}" if on_table else name,
            definition,
            definition,
            f"DROP {word} {name} ON {owner}" if on_table else f"DROP {word} {name}",
            owner=owner,
        )

    return make_object


def _make_row_security(row: Row) -> SchemaObject:
    owner, word, undo = (_get_text(row, key) for key in ("owner", "word", "undo"))
    create, drop = (f"ALTER TABLE {owner} {how} ROW LEVEL SECURITY" for how in (word, undo))
    return SchemaObject(ObjectKind.ROW_SECURITY, f"{owner}.{word.lower()}", word, create, drop, owner=owner)


_MAKERS: Final[Mapping[str, Callable[[Row], SchemaObject]]] = {
    "schemas": _make_schema,
    "extensions": _make_extension,
    "enums": _make_enum,
    "types": _make_type,
    "domains": _make_domain,
    "domain_constraints": _make_domain_constraint,
    "sequences": _make_sequence,
    "sequence_owners": _make_sequence_owner,
    "functions": _make_function,
    "constraints": _make_constraint,
    "indexes": _make_named_builder(ObjectKind.INDEX, "INDEX", on_table=False),
    "statistics": _make_named_builder(ObjectKind.STATISTICS, "STATISTICS", on_table=False),
    "rules": _make_named_builder(ObjectKind.RULE, "RULE", on_table=True),
    "triggers": _make_named_builder(ObjectKind.TRIGGER, "TRIGGER", on_table=True),
    "row_security": _make_row_security,
    "policies": _make_named_builder(ObjectKind.POLICY, "POLICY", on_table=True),
}
