"""Scenario 4: which way out is open when the schema forbids a code rollback, each as a plan that can be carried out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from backout.analysis.recovery import chain
from backout.analysis.stability import candidates, newcomer
from backout.errors import BackoutError, Refused, UsageError
from backout.model.plan import Plan, PlanRefused
from backout.model.recovery import show_lsn
from backout.plan.together import first_to_undo, lost_rows, together
from backout.runbook.restore import find, plan_swap
from backout.runbook.rollback import prepare

if TYPE_CHECKING:
    from backout.model.situation import Situation
    from backout.plan.rollback import Request
    from backout.runbook.restore import Found, RestoreTools
    from backout.runbook.toolbox import Toolbox

RULE = "4 schema"


def prepare_together(tools: Toolbox, restoring: RestoreTools, request: Request) -> tuple[Situation, Plan | PlanRefused]:
    """Return the plan that takes code and database back together. Changes nothing: this is the whole dry run.

    Raises:
        UsageError: there is no migration to take back, or no server of one's own that could be replaced.
        Refused: the moment before it cannot be reached.
    """
    situation, outcome = prepare(tools, replace(request, with_database=True))
    if not isinstance(outcome, Plan):
        return situation, outcome
    migration = _migration(situation, str(outcome.step("activate").args["version"]), request)
    if not migration:
        raise UsageError(
            "the target's code knows every migration: there is nothing to take back in the database",
            where=tools.environment,
            hint=f"backout rollback -e {tools.environment}",
        )
    swap = plan_swap(restoring, f"before migration {migration}")
    return situation, together(outcome, swap, migration)


def _migration(situation: Situation, version: str, request: Request) -> str:
    ranked = candidates(
        situation, leaving=newcomer(situation, apart_from=request.target), accept_unproven=True, schema_goes_back=True
    )
    target = next((each for each in ranked if each.version == version), None)
    return first_to_undo(situation, target) if target is not None else ""


@dataclass(frozen=True, slots=True)
class Ways:
    """What a person may do instead of a code rollback, in sentences; `command` deploys here, "" when nobody said."""

    environment: str
    command: str

    def forward(self, situation: Situation, migration: str) -> str:
        """Return option A."""
        failed = situation.schema.state.failed if situation.schema.state is not None else ()
        mend = (
            f"mend migration {migration}, which failed half-way, and mark it (`prisma migrate resolve`)"
            if migration in failed
            else f"write a migration that makes {migration} fit the code, or mend the code"
        )
        deploy = f"deploy with `{self.command}`" if self.command else "deploy"
        return f"A, roll forward: {mend}; {deploy}; then `backout guard -e {self.environment}`"

    def back(self, found: Found, written: str, took: str) -> str:
        """Return option B, when the moment can be reached."""
        target = found.target
        return (
            f"B, code and database together: `backout rollback --with-database -e {self.environment} -m WHY`: the "
            f"database as it was at {show_lsn(target.lsn)} ({target.how}); written since, and lost unless rescued: "
            f"{written}; {took}"
        )

    def shut(self, why: str) -> str:
        """Return why option B is shut."""
        missing = f"`backout db check -e {self.environment}` says what is missing"
        return f"B, code and database together, is shut: {why}; {missing}"


def with_ways(
    tools: Toolbox, restoring: RestoreTools | None, refused: PlanRefused, situation: Situation
) -> PlanRefused:
    """Return a refusal by the schema with the ways out before its other options; any other one as it is."""
    state = situation.schema.state
    if refused.rule != RULE or state is None:
        return refused
    ways = Ways(tools.environment, tools.deploy_command)
    migration = _to_undo(situation)
    if not migration:
        return refused
    options = (ways.forward(situation, migration), _back(ways, restoring, migration))
    kept = tuple(option for option in refused.options if not option.startswith("roll forward"))
    return replace(refused, options=(*options, *kept))


def _to_undo(situation: Situation) -> str:
    """Return the oldest migration that the nearest version which was ever live does not know."""
    ranked = candidates(situation, leaving=newcomer(situation), accept_unproven=True, schema_goes_back=True)
    target = next((each for each in ranked if each.eligible and each.last_live_at > 0), None)
    return first_to_undo(situation, target) if target is not None else ""


def _back(ways: Ways, restoring: RestoreTools | None, migration: str) -> str:
    if restoring is None:
        return ways.shut("no database is set up that could be restored from here")
    if restoring.server is None:
        return ways.shut("no server of one's own is set up (database.server)")
    try:
        found = find(restoring, f"before migration {migration}")
        written = lost_rows(written_since(restoring, found))
    except (BackoutError, Refused) as error:
        return ways.shut(str(error.what))
    return ways.back(found, written, "no drill has measured yet how long it takes")


def written_since(restoring: RestoreTools, found: Found) -> list[tuple[str, int]]:
    """Return (table, row versions written) since the target, the damage itself left out, as far as WAL was received."""
    target = found.target
    base = found.route.base if found.route is not None else None
    if base is None:
        return []
    spans = [
        replace(span, begin_lsn=max(span.begin_lsn, target.lsn))
        for span in chain(found.archive, base, target.timeline)[0]
        if span.end_lsn > target.lsn
    ]
    damage = frozenset(xid for commit in found.damage for xid in commit.xids)
    names = restoring.live.tables()
    counted: dict[str, int] = {}
    for node, rows in restoring.wal.written(spans, apart_from=damage).items():
        if node in names:
            counted[names[node]] = counted.get(names[node], 0) + rows
    return sorted(counted.items(), key=lambda each: (-each[1], each[0]))
