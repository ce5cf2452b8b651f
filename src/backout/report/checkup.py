"""A checkup as JSON values and as a table; pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from backout.model.checkup import CheckState, Level
from backout.report.text import leave_plain, wrap_text

if TYPE_CHECKING:
    from backout.model.checkup import Check, Checkup
    from backout.model.hint import Hint
    from backout.report.text import Paint

Badge = Callable[[str, str], str]
"""(role, word) -> the role's symbol and the word."""

_ROLES: Final = {CheckState.OK: "good", CheckState.ALLOWED: "note", CheckState.NOT_SET_UP: "dim"}


def make_checkup_record(found: Checkup) -> dict[str, object]:
    """Return it as JSON values."""
    return {
        "environment": found.environment,
        "ready": found.ready,
        "checks": [make_check_record(each) for each in found.checks],
    }


def make_check_record(each: Check) -> dict[str, object]:
    """Return a check as JSON values."""
    return {
        "name": each.name,
        "level": each.level,
        "state": each.state,
        "why": each.why,
        "next": str(each.next) or None,
    }


def format_checkup(
    found: Checkup, width: int, *, badge: Badge, paint: Paint = leave_plain, typed: Callable[[str], str] = str
) -> str:
    """Return a line for each check, and below each gap the way to close it, once.

    Args:
        typed: returns a line as it has to be typed here; lines of a file come below the first one.
    """
    head = f"{paint('strong', found.environment)}  {_describe_summary(found, badge)}"
    lines = wrap_text(head, width, hanging=" " * (len(found.environment) + 4))
    return "\n".join([*lines, *format_check_lines(found.checks, width, badge=badge, paint=paint, typed=typed)])


def format_check_lines(
    checks: Sequence[Check], width: int, *, badge: Badge, paint: Paint, typed: Callable[[str], str]
) -> list[str]:
    """Return the lines of checks, and below each gap the way to close it, once; `typed` as of `format_checkup`."""
    column = max((len(check.name) for check in checks), default=0)
    hanging, closes = " " * (column + 6), _closes(checks)
    lines: list[str] = []
    for check in checks:
        name = f"{check.name.replace('_', ' '):<{column}}"
        said = wrap_text(_explain_check(check), width, indent=hanging, hanging=hanging)
        lines += [f"  {badge(_describe_role(check), '')} {paint('dim', name)}  {said[0].lstrip()}", *said[1:]]
        if closes.get(check.next) is check:
            lines += _format_hints(check.next, width, hanging, typed)
    return lines


def _format_hints(hint: Hint, width: int, hanging: str, typed: Callable[[str], str]) -> list[str]:
    """Return each thing to do on a line of its own; text to paste is not wrapped."""
    lines: list[str] = []
    for said in (hint.words, hint.setting):
        first, *more = typed(said).splitlines() or [""]
        lines += wrap_text(f"→ {first}", width, indent=hanging, hanging=f"{hanging}  ") if first else []
        lines += [f"{hanging}  {line}" for line in more]  # of a file
    lines += [f"{hanging}→ {typed(line)}" for line in hint.lines]
    if hint.note:
        note = f"  # {hint.note}"
        fits = len(lines[-1]) + len(note) <= width
        lines[-1:] = [lines[-1] + note] if fits else [lines[-1], *wrap_text(note.strip(), width, indent=f"{hanging}  ")]
    return lines


def _closes(checks: Sequence[Check]) -> dict[Hint, Check]:
    """Return the check below which each gap-closing line is shown: the first missing one, else the first."""
    owners: dict[Hint, Check] = {}
    for check in checks:
        if not check.next or not (check.is_gap or check.state is CheckState.ALLOWED):
            continue
        known = owners.get(check.next)
        if known is None or (known.state is not CheckState.MISSING and check.state is CheckState.MISSING):
            owners[check.next] = check
    return owners


def _describe_role(check: Check) -> str:
    if check.state in _ROLES:
        return _ROLES[check.state]
    return "bad" if check.level is Level.MUST and check.state is CheckState.MISSING else "warn"


def was_not_asked(check: Check) -> bool:
    """Return whether a check was not made because an earlier one had failed, which says what to do."""
    return check.state is CheckState.UNMEASURED and check.why.startswith("not asked")


def _explain_check(check: Check) -> str:
    if check.state is CheckState.UNMEASURED and not was_not_asked(check):
        return f"not measured: {check.why}"
    return check.why


def _describe_summary(found: Checkup, badge: Badge) -> str:
    missing = found.of(Level.MUST, CheckState.MISSING)
    unmeasured = found.of(Level.MUST, CheckState.UNMEASURED)
    rest = sum(check.is_gap for check in found.checks if check.level is Level.SHOULD)
    also = f"; {rest} warning{'s' if rest != 1 else ''}" if rest else ""
    if missing:
        open_ = f"; not measured: {join_names(unmeasured)}" if unmeasured else ""
        return badge("bad", f"not ready, missing: {join_names(missing)}{open_}{also}")
    if unmeasured:
        return badge("warn", f"not known, not measured: {join_names(unmeasured)}{also}")
    return badge("good", f"ready{also}")


def join_names(checks: Sequence[Check]) -> str:
    """Return the names of checks as a person reads them."""
    return ", ".join(check.name.replace("_", " ") for check in checks)
