"""What a run came to, as values and in a few words: a watch's verdict, and what was shown of a change; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backout.model.incident import RunState
from backout.model.plan import PlanKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.incident import Run
    from backout.model.plan import Json
    from backout.model.shift import Acceptance

VOID = "void"
"""The verdict of a watch whose deployment another one replaced."""


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended, as far as it has.

    Args:
        verdict: of a watch: healthy, regressed, inconclusive, unmeasured or void; "" while there is none. action: what
            followed from it (stable, rollback, push_secret, ramp, hold, accept, refused, void), "" for nothing yet.
        rule: what forbade acting, "" for nothing. reason: of the verdict. why: of what followed, or what was shown.
        verified: of what changed something: whether it was shown to be well, None when nobody waited, or could tell.
        accepted: of a watch that was held: what persons said is intended since. settled: nothing holds it any more.
    """

    verdict: str = ""
    action: str = ""
    rule: str = ""
    reason: str = ""
    why: str = ""
    verified: bool | None = None
    accepted: tuple[Acceptance, ...] = ()
    settled: bool = False


def end_of(run: Run, results: Mapping[str, Json]) -> RunEnd:
    """Return how a run ended.

    Args:
        results: what its completed steps came to, by action.
    """
    if run.plan.kind is PlanKind.GUARD:
        watched, concluded = _table(results.get("watch")), _table(results.get("conclude"))
        decision, action = _table(watched.get("decision")), str(concluded.get("action") or "")
        is_void = bool(watched.get("moved")) or action == VOID
        return RunEnd(
            verdict=VOID if is_void else str(watched.get("verdict") or ""),
            action=action,
            rule=str(concluded.get("rule") or ""),
            reason=str(decision.get("reason") or ""),
            why=str(concluded.get("why") or ""),
        )
    shown = [_table(results.get(step.action)) for step in run.plan.steps if step.action.startswith("verify")]
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


def in_words(run: Run, end: RunEnd) -> str:
    """Return the end in a few words, "" when there is none: `regressed, rolled back`, `verified`."""
    if run.plan.kind is PlanKind.GUARD:
        did = "observed" if end.rule == "observe" else _DID.get(end.action, "")
        if end.action == "hold" and not end.rule and end.verdict in _UNDECIDED:  # nothing waits for a person
            did = "nothing was changed"
        if end.accepted:
            by = ", ".join(dict.fromkeys(each.by for each in end.accepted if each.by)) or "somebody"
            did = f"accepted by {by}" if end.settled else f"{did}, in part accepted by {by}"
        return ", ".join(part for part in (end.verdict, did if end.verdict != VOID else "") if part)
    waits = any(step.action.startswith("verify") for step in run.plan.steps)
    if run.state is not RunState.DONE or not waits:
        return ""
    return {True: "verified", False: "not restored", None: "not proven"}[end.verified]


def _table(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}
