"""The schema as built by the migrations read so far: what is known of it, and what the current one added."""

# ruff: noqa: SIM905 - lists of words read as text

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from msgspec.structs import replace
from pglast import ast

from backout.analysis.compatibility.parsing import Node, list_name_parts, walk
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from backout.analysis.compatibility.types import SqlType

Name = tuple[str, str]
"""(schema, name)."""

PUBLIC: Final = "public"
_TEMPORARY: Final = "pg_temp"
_PLAIN: Final = re.compile(r"[a-z_][a-z0-9_]*")
_RESERVED: Final = frozenset(
    "all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create "
    "current_date current_role current_time current_timestamp current_user default deferrable desc distinct do "
    "else end except false fetch for foreign from grant group having in initially intersect into lateral leading "
    "limit localtime localtimestamp not null offset on only or order placing primary references returning select "
    "session_user some symmetric table then to trailing true union unique user using variadic when where window "
    "with authorization binary collation concurrently cross current_schema freeze full ilike inner is isnull join "
    "left like natural notnull outer overlaps right similar tablesample verbose system_user between value values "
    "row".split()
)


class Column(Value, frozen=True):
    """A column; `default` fills it when an insert omits it, None when nothing does.

    Args:
        type: None when it is not known.
        generated: `stored`, `virtual`, `always`, `by default` (identity) or "".
        computed: the expression behind a column of a view.
    """

    name: str
    type: SqlType | None = None
    not_null: bool = False
    default: Node | None = None
    generated: str = ""
    computed: Node | None = None

    @property
    def filled(self) -> bool:
        """Whether an insert may leave it out and it still gets a value."""
        return self.default is not None or self.generated != ""


class Constraint(Value, frozen=True):
    """A constraint; `kind` is primary, unique, exclude, foreign, check or not null.

    Args:
        deferrable: SET CONSTRAINTS may name it, and ON CONFLICT may not use it.
    """

    name: str
    kind: str
    columns: tuple[str, ...] = ()
    expression: Node | None = None
    deferrable: bool = False
    nulls_equal: bool = False


class Relation(Value, frozen=True):
    """A table, view, materialized view, foreign table or sequence.

    Args:
        whole: whether all columns and constraints are known; of a table that no migration made, only those added are.
        query: of a view.
        sources: the relations that it reads, as they were meant when it was made.
        identity: the replica identity: `d` (the primary key), `f` (the row), `n` (none), or the name of an index.
    """

    name: Name
    kind: str
    columns: Mapping[str, Column] = msgspec.field(default_factory=dict)
    constraints: Mapping[str, Constraint] = msgspec.field(default_factory=dict)
    query: Node | None = None
    sources: frozenset[Name] = frozenset()
    whole: bool = True
    identity: str = "d"

    def with_column(self, column: Column, *, instead_of: str | None = None) -> Relation:
        """Return it with one more or another column, which keeps its place."""
        columns = {(column.name if n == instead_of else n): c for n, c in self.columns.items()}
        return replace(self, columns={**columns, column.name: column})

    def column(self, name: str) -> Column | None:
        """Return a column that is known."""
        return self.columns.get(name)


class Index(Value, frozen=True):
    """An index; `columns` are names or written expressions, `predicate` the written WHERE of a partial one."""

    name: Name
    table: Name
    unique: bool
    columns: tuple[str, ...]
    predicate: str | None = None
    nulls_equal: bool = False


class Unique(NamedTuple):
    """A key for ON CONFLICT: columns that are unique immediately, where the predicate holds (None: everywhere)."""

    columns: tuple[str, ...]
    predicate: str | None
    nulls_equal: bool


class Routine(Value, frozen=True):
    """A function or procedure: its argument types, its result, and its text.

    Args:
        names: of the arguments, "" where one has none.
        optional: how many of the last ones have a default.
        variadic: the last one takes the rest of a call, and none can be named then.
    """

    arguments: tuple[str, ...]
    returns: str | None
    body: str | None
    names: tuple[str, ...] = ()
    optional: int = 0
    variadic: bool = False


class Published(Value, frozen=True):
    """A table in a publication: the columns of its list (None: all), and those in its row filter."""

    columns: frozenset[str] | None = None
    filtered: frozenset[str] = frozenset()


class Publication(Value, frozen=True):
    """A publication: tables by name, of whole schemas, or all; and whether it publishes UPDATE and DELETE."""

    tables: Mapping[Name, Published] = msgspec.field(default_factory=dict)
    schemas: frozenset[str] = frozenset()
    everything: bool = False
    updates: bool = True
    deletes: bool = True


@dataclass(slots=True)
class Schema:
    """The existing objects, by name. `novel` holds those made by the current migration, as ("relation", name) etc.

    Args:
        enums: labels.
        domains: the type below.
        others: names of composite, range and base types.
        foreign: types, by what an extension or a hand made; nothing is known of them.
        blind: schemas of which a statement named something that no migration made, "*" for all: the history here is not
            the whole.
        begun: earlier migrations made tables, so the history here has a beginning.
        sqlite: some statement is SQLite's (D1), in which no statement names a constraint.
    """

    relations: dict[Name, Relation] = field(default_factory=dict)
    indexes: dict[Name, Index] = field(default_factory=dict)
    enums: dict[Name, tuple[str, ...]] = field(default_factory=dict)
    domains: dict[Name, Column] = field(default_factory=dict)
    others: dict[Name, Mapping[str, SqlType] | None] = field(default_factory=dict)
    routines: dict[Name, tuple[Routine, ...]] = field(default_factory=dict)
    triggers: set[tuple[Name, str]] = field(default_factory=set)
    rules: dict[tuple[Name, str], str | None] = field(default_factory=dict)
    publications: dict[str, Publication] = field(default_factory=dict)
    schemas: set[str] = field(default_factory=set)
    novel: set[tuple[object, ...]] = field(default_factory=set)
    blind: set[str] = field(default_factory=set)
    search_path: tuple[str, ...] = (PUBLIC,)
    begun: bool = False
    sqlite: bool = False

    def copy(self) -> Schema:
        """Return a copy that can be changed independently; its values are never changed in place."""
        return Schema(
            dict(self.relations), dict(self.indexes), dict(self.enums), dict(self.domains), dict(self.others),
            dict(self.routines), set(self.triggers), dict(self.rules), dict(self.publications), set(self.schemas),
            set(self.novel), set(self.blind), self.search_path, self.begun, self.sqlite,
        )  # fmt: skip

    def next_migration(self) -> None:
        """Forget what is new and what a session set: another migration begins."""
        self.begun = self.begun or self._has_whole_table()
        self.novel.clear()
        self.search_path = (PUBLIC,)

    def whole(self, schema: str) -> bool:
        """Say whether everything in a schema is known: what was never made here is not there."""
        return (self.begun or self._has_whole_table()) and not self.blind & {schema, "*"}

    def _has_whole_table(self) -> bool:
        return any(r.kind == "table" and r.whole for r in self.relations.values())

    def is_novel(self, kind: str, *name: object) -> bool:
        """Say whether the present migration made it."""
        return (kind, *name) in self.novel

    def resolve(self, node: Node) -> Name:
        """Return the name that a RangeVar means."""
        temporary = node.relpersistence == "t"
        return self.find_relation(str(node.schemaname or (_TEMPORARY if temporary else "")), str(node.relname))

    def find_relation(self, schema: str, name: str) -> Name:
        """Return the full name of a relation or an index."""
        return self._find_name(schema, name, (self.relations, self.indexes))

    def sources(self, query: Node) -> frozenset[Name]:
        """Return the relations that a query names, as the present search path finds them."""
        return frozenset(self.resolve(node) for node in walk(query) if isinstance(node, ast.RangeVar))

    def find_type(self, parts: Iterable[str]) -> Name:
        """Return the full name of a type that is not built in."""
        schema, name = split_name(parts)
        return self._find_name(schema, name, (self.enums, self.domains, self.others))

    def find_routine(self, parts: Iterable[str]) -> Name:
        """Return the full name of a function or procedure."""
        schema, name = split_name(parts)
        return self._find_name(schema, name, (self.routines,))

    def _find_name(self, schema: str, name: str, places: Iterable[Mapping[Name, object]]) -> Name:
        if schema:
            return schema, name
        path = (_TEMPORARY, *self.search_path)
        return next(((s, name) for s in path for place in places if (s, name) in place), (path[1], name))

    def columns_of_type(self, name: Name) -> Iterator[tuple[Name, str]]:
        """Yield the columns whose type, or the type of whose elements, has this name."""
        for relation in self.relations.values():
            for column in relation.columns.values():
                if column.type and relation.kind == "table" and self.find_type(column.type.name.split(".")) == name:
                    yield relation.name, column.name

    def owner_of_index(self, name: Name) -> Name | None:
        """Return the table that has a constraint with the index of this name behind it."""
        for relation in self.relations.values():
            behind = relation.constraints.get(name[1])
            if relation.name[0] == name[0] and behind is not None and behind.kind in {"primary", "unique", "exclude"}:
                return relation.name
        return None

    def unique_sets(self, table: Name) -> Iterator[Unique]:
        """Yield what is unique in a table at once; what is deferrable is so at the end of a transaction only."""
        relation = self.relations.get(table)
        for constraint in (relation.constraints if relation else {}).values():
            if constraint.kind in {"primary", "unique"} and not constraint.deferrable:
                yield Unique(constraint.columns, None, constraint.nulls_equal)
        for index in self.indexes.values():
            if index.table == table and index.unique:
                yield Unique(index.columns, index.predicate, index.nulls_equal)

    def quote_name(self, name: Name, column: str = "") -> str:
        """Return a name as SQL writes it, qualified where the default search path would not find it."""
        schema, own = name
        qualified = (
            quote_identifier(own)
            if schema in {PUBLIC, _TEMPORARY}
            else f"{quote_identifier(schema)}.{quote_identifier(own)}"
        )
        return f"{qualified}.{quote_identifier(column)}" if column else qualified


def split_name(parts: Iterable[str]) -> Name:
    """Return (schema or "", name) of a qualified name; a database's name before them is dropped."""
    every = tuple(parts)
    return (every[-2] if len(every) > 1 else "", every[-1] if every else "")


def get_name_parts(node: Node) -> tuple[str, ...]:
    """Return the parts of a name however the parser keeps it: a list, a TypeName, an object with arguments."""
    inner = getattr(node, "names", None) or getattr(node, "objname", None)
    if inner is not None:
        return list_name_parts(inner)
    return list_name_parts(node if isinstance(node, (tuple, list)) else (node,))


def quote_identifier(name: str) -> str:
    """Return an identifier as SQL needs it."""
    if _PLAIN.fullmatch(name) and name not in _RESERVED:
        return name
    return '"' + name.replace('"', '""') + '"'
