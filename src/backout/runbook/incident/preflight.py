"""Before a deployment: what a person allows although it is missing, and when the checks only advise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.errors import BackoutError, UsageError
from backout.model.checkup import CheckState, Checkup
from backout.runbook.incident.records import list_incidents

if TYPE_CHECKING:
    from collections.abc import Collection

    from backout.model.plan import Json
    from backout.ports import Clock, Journal, Runs

ALLOWED: Final = "preflight.allowed"
FIXES: Final = "preflight.fixes"


def find_advice(journal: Journal, runs: Runs, found: Checkup, *, fixes: str) -> str:
    """Return why the checks only advise, "" where they decide: a fix is never stopped in an incident.

    Args:
        found: before any gap was allowed.
        fixes: the incident that the deployment is to end, as a person names it; "" for none.
    """
    if fixes:
        return f"this deployment fixes {fixes}"
    first = next((each for each in found.checks if each.name == "platform"), None)
    if first is not None and first.state is CheckState.ALLOWED:
        return "nothing is live yet"
    try:
        known = list_incidents(journal, runs, found.environment)
    except BackoutError:  # the check of the journal says so
        return ""
    return next((f"the incident {each.id} is open" for each in known if each.resolved_at is None), "")


def check_names(found: Checkup, names: Collection[str], known: Collection[str]) -> None:
    """Check that each name is that of a check; `known`: those that are not made of everything. Raises UsageError."""
    made = {check.name for check in found.checks}
    for name in names:
        if name not in made and name not in known:
            gaps = dict.fromkeys(check.name for check in found.checks if check.is_gap)
            raise UsageError(
                f"no check is called '{name}'; those with a gap: {', '.join(gaps) or 'none'}",
                hint=f"backout preflight --allow {next(iter(gaps), 'CHECK')} -m WHY",
            )


def accept_gaps(
    found: Checkup,
    names: Collection[str],
    why: str,
    *,
    known: Collection[str] = (),
    notes: Journal,
    actor: str,
    clock: Clock,
) -> Checkup:
    """Return the checks with these gaps allowed, each recorded before; what is no gap stays as it is.

    Args:
        known: names of checks that are not made of everything: a pipeline may name one that has nothing to say today.

    Raises:
        UsageError: no check has that name.
        BackoutError: it could not be recorded.
    """
    check_names(found, names, known)
    at, checks = f"{clock.now():.3f}", []
    for check in found.checks:
        if check.name in names and check.is_gap:
            data: dict[str, Json] = {"check": check.name, "state": str(check.state), "gap": check.why, "why": why}
            notes.note(found.environment, ALLOWED, f"{at}:{check.name}", data, actor=actor)
            said = f"{check.why} (allowed by {actor}: {why})"
            checks.append(replace(check, state=CheckState.ALLOWED, why=said))
        else:
            checks.append(check)
    return replace(found, checks=tuple(checks))


def record_fix(found: Checkup, incident: str, why: str, *, notes: Journal, actor: str, clock: Clock) -> None:
    """Record that a deployment went on with gaps because it fixes an incident. Raises BackoutError."""
    gaps: list[Json] = [check.name for check in found.checks if check.is_blocking]
    data: dict[str, Json] = {"incident": incident, "gaps": gaps, "why": why}
    notes.note(found.environment, FIXES, f"{clock.now():.3f}", data, actor=actor)
