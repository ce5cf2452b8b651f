"""A preflight for a person and as a page of a pipeline; pure."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.escaping import Markdown, cell, code, join_parts, md
from backout.model.checkup import CheckState, Level
from backout.model.hint import NO_HINT
from backout.report.checkup import format_check_lines, join_names, was_not_asked
from backout.report.text import leave_plain, wrap_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.model.checkup import Check, Checkup
    from backout.report.checkup import Badge
    from backout.report.text import Paint


def name_result(found: Checkup) -> str:
    """Return the word that a pipeline can branch on."""
    if found.ready:
        return "ready"
    if found.advice:
        return "advised"
    return "not_ready" if found.exit_code == 1 else "unmeasured"


def describe_result(found: Checkup) -> tuple[str, str]:
    """Return the answer to "could we go back from this deployment?", and what it lacks; without final stops."""
    missing, unmeasured = found.of(Level.MUST, CheckState.MISSING), found.of(Level.MUST, CheckState.UNMEASURED)
    gaps = [
        *([f"missing: {join_names(missing)}"] if missing else []),
        *([f"not measured: {join_names(unmeasured)}"] if unmeasured else []),
    ]
    if found.ready:
        allowed = found.of(Level.MUST, CheckState.ALLOWED)
        return "ready: this deployment can be taken back", f"allowed: {join_names(allowed)}" if allowed else ""
    if found.advice:
        answer = f"advice only, since {found.advice}"
    elif missing:
        answer = "not ready: this deployment could not be taken back"
    else:
        answer = "not known whether this deployment could be taken back"
    return answer, "; ".join(gaps)


def format_preflight(
    found: Checkup, width: int, *, badge: Badge, paint: Paint = leave_plain, typed: Callable[[str], str] = str
) -> str:
    """Return the answer, a line for each gap with the way to close it, what blocks first, and the names of the rest.

    Args:
        typed: as of `format_checkup`.
    """
    shown, unset, fine = _sort(found)
    role = "good" if found.ready else "warn" if found.exit_code != 1 else "bad"
    head = f"{paint('strong', found.environment)}  {badge(role, '; '.join(filter(None, describe_result(found))))}"
    lines = wrap_text(head, width, hanging=" " * (len(found.environment) + 4))
    plain = [replace(check, next=NO_HINT) if was_not_asked(check) else check for check in shown]
    lines += format_check_lines(plain, width, badge=badge, paint=paint, typed=typed)
    if unset:
        look = typed(f"backout doctor -e {shlex.quote(found.environment)}")
        said = f"{badge('dim', f'not set up: {join_names(unset)}')}"
        lines += [*wrap_text(f"  {said}", width, hanging="    "), f"    → {look}"]
    if fine:
        lines += wrap_text(f"  {badge('good', f'{len(fine)} ok: {join_names(fine)}')}", width, hanging="    ")
    return "\n".join(lines)


def format_preflight_markdown(found: Checkup, *, typed: Callable[[str], str] = str) -> Markdown:
    """Return the answer as a page: what blocks first, what to type next, and the rest folded."""
    shown, unset, fine = _sort(found)
    sign = {"ready": "✅", "advised": "⚠️", "not_ready": "❌"}.get(name_result(found), "❔")
    answer, gaps = describe_result(found)
    lines = [md("### backout preflight, {}: {} {}\n", found.environment, Markdown(sign), answer)]
    if shown:
        lines.append(md("| | check | |\n|---|---|---|"))
        lines += [md("| {} | {} | {} |", _sign(each), cell(_name(each)), cell(each.why)) for each in shown]
        lines.append(md(""))
    elif gaps:
        lines.append(md("{}.\n", gaps))
    steps = [step for each in shown if each.is_blocking for step in _list_steps(each, typed)]
    if steps:
        lines += [md("Next:\n"), *steps, md("")]
    if unset:
        lines.append(md("Not set up: {}.\n", join_names(unset)))
    if fine:
        lines.append(md("<details><summary>{} checks are ok</summary>\n", len(fine)))
        lines += [md("- {}: {}", _name(each), each.why) for each in fine]
        lines.append(md("\n</details>\n"))
    return join_parts([*lines, md("")])


def _sort(found: Checkup) -> tuple[Sequence[Check], Sequence[Check], Sequence[Check]]:
    """Return what is to be looked at (what blocks first), what is not set up, and what is ok."""
    apart = (CheckState.OK, CheckState.NOT_SET_UP)
    shown = sorted((check for check in found.checks if check.state not in apart), key=_rank)
    unset, fine = ([check for check in found.checks if check.state is state] for state in reversed(apart))
    return shown, unset, fine


def _rank(check: Check) -> int:
    if check.is_blocking:
        return 0 if check.state is CheckState.MISSING else 1
    return 2 if check.state is CheckState.ALLOWED else 3


def _sign(check: Check) -> Markdown:
    if check.state is CheckState.ALLOWED:
        return Markdown("✋")
    return Markdown("❌" if check.is_blocking and check.state is CheckState.MISSING else "⚠️")


def _name(check: Check) -> str:
    return check.name.replace("_", " ")


def _list_steps(check: Check, typed: Callable[[str], str]) -> list[Markdown]:
    """Return each thing to do as an item of a list; nothing for what was not asked, since another check says why."""
    if was_not_asked(check):
        return []
    name, hint = _name(check), check.next
    note = md(" ({})", hint.note) if hint.note else md("")
    return [
        *([md("- {}: {}", name, hint.words)] if hint.words else []),
        *([md("- {}: {}", name, code(hint.setting))] if hint.setting else []),
        *(md("- {}: {}{}", name, code(typed(line)), note) for line in hint.lines),
    ]
