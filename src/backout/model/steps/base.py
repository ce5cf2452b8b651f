"""What all steps share: their JSON, the name of their action, and the type of its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast, get_args

import msgspec

if TYPE_CHECKING:
    from backout.model.plan import Json

R = TypeVar("R")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A value stored in the journal as a JSON object."""

    omitted: ClassVar[frozenset[str]] = frozenset()
    """Keys that are left out while they say nothing (None, "", [], false): most steps have no use for them."""

    def to_json(self) -> dict[str, Json]:
        """Return it as JSON values."""
        found = cast("dict[str, Json]", _convert_tuples(msgspec.to_builtins(self)))
        parts = ((name, getattr(self, name)) for name in self.__struct_fields__)
        found |= {name: part.to_json() for name, part in parts if isinstance(part, Record)}
        return {name: value for name, value in found.items() if value or name not in self.omitted}


class Result(Record, frozen=True, kw_only=True):
    """The result of an action, as read back."""


class Arguments(Record, Generic[R], frozen=True, kw_only=True):
    """The arguments of one kind of step. A subclass names the type of its result: `class XStep(Arguments[XResult])`."""

    action: ClassVar[str]
    """The name of the action, as plans and the journal have it."""

    @classmethod
    def result_type(cls) -> type[R]:
        """Return the type of what the action returns."""
        bases: Any = cls.__orig_bases__  # type: ignore[attr-defined]
        return cast("type[R]", get_args(bases[0])[0])


def to_json(value: object) -> Json:
    """Return a value as JSON has it: structs and dataclasses become objects, tuples lists."""
    if isinstance(value, Record):
        return value.to_json()
    return cast("Json", value) if isinstance(value, dict) else _convert_tuples(msgspec.to_builtins(value))


def _convert_tuples(value: Any) -> Json:
    if isinstance(value, dict):
        return {str(name): _convert_tuples(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_convert_tuples(each) for each in value]
    return cast("Json", value)
