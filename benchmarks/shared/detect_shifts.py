"""What the live code says of simulated answers, for many runs: crowds, and shifts that roll back by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from shared.detect_counts import DEPLOYED_AT, NEW, policy_of, rows_of

from backout.analysis.shifts.collapse import NEARLY_ALL
from backout.analysis.shifts.watch import CROWD, KNOWN_CROWD
from backout.analysis.statistics.baseline import MINUTE_S
from backout.model.guard.shift import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from shared.detect_traffic import Batch

    from backout.analysis.shifts import Shifts

    Ints = NDArray[np.int64]


def find_crowds(batch: Batch, rows: Ints, answers: Sequence[Shifts]) -> NDArray[np.bool_]:
    """Return for each run and second whether a cut-over has a crowd, to which slower answers yield: `Shifts.crowd`."""
    requests = batch.new.take(rows).requests.sum(axis=2)
    found = np.zeros(requests.shape, dtype=bool)
    if batch.old is not None:
        return found
    seconds = np.arange(requests.shape[1])
    last = np.maximum.accumulate(np.where(requests > 0, seconds, -1), axis=1)
    begin = MINUTE_S * np.maximum(last // MINUTE_S - 1, 0)
    sums = np.concatenate([np.zeros((len(requests), 1)), np.cumsum(requests, axis=1)], axis=1)
    every = np.arange(len(requests))[:, None]
    seen, minutes = sums[every, last + 1] - sums[every, begin], (last + 1 - begin) / MINUTE_S
    for row, each in enumerate(answers):
        site = each._site  # noqa: SLF001 made by the live code, evaluated here
        if site is not None and site.normal.tally.requests >= KNOWN_CROWD and site.normal.asked.mean:
            found[row] = (last[row] >= 0) & (seen[row] >= CROWD * (site.normal.asked.mean * minutes[row]))
    return found


def find_shifted(batch: Batch, runs: Sequence[int], every: Sequence[Shifts], *, to_the_end: bool) -> NDArray[np.bool_]:
    """Return in which seconds a shift alone rolls each run back, up to the first one, or to the end of the watch.

    Of errors that can only be a route on which nearly everything fails: the others are not looked at.
    """
    fires = np.zeros((len(runs), batch.scenario.watch_s), dtype=bool)
    policy = policy_of(batch)
    bad, total = (counts[runs].cumsum(axis=1) for counts in (batch.new.errors, batch.new.requests))
    likely = ((bad >= policy.guard.min_bad) & (bad >= NEARLY_ALL * total)).any(axis=(1, 2))
    for position in np.flatnonzero(likely):
        answers = every[position]
        for t in range(batch.scenario.watch_s):
            for row in rows_of(batch, runs[position], t):
                answers.add(row, is_new=row.version == NEW, warming=t < policy.guard.warm_up_s)
            fires[position, t] = bool(answers.judge(DEPLOYED_AT + t + 1.0).of(Outcome.ROLL_BACK))
            if fires[position, t] and not to_the_end:
                break
    return fires
