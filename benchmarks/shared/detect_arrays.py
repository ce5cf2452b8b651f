"""The tests of `analysis.statistics.rates` for many runs at once: one row a run, parameters from the live tests."""

from __future__ import annotations

import math
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln, xlogy

from backout.analysis.detector.persistence import FORGIVEN, LimitTest, StretchLabels, StretchLaw
from backout.analysis.statistics.baseline import MINUTE_S, OUTAGE_A, OUTAGE_B
from backout.analysis.statistics.minute_law import LOG_LASTING, LOG_NOT_LASTING, MinuteLaw, start_mass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from backout.analysis.statistics.minute_law import HealthyLaw
    from backout.analysis.statistics.rates import LabelTest

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    _Law = tuple[Floats, Floats, Floats]


def log_beta(a: Floats, b: Floats) -> Floats:
    """Return the logarithm of the Beta function."""
    return np.asarray(gammaln(a) + gammaln(b) - gammaln(a + b))


_LOG_BETA_OUTAGE = float(log_beta(np.array(OUTAGE_A), np.array(OUTAGE_B)))


def log_sum(terms: Floats) -> Floats:
    """Return the logarithm of the sum along the last axis."""
    top = terms.max(axis=-1)
    return np.asarray(top + np.log(np.exp(terms - top[..., None]).sum(axis=-1)))


def log_mean(terms: Floats) -> Floats:
    """Return the logarithm of the mean along the last axis."""
    return np.asarray(log_sum(terms) - math.log(terms.shape[-1]))


class _Open:
    """The open minute of each run, and evidence that is known until the next count."""

    def __init__(self, runs: int) -> None:
        self.minute = np.zeros(runs, dtype=np.int64)
        self.counts = np.zeros((runs, 4))
        self.log_e = np.zeros(runs)

    def settle(self, rows: Ints) -> None:
        """Make `log_e` of these rows exact, where it is not."""

    def closing(self, rows: Ints, minute: int) -> tuple[Ints, Floats]:
        """Return the rows whose open minute ends, with the prior of a regression that starts up to `minute`."""
        ended = rows[self.minute[rows] < minute]
        start = (
            np.log([start_mass(int(last) + 1, minute) for last in self.minute[ended]]) if len(ended) else np.zeros(0)
        )
        return ended, start[:, None]


def _stack(laws: Sequence[HealthyLaw]) -> _Law:
    """Return (a, b, log Beta(a, b)) of each run's law."""
    a, b, known = np.array(laws).T
    return a, b, known


class MinuteLaws(_Open):
    """`MinuteLaw` for each run."""

    def __init__(self, tests: Sequence[MinuteLaw]) -> None:
        super().__init__(len(tests))
        self._concurrent, self._clustered = tests[0].concurrent, tests[0]._clustered  # noqa: SLF001 the parameters
        self._p0 = np.array([test.law.p0 for test in tests])
        self._usual = _stack([test._usual for test in tests])  # noqa: SLF001 the same
        high = [test._high or test._usual for test in tests]  # noqa: SLF001 the same
        self._high = _stack(high) if any(test._high for test in tests) else None  # noqa: SLF001 the same
        self._lasting = np.zeros(len(tests))
        other = np.array([test._alternatives for test in tests])  # noqa: SLF001 the same
        self._other, self._log_beta_other = (other[..., 0], other[..., 1]), log_beta(other[..., 0], other[..., 1])
        self._shares = np.array(tests[0]._shares)  # noqa: SLF001 the same
        self._log_outage = np.array([test._log_outage for test in tests])  # noqa: SLF001 the same
        self._log_usual = np.array([test._log_usual for test in tests])  # noqa: SLF001 the same
        self._scores = np.array([test._scores for test in tests])  # noqa: SLF001 the same
        self.log_e = self.mix(self._scores)

    def add(self, rows: Ints, second: int, counts: Floats) -> None:
        """Count (hits, others) of the new and the old version in a second, shape (rows, 4)."""
        minute = second // MINUTE_S
        ended, start = self.closing(rows, minute)
        if len(ended):
            self._scores[ended] = np.logaddexp(self._scores[ended] + self._gains(ended), start)
            self._lasting[ended] += self._compare_lasting(ended)
            self.minute[ended] = minute
            self.counts[ended] = 0
        self.counts[rows] += counts
        self.log_e[rows] = self.mix(self._scores[rows] + self._gains(rows))
        if self._high is not None:
            lasting = self._lasting[rows] + self._compare_lasting(rows)
            self.log_e[rows] -= np.logaddexp(LOG_NOT_LASTING, LOG_LASTING + lasting)

    def mix(self, scores: Floats) -> Floats:
        """Return the log evidence of all alternatives together, from that of each on the last axis."""
        return log_sum(scores + self._shares)

    def _compare_lasting(self, rows: Ints) -> Floats:
        if self._high is None:
            return np.zeros(len(rows))
        counts = self.counts[rows]
        return self._compute_null(self._high, rows, counts) - self._compute_null(self._usual, rows, counts)

    def _gains(self, rows: Ints) -> Floats:
        return self.ratios(rows, self.counts[rows])

    def ratios(self, rows: Ints, counts: Floats) -> Floats:
        """Return the log likelihood ratios of such counts of one minute, shape (rows, alternatives)."""
        u, v, _, _ = counts.T
        null = self._compute_null(self._usual, rows, counts)
        if self._clustered:
            best = xlogy(u, u) + xlogy(v, v) - xlogy(u + v, u + v)
            null = np.where(u <= self._p0[rows] * (u + v), np.maximum(null, best), null)
        a, b = self._other[0][rows], self._other[1][rows]
        return log_beta(a + u[:, None], b + v[:, None]) - self._log_beta_other[rows] - null[:, None]

    def _compute_null(self, healthy: _Law, rows: Ints, counts: Floats) -> Floats:
        u, v, x, z = counts.T
        a, b, known = (part[rows] for part in healthy)
        alone = log_beta(a + u, b + v) - known
        if not self._concurrent:
            return np.maximum(self._mixed(rows, alone, u, v), alone)
        beside = self._mixed(rows, log_beta(a + x, b + z) - known, x, z)
        shared = self._mixed(rows, log_beta(a + u + x, b + v + z) - known, u + x, v + z)
        return np.maximum(shared - np.where(x + z > 0, beside, 0.0), alone)

    def _mixed(self, rows: Ints, usual: Floats, hits: Floats, others: Floats) -> Floats:
        outage = log_beta(OUTAGE_A + hits, OUTAGE_B + others) - _LOG_BETA_OUTAGE
        return np.logaddexp(self._log_usual[rows] + usual, self._log_outage[rows] + outage)


class LabelTests(_Open):
    """`LabelTest` for each run."""

    def __init__(self, tests: Sequence[LabelTest]) -> None:
        super().__init__(len(tests))
        self._late = tests[0]._late  # noqa: SLF001 the parameters, read where they are made
        self._weights = np.array([test._weights for test in tests])  # noqa: SLF001 the same
        self._scores = np.array([test._scores for test in tests])  # noqa: SLF001 the same
        self.log_e = log_mean(self._scores)

    def add(self, rows: Ints, second: int, counts: Floats) -> None:
        """Count (hits, others) of the new and the old version in a second, shape (rows, 4)."""
        if self._late:
            minute = second // MINUTE_S
            ended, start = self.closing(rows, minute)
            self._scores[ended] = np.logaddexp(self._gained(ended), start)
            self.minute[ended] = minute
            self.counts[ended] = 0
        self.counts[rows] += counts
        self.log_e[rows] = log_mean(self._gained(rows))

    def _gained(self, rows: Ints) -> Floats:
        return np.asarray(
            self._scores[rows] + np.einsum("rkc,rc->rk", self._weights[rows], self.counts[rows][:, [0, 2]])
        )


class StretchLaws(_Open):
    """`StretchLaw` for each run."""

    def __init__(self, tests: Sequence[StretchLaw], stretch_s: int) -> None:
        super().__init__(len(tests))
        self._laws = MinuteLaws([test._test for test in tests])  # noqa: SLF001 the parameters, read where they are made
        self._levels = np.array([test._levels for test in tests]).swapaxes(0, 1)  # noqa: SLF001 the same
        self._stretch_s = stretch_s
        self._unit_s = tests[0].unit_s
        self._parts = np.zeros((len(tests), self._unit_s // stretch_s, 4))
        self._places = 1
        self._is_bound = np.zeros(len(tests), dtype=bool)
        self.log_e = self._laws.mix(self._levels[-1])

    def add(self, rows: Ints, second: int, counts: Floats) -> None:
        """Count (hits, others) of the new and the old version in a second, shape (rows, 4)."""
        minute, place = second // self._unit_s, second % self._unit_s // self._stretch_s
        ended, start = self.closing(rows, minute)
        if len(ended):
            self._levels[:, ended] = np.logaddexp(self._with_open(ended, self._parts.shape[1]), start)
            self.minute[ended] = minute
            self._parts[ended] = 0
        self._parts[rows, place] += counts
        self._places = place + 1
        known = self._levels[-1, rows] + self._laws.ratios(rows, self._parts[rows].sum(axis=1))
        self.log_e[rows] = self._laws.mix(known)
        self._is_bound[rows] = True

    def settle(self, rows: Ints) -> None:
        """Make `log_e` of these rows exact; until then it is a number that it does not exceed, which costs less."""
        rows = rows[self._is_bound[rows]]
        if len(rows):
            self.log_e[rows] = self._laws.mix(self._with_open(rows, self._places)[-1])
            self._is_bound[rows] = False

    def _with_open(self, rows: Ints, number: int) -> Floats:
        parts = self._parts[rows, :number]
        whole = parts.sum(axis=1)
        gains = [self._laws.ratios(rows, whole)]
        for dropped in range(1, FORGIVEN + 1):
            found = [
                self._laws.ratios(rows, whole - parts[:, list(chosen)].sum(axis=1))
                for chosen in combinations(range(number), dropped)
            ]
            gains.append(np.minimum.reduce([gains[-1], *found]))
        levels = self._levels[:, rows]
        return np.stack(
            [
                np.minimum.reduce([levels[level - dropped] + gains[dropped] for dropped in range(level + 1)])
                for level in range(FORGIVEN + 1)
            ]
        )


class _Sums(_Open):
    """Tests whose evidence is the sum of that of their stretches, for each run."""

    def __init__(self, levels: Floats, stretch_s: int) -> None:
        super().__init__(levels.shape[1])
        self._levels = levels
        self._stretch_s = stretch_s
        self._stretch = np.zeros(levels.shape[1], dtype=np.int64)
        self.log_e = log_mean(self._levels[-1])

    def add(self, rows: Ints, second: int, counts: Floats) -> None:
        """Count (hits, others) of the new and the old version in a second, shape (rows, 4)."""
        if self._stretch_s:
            stretch = second // self._stretch_s
            ended = rows[self._stretch[rows] < stretch]
            self._levels[:, ended] = self._begun(ended)
            self._stretch[ended] = stretch
            self.counts[ended] = 0
        self.counts[rows] += counts
        self.log_e[rows] = log_mean(self._with_open(rows)[-1])

    def _with_open(self, rows: Ints) -> Floats:
        levels = self._levels[:, rows]
        found = levels + self._gained(rows)
        found[1:] = np.minimum(found[1:], levels[:-1])
        return np.asarray(found)

    def _begun(self, rows: Ints) -> Floats:
        """Return the levels of these rows with which another stretch begins."""
        return self._with_open(rows)

    def _gained(self, rows: Ints) -> Floats:
        raise NotImplementedError


class StretchLabelTests(_Sums):
    """`StretchLabels` for each run."""

    def __init__(self, tests: Sequence[StretchLabels], stretch_s: int) -> None:
        levels = np.array([test._levels for test in tests]).swapaxes(0, 1)  # noqa: SLF001 the parameters
        super().__init__(levels, stretch_s)
        self._weights = np.array([test._open._weights for test in tests])  # noqa: SLF001 the same

    def _gained(self, rows: Ints) -> Floats:
        return np.asarray(np.einsum("rkc,rc->rk", self._weights[rows], self.counts[rows][:, [0, 2]]))


class LimitTests(_Sums):
    """`LimitTest` for each run."""

    def __init__(self, tests: Sequence[LimitTest], stretch_s: int) -> None:
        levels = np.array([test._levels for test in tests]).swapaxes(0, 1)  # noqa: SLF001 the parameters
        super().__init__(levels, stretch_s)
        self._weights = np.array(tests[0]._weights)  # noqa: SLF001 the same
        self._number = np.zeros(len(tests), dtype=np.int64)

    def _begun(self, rows: Ints) -> Floats:
        self._number[rows] += 1
        start = np.array([start_mass(int(number), int(number)) for number in self._number[rows]])
        return np.asarray(np.logaddexp(self._with_open(rows), np.log(start)[:, None]))

    def _gained(self, rows: Ints) -> Floats:
        return np.asarray(self.counts[rows][:, :2] @ self._weights.T)


Tests = MinuteLaws | LabelTests | StretchLaws | StretchLabelTests | LimitTests


def arrays(tests: Sequence[object], stretch_s: int = 0) -> Tests:
    """Return the tests of the same kind, one of each run, as one."""
    first = tests[0]
    if isinstance(first, (StretchLaw, StretchLabels, LimitTest)):
        kinds = {StretchLaw: StretchLaws, StretchLabels: StretchLabelTests, LimitTest: LimitTests}
        return kinds[type(first)](tests, stretch_s)  # type: ignore[no-any-return, operator]
    return (MinuteLaws if isinstance(first, MinuteLaw) else LabelTests)(tests)  # type: ignore[arg-type]
