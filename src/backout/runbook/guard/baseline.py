"""The answers of the version before, which a watch compares with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import BackoutError
from backout.runbook.guard.telemetry_gate import read_kept_before, teach

if TYPE_CHECKING:
    from backout.model.guard.signals import Counts
    from backout.runbook.toolbox import Toolbox


def read_baseline(tools: Toolbox, old: str, until: float) -> tuple[tuple[Counts, ...], bool]:
    """Return the old version's counts of the hour before, and whether they are estimates.

    They come from the source and from the counts that earlier watches kept.
    """
    if not old:
        return (), False
    since = int(until - tools.policy.guard.baseline_s)
    before = read_kept_before(tools, until)
    teach(tools, before)
    rows = {(row.version, row.second): row for row in before}
    sampled = False
    if tools.traffic is not None:
        try:
            page = tools.traffic.read(since, int(until))
        except BackoutError:
            page = None
        if page is not None:
            rows |= {(row.version, row.second): row for row in page.counts}
            sampled = page.sampled
    return tuple(row for (version, _), row in sorted(rows.items()) if version == old), sampled
