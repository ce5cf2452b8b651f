"""The tests of `backout.analysis.rates` for many runs at once: one row per run, parameters read from the live tests."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln, xlogy

from backout.analysis.baseline import OUTAGE_A, OUTAGE_B
from backout.analysis.rates import MinuteLaw, start_mass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from backout.analysis.rates import LabelTest

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


def log_beta(a: Floats, b: Floats) -> Floats:
    """Return the logarithm of the Beta function."""
    return np.asarray(gammaln(a) + gammaln(b) - gammaln(a + b))


_LOG_BETA_OUTAGE = float(log_beta(np.array(OUTAGE_A), np.array(OUTAGE_B)))


def log_mean(terms: Floats) -> Floats:
    """Return the logarithm of the mean along the last axis."""
    top = terms.max(axis=-1)
    return np.asarray(top + np.log(np.exp(terms - top[..., None]).sum(axis=-1)) - math.log(terms.shape[-1]))


class _Open:
    """The open minute of each run, and evidence that is known until the next count."""

    def __init__(self, runs: int) -> None:
        self.minute = np.zeros(runs, dtype=np.int64)
        self.counts = np.zeros((runs, 4))
        self.log_e = np.zeros(runs)

    def closing(self, rows: Ints, minute: int) -> tuple[Ints, Floats]:
        """Return the rows whose open minute ends, with the prior of a regression that starts up to `minute`."""
        ended = rows[self.minute[rows] < minute]
        start = (
            np.log([start_mass(int(last) + 1, minute) for last in self.minute[ended]]) if len(ended) else np.zeros(0)
        )
        return ended, start[:, None]


class MinuteLaws(_Open):
    """`MinuteLaw` for each run."""

    def __init__(self, tests: Sequence[MinuteLaw]) -> None:
        super().__init__(len(tests))
        self._concurrent, self._clustered = tests[0].concurrent, tests[0]._clustered  # noqa: SLF001 the parameters
        self._p0 = np.array([test.law.p0 for test in tests])
        null = np.array([test._null for test in tests])  # noqa: SLF001 the parameters, read where they are made
        other = np.array([test._alternatives for test in tests])  # noqa: SLF001 the same
        self._null, self._log_beta_null = (null[:, 0], null[:, 1]), log_beta(null[:, 0], null[:, 1])
        self._other, self._log_beta_other = (other[..., 0], other[..., 1]), log_beta(other[..., 0], other[..., 1])
        self._log_outage = np.array([test._log_outage for test in tests])  # noqa: SLF001 the same
        self._log_usual = np.array([test._log_usual for test in tests])  # noqa: SLF001 the same
        self._scores = np.array([test._scores for test in tests])  # noqa: SLF001 the same
        self.log_e = log_mean(self._scores)

    def add(self, rows: Ints, minute: int, counts: Floats) -> None:
        """Count (hits, others) of the new and the old version, shape (rows, 4)."""
        ended, start = self.closing(rows, minute)
        if len(ended):
            self._scores[ended] = np.logaddexp(self._scores[ended] + self._gains(ended), start)
            self.minute[ended] = minute
            self.counts[ended] = 0
        self.counts[rows] += counts
        self.log_e[rows] = log_mean(self._scores[rows] + self._gains(rows))

    def _gains(self, rows: Ints) -> Floats:
        u, v, x, z = self.counts[rows].T
        a0, b0 = self._null[0][rows], self._null[1][rows]
        alone = log_beta(a0 + u, b0 + v) - self._log_beta_null[rows]
        if self._concurrent:
            control = np.where(x + z > 0, self._law(rows, x, z), 0.0)
            null = np.maximum(self._law(rows, u + x, v + z) - control, alone)
        else:
            null = np.maximum(self._mixed(rows, alone, u, v), alone)
        if self._clustered:
            best = xlogy(u, u) + xlogy(v, v) - xlogy(u + v, u + v)
            null = np.where(u <= self._p0[rows] * (u + v), np.maximum(null, best), null)
        a, b = self._other[0][rows], self._other[1][rows]
        return log_beta(a + u[:, None], b + v[:, None]) - self._log_beta_other[rows] - null[:, None]

    def _law(self, rows: Ints, hits: Floats, others: Floats) -> Floats:
        a0, b0 = self._null[0][rows], self._null[1][rows]
        return self._mixed(rows, log_beta(a0 + hits, b0 + others) - self._log_beta_null[rows], hits, others)

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

    def add(self, rows: Ints, minute: int, counts: Floats) -> None:
        """Count (hits, others) of the new and the old version, shape (rows, 4)."""
        if self._late:
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


def arrays(tests: Sequence[MinuteLaw | LabelTest]) -> MinuteLaws | LabelTests:
    """Return the tests of the same kind, one of each run, as one."""
    if isinstance(tests[0], MinuteLaw):
        return MinuteLaws(tests)  # type: ignore[arg-type]
    return LabelTests(tests)  # type: ignore[arg-type]
