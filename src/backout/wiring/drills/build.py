"""A build that fails: nothing goes live, and the diagnosis says why."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from backout.analysis.drills import BadAnswers, find_bad
from backout.errors import BackoutError
from backout.model.drill import DrillAction, Measured
from backout.wiring.drills.witness import Witness

if TYPE_CHECKING:
    from backout.wiring.drills.deployment import Scene


def perform_failed_build(scene: Scene) -> Measured:
    """Deploy code that does not start through `backout diagnose build`, and return what that says.

    Raises:
        BackoutError: the deployment did not fail.
    """
    stage, since = scene.ground.stage, time.time()
    part = scene.drill.file.deploy
    call = scene.ground.home.make_deploy_call(part.variant, part.variables)
    with Witness(stage) as witness:
        words = ("diagnose", "build", "--json", "--", *call.argv)
        ended = scene.trial.run(*words, cwd=call.cwd, env=call.environment)
    if ended.code == 0:
        raise BackoutError("the deployment did not fail", where=scene.drill.name)
    record = ended.record
    stayed = scene.trial.find_live() == scene.ground.good
    bad = find_bad(scene.visits, BadAnswers(), since, time.time())
    return Measured(
        action=DrillAction.NONE if stayed else DrillAction.ROLLBACK,
        scenario=str(record["scenario"]) if record.get("scenario") else None,
        rto_s=round(bad[-1] - bad[0], 3) if bad else None,
        rpo=witness.measure_loss(),
        bad_requests=len(bad),
        requests=len(scene.visits),
        detail=str(record.get("title") or record.get("cause") or ""),
    )
