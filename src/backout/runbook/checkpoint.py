"""Checkpoints as values: what cannot be read any more was never kept, for a checkpoint is no history."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from backout.decoding import Undecodable, decode_values

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.plan import Json
    from backout.runbook.toolbox import Toolbox

T = TypeVar("T")


def remembered(tools: Toolbox, name: str, type: type[T]) -> T | None:  # noqa: A002 - as msgspec calls it
    """Return a checkpoint of this environment; None when there is none that can be read."""
    saved = tools.checkpoints.load_checkpoint(tools.environment, name)
    if saved is None:
        return None
    try:
        return decode_values(saved, type)
    except Undecodable:
        return None


def gone_on(saved: Json, restore: Callable[[Json], T]) -> T | None:
    """Return what is restored from a saved state, None when the state is not as it was saved."""
    try:
        return restore(saved)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError):
        return None
