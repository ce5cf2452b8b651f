"""E-detectors: evidence that may begin anew with every block of time, because it is unknown when trouble will start.

With L an e-value of a block given the past (its mean is at most 1 while all is as usual):

    e-SR    M <- (M + 1) L        e-CUSUM    C <- max(C, 1) L

At any stopping time the mean of M is at most the mean number of blocks begun. So an alarm at M >= A comes, while all is
as usual, on the average after A blocks or later, however often one looks, and averages of e-detectors are e-detectors.
The alarm rests on e-SR, the larger of the two; where e-CUSUM began anew last is when the trouble most likely started.

Sources: Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for sequential change detection", New England
Journal of Statistics in Data Science (2023), arXiv:2203.03532; Page, Biometrika 41 (1954), for the start.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypedDict

from backout.analysis.statistics.beta import log_add, log_beta, log_sum

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.analysis.statistics.baseline import Law

BLOCK_S = 10


class EDetectorState(TypedDict):
    """Checkpoint of an `EDetector`."""

    block: int | None
    open: list[int]
    sr: list[float]
    cusum: list[float]
    since: list[list[int]]


class EDetector:
    """An e-detector on blocks of (hits, others), mixed over alternatives; everything in logarithms.

    Usual is, given the past: each block draws its share from `usual`, or from a law below it (above it, where the
    alternatives lie below): the likelihood ratio of a block rises (falls) with its hits, so an improvement is no
    evidence. Blocks without a request do not count. Shares that stay for a minute are not drawn anew with each block:
    such minutes may scatter as `usual` does around half its share, which a simulation shows (tests).

    Args:
        usual: the law of a block.
        laws: the alternatives, each a Beta law (a, b).
    """

    def __init__(self, usual: Law, laws: Sequence[tuple[float, float]]) -> None:
        a0, b0 = usual.p0 * usual.tau, (1 - usual.p0) * usual.tau
        self._usual = (a0, b0, log_beta(a0, b0))
        self._laws = [(a, b, log_beta(a, b)) for a, b in laws]
        self._block: int | None = None
        self._open = [0, 0]
        self._sr = [0.0] * len(laws)  # log(M + 1) when the open block began
        self._cusum = [0.0] * len(laws)  # log max(C, 1) then
        self._since = [
            [0, 0, 0] for _ in laws
        ]  # the block in which C began anew; (hits, others) from it to the open one
        self._known: list[float] | None = None

    def add(self, second: int, hits: int, others: int) -> None:
        """Count a second, or a part of one; what belongs to a closed block joins the open one."""
        if hits + others == 0:
            return
        block = second // BLOCK_S
        if self._block is None or block > self._block:
            self._begin(block)
        self._open[0] += hits
        self._open[1] += others
        self._known = None

    def log_e(self) -> float:
        """Return log M, the open block included; 0 before the first request."""
        return log_sum([m + g for m, g in zip(self._sr, self._gains(), strict=True)]) - math.log(len(self._laws))

    def change(self) -> tuple[int, int, int]:
        """Return when the change most likely happened, as a Unix second, and (hits, total) since then."""
        scores = [c + g for c, g in zip(self._cusum, self._gains(), strict=True)]
        block, hits, others = self._since[scores.index(max(scores))]
        hits += self._open[0]
        return block * BLOCK_S, hits, hits + others + self._open[1]

    def _begin(self, block: int) -> None:
        if self._block is None:
            self._since = [[block, 0, 0] for _ in self._laws]
        else:
            hits, others = self._open
            for j, gain in enumerate(self._gains()):
                self._sr[j] = log_add(self._sr[j] + gain, 0.0)
                self._cusum[j] = max(self._cusum[j] + gain, 0.0)
                start, y, f = self._since[j]
                self._since[j] = [start, y + hits, f + others] if self._cusum[j] > 0 else [block, 0, 0]
        self._block = block
        self._open = [0, 0]
        self._known = None

    def _gains(self) -> list[float]:
        """Return per alternative the log e-value of the open block."""
        if self._known is None:
            u, v = self._open
            a0, b0, log_beta_usual = self._usual
            usual = log_beta(a0 + u, b0 + v) - log_beta_usual
            self._known = [log_beta(a + u, b + v) - known - usual for a, b, known in self._laws]
        return self._known

    def state(self) -> EDetectorState:
        """Return a checkpoint, plain JSON."""
        return {
            "block": self._block,
            "open": list(self._open),
            "sr": list(self._sr),
            "cusum": list(self._cusum),
            "since": [list(each) for each in self._since],
        }

    def restore(self, state: EDetectorState) -> EDetector:
        """Go on from a checkpoint, and return this detector."""
        self._block = state["block"]
        self._open = list(state["open"])
        self._sr, self._cusum = list(state["sr"]), list(state["cusum"])
        self._since = [list(each) for each in state["since"]]
        self._known = None
        return self
