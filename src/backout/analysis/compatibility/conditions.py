"""Queries that answer a `safe-if` from the data: a row contradicts it, no rows mean that the data is no obstacle.

They run on the schema before the migration, except where a docstring says "afterwards". They cannot tell
what old code is going to write; the reason of the verdict says that.
"""

# ruff: noqa: S608 - queries for a person to read; the names in them are quoted, the rest is the migration's own SQL

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.compatibility.known.schema import Index, Name, Schema, quote_identifier
from backout.analysis.compatibility.parsing import Node, print_node

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backout.analysis.compatibility.known.schema import Constraint


def select_rows(table: str, predicate: str | None) -> str | None:
    """Return rows of a table that fulfil a predicate."""
    return f"SELECT 1 FROM {table} WHERE {predicate} LIMIT 1" if predicate else None


def select_any_row(table: str) -> str:
    """Return a row when the table is not empty."""
    return f"SELECT 1 FROM {table} LIMIT 1"


def select_nulls(schema: Schema, table: Name, columns: Sequence[str]) -> str:
    """Return rows with a null in one of the columns; asked afterwards for DROP NOT NULL."""
    missing = " OR ".join(f"{quote_identifier(column)} IS NULL" for column in columns)
    return f"SELECT 1 FROM {schema.quote_name(table)} WHERE {missing} LIMIT 1"


def select_violating(schema: Schema, table: Name, expression: Node) -> str | None:
    """Return rows that a CHECK would refuse; asked afterwards for a CHECK that is dropped."""
    text = print_node(expression)
    return select_rows(schema.quote_name(table), f"NOT ({text})") if text else None


def select_duplicates(schema: Schema, index: Index, *, required: bool = False) -> str | None:
    """Return groups of rows that a unique index would not hold; `required`: a primary key, nulls count as well."""
    if "?" in index.columns or index.predicate == "?":
        return None
    table = schema.quote_name(index.table)
    relation = schema.relations.get(index.table)
    known = set(relation.columns) if relation else set()
    # An expression in parentheses stays one; a number in GROUP BY would be a position.
    keys = [quote_identifier(c) if c in known or not _is_expression(c) else f"({c})" for c in index.columns]
    wheres = [] if index.nulls_equal or required else [f"{key} IS NOT NULL" for key in keys]
    wheres += [f"({index.predicate})"] if index.predicate else []
    where = f" WHERE {' AND '.join(wheres)}" if wheres else ""
    twice = f"SELECT 1 FROM {table}{where} GROUP BY {', '.join(keys)} HAVING count(*) > 1 LIMIT 1"
    return f"({twice}) UNION ALL ({select_nulls(schema, index.table, index.columns)})" if required else twice


def _is_expression(text: str) -> bool:
    return "(" in text or "::" in text or " " in text.strip('"')


def select_orphans(
    schema: Schema, table: Name, columns: Sequence[str], parent: Name, keys: Sequence[str]
) -> str | None:
    """Return rows whose foreign key points nowhere; None when the key of the other table is not known."""
    if len(columns) != len(keys) or not keys:
        return None
    there = " AND ".join(
        f"p.{quote_identifier(k)} = c.{quote_identifier(c)}" for c, k in zip(columns, keys, strict=True)
    )
    given = " AND ".join(f"c.{quote_identifier(c)} IS NOT NULL" for c in columns)
    child, other = schema.quote_name(table), schema.quote_name(parent)
    return f"SELECT 1 FROM {child} c WHERE {given} AND NOT EXISTS (SELECT 1 FROM {other} p WHERE {there}) LIMIT 1"


def select_overlapping(schema: Schema, table: Name, pairs: Iterable[tuple[str, str]], predicate: str | None) -> str:
    """Return pairs of rows that an exclusion constraint would not hold; pairs are (column, operator)."""
    shown = schema.quote_name(table)
    source = f"(SELECT ctid, * FROM {shown} WHERE {predicate})" if predicate else shown
    alike = " AND ".join(
        f"a.{quote_identifier(column)} {operator} b.{quote_identifier(column)}" for column, operator in pairs
    )
    return f"SELECT 1 FROM {source} a JOIN {source} b ON a.ctid < b.ctid AND {alike} LIMIT 1"


def select_labelled(schema: Schema, columns: Iterable[tuple[Name, str]], label: str) -> str | None:
    """Return rows with a label of an enum, in whichever column has the type; asked afterwards."""
    literal = "'" + label.replace("'", "''") + "'"
    asked = [
        f"(SELECT 1 FROM {schema.quote_name(table)} WHERE {quote_identifier(column)}::text = {literal} LIMIT 1)"
        for table, column in columns
        if not _is_array(schema, table, column)
    ]
    return " UNION ALL ".join(asked) if asked else None


def _is_array(schema: Schema, table: Name, column: str) -> bool:
    relation = schema.relations.get(table)
    found = relation.column(column) if relation else None
    return found is not None and found.type is not None and found.type.dimensions > 0


def select_refused_values(schema: Schema, columns: Iterable[tuple[Name, str]], expression: Node) -> str | None:
    """Return values that a new CHECK of a domain refuses; VALUE in it stands for each column of the domain."""
    text = print_node(expression)
    if text is None:
        return None
    return " UNION ALL ".join(
        f"(SELECT 1 FROM (SELECT {quote_identifier(column)} AS value FROM {schema.quote_name(table)}) v "
        f"WHERE NOT ({text}) LIMIT 1)"
        for table, column in columns
    )


def select_enforcing(shown: str, constraint: str) -> str:
    """Return a row when a constraint of this name is one that ON CONFLICT can name, or takes its columns from."""
    table, name = shown.replace("'", "''"), constraint.replace("'", "''")
    return (
        f"SELECT 1 FROM pg_constraint WHERE conrelid = to_regclass('{table}') AND conname = '{name}' "
        "AND contype IN ('p', 'u', 'x') LIMIT 1"
    )


def select_non_text(shown: str, column: str) -> str:
    """Return a row when a column is of another type than a text."""
    table, name = shown.replace("'", "''"), column.replace("'", "''")
    return (
        f"SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass('{table}') AND attname = '{name}' "
        "AND atttypid NOT IN ('text'::regtype, 'varchar'::regtype) LIMIT 1"
    )


def select_unique_index(shown: str) -> str:
    """Return a row when an index of this name is unique."""
    name = shown.replace("'", "''")
    return f"SELECT 1 FROM pg_index WHERE indexrelid = to_regclass('{name}') AND indisunique LIMIT 1"


def select_published(shown: str) -> str:
    """Return a row when a table is in a publication of updates or deletes."""
    table = shown.replace("'", "''")
    return (
        "SELECT 1 FROM pg_publication_tables t JOIN pg_publication p USING (pubname) "
        "WHERE (p.pubupdate OR p.pubdelete) "
        f"AND format('%I.%I', t.schemaname, t.tablename)::regclass = to_regclass('{table}') LIMIT 1"
    )


def select_triggers(shown: str) -> str:
    """Return the triggers that a change of rows would fire."""
    table = shown.replace("'", "''")
    return (
        f"SELECT 1 FROM pg_trigger WHERE tgrelid = to_regclass('{table}') AND NOT tgisinternal "
        "AND tgenabled <> 'D' LIMIT 1"
    )


def find_primary_key(schema: Schema, table: Name) -> tuple[str, ...]:
    """Return the columns of a table's primary key, () when they are not known."""
    relation = schema.relations.get(table)
    found: list[Constraint] = [c for c in (relation.constraints if relation else {}).values() if c.kind == "primary"]
    return found[0].columns if found else ()
