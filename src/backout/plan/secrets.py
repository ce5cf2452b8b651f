"""The plan that sets secrets of what is live, or why there is none; pure. Values never stand in it: fingerprints do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from backout.model.plan import Plan, PlanKind, PlanRefused, Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.deployment import Deployment, Version
    from backout.model.plan import Equivalents, Json

RULE = "7 secrets"


@dataclass(frozen=True, slots=True)
class PushRequest:
    """What is asked for.

    Args:
        fingerprints: of the values by name, as the source holds them now. source: the source as the journal keeps it,
            so that a resumed run asks it again. described: the same in words. file: what stands for the values in the
            line that a person would type.
        message: why. wait: ask the health endpoint afterwards. report: write an incident report.
        passed_over: what the source holds and is not set, a sentence each.
        cause: the run that led here, "" for a person. detected, detected_at: from the guard.
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


@dataclass(frozen=True, slots=True)
class LiveNow:
    """What the plan rests on.

    Args:
        deployment: which decides about the traffic. version: the one it serves, in detail. newest: id of the newest
            version, "" when unknown; a provider sets secrets on that one, live or not.
    """

    deployment: Deployment
    version: Version
    newest: str = ""


def plan_push(environment: str, request: PushRequest, now: LiveNow, lines: Equivalents) -> Plan | PlanRefused:
    """Return the plan, or the refusal with its options."""
    live, version, newest = now.deployment, now.version, now.newest
    if live.sole is None:
        return _gradual(environment, live)
    apart = bool(newest) and newest != version.id
    names = sorted(request.fingerprints)
    words = ", ".join(names)
    push: dict[str, Json] = {
        "secrets": dict(sorted(request.fingerprints.items())),
        "source": dict(request.source),
        "expected": live.id,
        "version": version.id,
        "code_hash": version.code_hash,
        "message": " ".join(request.message.split()),
        "detected": request.detected,
        "detected_at": request.detected_at,
    }
    listed: list[Json] = [*names]
    line = lines.secrets_apart if apart else lines.secrets.replace("{file}", request.file)
    if not apart and len(names) == 1:
        line = lines.secret.replace("{name}", names[0])
    steps = [
        Step("push_secrets", f"set {words} from {request.described}, in one call", push, line),
        Step("read_secrets", "read back the names that the live version has", {"names": listed}, lines.secret_names),
    ]
    if request.wait:
        steps.append(Step("verify_health", "ask the health endpoint", {}, lines.health))
    if request.report:
        steps.append(Step("report", "write the incident report", {"cause": request.cause}))
    if request.wait and request.cause:
        steps.append(Step("fall_back", "roll back if that did not help", {}))
    return Plan(
        kind=PlanKind.SECRETS,
        environment=environment,
        why=request.detected or " ".join(request.message.split()),
        steps=tuple(steps),
        notes=(*_notes(version, newest if apart else ""), *request.passed_over),
        cause=request.cause,
    )


def worded(plan: Plan, message: str) -> Plan:
    """Return the same plan with another reason: the one that a person gave when asked."""
    message = " ".join(message.split())
    steps = (replace(s, args={**s.args, "message": message}) if s.action == "push_secrets" else s for s in plan.steps)
    return replace(plan, why=message, steps=tuple(steps))


def _notes(version: Version, newest: str) -> tuple[str, ...]:
    how = f"a new version of the live code ({version.id[:8]}) with these values takes all of the traffic at once"
    if newest:
        how = (
            f"the newest version ({newest[:8]}) is not the live one, and secrets are only set on the newest: so the "
            f"live code ({version.id[:8]}) is uploaded again with these values, and takes all of the traffic at once"
        )
    return (how, "a rollback to an earlier version will then ask which values are meant (safety rule 7)")


def _gradual(environment: str, live: Deployment) -> PlanRefused:
    shares = " and ".join(f"version {share.version[:8]} at {share.percentage:g} %" for share in live.shares)
    return PlanRefused(
        RULE,
        f"a gradual deployment is on ({shares}), and a change of secrets would give all of the traffic to one version",
        (
            f"end it first, with the new version: `backout guard -e {environment}` moves it up, or deploy it at 100 %",
            f"or with the old one: `backout rollback -e {environment} -m WHY`",
        ),
    )
