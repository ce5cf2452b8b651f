"""Kinds of named objects: the parser's names and ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pglast.enums import ObjectType

from backout.analysis.compatibility.types import read_type

if TYPE_CHECKING:
    from backout.analysis.compatibility.parsing import Node

RELATIONS: Final = {
    ObjectType.OBJECT_TABLE: "table",
    ObjectType.OBJECT_VIEW: "view",
    ObjectType.OBJECT_MATVIEW: "materialized view",
    ObjectType.OBJECT_FOREIGN_TABLE: "foreign table",
    ObjectType.OBJECT_SEQUENCE: "sequence",
    ObjectType.OBJECT_INDEX: "index",
}
ROUTINES: Final = {
    ObjectType.OBJECT_FUNCTION: "function",
    ObjectType.OBJECT_PROCEDURE: "procedure",
    ObjectType.OBJECT_ROUTINE: "routine",
    ObjectType.OBJECT_AGGREGATE: "aggregate",
}
TYPES: Final = {ObjectType.OBJECT_TYPE: "type", ObjectType.OBJECT_DOMAIN: "domain"}


def find_arguments(node: Node) -> tuple[str, ...] | None:
    """Return the argument types that an object with arguments names, None when it names none."""
    if node.args_unspecified:
        return None
    return tuple(str(read_type(argument)) for argument in node.objargs or () if argument is not None)
