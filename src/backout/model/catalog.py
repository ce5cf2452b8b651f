"""A schema as a list of objects, each with what it is and the statements that make and remove it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


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
    """One object, with all names qualified and quoted as SQL wants them.

    Args:
        name: unique among its kind. owner: the table (or domain, or view) that it goes with, "" for none.
        definition: what is compared; equal texts are equal objects.
        create, drop: the statements, without a last semicolon.
        parts: what an object is altered by, in place: a column's type and nullability, the labels of an enum.
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


@dataclass(frozen=True, slots=True)
class Catalog:
    """A whole schema, in the order of its creation; `server_version` such as 180006."""

    server_version: int
    objects: tuple[SchemaObject, ...]


class Change(StrEnum):
    """How an object differs."""

    MISSING = "missing"
    EXTRA = "extra"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class Difference:
    """An object that is not as it should be.

    Args:
        change: `missing`: it should be there; `extra`: it should not. found, wanted: the definitions, "" for none.
        statements: what makes it as it should be; one that begins with `--` is for a person.
    """

    kind: ObjectKind
    name: str
    change: Change
    found: str
    wanted: str
    statements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Drift:
    """How a live schema differs from the one that the migrations build; the versions are such as 180006."""

    differences: tuple[Difference, ...]
    live_version: int
    built_version: int
