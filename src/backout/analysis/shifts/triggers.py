"""Schedules and queues of the new version: those that fail now and did not before."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypedDict

from backout.analysis.detector.wording import count
from backout.analysis.statistics.beta import log_beta
from backout.model.guard.shift import Outcome, Shift, ShiftKind
from backout.model.guard.signals import TriggerCounts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from backout.model.guard.signals import Counts

ENOUGH: Final = math.log(3)
"""Log evidence from which on a failure is no usual one: the first of a schedule that has always worked is beyond it."""
_FAILS, _WORKS = 0.5, 4.0
"""The prior for a trigger that was never seen to run: one failure in nine runs, worth four and a half runs."""
_MOST = 64


class TriggerRunsState(TypedDict):
    """Checkpoint of `TriggerRuns`; {name: (runs, failed)}, declared None where that is unknown."""

    before: dict[str, tuple[int, int]]
    after: dict[str, tuple[int, int]]
    declared: list[str] | None


class TriggerRuns:
    """The runs of schedules and queues, before the deployment and since.

    Args:
        baseline: counts of the old version before the deployment.
        declared: names of what the team's own file declares ("cron */5 * * * *", "queue orders"); None where that
            is unknown, and all of them count as declared.
    """

    def __init__(self, baseline: Iterable[Counts], declared: Collection[str] | None = None) -> None:
        self._declared = None if declared is None else frozenset(declared)
        self._before: dict[str, TriggerCounts] = {}
        self._after: dict[str, TriggerCounts] = {}
        for row in baseline:
            _add(self._before, row.triggers)

    def add(self, row: Counts) -> None:
        """Count a row of the new version."""
        _add(self._after, row.triggers)

    def shifts(self) -> Iterator[Shift]:
        """Yield each that fails: held where it is declared, else only reported."""
        for name, after in sorted(self._after.items()):
            before = self._before.get(name, TriggerCounts(0, 0))
            log_e = _log_evidence(before, after)
            if after.failed and log_e >= ENOUGH:
                yield self._shift(name, before, after, log_e)

    def _shift(self, name: str, before: TriggerCounts, after: TriggerCounts, log_e: float) -> Shift:
        is_declared = self._declared is None or name in self._declared
        usual = f"{before.failed:,} of {before.runs:,} before" if before.runs else "none was seen before"
        undeclared = "" if is_declared else "; nothing declares it"
        return Shift(
            kind=ShiftKind.TRIGGER,
            stratum=name,
            to=None,
            outcome=Outcome.HOLD if is_declared else Outcome.TOLD,
            bad=after.failed,
            total=after.runs,
            bad_before=before.failed,
            total_before=before.runs,
            log_evidence=log_e,
            sentence=f"{name}: {after.failed:,} of {count(after.runs, 'run')} failed, {usual}{undeclared}",
        )

    def state(self) -> TriggerRunsState:
        """Return a checkpoint, plain JSON."""
        return {
            "before": {name: (each.runs, each.failed) for name, each in self._before.items()},
            "after": {name: (each.runs, each.failed) for name, each in self._after.items()},
            "declared": None if self._declared is None else sorted(self._declared),
        }

    @classmethod
    def from_state(cls, state: TriggerRunsState) -> TriggerRuns:
        """Return them as they were when the checkpoint was taken."""
        self = cls((), state["declared"])
        self._before = {name: TriggerCounts(*each) for name, each in state["before"].items()}
        self._after = {name: TriggerCounts(*each) for name, each in state["after"].items()}
        return self


def _add(sums: dict[str, TriggerCounts], more: Mapping[str, TriggerCounts]) -> None:
    for name, found in more.items():
        if name in sums or len(sums) < _MOST:
            known = sums.get(name, TriggerCounts(0, 0))
            sums[name] = TriggerCounts(known.runs + found.runs, known.failed + found.failed)


def _log_evidence(before: TriggerCounts, after: TriggerCounts) -> float:
    """Return the logarithm of a Bayes factor: a share of failures of its own, against the one before.

    A factor is an e-value where the share before is as it is supposed to be: its mean is then 1.
    """
    failed, worked = after.failed, after.runs - after.failed
    fails, works = _FAILS + before.failed, _WORKS + before.runs - before.failed
    own = log_beta(1 + failed, 1 + worked)
    usual = log_beta(fails + failed, works + worked) - log_beta(fails, works)
    return own - usual
