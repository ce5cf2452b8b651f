"""Paired probes: the answers of two versions to the same safe requests, as evidence that the new one is worse.

While both answer alike, a pair in which one of them is worse is as likely to be the one as the other, whatever fails
outside. So each of them is the toss of a coin, and a bet on it is an e-process: 1.9 for one side, 0.1 for the other.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, NotRequired, TypedDict

from backout.analysis.shifts.strata import REST, get_stratum
from backout.model.guard.answers import AnswerClass
from backout.model.guard.probes import Compared, split_probe_name
from backout.model.guard.routes import make_template
from backout.model.guard.shift import SITE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backout.model.guard.probes import PairedAnswer

_NEW_WORSE, _OLD_WORSE = math.log(1.9), math.log(0.1)
ENOUGH = 11
"""After this many pairs without one in which the new version is worse, both are taken to answer alike."""
FEW = 3
"""The pairs with failures on both sides that exonerate the deployment; the loops that prove a loop."""


class OfRequest(NamedTuple):
    """The result of the pairs of one request.

    Args:
        moved: so often the new version said that the page has moved for good, and the page was there.
        shared: so often its answer was not a plainly good one, and the old version's was no better.
    """

    moved: int = 0
    shared: int = 0


class PairsState(TypedDict):
    """Checkpoint of a `Pairs`."""

    compared: dict[str, int]
    moved: int
    loops: int
    first: str
    requests: NotRequired[dict[str, tuple[int, int]]]


class Pairs:
    """The pairs of one watch; a pair counts once."""

    def __init__(self) -> None:
        self._compared = dict.fromkeys(Compared, 0)
        self._moved = 0
        self._loops = 0
        self._requests: dict[str, OfRequest] = {}
        self.first = ""
        """The path that the new version answered worse first, "" for none."""

    def add(self, pairs: Iterable[PairedAnswer]) -> None:
        """Count pairs."""
        for pair in pairs:
            compared = pair.compared
            self._compared[compared] += 1
            self._moved += pair.new.is_moved
            known = self._requests.get(pair.path, OfRequest())
            shared = compared in (Compared.BOTH_FAIL, Compared.BOTH_WELL) and pair.new.kind is not AnswerClass.GOOD
            self._requests[pair.path] = OfRequest(known.moved + pair.new.is_moved, known.shared + shared)
            self._loops += pair.new.loops and not pair.old.loops
            if not self.first and compared is Compared.NEW_WORSE:
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
        """Whether both answer alike, well or not, as far as enough pairs tell; what one alone refused is not alike."""
        alike = self.asked - self.number(Compared.GONE) - self.number(Compared.REFUSED)
        return not self.is_discordant and alike >= ENOUGH

    @property
    def both_fail(self) -> bool:
        """Whether both fail, so that it is not the deployment."""
        return not self.is_discordant and self.number(Compared.BOTH_FAIL) >= FEW

    def are_alike_on(self, request: str) -> bool:
        """Whether the old version, too, answers a request in the way that is new in the new version.

        Pairs of other requests do not tell, nor do those from when the new version still answered it well.
        """
        return (self.are_alike or self.both_fail) and self._requests.get(request, OfRequest()).shared > 0

    def only_moved(self, stratum: str) -> bool:
        """Whether redirects of the new version lead to pages that are there, and nothing else is worse.

        Args:
            stratum: what is answered by redirects; of a route, a request has to be one that was asked and has moved.
        """
        if not self._moved or self.number(Compared.NEW_WORSE) or self.number(Compared.REFUSED):
            return False
        moved = (name for name, each in self._requests.items() if each.moved)
        return stratum in (SITE, REST) or any(_is_of(name, stratum) for name in moved)

    @property
    def sentence(self) -> str:
        """Describe the result of asking, without a final stop; "" where nothing was asked."""
        if not self.asked:
            return ""
        asked = f"asked the same {self.asked} times"
        if self.are_alike:
            return f"{asked}, both versions answered alike"
        if self.is_discordant:
            return f"{asked}, this version answered worse {self.number(Compared.NEW_WORSE)} times, which is not enough"
        if refused := self.number(Compared.REFUSED):
            return f"{asked}, one version alone refused {refused} of them (403 or 429), as what limits robots does, too"
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
            "requests": {name: (each.moved, each.shared) for name, each in self._requests.items()},
        }

    def restore(self, state: PairsState) -> None:
        """Go on from a checkpoint."""
        self._compared = {each: state["compared"].get(str(each), 0) for each in Compared}
        self._moved, self._loops, self.first = state["moved"], state["loops"], state["first"]
        known = state.get("requests", {})  # the version before wrote none
        self._requests = {name: OfRequest(moved, shared) for name, (moved, shared) in known.items()}


def _is_of(request: str, stratum: str) -> bool:
    """Whether a request is of a stratum, whose name has the method or not."""
    name = get_stratum(make_template(*split_probe_name(request)))
    return stratum in (name, name.partition(" ")[2])
