"""From the file of a drill to its result."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from backout.analysis.drills import judge_drill
from backout.model.drill import DrillResult
from backout.wiring.drills.backups import (
    make_backups,
    make_sealed_backups,
    perform_corrupted_rows,
    perform_late_find,
    perform_lost_key,
    perform_wal_gap,
)
from backout.wiring.drills.build import perform_failed_build
from backout.wiring.drills.data import make_storage, perform_lost_objects
from backout.wiring.drills.deployment import Scene, perform_deployment
from backout.wiring.drills.night import (
    make_dead_channels,
    make_secret_source,
    perform_destructive_migration,
    perform_hotfix,
    perform_killed_guard,
    perform_lost_journal,
    perform_missing_secret,
    perform_resumed,
    perform_rotated_secret,
)
from backout.wiring.drills.post_mortems import make_own_database, perform_github, perform_gitlab, perform_knight
from backout.wiring.drills.recovery import make_recovery, perform_everything, perform_left_fence
from backout.wiring.drills.rehearsal import perform_six_steps
from backout.wiring.drills.targets import perform_bad_target, perform_two_bad_targets, perform_unhelped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.config.drills import Drill
    from backout.model.drill import Measured
    from backout.wiring.drills.ground import Ground

_PROCEDURES: Final[Mapping[str, Callable[[Scene], Measured]]] = {
    "deployment": perform_deployment,
    "simulation": perform_deployment,
    "six-steps": perform_six_steps,
    "failed-build": perform_failed_build,
    "bad-target": perform_bad_target,
    "two-bad-targets": perform_two_bad_targets,
    "unhelped": perform_unhelped,
    "hotfix": perform_hotfix,
    "killed-guard": perform_killed_guard,
    "lost-journal": perform_lost_journal,
    "missing-secret": perform_missing_secret,
    "rotated-secret": perform_rotated_secret,
    "destructive-migration": perform_destructive_migration,
    "dead-channels": perform_deployment,
    "resumed": perform_resumed,
    "lost-objects": perform_lost_objects,
    "corrupted-rows": perform_corrupted_rows,
    "late-find": perform_late_find,
    "wal-gap": perform_wal_gap,
    "lost-key": perform_lost_key,
    "everything": perform_everything,
    "left-fence": perform_left_fence,
    "post-mortem-github": perform_github,
    "post-mortem-gitlab": perform_gitlab,
    "post-mortem-knight": perform_knight,
}
_TABLES: Final[Mapping[str, Callable[[Ground], Mapping[str, object]]]] = {
    "missing-secret": lambda ground: make_secret_source(ground.planted),
    "lost-objects": make_storage,
    "corrupted-rows": make_backups,
    "late-find": make_backups,
    "wal-gap": make_backups,
    "lost-key": make_sealed_backups,
    "everything": make_recovery,
    "left-fence": make_recovery,
    "post-mortem-gitlab": make_own_database,
}
"""What the environment of a procedure has beside the usual tables."""


def _make_none(_: Ground) -> Mapping[str, object]:
    return {}


def perform_drill(ground: Ground, drill: Drill, say: Callable[[str], None]) -> DrillResult:
    """Perform a drill and return its result.

    Args:
        say: hears what is done, a line at a time.

    Raises:
        BackoutError: something failed that is no part of the drill.
    """
    at = time.time()
    visitors = ground.settle(drill)
    procedure = drill.file.procedure
    notify = make_dead_channels(ground.planted) if procedure == "dead-channels" else None
    more = _TABLES.get(procedure, _make_none)(ground)
    is_simulation = procedure == "simulation"
    trial = ground.make_trial(drill.file.watch, more=more, is_simulation=is_simulation, notify=notify)
    try:
        measured = _PROCEDURES[procedure](Scene(ground, drill, trial, visitors, say))
    finally:
        trial.close()
    expected = drill.expected
    missed = judge_drill(expected, drill.file.limits.as_model(), measured)
    place, took_s = ground.home.place, round(time.time() - at, 3)
    return DrillResult(drill.name, place, expected, measured, missed, round(at, 3), took_s)
