"""The outcome of a run, as values and in a few words: a watch's verdict, and whether a change is well; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.incident.incident import RunState
from backout.model.plan import PlanKind
from backout.model.value import Value
from backout.report.verified import VERIFIED
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.guard.shift import Acceptance
    from backout.model.incident.incident import Run
    from backout.model.plan import Json

VOID = "void"
"""The verdict of a watch whose deployment another one replaced."""


class RunEnd(Value, frozen=True):
    """How a run ended, as far as it has.

    Args:
        verdict: of a watch: healthy, regressed, inconclusive, unmeasured or void; "" while there is none.
        action: what followed from it (stable, rollback, push_secret, ramp, hold, accept, refused, void), "" for nothing
            yet.
        rule: what forbade acting, "" for nothing.
        reason: of the verdict.
        why: of what followed, or what was shown.
        verified: for a change: whether it was shown to be well, None when that was not waited for or not known.
        accepted: for a watch that was held: what people have accepted as intended since.
        settled: nothing holds it any more.
    """

    verdict: str = ""
    action: str = ""
    rule: str = ""
    reason: str = ""
    why: str = ""
    verified: bool | None = None
    accepted: tuple[Acceptance, ...] = ()
    settled: bool = False


def find_end(run: Run, results: Mapping[str, Json]) -> RunEnd:
    """Return how a run ended.

    Args:
        results: the results of its completed steps, by action.
    """
    if run.plan.kind is PlanKind.GUARD:
        watched, concluded = _get_table(results.get("watch")), _get_table(results.get("conclude"))
        decision, action = _get_table(watched.get("decision")), str(concluded.get("action") or "")
        is_void = bool(watched.get("moved")) or action == VOID
        return RunEnd(
            verdict=VOID if is_void else str(watched.get("verdict") or ""),
            action=action,
            rule=str(concluded.get("rule") or ""),
            reason=str(decision.get("reason") or ""),
            why=str(concluded.get("why") or ""),
        )
    shown = [_get_table(results.get(step.action)) for step in run.plan.steps if step.action.startswith("verify")]
    last = next((each for each in reversed(shown) if each), {})
    verified = last.get("verified")
    if run.plan.kind is PlanKind.BACKUP and last:
        return RunEnd(why="every file was read and is whole", verified=True)
    return RunEnd(why=str(last.get("summary") or ""), verified=verified if isinstance(verified, bool) else None)


_DID = {
    "stable": "marked stable",
    "rollback": "rolled back",
    "push_secret": "secrets set",
    "ramp": "moved up",
    "accept": "accepted",
    "refused": "refused",
    "hold": "held",
}


_UNDECIDED = ("inconclusive", "unmeasured")


def describe_end(run: Run, end: RunEnd, *, held: str = _DID["hold"]) -> str:
    """Return the end in a few words, "" when there is none: `regressed, rolled back`, `verified`.

    Args:
        held: what a watch did that was held, and waits for a person.
    """
    if run.plan.kind is PlanKind.GUARD:
        did = "observed" if end.rule == SafetyRule.OBSERVE else (_DID | {"hold": held}).get(end.action, "")
        if end.action == "hold" and not end.rule and end.verdict in _UNDECIDED:  # nothing waits for a person
            did = "nothing was changed"
        if end.accepted:
            by = ", ".join(dict.fromkeys(each.by for each in end.accepted if each.by)) or "someone"
            did = f"accepted by {by}" if end.settled else f"{did}, in part accepted by {by}"
        return ", ".join(part for part in (end.verdict, did if end.verdict != VOID else "") if part)
    waits = any(step.action.startswith("verify") for step in run.plan.steps)
    if run.state is not RunState.DONE or not waits:
        return ""
    return VERIFIED[end.verified]


def _get_table(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}
