"""The plan that sets secrets of what is live, or why there is none; pure. It never holds values, only fingerprints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs
from msgspec.structs import replace

from backout.model.plan import Plan, PlanKind, PlanRefused, Step
from backout.model.steps.rollback import ReportStep
from backout.model.steps.secrets import FallBackStep, PushSecretsStep, ReadSecretsStep
from backout.model.steps.verification import VerifyHealthStep
from backout.model.value import Value
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.deployment import Deployment
    from backout.model.plan import Equivalents, Json
    from backout.model.version import Version

RULE = SafetyRule.SECRETS


class PushRequest(Value, frozen=True):
    """The request.

    Args:
        fingerprints: of the values by name, as the source holds them now.
        source: the source as the journal keeps it, so that a resumed run asks it again.
        described: the same in words.
        file: the placeholder for the values in the line that a person would type.
        message: why.
        wait: ask the health endpoint afterwards.
        report: write an incident report.
        passed_over: what the source holds but is not set, a sentence each.
        cause: the run that led here, "" for a person.
        detected, detected_at: from the guard.
    """

    fingerprints: Mapping[str, str]
    source: Mapping[str, Json]
    described: str
    message: str
    file: str = "secrets.json"
    wait: bool = True
    report: bool = False
    passed_over: tuple[str, ...] = ()
    cause: str = ""
    detected: str = ""
    detected_at: float | None = None


class LiveNow(Value, frozen=True):
    """What the plan depends on.

    Args:
        deployment: the one that decides about the traffic.
        version: the one it serves, in detail.
        newest: id of the newest version, "" when unknown; a provider sets secrets on that one, live or not.
    """

    deployment: Deployment
    version: Version
    newest: str = ""


def plan_push(environment: str, request: PushRequest, now: LiveNow, lines: Equivalents) -> Plan | PlanRefused:
    """Return the plan, or the refusal with its options."""
    live, version, newest = now.deployment, now.version, now.newest
    if live.sole is None:
        return _refuse_gradual(environment, live)
    apart = bool(newest) and newest != version.id
    names = sorted(request.fingerprints)
    words = ", ".join(names)
    push = PushSecretsStep(
        secrets=dict(sorted(request.fingerprints.items())),
        source=dict(request.source),
        expected=live.id,
        version=version.id,
        code_hash=version.code_hash,
        message=" ".join(request.message.split()),
        detected=request.detected,
        detected_at=request.detected_at,
    )
    read = ReadSecretsStep(names=tuple(names))
    line = lines.secrets_apart if apart else lines.secrets.replace("{file}", request.file)
    if not apart and len(names) == 1:
        line = lines.secret.replace("{name}", names[0])
    steps = [
        Step.of(f"set {words} from {request.described}, in one call", push, line),
        Step.of("read back the names that the live version has", read, lines.secret_names),
    ]
    if request.wait:
        steps.append(Step.of("ask the health endpoint", VerifyHealthStep(), lines.health))
    if request.report:
        steps.append(Step.of("write the incident report", ReportStep(cause=request.cause)))
    if request.wait and request.cause:
        steps.append(Step.of("roll back if that did not help", FallBackStep()))
    return Plan(
        kind=PlanKind.SECRETS,
        environment=environment,
        why=request.detected or " ".join(request.message.split()),
        steps=tuple(steps),
        notes=(*_list_notes(version, newest if apart else ""), *request.passed_over),
        cause=request.cause,
    )


def set_reason(plan: Plan, message: str) -> Plan:
    """Return the same plan with the reason that a person gave when asked."""
    message = " ".join(message.split())
    return replace(
        plan.replace_arguments(structs.replace(plan.arguments(PushSecretsStep), message=message)), why=message
    )


def _list_notes(version: Version, newest: str) -> tuple[str, ...]:
    how = f"a new version of the live code ({version.id[:8]}) with these values takes all of the traffic at once"
    if newest:
        how = (
            f"the newest version ({newest[:8]}) is not the live one, and secrets are only set on the newest: so the "
            f"live code ({version.id[:8]}) is uploaded again with these values, and takes all of the traffic at once"
        )
    return (how, "a rollback to an earlier version will then ask which values are meant (safety rule 7)")


def _refuse_gradual(environment: str, live: Deployment) -> PlanRefused:
    shares = " and ".join(f"version {share.version[:8]} at {share.percentage:g} %" for share in live.shares)
    return PlanRefused(
        RULE,
        f"a gradual deployment is on ({shares}), and a change of secrets would give all of the traffic to one version",
        (
            f"end it first, with the new version: `backout guard -e {environment}` moves it up, or deploy it at 100 %",
            f"or with the old one: `backout rollback -e {environment} -m WHY`",
        ),
    )
