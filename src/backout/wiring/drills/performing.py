"""From the file of a drill to its result."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from backout.analysis.drills import judge_drill
from backout.errors import UsageError
from backout.model.drill import DrillPlace, DrillResult
from backout.wiring.drills.build import perform_failed_build
from backout.wiring.drills.deployment import Scene, perform_deployment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.config.drills import Drill
    from backout.model.drill import Measured
    from backout.wiring.drills.ground import Ground

_PROCEDURES: Final[Mapping[str, Callable[[Scene], Measured]]] = {
    "deployment": perform_deployment,
    "failed-build": perform_failed_build,
}


def check_performable(drill: Drill) -> None:
    """Raise UsageError for a drill that cannot be performed here."""
    if drill.file.environment is not DrillPlace.TWIN:
        what = f"drills in {drill.file.environment} are not built yet"
        raise UsageError(what, where=drill.name, hint="set environment to twin in its file")


def perform_drill(ground: Ground, drill: Drill, say: Callable[[str], None]) -> DrillResult:
    """Perform a drill and return its result.

    Args:
        say: hears what is done, a line at a time.

    Raises:
        BackoutError: something failed that is no part of the drill.
    """
    at = time.time()
    visitors = ground.settle(drill)
    trial = ground.make_trial(drill.file.watch)
    try:
        measured = _PROCEDURES[drill.file.procedure](Scene(ground, drill, trial, visitors, say))
    finally:
        trial.close()
    expected = drill.expected
    missed = judge_drill(expected, drill.file.limits.as_model(), measured)
    return DrillResult(
        drill.name, drill.file.environment, expected, measured, missed, round(at, 3), round(time.time() - at, 3)
    )
