"""Checkpoints as values: one that can no longer be read counts as never stored, because a checkpoint is not history."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from backout.decoding import Undecodable, decode_values

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.plan import Json
    from backout.runbook.toolbox import Toolbox

T = TypeVar("T")


def load_remembered(tools: Toolbox, name: str, type: type[T]) -> T | None:
    """Return a checkpoint of this environment; None when there is none that can be read."""
    saved = tools.checkpoints.load_checkpoint(tools.environment, name)
    if saved is None:
        return None
    try:
        return decode_values(saved, type)
    except Undecodable:
        return None


def take_up(saved: Json, restore: Callable[[Json], T]) -> T | None:
    """Return the value of a saved state, None when the state is not as it was saved."""
    try:
        return restore(saved)
    except (Undecodable, KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError):
        return None
