"""What the first contact with a real API showed, as a page and as lines on a terminal; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.report.text import Paint, plain, wrapped
from backout.report.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.conformance import Difference, Observation

MOST_EXTRAS = 12
"""So many answers that say more than we know are listed for one call; the rest is counted."""


def line(number: int, total: int, seen: Observation, differences: Sequence[Difference], *, paint: Paint = plain) -> str:
    """Return one call's line."""
    matter = sum(difference.matters for difference in differences)
    extra = len(differences) - matter
    sign = paint("bad", "✗") if matter else paint("good", "✓")
    said = f"{matter} of its answers differ" if matter else "as expected"
    more = f", {extra} more than known" if extra else ""
    return f"  {sign} {number:2}/{total} {seen.name}: {said}{more}"


def differences_text(differences: Sequence[Difference], *, width: int = 80, paint: Paint = plain) -> str:
    """Return the differences that matter, each with both sides."""
    lines: list[str] = []
    for each in (difference for difference in differences if difference.matters):
        text = f"{each.call}: {each.what}: expected {each.expected}, found {each.found}"
        first, *rest = wrapped(text, width - 4, hanging="  ")
        lines += [f"  {paint('bad', '✗')} {first}", *(f"    {more}" for more in rest)]
    return "\n".join(lines)


def page(observed: Sequence[Observation], differences: Sequence[Difference], *, at: float, against: str) -> str:
    """Return the dated page.

    Args:
        at: Unix seconds. against: which API was asked, without anything secret.
    """
    matter = [difference for difference in differences if difference.matters]
    verdict = f"{len(matter)} answers differ in a way that matters." if matter else "Nothing differs that matters."
    parts = [
        f"# Conformance\n\nMade by `backout conformance` at {rfc3339(at)} against {against}. {verdict}",
        "| call | question | status | differs |\n|---|---|---|---|\n"
        + "\n".join(_row(seen, differences) for seen in observed),
    ]
    if matter:
        rows = "\n".join(f"| {d.call} | {_cell(d.what)} | {_cell(d.expected)} | {_cell(d.found)} |" for d in matter)
        parts.append(f"## What differs\n\n| call | what | expected | found |\n|---|---|---|---|\n{rows}")
    extra = [difference for difference in differences if not difference.matters]
    if extra:
        parts.append("## What is said beyond what we know\n\n" + "\n".join(_extras(extra)))
    return "\n\n".join(parts) + "\n"


def _row(seen: Observation, differences: Sequence[Difference]) -> str:
    matter = sum(d.matters for d in differences if d.call == seen.name)
    status = str(seen.status) + (f" (code {seen.code})" if seen.code is not None else "")
    return f"| {seen.name} | {seen.asks} | {status} | {matter or 'no'} |"


def _extras(extra: Sequence[Difference]) -> list[str]:
    lines = []
    for call in dict.fromkeys(difference.call for difference in extra):
        named = [f"`{difference.what}`" for difference in extra if difference.call == call]
        rest = f" and {len(named) - MOST_EXTRAS} more" if len(named) > MOST_EXTRAS else ""
        lines.append(f"- {call}: {', '.join(named[:MOST_EXTRAS])}{rest}")
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
