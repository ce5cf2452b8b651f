"""The plan of a roll-forward (Scenario 4, option A): the team's own deployment of a fix; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.plan import Plan, PlanKind, PlanRefused, Step
from backout.model.steps.forward import (
    CheckHeadStep,
    CheckMigrationsStep,
    DeployStep,
    ReadNewStep,
    SettleForwardStep,
)
from backout.model.steps.rollback import ReportStep
from backout.model.steps.verification import VerifyStep
from backout.model.value import Value
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.database.compatibility import MigrationVerdict
    from backout.model.plan import Equivalents
    from backout.model.situation import Situation


class Mended(Value, frozen=True):
    """The fix in the working copy that is to be deployed.

    Args:
        command: deploys it.
        pending: the verdicts, for the code that is live now, on the migrations not applied yet.
        unjudged: why it is not known which those are, "" when it is.
        message: why it is deployed.
        wait: verify and report afterwards.
    """

    command: str
    message: str
    pending: Sequence[MigrationVerdict] = ()
    unjudged: str = ""
    wait: bool = True


def plan_forward(situation: Situation, mended: Mended, lines: Equivalents) -> Plan | PlanRefused:
    """Return the plan: look at the migrations, deploy, read back version and migration head, verify, report.

    Refused while the history has a migration that failed half-way (its tool would apply nothing), and while the history
    cannot be read.
    """
    refused = _find_refusal(situation, mended)
    if refused is not None:
        return refused
    live = situation.live
    verdicts = {migration.name: migration.verdict for migration in mended.pending}
    schema = situation.schema.set_up
    judged = schema and not mended.unjudged
    deploy = DeployStep(expected=live.id, leaving=live.main, leaving_since=live.created_at, command=mended.command)
    steps = [
        Step.of(
            "look at the migrations and at what is live once more",
            CheckMigrationsStep(expected=live.id, leaving=live.main, pending=verdicts, judged=judged),
            f"backout db migrations status -e {situation.environment}" if schema else lines.live,
        ),
        Step.of("run the team's own deploy command", deploy, mended.command, irreversible=True),
        Step.of("read back which new version is live", ReadNewStep(expected=live.id, leaving=live.main), lines.live),
    ]
    if schema:
        title = f"see that {', '.join(verdicts)} was applied" if verdicts else "see that no migration failed"
        again = f"backout db migrations status -e {situation.environment}"
        steps.append(Step.of(title, CheckHeadStep(pending=tuple(verdicts)), again))
    if mended.wait:
        watched = VerifyStep(left=live.main, baseline_until=live.created_at)
        steps += [
            Step.of("watch the success criteria", watched, lines.health),
            Step.of("write the incident report", ReportStep()),
        ]
    steps.append(Step.of("send the notices", SettleForwardStep(leaving=live.main)))
    return Plan(
        kind=PlanKind.FORWARD,
        environment=situation.environment,
        why=" ".join(mended.message.split()) or f"roll forward from {live.main[:8]}",
        steps=tuple(steps),
        notes=_list_notes(situation, mended),
    )


def _find_refusal(situation: Situation, mended: Mended) -> PlanRefused | None:
    schema, environment = situation.schema, situation.environment
    by_hand = f"deploy by hand: `{mended.command}`, then `backout guard -e {environment}`"
    if schema.set_up and schema.state is None:
        return PlanRefused(SafetyRule.SCHEMA, f"the migration history cannot be read: {schema.problem}", (by_hand,))
    failed = schema.state.failed if schema.state is not None else ()
    if not failed:
        return None
    return PlanRefused(
        SafetyRule.SCHEMA,
        f"migration {failed[0]} failed half-way and is unresolved: nothing after it is applied",
        (
            f"see how much of it was applied: `backout db migrations drift -e {environment}`",
            f"fix it and mark it: `npx prisma migrate resolve --rolled-back {failed[0]}`, where Prisma applied it",
            f"then again: `backout roll-forward -e {environment} -m WHY`",
        ),
    )


def _list_notes(situation: Situation, mended: Mended) -> tuple[str, ...]:
    if not situation.schema.set_up:
        return ("database migrations: not set up, so not looked at",)
    if mended.unjudged:
        return (f"it is not known here which migrations are pending: {mended.unjudged}",)
    if not mended.pending:
        return ("no migration is pending: only the code is fixed",)
    return tuple(
        f"migration {migration.name} is {migration.verdict} for the code that is live until then"
        for migration in mended.pending
    )
