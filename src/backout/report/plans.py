"""A plan and a verification as text for a terminal; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.guard.verdict import CriterionState, Verification
from backout.report.text import Paint, format_fields, leave_plain, wrap_text
from backout.report.verified import describe_verified

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backout.model.guard.verdict import CriterionResult
    from backout.model.plan import Plan

SIGNS = {
    CriterionState.PASSED: ("good", "✓"),
    CriterionState.FAILED: ("bad", "✗"),
    CriterionState.WAITING: ("warn", "…"),
    CriterionState.UNMEASURED: ("warn", "?"),
    CriterionState.NOT_SET_UP: ("dim", "-"),
}


FEW = 3
"""At most this many versions that were passed over are named; the others are counted."""


def format_plan(plan: Plan, *, width: int = 80, paint: Paint = leave_plain) -> str:
    """Return the plan: why, target, versions passed over, the steps, what a person would type, what is not covered."""
    heading = paint("strong", f"Plan to {_choose_verb(plan)} {plan.environment}") + paint(
        "dim", f"  (plan {plan.hash[:8]})"
    )
    rows, passed_over = [("why", plan.why)], sum(note.startswith("not ") for note in plan.notes)
    for note in plan.notes:
        label, _, rest = note.partition(" ")
        if label != "not" or passed_over <= FEW:
            rows.append((label, rest) if label in ("target", "not") else ("note", note))
    if passed_over > FEW:
        rows.append(("not", f"{passed_over} versions that were live later; --json has the reason of each"))
    lines = [heading, *format_fields(rows, width, paint=paint), ""]
    for number, step in enumerate(plan.steps, start=1):
        lines += wrap_text(step.title, width, indent=f"  {number}. ", hanging="     ")
        for line in step.equivalent.splitlines():
            lines.append(paint("dim", f"     {line}" if line.startswith("#") else f"     $ {line}"))
    if plan.coverage:
        lines.append("")
        lines += format_fields(
            [(str(line.fate), f"{line.what}: {line.why}") for line in plan.coverage], width, paint=paint
        )
    if plan.not_covered:
        lines.append("")
        lines += format_fields([("not covered", text) for text in plan.not_covered], width, paint=paint)
    return "\n".join(lines)


def _choose_verb(plan: Plan) -> str:
    return _VERBS.get(plan.kind, str(plan.kind))


_VERBS = {
    "guard": "watch",
    "rollback": "roll back",
    "ramp": "move up",
    "secrets": "set secrets of",
    "forward": "roll forward",
}


def format_verification(verification: Verification, *, width: int = 80, paint: Paint = leave_plain) -> str:
    """Return the success criteria as a checklist, and the conclusion."""
    lines = format_criteria(verification.criteria, width=width, paint=paint)
    role = {True: "good", False: "bad", None: "warn"}[verification.verified]
    word = paint(role, describe_verified(verification.verified))
    lines += wrap_text(f"{word}: {verification.summary}", width)
    return "\n".join(lines)


def format_criteria(criteria: Iterable[CriterionResult], *, width: int = 80, paint: Paint = leave_plain) -> list[str]:
    """Return the lines of a checklist: each criterion with its evidence."""
    lines = []
    for result in criteria:
        role, sign = SIGNS[result.state]
        text = wrap_text(f"{result.name}: {result.evidence}", width - 4, hanging="  ")
        lines.append(f"  {paint(role, sign)} {text[0]}")
        lines += [f"    {line}" for line in text[1:]]
    return lines
