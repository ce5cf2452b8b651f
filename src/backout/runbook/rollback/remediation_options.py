"""Scenario 4: which ways out are open when the schema forbids a code rollback."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.analysis.history.stability import find_newcomer, list_candidates
from backout.errors import BackoutError
from backout.model.database.wal import show_lsn
from backout.model.value import Value
from backout.plan.together import describe_lost_rows, find_first_to_undo
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from backout.model.database.wal import WalSpan
    from backout.model.plan import PlanRefused
    from backout.model.situation import Situation
    from backout.runbook.recovery.target import Found
    from backout.runbook.recovery.tools import RestoreTools
    from backout.runbook.toolbox import Toolbox

RULE = SafetyRule.SCHEMA
_OF_CLUSTER = "other databases of its server go back too: `--dry-run` counts them, and each needs a yes by its name"


class Ways(Value, frozen=True):
    """What a person may do instead of a code rollback, in sentences; `command` deploys here, "" if none is set."""

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
        deploy = (
            f"then `backout roll-forward -e {self.environment} -m WHY` (`--dry-run` shows the plan): it deploys with "
            f"`{self.command}`, reads back what is live and which migrations are applied, and verifies it"
            if self.command
            else f"deploy; then `backout guard -e {self.environment}` (with `deploy.command` set, "
            f"`backout roll-forward -e {self.environment}` does both)"
        )
        return f"A, roll forward: {mend}; {deploy}"

    def back(self, found: Found, written: str, took: str) -> str:
        """Return option B, when the moment can be reached."""
        target = found.target
        return (
            f"B, code and database together: `backout rollback --with-database -e {self.environment} -m WHY`: the "
            f"database as it was at {show_lsn(target.lsn)} ({target.how}); written since, and lost unless rescued: "
            f"{written}; {_OF_CLUSTER}; {took}"
        )

    def describe_unmeasured(self, migration: str) -> str:
        """Return option B before it was checked whether the moment can be reached."""
        return (
            f"B, code and database together: `backout rollback --with-database --dry-run -e {self.environment}` shows "
            f"the exact moment before {migration}; what was written since is lost unless rescued; {_OF_CLUSTER}"
        )

    def data(self, migration: str, *, rescue: bool) -> str:
        """Return option C, when the moment can be reached; `rescue`: what the migration took can be put back alone."""
        side, damage = list_restore_lines(self.environment, migration)
        put_back = (
            f"; `{damage}` counts what it took from rows, and without `--dry-run` puts that back" if rescue else ""
        )
        return f"C, the data alone: `{side}` shows it as it was, beside the live one{put_back}; the code stays"

    def shut(self, why: str) -> str:
        """Return why option B is closed."""
        missing = f"`backout db check -e {self.environment}` says what is missing"
        return f"B, code and database together, is closed: {why}; {missing}"


def add_ways(tools: Toolbox, refused: PlanRefused, situation: Situation, *, measured: bool = True) -> PlanRefused:
    """Return a refusal by the schema with the ways out before its other options; others as they are.

    Args:
        measured: search the archive for the exact moment and for what was written since, which takes seconds for each
            gigabyte of WAL; otherwise the command that does so is named.
    """
    state = situation.schema.state
    if refused.rule != RULE or state is None:
        return refused
    ways = Ways(tools.environment, tools.rollback.deploy_command)
    migration = _find_to_undo(situation)
    if not migration:
        return refused
    others = _measure_ways(ways, tools, migration) if measured else (ways.describe_unmeasured(migration),)
    options = (ways.forward(situation, migration), *others)
    kept = tuple(option for option in refused.options if not option.startswith("roll forward"))
    return replace(refused, options=(*options, *kept))


def _find_to_undo(situation: Situation) -> str:
    """Return the oldest migration that is unknown to the nearest version that was ever live."""
    ranked = list_candidates(situation, leaving=find_newcomer(situation), accept_unproven=True, schema_goes_back=True)
    target = next((each for each in ranked if each.eligible and each.last_live_at > 0), None)
    return find_first_to_undo(situation, target) if target is not None else ""


def list_restore_lines(environment: str, migration: str) -> tuple[str, str]:
    """Return the commands that show the data as it was before a migration, and that count what it took from rows."""
    plain = all(each.isalnum() or each in "_-." for each in migration)
    moment = f'"before migration {migration}"' if plain else shlex.quote(f"before migration {migration}")
    base = f"backout db restore {moment} -e {environment}"
    return f"{base} --side", f"{base} --dry-run"


def list_data_lines(tools: Toolbox, situation: Situation) -> tuple[str, ...]:
    """Return the commands that bring data back from before the migration in question and would work now."""
    migration = _find_to_undo(situation) if situation.schema.state is not None else ""
    if not migration or tools.recovery.restoring is None:
        return ()
    try:
        restoring = tools.recovery.restoring()
        _find_target(restoring, migration)
    except BackoutError:
        return ()
    side, damage = list_restore_lines(tools.environment, migration)
    lines = (f"{side}  # the data as it was before {migration}, beside the live one",)
    return (*lines, f"{damage}  # what it took from rows") if _can_rescue(restoring, migration) else lines


def _measure_ways(ways: Ways, tools: Toolbox, migration: str) -> tuple[str, ...]:
    """Return option B, or why it is closed, and option C if it would work."""
    if tools.recovery.restoring is None:
        return (ways.shut("no database is set up that could be restored from here"),)
    try:
        restoring = tools.recovery.restoring()
        found = _find_target(restoring, migration)
        written = describe_lost_rows(list_written_since(restoring, found))
        if is_beyond_hole(found):
            written = f"at least {written} (the archive has a hole since, and what was written in it is not counted)"
    except BackoutError as error:
        return (ways.shut(str(error.what)),)
    if restoring.server is None:
        back = ways.shut("no self-hosted server is set up (database.server)")
    else:
        back = ways.back(found, written, "no drill has measured yet how long it takes")
    return back, ways.data(migration, rescue=_can_rescue(restoring, migration))


def _find_target(restoring: RestoreTools, migration: str) -> Found:
    from backout.runbook.recovery.target import find

    return find(restoring, f"before migration {migration}")


def _can_rescue(restoring: RestoreTools, migration: str) -> bool:
    """Whether what one migration took can be put back alone: its plan can be made; nothing is touched."""
    from backout.runbook.recovery.restore import plan_rescue

    try:
        plan_rescue(restoring, f"before migration {migration}", conflicts="live", skip=(), queues=False)
    except BackoutError:
        return False
    return True


def list_written_since(restoring: RestoreTools, found: Found) -> list[tuple[str, int]]:
    """Return (table, row versions written) since the target, the damage itself left out, as far as WAL was received."""
    target = found.target
    if found.route is None:
        return []
    spans = [
        replace(span, begin_lsn=max(span.begin_lsn, target.lsn))
        for stretch in _list_since(found)
        for span in stretch
        if span.end_lsn > target.lsn
    ]
    damage = frozenset(xid for commit in found.damage for xid in commit.xids)
    names = restoring.live.tables()
    counted: dict[str, int] = {}
    for node, rows in restoring.wal.written(spans, apart_from=damage).items():
        if node in names:
            counted[names[node]] = counted.get(names[node], 0) + rows
    return sorted(counted.items(), key=lambda each: (-each[1], each[0]))


def is_beyond_hole(found: Found) -> bool:
    """Whether WAL between the target and now is missing, so that not all that was written since can be counted."""
    return len(_list_since(found)) > 1


def _list_since(found: Found) -> list[tuple[WalSpan, ...]]:
    from backout.analysis.recovery.recovery import find_stretches

    target = found.target
    return [each for each in find_stretches(found.archive, target.timeline) if each[-1].end_lsn > target.lsn]
