"""`backout drill list`: the drills that there are."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from backout.cli.drill.support import directory_option, drills_option, open_history, read_config, read_drills
from backout.cli.support.options import Command, pass_shell

if TYPE_CHECKING:
    from pathlib import Path

    from backout.cli.support.shell import Shell
    from backout.model.drill import DrillGroup


@click.command(
    "list",
    cls=Command,
    short_help="List the drills that there are, and how each last ended.",
    epilog="""
Examples:
  backout drill list
  backout drill list --drills ops/drills     # a folder of your own, see docs/drills.md
""",
)
@drills_option
@directory_option
@pass_shell
def list_(shell: Shell, *, own: Path | None, directory: Path) -> None:
    """List the drills that there are: ours, and your own. A wrong file is told with every mistake and its line."""
    from backout.analysis.drills import summarize_drills
    from backout.cli.drill.support import mark_ends
    from backout.report.drill_tables import GROUPS
    from backout.report.drills import make_summary_record
    from backout.runbook.incident.drills import list_drills

    config = read_config(shell)
    drills = read_drills(shell, config, own)
    known = {each.name: each for each in summarize_drills(list_drills(open_history(shell, config, directory)))}
    mark = mark_ends(shell)
    rows: dict[DrillGroup, list[tuple[str, ...]]] = {}
    records = []
    for drill in drills:
        summary, file = known.get(drill.name), drill.file
        last = "-" if summary is None else mark(summary.last.end)
        rows.setdefault(file.group, []).append((last, drill.name, file.expect.action, file.title))
        record = None if summary is None else make_summary_record(summary)
        records.append(
            {
                "name": drill.name,
                "title": file.title,
                "group": file.group,
                "environment": file.environment,
                "expected_scenario": file.expect.scenario,
                "expected_action": file.expect.action,
                "file": str(drill.path),
                "history": record,
            }
        )
    human = "\n\n".join(
        f"{shell.output.style.strong(group)}: {words}\n"
        + shell.output.table(("", "DRILL", "EXPECTED", "WHAT HAPPENS"), rows[group], whole=True)
        for group, words in GROUPS.items()
        if group in rows
    )
    shell.output.result("drill-list", {"drills": records}, human)
    if drills:
        first = next((each.name for each in drills if each.name == "throws"), drills[0].name)
        shell.output.next(f"backout drill run {shlex.quote(first)}", "backout drill run --all")
