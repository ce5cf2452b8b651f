"""Whether the live version serves without too many errors, for what guard does in place of a rollback."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from backout.analysis.detector.criteria import CriteriaEngine, name_error_rate
from backout.errors import BackoutError
from backout.model.guard.verdict import CriterionResult, CriterionState

if TYPE_CHECKING:
    from backout.ports import StepContext
    from backout.runbook.toolbox import Toolbox

SERVED_S: Final = 60.0
"""How long the counts are read at most: a version that keeps failing is to be rolled back soon."""
_EVERY_S: Final = 1.0


def measure_error_rate(tools: Toolbox, context: StepContext, version: str) -> CriterionResult | None:
    """Return the error rate criterion on what a version serves from now on; None: no source of counts.

    It ends as soon as it is decided. Estimates are left out: nothing automatic rests on them (safety rule 13).
    """
    if tools.traffic is None:
        return None
    criteria, started_at = tools.policy.criteria, tools.clock.now()
    engine = CriteriaEngine(
        criteria,
        tools.policy,
        started_at=started_at,
        live_version=version,
        left_version=None,
        has_health=False,
        fails_early=True,
    )
    read_until = math.ceil(started_at)
    while True:
        context.check()
        try:
            page = tools.traffic.read(read_until, int(tools.clock.now()) + 1)
        except BackoutError:
            pass  # a gap
        else:
            if not page.sampled:
                engine.add(row for row in page.counts if row.second < page.complete_until)
            read_until = max(read_until, page.complete_until)
        now = tools.clock.now()
        found = next(each for each in engine.results(now) if each.name == name_error_rate(criteria))
        if found.state is not CriterionState.WAITING or now >= started_at + SERVED_S:
            return found
        tools.clock.sleep(_EVERY_S)
