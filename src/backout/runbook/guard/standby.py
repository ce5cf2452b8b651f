"""What a watch keeps ready: the version before, whose processes a rollback would give the visitors to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.errors import BackoutError
from backout.model.steps.guard import RampStep, WatchStep

if TYPE_CHECKING:
    from backout.model.plan import Plan
    from backout.model.release import ReleaseProcess
    from backout.runbook.toolbox import Toolbox

_MB: Final = 1_000_000


def find_standby(plan: Plan) -> str:
    """Return the version that a watch, or a step of a ramp, keeps warm for a rollback; "": none, or another plan."""
    if plan.has(RampStep):
        return plan.arguments(RampStep).old
    return plan.arguments(WatchStep).old if plan.has(WatchStep) else ""


def note_standby(tools: Toolbox, watch: Plan) -> Plan:
    """Return the plan of a watch with what the version before it takes while it stays warm, or that it does not run."""
    old = find_standby(watch)
    if tools.rollback.standby is None or not old:
        return watch
    try:
        found = tools.rollback.standby.measure(old)
    except BackoutError as error:
        note = f"whether version {old[:8]} still runs is not known: {error.what}"
        return replace(watch, notes=(*watch.notes, note))
    warm = ", ".join(_describe_memory(each) for each in found if each.runs)
    cold = ", ".join(each.host for each in found if not each.runs)
    notes = list(watch.notes)
    if warm:
        notes.append(f"version {old[:8]} stays warm for a rollback: {warm}")
    if cold:
        notes.append(f"version {old[:8]} does not run ({cold}): a rollback starts it first")
    return replace(watch, notes=tuple(notes))


def _describe_memory(process: ReleaseProcess) -> str:
    size = process.memory_bytes
    taken = "memory not measured" if size is None else f"{max(1, round(size / _MB))} MB of memory"
    return f"{taken} ({process.host})"
