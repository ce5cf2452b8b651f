"""A schema as a list of objects, each with its definition and the statements that create and drop it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from backout.model.value import Value


class ObjectKind(StrEnum):
    """The kinds of objects, in an order in which they can be created; they are dropped the other way round."""

    SCHEMA = "schema"
    EXTENSION = "extension"
    ENUM = "enum"
    TYPE = "type"
    DOMAIN = "domain"
    DOMAIN_CONSTRAINT = "domain constraint"
    SEQUENCE = "sequence"
    TABLE = "table"
    COLUMN = "column"
    FUNCTION = "function"
    DEFAULT = "default"
    SEQUENCE_OWNER = "sequence owner"
    CONSTRAINT = "constraint"
    VIEW = "view"
    INDEX = "index"
    FOREIGN_KEY = "foreign key"
    STATISTICS = "statistics"
    RULE = "rule"
    TRIGGER = "trigger"
    ROW_SECURITY = "row security"
    POLICY = "policy"


@dataclass(frozen=True, slots=True)
class SchemaObject:
    """One object, with all names qualified and quoted as SQL requires.

    Args:
        name: unique among its kind.
        owner: the table (or domain, or view) that it goes with, "" for none.
        definition: what is compared; equal texts are equal objects.
        create, drop: the statements, without a last semicolon.
        parts: what can be altered in place: a column's type and nullability, the labels of an enum.
        depth: how many of its kind it builds on; those of depth 0 are created first.
    """

    kind: ObjectKind
    name: str
    definition: str
    create: str
    drop: str
    owner: str = ""
    parts: tuple[tuple[str, str], ...] = ()
    depth: int = field(default=0, compare=False)


class Catalog(Value, frozen=True):
    """A whole schema, in order of creation; `server_version` such as 180006."""

    server_version: int
    objects: tuple[SchemaObject, ...]


class Change(StrEnum):
    """How an object differs."""

    MISSING = "missing"
    EXTRA = "extra"
    DIFFERENT = "different"


class Difference(Value, frozen=True):
    """An object that differs from what it should be.

    Args:
        change: `missing`: it should exist; `extra`: it should not.
        found, wanted: the definitions, "" for none.
        statements: what corrects it; one that begins with `--` is for a person.
    """

    kind: ObjectKind
    name: str
    change: Change
    found: str
    wanted: str
    statements: tuple[str, ...]


class Drift(Value, frozen=True):
    """The differences of a live schema from the one that the migrations build; versions are such as 180006."""

    differences: tuple[Difference, ...]
    live_version: int
    built_version: int
