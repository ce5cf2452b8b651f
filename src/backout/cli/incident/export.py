"""`backout incident export`: an incident as files, and its action items as issues."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from backout.cli.incident.people import open_incident_records
from backout.cli.support.options import Command, pass_shell
from backout.errors import BackoutError, UsageError

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.model.incident.case import Case
    from backout.runbook.incident.case import IncidentRecords


@click.command(
    "export",
    cls=Command,
    short_help="Write its files elsewhere; make issues of its actions.",
    epilog="""
Examples:
  backout incident export --to post-mortem/ -e production
  backout incident export --issues -e production      # GitHub, environments.ENV.ci
""",
)
@click.argument("name", metavar="[INCIDENT]", required=False)
@click.option("--to", metavar="DIR", type=click.Path(path_type=Path), help="Write report, picture and JSON there.")
@click.option("--issues", is_flag=True, help="Make a GitHub issue of each action item that has none.")
@pass_shell
def export(shell: Shell, *, name: str | None, to: Path | None, issues: bool) -> None:
    """Write the report of INCIDENT (the newest open one, or the newest), and take it to where people work on it.

    An issue is made once for each action item: it names incident and report, and the report names it.
    """
    from backout.report.incident.case import make_record
    from backout.runbook.incident.case import read_case
    from backout.runbook.incident.records import choose_incident
    from backout.runbook.incident.report import write_page

    if to is None and not issues:
        raise UsageError("nothing is asked for", hint="backout incident export --to DIR, or --issues")
    records = open_incident_records(shell)
    found = choose_incident(records.list_records(), name, records.environment)
    write_page(records, found)
    case, lines = read_case(records, found), list[str]()
    if issues:
        lines += _file_actions(shell, records, case)
        found = choose_incident(records.list_records(), found.id, records.environment)
        write_page(records, found)  # with the issues' links
        case = read_case(records, found)
    payload = make_record(case)
    files = _write_files(shell, to, case, payload) if to is not None else []
    shell.output.result("incident", {**payload, "files": list(map(str, files))}, "\n".join([*lines, *map(str, files)]))


def _file_actions(shell: Shell, records: IncidentRecords, case: Case) -> list[str]:
    from backout.runbook.incident.issues import file_actions
    from backout.wiring.incidents import make_issues, make_report_url

    config = shell.config()
    filed = list(file_actions(records, case, make_issues(config), make_report_url(config, case.report)))
    if not filed:
        return ["every action item has its issue" if case.record.actions else "there is no action item"]
    return [f"{each.number}. {'created' if each.is_new else 'was there'}: {each.url}" for each in filed]


def _write_files(shell: Shell, folder: Path, case: Case, payload: dict[str, object]) -> list[Path]:
    from backout.private import make_private_folder, write_over
    from backout.report.records import encode, make_envelope

    record = shell.redactor.record(make_envelope("incident", payload))
    contents = {"incident.json": f"{encode(record)}\n".encode()}
    try:
        make_private_folder(folder)
        for path in (Path(each) for each in (case.report, case.picture) if each):
            contents[path.name] = path.read_bytes()
        for file, content in contents.items():
            write_over(folder / file, content)
    except OSError as error:
        what = f"the incident cannot be exported: {error.strerror or type(error).__name__}"
        raise BackoutError(what, where=str(folder), hint="name a folder that can be written") from error
    return [(folder / file).absolute() for file in contents]
