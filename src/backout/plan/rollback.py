"""The plan of a code rollback, or why there is none; pure. Schema, stability and secrets are judged in `analysis`."""

from __future__ import annotations

import json
import shlex
from itertools import islice
from typing import TYPE_CHECKING

from msgspec import structs
from msgspec.structs import replace

from backout.analysis.coverage import (
    Way,
    find_schedules_to_restore,
    keeps_running,
    list_coverage,
    list_general,
)
from backout.analysis.history.stability import Candidate, choose_target, find_newcomer, list_candidates, name_schema
from backout.escaping import shorten
from backout.model.clock import describe_offset, format_duration, is_off
from backout.model.plan import Plan, PlanKind, PlanRefused, Rejection, Step
from backout.model.remark import VERSION_DIGITS, Code
from backout.model.steps.rollback import (
    ActivateStep,
    Alternative,
    LeftCode,
    MarkStep,
    ProveStep,
    ReadBackStep,
    ReportStep,
    RestoreSchedulesStep,
    SettleStep,
)
from backout.model.steps.verification import VerifyStep
from backout.model.value import Value
from backout.model.version import Mark
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from backout.model.plan import Equivalents
    from backout.model.situation import Situation
    from backout.model.version import Version


MAX_ALTERNATIVES = 2
"""At most this many versions are tried when the target does not answer well."""


class Request(Value, frozen=True):
    """The request.

    Args:
        target: a version id already resolved, or None for the last stable version.
        message: why, for the deployment's message and the report.
        wait: verify and report after the switch.
        for_s: watch for so long after the switch although all criteria are decided.
        force_secrets: the target's own secret values come back (code 10220 answered by a person).
        carry_secrets: the target is uploaded again with the secrets as they are now (the other answer to 10220).
        can_prove: whether a health check is set up, through which the target can be asked first.
        force_schema: name of the migration head that a person accepts as compatible, or "".
        cause: the run that led here, "" for a person.
        detected_at, detected: from the guard.
        with_database: the database goes back, too, to before the migration that the target's code does not know.
        hop: the number of this rollback in a row: 2 when the first target turned out bad too.
    """

    message: str
    target: str | None = None
    wait: bool = True
    for_s: float = 0.0
    accept_unproven: bool = False
    force_secrets: bool = False
    carry_secrets: bool = False
    can_prove: bool = True
    force_schema: str = ""
    with_database: bool = False
    cause: str = ""
    detected: str = ""
    detected_at: float | None = None
    hop: int = 1


class _Choice(Value, frozen=True):
    """The target, the version it replaces, why nearer versions were not chosen, and what comes next if it is bad."""

    leaving: str
    target: Candidate
    nearer: tuple[Rejection, ...] = ()
    alternatives: tuple[Candidate, ...] = ()


def plan_rollback(situation: Situation, request: Request, lines: Equivalents) -> Plan | PlanRefused:
    """Return the plan, or the refusal with its options. See `docs/concepts.md` for what "stable" means."""
    leaving = find_newcomer(situation, apart_from=request.target)
    ranked = list_candidates(
        situation,
        leaving=leaving,
        accept_unproven=request.accept_unproven or request.target is not None,
        force_schema=request.force_schema,
        schema_goes_back=request.with_database,
        by_robot=bool(request.detected),
    )
    if request.target is not None:
        return _plan_to_target(situation, request, lines, leaving, ranked)
    chosen = choose_target(ranked)
    if chosen is None:
        return _refuse_without_target(situation, ranked)
    passed_over = (c for c in ranked if c is not chosen and c.last_live_at >= chosen.last_live_at)
    nearer = tuple(
        Rejection(c.version, c.failed if c.eligible else c.reason, c.rule or SafetyRule.PROOF)
        for c in passed_over
        if c.failed or not c.eligible
    )
    others = (c for c in ranked if c.eligible and c.proven and c is not chosen)
    return _plan(situation, request, lines, _Choice(leaving, chosen, nearer, tuple(islice(others, MAX_ALTERNATIVES))))


def _plan_to_target(
    situation: Situation, request: Request, lines: Equivalents, leaving: str, ranked: tuple[Candidate, ...]
) -> Plan | PlanRefused:
    wanted = next((c for c in ranked if c.version == request.target), None)
    if wanted is None:
        if request.target == situation.live.sole:
            return PlanRefused(
                SafetyRule.TARGET, f"{request.target} is live already", ("backout status shows what is live",)
            )
        return PlanRefused(
            SafetyRule.TARGET,
            f"{request.target} can no longer be deployed: it is outside the provider's window or was never known",
            (f"backout deployments list -e {situation.environment} shows what can be",),
        )
    if not wanted.eligible:
        return PlanRefused(
            wanted.rule,
            f"version {wanted.version[:8]}: {wanted.reason}",
            _list_options(situation, ranked),
            (Rejection(wanted.version, wanted.reason, wanted.rule),),
        )
    return _plan(situation, request, lines, _Choice(leaving, wanted))


def _refuse_without_target(situation: Situation, ranked: tuple[Candidate, ...]) -> PlanRefused:
    rejections = tuple(Rejection(c.version, c.reason, c.rule) for c in ranked)
    if not ranked:
        return PlanRefused(
            SafetyRule.TARGET, "there is no earlier version to return to", _list_options(situation, ranked)
        )
    rules = {c.rule for c in ranked}
    rule = SafetyRule.SCHEMA if SafetyRule.SCHEMA in rules else ranked[0].rule
    nearest = next(c for c in ranked if c.rule == rule)
    why = f"no version may be returned to: the nearest is {nearest.version[:8]}, and {nearest.reason}"
    return PlanRefused(rule or SafetyRule.TARGET, why, _list_options(situation, ranked), rejections)


def _list_options(situation: Situation, ranked: tuple[Candidate, ...]) -> tuple[str, ...]:
    """Say what is allowed instead, as whole sentences with commands."""
    environment = situation.environment
    options = ["roll forward: fix the cause, deploy the fixed version, then `backout guard -e " + environment + "`"]
    if any(c.rule == SafetyRule.UNPROVEN for c in ranked):
        unproven = next(c for c in ranked if c.rule == SafetyRule.UNPROVEN)
        options.append(
            f"accept the best unproven version {unproven.version}: "
            f"`backout rollback -e {environment} --accept-unproven -m WHY`"
        )
    options += [
        f"choose it yourself, although it is questioned: `backout rollback {c.version} -e {environment} -m WHY`"
        for c in ranked
        if c.rule == SafetyRule.QUESTIONED
    ][:1]
    if any(c.rule == SafetyRule.SCHEMA for c in ranked):
        options.append(
            "if you know that the old code works on the new schema: "
            f"`backout rollback -e {environment} --force=schema {name_schema(situation)} -m WHY` (it is recorded)"
        )
    if any(c.rule == SafetyRule.SAME_CODE for c in ranked):
        options.append(
            "the code is the same, so a secret or a setting made the difference: put the right value where it was "
            f"changed; that is a new version, and `backout guard -e {environment}` watches it"
        )
    if any(c.rule == SafetyRule.MINIMUM for c in ranked):
        options.append("if an older version is safe to return to after all: lower `guard.minimum_version`")
    if any(c.rule == SafetyRule.QUARANTINED for c in ranked):
        options.append(
            f"lift a quarantine that is no longer right: `backout deployments release VERSION -e {environment} -m WHY`"
        )
    return tuple(options)


def set_reason(plan: Plan, message: str, lines: Equivalents) -> Plan:
    """Return the same plan with the reason that a person gave when asked."""
    message = _join_lines(message)

    def set_message(step: Step) -> Step:
        if step.does(ActivateStep):
            switch = structs.replace(step.arguments(ActivateStep), message=message)
            return replace(step.replace_arguments(switch), equivalent=_write_switch(switch, lines))
        return (
            step.replace_arguments(structs.replace(step.arguments(MarkStep), why=message))
            if step.does(MarkStep)
            else step
        )

    return replace(plan, why=message, steps=tuple(set_message(step) for step in plan.steps))


def _write_switch(switch: ActivateStep, lines: Equivalents) -> str:
    """Return the line that makes a version live by hand."""
    line = lines.activate.format(version=switch.version, message=shlex.quote(switch.message))
    return line + lines.at_once if line and switch.immediate else line


def _join_lines(message: str) -> str:
    """Return a reason without line breaks: it appears in commands to copy, and in lists."""
    return " ".join(message.split())


def _make_quarantine_step(version: str, left: Version | None, why: str) -> MarkStep:
    return MarkStep(
        mark=Mark.QUARANTINED,
        version=version,
        code_hash=left.code_hash if left else None,
        git_sha=left.git_sha if left else "",
        why=why,
    )


def _plan(situation: Situation, request: Request, lines: Equivalents, choice: _Choice) -> Plan:
    live, leaving, chosen = situation.live, choice.leaving, choice.target
    message = _join_lines(request.message) or f"roll back {leaving[:8]}"
    left = situation.version(leaving)
    code = Code.of(left) if left else Code(leaving[:VERSION_DIGITS])
    restoring = _add_schedules(situation, request, chosen.version, lines)
    switch = ActivateStep(
        version=chosen.version,
        leaving=leaving,
        leaving_since=live.created_at,
        expected=live.id,
        message=message,
        force=request.force_secrets,
        carry=request.carry_secrets,
        detected=request.detected,
        detected_at=request.detected_at,
        hop=request.hop,
        left=LeftCode(version=code.version, code_hash=code.code_hash, git_sha=code.git_sha),
        immediate=keeps_running(situation, (leaving, chosen.version)),
    )
    steps = [
        Step.of(
            f"prove version {chosen.version[:8]} at 0 % of the traffic", _make_proof_step(situation, request, choice)
        ),
        Step.of(f"make version {chosen.version[:8]} live at 100 %", switch, _write_switch(switch, lines)),
        Step.of("read back what is live", ReadBackStep(version=chosen.version), lines.live),
        *restoring,
        Step.of(f"quarantine version {leaving[:8]}", _make_quarantine_step(leaving, left, request.detected or message)),
    ]
    if request.wait:
        watch = VerifyStep(version=chosen.version, left=leaving, baseline_until=live.created_at, for_s=request.for_s)
        how_long = f" for {format_duration(request.for_s)}" if request.for_s else ""
        steps.append(Step.of(f"watch the success criteria{how_long}", watch, lines.health))
        steps.append(Step.of("write the incident report", ReportStep(cause=request.cause)))
    known = None if situation.triggers is None else situation.triggers.list_known()
    settle = SettleStep(version=chosen.version, leaving=leaving, hop=request.hop, triggers=known)
    steps.append(Step.of("send the notices", settle))
    way = Way(
        target=chosen.version,
        leaving=leaving,
        quick=not request.wait,
        restores=restoring[0].title if restoring else "",
        by_hand=_explain_by_hand(situation, chosen.version, lines),
    )
    covered = list_coverage(situation, way)
    return Plan(
        kind=PlanKind.ROLLBACK,
        environment=situation.environment,
        why=request.detected or message,
        steps=tuple(steps),
        notes=_list_notes(situation, request, choice),
        not_covered=list_general(situation, covered),
        cause=request.cause,
        coverage=covered,
    )


def _add_schedules(situation: Situation, request: Request, target: str, lines: Equivalents) -> tuple[Step, ...]:
    """Return the step that restores the schedules: for a person only, as guard moves only code (safety rule 11)."""
    schedules = find_schedules_to_restore(situation, target)
    if schedules is None or request.detected:
        return ()
    title = f"set the schedules to those of when version {target[:8]} was live"
    restore = RestoreSchedulesStep(version=target, schedules=tuple(schedules))
    return (Step.of(title, restore, _explain_by_hand(situation, target, lines)),)


def _explain_by_hand(situation: Situation, target: str, lines: Equivalents) -> str:
    schedules = find_schedules_to_restore(situation, target)
    if schedules is None or not lines.schedules:
        return ""
    body = json.dumps([{"cron": schedule} for schedule in schedules])
    return lines.schedules.format(schedules=shlex.quote(body))


def _list_unread_notes(situation: Situation, choice: _Choice) -> list[str]:
    """Say which versions are no target since what is known of them cannot be read, and what is not known of hosts."""
    named, hosts = {rejection.version for rejection in choice.nearer}, situation.live.describe_hosts()
    unread = (each for each in situation.versions if each.damage and each.id not in named)
    return [*(f"not {each.id}: {each.damage}" for each in unread), *([f"of the hosts {hosts}"] if hosts else [])]


def _list_proof_notes(request: Request, choice: _Choice) -> list[str]:
    if not request.can_prove:
        return ["no health check is set up, so the target is not proved before it gets traffic"]
    if not choice.alternatives:
        return []
    listed = " and then ".join(c.version for c in choice.alternatives)
    return [f"if the target does not answer well at 0 % of the traffic, {listed} is tried"]


def _make_proof_step(situation: Situation, request: Request, choice: _Choice) -> ProveStep:
    """Return what the proof needs: the targets in order, and what a person or the policy accepts."""
    targets = (choice.target, *choice.alternatives)
    return ProveStep(
        version=choice.target.version,
        alternatives=tuple(Alternative(version=c.version, reason=c.reason) for c in choice.alternatives),
        kept=tuple(c.version for c in targets if c.kept),
        expected=situation.live.id,
        leaving=choice.leaving,
        accept_unproven=request.accept_unproven and not request.detected,
        force=request.force_secrets,
        force_schema=request.force_schema,
        carry=request.carry_secrets,
        detected=request.detected,
    )


def _list_notes(situation: Situation, request: Request, choice: _Choice) -> tuple[str, ...]:
    notes = [f"target {choice.target.version}: {choice.target.reason}"]
    if choice.target.failed:
        notes.append(f"{choice.target.failed}; it is asked again before it gets traffic")
    if choice.target.kept:
        notes.append("it is uploaded again from the copy kept here, with the secrets as they are now")
    notes += [f"not {rejection.version}: {rejection.reason}" for rejection in choice.nearer]
    notes += _list_unread_notes(situation, choice)
    notes += _list_proof_notes(request, choice)
    notes += [f"every cohort goes to it as well; now {shorten(cohort)}" for cohort in situation.live.describe_cohorts()]
    if not situation.schema.set_up:
        notes.append("database migrations: not set up, so not checked")
    elif request.force_schema:
        notes.append(f"the schema check was overruled by hand for migration head {request.force_schema}")
    elif choice.target.newer and not request.with_database:
        newer = ", ".join(choice.target.newer)
        notes.append(f"the schema changed since it was last live, each change judged safe for it: {newer}")
    if situation.clock_offset_s is not None and is_off(situation.clock_offset_s):
        notes.append(f"{describe_offset(situation.clock_offset_s)}; the provider's time is used")
    if situation.secret_names is None:
        notes.append("secrets: not measured")
    if request.force_secrets:
        notes.append("the target's own secret values come back with it (accepted by hand)")
    if request.carry_secrets:
        notes.append("if a secret changed since, the target's code is uploaded again with the secrets as they are now")
    return tuple(notes)
