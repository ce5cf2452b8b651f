"""The actions of a plan by name, each made when its step comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from backout.ports import AnyAction

T = TypeVar("T")


class ActionTable(Mapping[str, AnyAction], Generic[T]):
    """Actions that share their tools.

    Args:
        tools: what each is made with.
        table: what makes each, by name.
    """

    def __init__(self, tools: T, table: Mapping[str, Callable[[T], AnyAction]]) -> None:
        self._tools = tools
        self._table = table

    def __getitem__(self, name: str) -> AnyAction:
        """Return the action of that name."""
        return self._table[name](self._tools)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._table)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._table)
