"""The ranges of a restore of objects, where every machine that works on them can reach them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.objects.ranges import Claimed, RangeOrder, RangesLeft, RangeState
    from backout.model.objects.versions import Carried


class RangeClaims(Protocol):
    """What a worker does with a range. Everything raises ProviderUnavailable: the journal's server does not answer."""

    def claim(self, run: str, first: int | None, worker: str, *, place: str) -> Claimed | None:
        """Take a range that nobody has, of the lease that its run is driven with now; None: there is none.

        Args:
            first: None: any one of the run.
            place: of this machine's bucket, see `RangeWork`.

        Raises:
            Refused: the range is of another bucket, or of another version of backout.
        """
        ...

    def beat(self, claimed: Claimed, done: int) -> bool:
        """Say that it is still worked on, and how many of its changes are done; False: it is not this worker's."""
        ...

    def settle(self, claimed: Claimed, carried: Sequence[Carried]) -> bool:
        """Keep what became of its changes, for the driver; False: it is not this worker's any more."""
        ...

    def release(self, claimed: Claimed, why: str) -> None:
        """Give it back; nothing happens where it is not this worker's any more."""
        ...


class Ranges(RangeClaims, Protocol):
    """What the driver of a restore does with its ranges, besides working on them."""

    def prepare(self) -> None:
        """Make the tables where there are none. Raises BackoutError: this role may not."""
        ...

    def find_fence(self, lane: str, run: str) -> tuple[int, float]:
        """Return the fence with which a run is driven, and the server's time in Unix seconds.

        Raises Busy: it is not driven.
        """
        ...

    def publish(self, orders: Sequence[RangeOrder]) -> None:
        """Let others work on ranges: each is there, and a job for it, when this returns."""
        ...

    def recall(self, run: str, firsts: Sequence[int], silent_s: float) -> None:
        """Take ranges from workers that were not heard of for so long, and make another job for each."""
        ...

    def look(self, run: str) -> Sequence[RangeState]:
        """Return how the ranges of a run stand."""
        ...

    def take(self, run: str, first: int) -> Sequence[Carried] | None:
        """Return what became of the changes of a range; None: it is not settled."""
        ...

    def remove(self, run: str, first: int | None = None) -> None:
        """Forget a range, or all of a run, with their jobs."""
        ...

    def withdraw(self, run: str, silent_s: float) -> RangesLeft:
        """Wait until nobody works on the ranges of an earlier driver, and return what they left; nothing is removed.

        Args:
            silent_s: a worker that was not heard of for so long does not work any more.
        """
        ...
