"""`backout drill report`: the scorecard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.drill.support import directory_option, drills_option, open_history, read_config, read_drills
from backout.cli.support.options import Command, pass_shell

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from backout.analysis.drills import DrillSummary
    from backout.cli.support.shell import Shell


@click.command("report", cls=Command, short_help="Print the scorecard: a table, Markdown, or JSON.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown"]),
    help="Default: text on a terminal, Markdown elsewhere.",
)
@drills_option
@directory_option
@pass_shell
def report(shell: Shell, *, form: str | None, own: Path | None, directory: Path) -> None:
    """Print the scorecard of all drills that were run; with --json as figures."""
    from backout.analysis.drills import summarize_drills
    from backout.report.drills import count_wrong_rollbacks, format_scorecard, make_summary_record
    from backout.runbook.incident.drills import list_drills
    from backout.wiring.drills.records import read_clock

    config = read_config(shell)
    titles = {drill.name: drill.file.title for drill in read_drills(shell, config, own)}
    records = list_drills(open_history(shell, config, directory))
    summaries = summarize_drills(records)
    payload = {
        "drills": [{**make_summary_record(each), "title": titles.get(each.name)} for each in summaries],
        "wrong_rollbacks": count_wrong_rollbacks(each.result for each in records if each.result is not None),
    }
    is_text = form == "text" or (form is None and shell.output.stdout.isatty())
    page = _format_text(shell, summaries) if is_text else format_scorecard(summaries, titles, read_clock())
    shell.output.result("drill-report", payload, page)
    if is_text:
        shell.output.next("backout drill report --format markdown > drills.md  # with all columns", "backout drill due")


def _format_text(shell: Shell, summaries: Sequence[DrillSummary]) -> str:
    from backout.cli.drill.support import mark_ends
    from backout.report.drill_tables import SCORE_HEADERS, describe_scores, make_score_row
    from backout.report.text import wrap_text

    if not summaries:
        return "no drill was ever run here"
    mark = mark_ends(shell)
    table = shell.output.table(SCORE_HEADERS, [make_score_row(each, mark) for each in summaries], whole=True)
    return "\n".join([*wrap_text(describe_scores(summaries), shell.output.style.width), "", table])
