"""`backout incident report`: write the report of an incident, or what is known now into the one that is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from backout.cli.incident.people import open_incident_records
from backout.cli.support.options import Command, pass_shell

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell


@click.command(
    "report",
    cls=Command,
    short_help="Write the report, or new facts into it.",
    epilog="""
Examples:
  backout incident report -e production
  backout incident report --commit -e production
""",
)
@click.argument("name", metavar="[INCIDENT]", required=False)
@click.option("--commit", is_flag=True, help="Commit it with its picture to git; nothing else, and nothing is pushed.")
@pass_shell
def report(shell: Shell, *, name: str | None, commit: bool) -> None:
    """Write the report of INCIDENT, of the newest open one, or of the newest.

    Facts stand between markers. What people wrote stays byte for byte: a fact that was edited stays too, and new
    facts follow below it.
    """
    from backout.cli.support.runbook import name_runbook
    from backout.report.incident.case import make_record
    from backout.runbook.incident.case import read_case
    from backout.runbook.incident.records import choose_incident
    from backout.runbook.incident.report import write_page
    from backout.wiring.incidents import commit_report

    records = open_incident_records(shell)
    found = choose_incident(records.list_records(), name, records.environment)
    path = write_page(records, found)
    case = read_case(records, found)
    made = ""
    if commit:
        files = [path, *([Path(case.picture)] if case.picture else [])]
        witness = records.journal.read_witness()
        named = f"\n\nBackout-Journal: {witness}" if witness is not None else ""
        made = commit_report(files, f"Incident report: {case.title}{named}")
        shell.output.say(f"committed as {made[:12]}" if made else "it is committed as it is")
    payload = {**make_record(case), "commit": made or None}
    shell.output.result("incident", payload, str(path))
    name_runbook(shell, shell.config())
