"""Backups that are not signed although there is a key: accepted by typed name, recorded, and first proved beside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import BackoutError, Refused, UsageError
from backout.model.names import is_history, is_id
from backout.model.steps.restore import SideCheckStep, SideOpenStep, SideStep
from backout.model.value import Value
from backout.rules import SafetyRule
from backout.runbook.recovery.tools import Accepted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.plan import Json, Plan
    from backout.ports import Journal
    from backout.runbook.recovery.tools import RestoreTools

ACCEPTED = "database.unsigned.accepted"
PROVED = "database.unsigned.proved"
RULE = SafetyRule.SIGNED_BACKUPS


def read_names(texts: Sequence[str]) -> tuple[str, ...]:
    """Return what `--accept-unsigned` names. Raises UsageError: it is not an id."""
    for text in texts:
        if not is_id(text) and not is_history(text):
            raise UsageError(f"{text!r} is not an id", where="--accept-unsigned", hint="backout db backups list")
    return tuple(dict.fromkeys(texts))


class Acceptance(Value, frozen=True):
    """Who accepts what although it is not signed, why, and when (Unix seconds)."""

    names: tuple[str, ...]
    why: str
    actor: str
    at: float


def record_accepted(journal: Journal, environment: str, told: Acceptance) -> None:
    """Record that a person accepts what is not signed; without names nothing is recorded."""
    if told.names:
        data: dict[str, Json] = {"names": list(told.names), "why": told.why}
        journal.note(environment, ACCEPTED, f"{','.join(told.names)}:{told.at:.6f}", data, actor=told.actor)


def check_plan(tools: RestoreTools, plan: Plan) -> None:
    """Check whether a plan needs what was accepted, and may use it.

    Raises:
        UsageError: it uses nothing that is not signed.
        Refused: it touches the live database, and no side instance of the backup has been made yet.
    """
    if not tools.accepted.names:
        return
    used = _list_used(tools, plan)
    if not used:
        what = f"{', '.join(tools.accepted.names)} is not used: what this restore starts from is signed"
        raise UsageError(what, where=tools.environment, hint="leave --accept-unsigned out")
    if tools.accepted.to_side:
        return
    proved = {str(event.data["backup"]) for event in tools.journal.events(environment=tools.environment, kind=PROVED)}
    for name in used:
        if name not in proved:
            raise Refused(
                f"{name} is not signed, and goes to a side instance before anything of it reaches the live database",
                where=tools.environment,
                rule=RULE,
                hint=f"backout db restore TARGET --side --accept-unsigned {name} -e {tools.environment}",
            )


def record_proved(tools: RestoreTools, plan: Plan, run: str) -> None:
    """Record that a side instance of what was accepted came up and was checked."""
    for name in _list_used(tools, plan) if tools.accepted.names and tools.accepted.to_side else ():
        tools.journal.note(tools.environment, PROVED, f"{name}:{run}", {"backup": name, "run": run}, actor=tools.actor)


def read_accepted(plan: Plan) -> Accepted:
    """Return what was accepted for a plan, for a run that is picked up again."""
    names: list[str] = []
    to_side = True
    for step in plan.steps:
        side = step.arguments(SideStep) if step.does(SideStep) else None
        names += side.accepted if side is not None else ()
        to_side = to_side and any(step.does(kind) for kind in (SideStep, SideCheckStep, SideOpenStep))
        to_side = to_side and (side is None or not side.place)
    return Accepted(read_names(names), to_side=to_side)


def add_refused(tools: RestoreTools, error: Refused | UsageError) -> BackoutError:
    """Return the error of a restore that finds no way, naming the backups that may not be used.

    If there is no other backup, the newest one's own reason is the answer.
    """
    refused = tools.refused()
    if not refused:
        return error
    if not tools.backups.backups():
        return refused[-1][1]
    if isinstance(error, Refused):
        error.options = (*error.options, *(f"Backup {name} is not used: {why.what}." for name, why in refused))
    return error


def _list_used(tools: RestoreTools, plan: Plan) -> tuple[str, ...]:
    """Return which of the plan's bases are not signed, and which of its segments were accepted by their names."""
    unsigned = {base.id for base in tools.backups.backups() if base.unsigned}
    used: list[str] = []
    for step in plan.steps:
        if not step.does(SideStep):
            continue
        side = step.arguments(SideStep)
        used += [name for name in side.wal if name in tools.accepted.names]
        used += [side.backup] if side.backup in unsigned else []
    return tuple(dict.fromkeys(used))
