"""The results of the first contact with a real API, as a page and as lines on a terminal; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.escaping import Markdown, cell, code, join_parts, md
from backout.report.text import Paint, leave_plain, wrap_text
from backout.report.times import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.model.conformance import Difference, Observation

MOST_EXTRAS = 12
"""At most this many unknown extras in the answers are listed for one call; the rest is counted."""


def format_line(
    number: int, total: int, seen: Observation, differences: Sequence[Difference], *, paint: Paint = leave_plain
) -> str:
    """Return one call's line."""
    matter = sum(difference.matters for difference in differences)
    extra = len(differences) - matter
    sign = paint("bad", "✗") if matter else paint("good", "✓")
    said = f"{matter} of its answers differ" if matter else "as expected"
    more = f", {extra} more than known" if extra else ""
    return f"  {sign} {number:2}/{total} {seen.name}: {said}{more}"


def format_differences(differences: Sequence[Difference], *, width: int = 80, paint: Paint = leave_plain) -> str:
    """Return the differences that matter, each with both sides."""
    lines: list[str] = []
    for each in (difference for difference in differences if difference.matters):
        text = f"{each.call}: {each.what}: expected {each.expected}, found {each.found}"
        first, *rest = wrap_text(text, width - 4, hanging="  ")
        lines += [f"  {paint('bad', '✗')} {first}", *(f"    {more}" for more in rest)]
    return "\n".join(lines)


def format_page(
    observed: Sequence[Observation],
    differences: Sequence[Difference],
    proves: Mapping[str, Sequence[str]],
    *,
    at: float,
    against: str,
) -> Markdown:
    """Return the dated page; text from the API is escaped in it.

    Args:
        proves: {call: how the rows of docs/providers.md begin that it settles}.
        at: Unix seconds.
        against: which API was asked, without anything secret.
    """
    matter = [difference for difference in differences if difference.matters]
    verdict = f"{len(matter)} answers differ in a way that matters." if matter else "Nothing differs that matters."
    made = md("Made by `backout conformance` at {} against {}. {}", format_time(at), against, verdict)
    rows = join_parts([_format_row(seen, differences) for seen in observed])
    parts = [
        md("# Conformance\n\n{}", made),
        md("| call | question | status | differs |\n|---|---|---|---|\n{}", rows),
    ]
    if matter:
        rows = join_parts(
            [md("| {} | {} | {} | {} |", *map(cell, (d.call, d.what, d.expected, d.found))) for d in matter]
        )
        parts.append(md("## What differs\n\n| call | what | expected | found |\n|---|---|---|---|\n{}", rows))
    parts.append(_format_proved(observed, differences, proves))
    measured = [md("- {}: {}: {}", seen.name, *map(str, each)) for seen in observed for each in seen.measured.items()]
    if measured:
        parts.append(md("## What was measured\n\n{}", join_parts(measured)))
    extra = [difference for difference in differences if not difference.matters]
    if extra:
        parts.append(md("## What is said beyond what we know\n\n{}", join_parts(_format_extras(extra))))
    return md("{}\n", join_parts(parts, "\n\n"))


def _format_proved(
    observed: Sequence[Observation], differences: Sequence[Difference], proves: Mapping[str, Sequence[str]]
) -> Markdown:
    """Return each row of the page of guesses, with the calls that settle it and whether they all went as expected."""
    wrong = {difference.call for difference in differences if difference.matters}
    calls: dict[str, list[str]] = {}
    for seen in observed:
        for row in proves.get(seen.name, ()):
            calls.setdefault(row, []).append(seen.name)
    rows = join_parts(
        [
            md(
                "| {} … | {} | {} |",
                cell(row),
                cell(", ".join(names)),
                md("**no**") if wrong & set(names) else md("yes"),
            )
            for row, names in calls.items()
        ]
    )
    return md(
        '## What this settles\n\nThe rows of "What is a guess" in docs/providers.md, by their beginnings.\n\n'
        "| row | by the calls | is it so? |\n|---|---|---|\n{}",
        rows,
    )


def _format_row(seen: Observation, differences: Sequence[Difference]) -> Markdown:
    matter = sum(d.matters for d in differences if d.call == seen.name)
    status = str(seen.status) + (f" (code {seen.code})" if seen.code is not None else "")
    return md("| {} | {} | {} | {} |", cell(seen.name), cell(seen.asks), cell(status), matter or "no")


def _format_extras(extra: Sequence[Difference]) -> list[Markdown]:
    lines = []
    for call in dict.fromkeys(difference.call for difference in extra):
        named = [code(difference.what) for difference in extra if difference.call == call]
        rest = f" and {len(named) - MOST_EXTRAS} more" if len(named) > MOST_EXTRAS else ""
        lines.append(md("- {}: {}{}", call, join_parts(named[:MOST_EXTRAS], ", "), Markdown(rest)))
    return lines
