"""The plan of a roll-forward (Scenario 4, option A): the team's own deployment of what was mended; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backout.model.plan import Plan, PlanKind, PlanRefused, Step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.model.compatibility import MigrationVerdict
    from backout.model.plan import Equivalents, Json
    from backout.model.situation import Situation


@dataclass(frozen=True, slots=True)
class Mended:
    """What lies in the working copy to be deployed.

    Args:
        command: deploys it. pending: the verdicts, for the code that is live now, on the migrations not applied yet.
        unjudged: why nobody can tell which those are, "" when somebody can. message: why it is deployed.
        wait: verify and report afterwards.
    """

    command: str
    message: str
    pending: Sequence[MigrationVerdict] = ()
    unjudged: str = ""
    wait: bool = True


def plan_forward(situation: Situation, mended: Mended, lines: Equivalents) -> Plan | PlanRefused:
    """Return the plan: look at the migrations, deploy, read back version and migration head, verify, report.

    Refused while a migration that failed half-way stands in the history (its tool would apply nothing), and while the
    history cannot be read.
    """
    refused = _refused(situation, mended)
    if refused is not None:
        return refused
    live = situation.live
    asked: Mapping[str, Json] = {"expected": live.id, "leaving": live.main}
    verdicts: dict[str, Json] = {migration.name: migration.verdict for migration in mended.pending}
    schema = situation.schema.set_up
    steps = [
        Step(
            "check_migrations",
            "look at the migrations and at what is live once more",
            {**asked, "pending": verdicts, "judged": schema and not mended.unjudged},
            f"backout db migrations status -e {situation.environment}" if schema else lines.live,
        ),
        Step(
            "deploy",
            "run the team's own deploy command",
            {**asked, "leaving_since": live.created_at, "command": mended.command},
            mended.command,
            irreversible=True,
        ),
        Step("read_new", "read back which new version is live", asked, lines.live),
    ]
    if schema:
        title = f"see that {', '.join(verdicts)} was applied" if verdicts else "see that no migration failed"
        again = f"backout db migrations status -e {situation.environment}"
        steps.append(Step("check_head", title, {"pending": list(verdicts)}, again))
    if mended.wait:
        watched: Mapping[str, Json] = {"left": live.main, "baseline_until": live.created_at}
        steps += [
            Step("verify", "watch the success criteria", watched, lines.health),
            Step("report", "write the incident report", {"cause": ""}),
        ]
    steps.append(Step("settle_forward", "tell somebody", {"leaving": live.main}))
    return Plan(
        kind=PlanKind.FORWARD,
        environment=situation.environment,
        why=" ".join(mended.message.split()) or f"roll forward from {live.main[:8]}",
        steps=tuple(steps),
        notes=_notes(situation, mended),
    )


def _refused(situation: Situation, mended: Mended) -> PlanRefused | None:
    schema, environment = situation.schema, situation.environment
    by_hand = f"deploy by hand: `{mended.command}`, then `backout guard -e {environment}`"
    if schema.set_up and schema.state is None:
        return PlanRefused("4 schema", f"the migration history cannot be read: {schema.problem}", (by_hand,))
    failed = schema.state.failed if schema.state is not None else ()
    if not failed:
        return None
    return PlanRefused(
        "4 schema",
        f"migration {failed[0]} failed half-way, and nobody said what became of it: nothing after it is applied",
        (
            f"look what of it is there: `backout db migrations drift -e {environment}`",
            f"mend it and mark it: `npx prisma migrate resolve --rolled-back {failed[0]}`, where Prisma applied it",
            f"then again: `backout roll-forward -e {environment} -m WHY`",
        ),
    )


def _notes(situation: Situation, mended: Mended) -> tuple[str, ...]:
    if not situation.schema.set_up:
        return ("database migrations: not set up, so not looked at",)
    if mended.unjudged:
        return (f"which migrations are pending is not known here: {mended.unjudged}",)
    if not mended.pending:
        return ("no migration is pending: the code alone is mended",)
    return tuple(
        f"migration {migration.name} is {migration.verdict} for the code that is live until then"
        for migration in mended.pending
    )
