"""Rollbacks whose target is bad itself: the next one is taken, or a person decides."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.config.schema.drill import FaultPart
from backout.errors import BackoutError
from backout.model.drill import DrillAction
from backout.model.version import Mark, VersionId, VersionMark
from backout.wiring.drills.deployment import broken_after, deploy, measure, start_guard
from backout.wiring.drills.witness import Witness

if TYPE_CHECKING:
    from backout.model.drill import Measured
    from backout.wiring.drills.deployment import Scene

_OTHER = "good-2"
_SHARE = 0.4
_PROVED = r'"run_id":"rollback-\w+","step":0,"kind":"step.ok"'


def perform_bad_target(scene: Scene) -> Measured:
    """Break the newest stable version before guard wants to return to it: the one before has to be taken.

    Raises:
        BackoutError: as `measure`; another version than the good one is live in the end.
    """
    target = deploy_another_stable(scene)
    guard = start_guard(scene)
    version, since = deploy(scene)
    fault = FaultPart(kind="errors", target=target)
    with scene.ground.break_service(fault), Witness(scene.ground.stage) as witness:
        ended = guard.await_end()
    found = measure(scene, ended, version, since, witness.measure_loss())
    if found.action is DrillAction.ROLLBACK and scene.trial.find_live() != scene.ground.good:
        raise BackoutError(f"it was rolled back to {scene.trial.find_live()}", where=scene.drill.name)
    return found


def perform_two_bad_targets(scene: Scene) -> Measured:
    """Have both stable versions fail under traffic, after their proofs: guard may not go on for ever.

    Raises:
        BackoutError: as `measure`.
    """
    target = deploy_another_stable(scene)
    guard = start_guard(scene)
    version, since = deploy(scene)
    with contextlib.ExitStack() as broken, Witness(scene.ground.stage) as witness:
        for number, each in enumerate((target, scene.ground.good), 1):
            guard.await_words(_PROVED, times=number)
            broken.enter_context(scene.ground.break_service(FaultPart(kind="errors", target=each, share=_SHARE)))
        ended = guard.await_end()
    found = measure(scene, ended, version, since, witness.measure_loss())
    hops = ended.record.get("hops")
    last = hops[-1] if isinstance(hops, list) and hops else {}
    if isinstance(last, dict) and last.get("verified") is not True:
        return replace(found, action=DrillAction.HOLD, detail=str(last.get("why") or found.detail))
    return found


def perform_unhelped(scene: Scene) -> Measured:
    """Have a service fail for both versions after the deployment: one rollback, which does not help, and no other.

    Raises:
        BackoutError: as `measure`; it was rolled back more than once, or said to have helped.
    """
    guard = start_guard(scene)
    version, since = deploy(scene)
    with broken_after(scene), Witness(scene.ground.stage) as witness:
        ended = guard.await_end()
    history = scene.trial.tools().deployments.history()
    made = [each for each in history if each.created_at > since and each.sole == scene.ground.good]
    if len(made) > 1:
        raise BackoutError(f"it was rolled back {len(made)} times", where=scene.drill.name)
    if ended.record.get("verified") is True:
        raise BackoutError("guard said that the rollback helped", where=scene.drill.name)
    return measure(scene, ended, version, since, witness.measure_loss())


def deploy_another_stable(scene: Scene) -> str:
    """Deploy another good version over the good one, have it known as stable, and return it once it has a past.

    Raises:
        BackoutError: it does not come to rest.
    """
    version = scene.ground.home.deploy(_OTHER)
    tools = scene.trial.tools()
    code = tools.versions.detail(version).code_hash
    mark = VersionMark(Mark.STABLE, VersionId(version), code, tools.clock.now(), "guard-1", "a drill")
    tools.marks.mark(tools.environment, mark, actor=tools.actor)
    scene.ground.await_past(tools, scene.drill, version)
    return version
