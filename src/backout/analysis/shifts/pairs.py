"""Paired probes: what two versions answered to the same safe requests, as evidence that the new one is worse.

While both answer alike, a pair in which one of them is worse is as likely to be the one as the other, whatever fails
outside. So each of them is the toss of a coin, and a bet on it is an e-process: 1.9 for one side, 0.1 for the other.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypedDict

from backout.model.probes import Compared

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backout.model.probes import PairedAnswer

_NEW_WORSE, _OLD_WORSE = math.log(1.9), math.log(0.1)
ENOUGH = 11
"""So many pairs without one in which the new version is worse say that both answer alike."""
FEW = 3
"""So many pairs in which both fail say that it is not the deployment; so many loops that there is a loop."""


class PairsState(TypedDict):
    """Checkpoint of a `Pairs`."""

    compared: dict[str, int]
    moved: int
    loops: int
    first: str


class Pairs:
    """The pairs of one watch; a pair counts once."""

    def __init__(self) -> None:
        self._compared = dict.fromkeys(Compared, 0)
        self._moved = 0
        self._loops = 0
        self.first = ""
        """The path that the new version answered worse first, "" for none."""

    def add(self, pairs: Iterable[PairedAnswer]) -> None:
        """Count pairs."""
        for pair in pairs:
            self._compared[pair.compared] += 1
            self._moved += pair.new.is_moved
            self._loops += pair.new.loops and not pair.old.loops
            if not self.first and pair.compared is Compared.NEW_WORSE:
                self.first = pair.path

    def number(self, compared: Compared) -> int:
        """Return how many pairs said that."""
        return self._compared[compared]

    @property
    def asked(self) -> int:
        """How many pairs there were."""
        return sum(self._compared.values())

    def log_e(self) -> float:
        """Return the log evidence that the new version answers worse.

        Source: testing by betting on a fair coin (Shafer, JRSS A 184, 2021).
        """
        return self.number(Compared.NEW_WORSE) * _NEW_WORSE + self.number(Compared.OLD_WORSE) * _OLD_WORSE

    @property
    def is_discordant(self) -> bool:
        """Whether the new version answers worse, more often than the old one does."""
        return self.log_e() > 0

    @property
    def are_alike(self) -> bool:
        """Whether both answer alike, well or not, as far as enough pairs tell; what is gone for good is not alike."""
        return not self.is_discordant and self.asked - self.number(Compared.GONE) >= ENOUGH

    @property
    def both_fail(self) -> bool:
        """Whether both fail, so that it is not the deployment."""
        return not self.is_discordant and self.number(Compared.BOTH_FAIL) >= FEW

    @property
    def only_moved(self) -> bool:
        """Whether redirects of the new version lead to pages that are there, and nothing else is worse."""
        return bool(self._moved) and not self.number(Compared.NEW_WORSE)

    @property
    def sentence(self) -> str:
        """Say what asking came to, without a final stop; "" where nobody asked."""
        if not self.asked:
            return ""
        asked = f"asked the same {self.asked} times"
        if self.are_alike:
            return f"{asked}, both versions answered alike"
        if self.is_discordant:
            return f"{asked}, this version answered worse {self.number(Compared.NEW_WORSE)} times, which is not enough"
        return f"{asked}, which is not enough to tell the two versions apart"

    @property
    def loops(self) -> int:
        """How often a redirect of the new version alone led round and round."""
        return self._loops

    def state(self) -> PairsState:
        """Return a checkpoint, plain JSON."""
        return {
            "compared": {str(each): number for each, number in self._compared.items()},
            "moved": self._moved,
            "loops": self._loops,
            "first": self.first,
        }

    def restore(self, state: PairsState) -> None:
        """Go on from a checkpoint."""
        self._compared = {each: state["compared"].get(str(each), 0) for each in Compared}
        self._moved, self._loops, self.first = state["moved"], state["loops"], state["first"]
