"""The figures of the detector's benchmark: shares and medians, each with its count and its 95 % bound."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray
    from shared.detect_scenarios import Family, Scenario

    Floats = NDArray[np.float64]

EXACT, PRODUCTION = "exact", "production-shaped"
COLUMNS = (EXACT, PRODUCTION)
OURS, ORACLE = "backout", "oracle"
_DRAWS = 1000


class Figure(NamedTuple):
    """One number with its count and its 95 % interval."""

    value: float
    n: int
    low: float
    high: float


def share(hits: int, n: int) -> Figure:
    """Return hits / n with the two-sided Clopper-Pearson interval."""
    if not n:
        return Figure(math.nan, 0, 0.0, 1.0)
    from scipy.stats import beta

    low = float(beta.ppf(0.025, hits, n - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, n - hits)) if hits < n else 1.0
    return Figure(hits / n, n, low, high)


def quantile(values: Floats, q: float) -> Figure:
    """Return a quantile of delays, infinity for what was never found, with the interval of its order statistics."""
    ordered, n = np.sort(values), len(values)
    if not n:
        return Figure(math.nan, 0, math.nan, math.nan)
    from scipy.stats import binom

    low, high = int(binom.ppf(0.025, n, q)), int(binom.ppf(0.975, n, q))
    value = ordered[min(n - 1, math.ceil(q * n) - 1 if q * n > 1 else 0)]
    return Figure(float(value), n, float(ordered[max(0, low - 1)]), float(ordered[min(n - 1, high)]))


@dataclass(frozen=True)
class Runs:
    """Runs of one scenario, seen in one way by one detector.

    Args:
        delay_s: seconds from the deployment to the rollback, infinity for never.
        requests, bad: what the new version answered until then (or until the end), and how many of these answers were
            failures (or slow).
    """

    delay_s: Floats
    requests: Floats
    bad: Floats


@dataclass
class Figures:
    """All runs by (scenario, column, detector)."""

    runs: dict[tuple[Scenario, str, str], list[Runs]] = field(default_factory=dict)
    _known: dict[Scenario, None] = field(default_factory=dict)
    _detectors: dict[str, None] = field(default_factory=dict)

    def add(self, scenario: Scenario, column: str, detector: str, runs: Runs) -> None:
        """Keep some runs."""
        self._known[scenario] = None
        self._detectors[detector] = None
        self.runs.setdefault((scenario, column, detector), []).append(runs)

    def detectors(self) -> list[str]:
        """Return the names of the detectors in the order of the first runs."""
        return [detector for detector in self._detectors if detector != ORACLE]

    def scenarios(self, chosen: Callable[[Scenario], bool]) -> list[Scenario]:
        """Return the chosen scenarios."""
        return [scenario for scenario in self._known if chosen(scenario)]

    def get(self, scenario: Scenario, column: str, detector: str) -> Runs | None:
        """Return all runs of one scenario, None where the detector cannot be used."""
        parts = self.runs.get((scenario, column, detector))
        if not parts:
            return None
        if len(parts) > 1:
            fields = ("delay_s", "requests", "bad")
            parts[:] = [Runs(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))]
        return parts[0]

    def delays(self, scenarios: Iterable[Scenario], column: str, detector: str) -> Floats:
        """Return the delays of several scenarios together."""
        found = [runs.delay_s for s in scenarios if (runs := self.get(s, column, detector)) is not None]
        return np.concatenate(found) if found else np.zeros(0)

    def false(self, column: str, detector: str, within_s: float, chosen: Callable[[Scenario], bool]) -> Figure:
        """Return the share of healthy watches of at least `within_s` that were rolled back in that time."""
        healthy = self.scenarios(lambda s: s.bad is None and s.watch_s >= within_s and chosen(s))
        delays = self.delays(healthy, column, detector)
        return share(int((delays <= within_s).sum()), len(delays))

    def ratios(self, families: Iterable[Family], column: str, detector: str) -> list[float]:
        """Return per scenario of some classes, at 5 requests/s and more, median delay / the oracle's median delay."""
        return [median(ours) / median(best) for ours, best in self._beside_oracle(families, column, detector)]

    def ratio(self, families: Iterable[Family], column: str, detector: str) -> Figure:
        """Return the median over scenarios of the ratios, with a bootstrap interval over runs."""
        pairs = self._beside_oracle(families, column, detector)
        if not pairs:
            return Figure(math.nan, 0, math.nan, math.nan)
        source = np.random.default_rng(3)
        drawn = np.stack(
            [_resampled(ours, source) / np.minimum(_resampled(best, source), 900.0) for ours, best in pairs]
        )
        low, high = np.quantile(_middle(drawn), [0.025, 0.975], method="nearest")
        value = _middle(np.array([[median(ours) / median(best)] for ours, best in pairs]))[0]
        return Figure(float(value), len(pairs), float(low), float(high))

    def _beside_oracle(self, families: Iterable[Family], column: str, detector: str) -> list[tuple[Floats, Floats]]:
        """Return delays of a detector and of the oracle, for each scenario in which the oracle finds half of them."""
        pairs = []
        for scenario in self.judged(families):
            ours, best = self.get(scenario, column, detector), self.get(scenario, EXACT, ORACLE)
            if ours is not None and best is not None and math.isfinite(median(best.delay_s)):
                pairs.append((ours.delay_s, best.delay_s))
        return pairs

    def judged(self, families: Iterable[Family]) -> list[Scenario]:
        """Return the scenarios over which a class is judged: an hour of baseline, 5 requests/s and more."""
        families = tuple(families)
        return self.scenarios(
            lambda s: s.bad is not None and s.bad.family in families and s.rate >= 5 and s.baseline_s == 3600  # noqa: PLR2004
        )

    def duels(self, column: str) -> list[tuple[Scenario, str, float, float]]:
        """Return (scenario, peer, our median delay, the peer's) wherever the peer rolls back few healthy deployments.

        Few: below 5 % within 15 minutes, pooled over baselines and noise of the same traffic and mode. Where neither
        finds half of the runs there is nothing to compare.
        """
        kept = {
            (rate, split, peer)
            for rate, split in {(s.rate, s.split) for s, _, _ in self.runs}
            for peer in self.detectors()
            if peer != OURS and (false := self.pooled(column, peer, rate, split)).n and false.value < 0.05  # noqa: PLR2004
        }
        found = []
        for scenario in self.scenarios(lambda s: s.bad is not None and not s.bad.heals_s):
            ours = self.get(scenario, column, OURS)
            for peer in self.detectors():
                theirs = self.get(scenario, column, peer)
                if ours is not None and theirs is not None and (scenario.rate, scenario.split, peer) in kept:
                    pair = median(ours.delay_s), median(theirs.delay_s)
                    if not (math.isinf(pair[0]) and math.isinf(pair[1])):
                        found.append((scenario, peer, *pair))
        return found

    def pooled(self, column: str, peer: str, rate: float, split: float) -> Figure:
        """Return a detector's false rollbacks within 15 minutes, over baselines and noise of one traffic and mode."""
        return self.false(column, peer, 900, lambda s: (s.rate, s.split) == (rate, split))


def median(values: Floats) -> float:
    """Return the middle value, the later of two: a delay that more than half of the runs reach."""
    return float(np.sort(values)[len(values) // 2])


def _middle(values: Floats) -> Floats:
    """Return the middle along the first axis, the later of two."""
    return np.asarray(np.sort(values, axis=0)[len(values) // 2])


def _resampled(values: Floats, source: np.random.Generator) -> Floats:
    """Return the medians of bootstrap draws."""
    drawn = np.sort(values[source.integers(0, len(values), (_DRAWS, len(values)))], axis=1)
    return np.asarray(drawn[:, len(values) // 2])
