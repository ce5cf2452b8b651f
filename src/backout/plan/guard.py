"""The plan of a watch: which version is on trial, compared with which, since when; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.coverage import OBJECTS_S, has_objects
from backout.analysis.history.remarks import is_made_by
from backout.analysis.history.stability import find_newcomer, find_quarantine, find_stable_mark
from backout.model.guard.policy import Mode
from backout.model.plan import Plan, PlanKind, Step
from backout.model.remark import RemarkKind
from backout.model.steps.guard import ConcludeStep, KnownBad, WatchStep
from backout.plan.ramp import WHOLE, list_steps_above, make_first_stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.guard.policy import Expectation
    from backout.model.situation import Situation


def plan_guard(
    situation: Situation,
    *,
    mode: Mode,
    for_s: float,
    early: bool = False,
    ramp: Sequence[float] = (),
    expect: Sequence[Expectation] = (),
) -> Plan:
    """Return the plan of one watch of the live deployment.

    A fresh deployment is watched from its first second, compared with the version before it or the other one of the
    split. One that is older than the watch is watched from now on: against its own past if that was proven good,
    else against the limits of the success criteria. `early` ends it as soon as the evidence says healthy: quick,
    but blind to leaks; with Durable Objects no sooner than they have its code. `ramp`: percentages that a fresh
    split is moved up through in mode `act`, each for at most `for_s`; every step but the last ends as soon as the
    evidence says healthy, and all of it is carried on. A split that a holdback made is made whole again by the
    watch of it, however old it is: that is how it was deployed. `expect`: changes of answers that are intended,
    which a watch that is taken up again knows as well.
    """
    live = situation.live
    version, old, share = _find_on_trial(situation)
    fresh = situation.read_at - live.created_at <= for_s
    # A deployment from the future (clocks that disagree) must not make the watch wait for it.
    since = min(live.created_at, situation.read_at) if fresh else situation.read_at
    watched, known_bad = situation.version(version), _find_known_bad(situation, version)
    held_back = share < 1 and is_held_back(situation, version)
    compared = fresh or held_back
    normal = _choose_baseline(situation, version, old, fresh=compared)
    moves = mode is Mode.ACT and compared and share < 1 and normal == old
    objects = fresh and watched is not None and has_objects(watched)
    up = list_steps_above((WHOLE,) if held_back else ramp, share) if moves else ()
    watch = WatchStep(
        deployment=live.id,
        version=version,
        old=normal,
        split=share if compared else 1.0,
        since=since,
        deployed_at=live.created_at,
        for_s=for_s,
        early=early or bool(up),
        known_bad=known_bad,
        code_known=watched is not None and watched.code_hash is not None,
        expect=tuple(expect),
        at_least_s=min(for_s, OBJECTS_S) if objects else 0.0,
        objects=objects,
    )
    if up:
        watch = make_first_stage(watch, up, share=share, early=early)
    then = f"move it up ({', '.join(f'{step:g} %' for step in up)})" if up else "mark it stable"
    does = {"observe": "say what would be done", "ask": "ask, then roll back if it is bad"}
    conclude = Step.of(
        does.get(mode, f"roll back if it is bad, {then} if it is healthy"),
        ConcludeStep(
            deployment=live.id,
            version=version,
            code_hash=watched.code_hash if watched else None,
            mode=mode,
            since=since,
            known_bad=known_bad is not None,
            ramp=up or None,
        ),
    )
    return Plan(
        kind=PlanKind.GUARD,
        environment=situation.environment,
        why=f"watch the deployment of version {version}",
        steps=(Step.of(f"watch version {version[:8]} for at most {for_s:g} s", watch), conclude),
    )


def is_held_back(situation: Situation, version: str) -> bool:
    """Whether what is live is a holdback's split: a step of ours, made of a cut-over to this version."""
    before = situation.history[1:2]
    return is_made_by(situation.live, RemarkKind.RAMP) and bool(before) and before[0].sole == version


def _find_known_bad(situation: Situation, version: str) -> KnownBad | None:
    """Return when and why this version or its code was quarantined, None when it is not (or this is not known)."""
    known = situation.version(version)
    bad = find_quarantine(situation, version, known.code_hash if known else None)
    return None if bad is None else KnownBad(version=bad.version, at=bad.at, why=bad.why, by=bad.by)


def _find_on_trial(situation: Situation) -> tuple[str, str, float]:
    """Return (version on trial, version it is compared with or "", its share in (0,1])."""
    live = situation.live
    version = find_newcomer(situation, with_cohorts=False)  # counts tell nothing of a cohort
    beside = [s.version for s in live.shares if s.percentage > 0 and s.version != version]
    if beside:
        share = next(s.percentage for s in live.shares if s.version == version)
        return version, beside[0], share / 100.0
    # A promoted canary served beside the old version: it is compared with that one, not with itself.
    served = (s.version for d in situation.history[1:] for s in d.shares if s.percentage > 0)
    return version, next((other for other in served if other != version), ""), 1.0


def _choose_baseline(situation: Situation, version: str, old: str, *, fresh: bool) -> str:
    """Return the version whose past defines what is normal, or "" if the limits of the success criteria do."""
    if not fresh:
        return version if find_stable_mark(situation, version) else ""
    # After a rollback the version before is the bad one: twice its error rate would pass for healthy.
    known = situation.version(old)
    return "" if find_quarantine(situation, old, known.code_hash if known else None) else old
