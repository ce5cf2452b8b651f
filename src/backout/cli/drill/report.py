"""`backout drill report`: the scorecard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.drill.support import directory_option, drills_option, open_history, read_config, read_drills
from backout.cli.support.options import Command, pass_shell

if TYPE_CHECKING:
    from pathlib import Path

    from backout.cli.support.shell import Shell


@click.command("report", cls=Command, short_help="Print the scorecard: Markdown, or JSON.")
@drills_option
@directory_option
@pass_shell
def report(shell: Shell, *, own: Path | None, directory: Path) -> None:
    """Print the scorecard of all drills that were run, as Markdown; with --json as figures."""
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
    shell.output.result("drill-report", payload, format_scorecard(summaries, titles, read_clock()))
