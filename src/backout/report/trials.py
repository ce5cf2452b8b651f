"""The results of a platform's trial, as a page and as lines on a terminal; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.escaping import Markdown, cell, join_parts, md
from backout.report.text import Paint, leave_plain
from backout.report.times import format_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.conformance import Trial


def format_trial(trial: Trial, number: int, total: int, *, paint: Paint = leave_plain) -> str:
    """Return one trial's line."""
    sign = {True: paint("good", "✓"), False: paint("bad", "✗"), None: "-"}[trial.passed]
    return f"  {sign} {number}/{total} {trial.name}: {trial.found} ({trial.took_s:.1f} s)"


def format_trials_page(trials: Sequence[Trial], *, at: float, environment: str, fingerprint: str) -> Markdown:
    """Return the dated page; text from the platform is escaped in it.

    Args:
        at: Unix seconds.
        fingerprint: of the platform's commands, "" where it is not spoken for by any.
    """
    failed = sum(each.passed is False for each in trials)
    verdict = f"{failed} of {len(trials)} failed." if failed else "Nothing failed."
    of = f", commands {fingerprint}" if fingerprint else ""
    made = md("Made by `backout conformance` at {} on {}{}. {}", format_time(at), environment, of, verdict)
    rows = join_parts([_format_row(each) for each in trials])
    return md(
        "# Conformance\n\n{}\n\n| trial | question | passed | seen | took |\n|---|---|---|---|---|\n{}\n", made, rows
    )


def _format_row(trial: Trial) -> Markdown:
    passed = {True: "yes", False: "**no**", None: "not tried"}[trial.passed]
    words = map(cell, (trial.name, trial.asks))
    return md("| {} | {} | {} | {} | {} |", *words, Markdown(passed), cell(trial.found), f"{trial.took_s:.1f} s")
