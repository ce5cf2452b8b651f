"""The port of workers that share environments between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable


class Shared(Value, frozen=True):
    """How the environments are shared now.

    Args:
        held: those that this worker guards.
        lost: those that it guarded, and another worker has taken meanwhile.
        free: those that no worker guards.
        others: how many environments each other worker guards, by its seat.
    """

    held: frozenset[str]
    lost: tuple[str, ...]
    free: tuple[str, ...]
    others: dict[str, int]


class GuardLeases(Protocol):
    """The leases of one worker."""

    def renew(self) -> Shared:
        """Renew what is held. Raises BackoutError: it could not be, and runs out."""
        ...

    def take(self, environments: Iterable[str]) -> tuple[str, ...]:
        """Return those that were still free, and are held now. Raises BackoutError: that is not known."""
        ...

    def give_back(self, environments: Iterable[str]) -> None:
        """Let another worker take them at once. Raises BackoutError: they could not be given back, and run out."""
        ...

    def leave(self) -> None:
        """Give everything back. Raises BackoutError: it could not be, and runs out."""
        ...
