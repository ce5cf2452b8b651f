"""Values with something changed, for what also runs against an earlier source, where values were dataclasses."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

V = TypeVar("V", bound="msgspec.Struct | DataclassInstance")


def replace(value: V, **changes: Any) -> V:
    """Return a value with these fields changed."""
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.replace(value, **changes)
    return dataclasses.replace(value, **changes)
