"""`backout incident list | show`: the journal's incidents, and reports on disk of which this journal knows nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from backout.cli.incident.pages import list_pages
from backout.cli.support.options import Command, pass_shell
from backout.errors import BackoutError, UsageError
from backout.report.incident.case import format_text, make_record
from backout.report.text import reflow_markdown
from backout.report.times import format_clock, format_day, format_time

if TYPE_CHECKING:
    from backout.cli.incident.pages import Page
    from backout.cli.support.shell import Shell
    from backout.model.incident.case import Case


def _read_cases(shell: Shell) -> tuple[Case, ...]:
    """Return the incidents of the environments that are asked for, newest first; none where the journal is no use."""
    from backout.runbook.incident.case import read_case
    from backout.wiring.incidents import make_incident_records

    config = shell.config()
    names = [config.chosen] if config.chosen else list(config.settings.environments)
    found: list[Case] = []
    for name in names:
        records = make_incident_records(replace(config, chosen=name))
        try:
            found += [read_case(records, record) for record in records.list_records()]
        except BackoutError as error:
            shell.output.warn(f"the journal could not be read ({error.what}): only the reports on disk are shown")
            return ()
    return tuple(sorted(found, key=lambda case: -case.record.opened_at))


@click.command(
    "list",
    cls=Command,
    short_help="List the incidents, newest first.",
    epilog="Examples:\n  backout incident list -e production\n",
)
@pass_shell
def list_(shell: Shell) -> None:
    """List the incidents of the journal and the reports on disk that are of no incident it knows, newest first."""
    cases, pages = _read_cases(shell), list_pages(shell)
    entries = [_make_case_entry(case) for case in cases]
    reported = {case.report for case in cases if case.report}
    entries += [_make_page_entry(page) for page in pages if str(page.path.absolute()) not in reported]
    entries.sort(key=lambda entry: (-entry[0], str(entry[1]["name"])))
    rows = [
        (
            f"{format_day(at)} {format_clock(at)[:5]}",
            str(each["state"] or ""),
            str(each["severity"] or ""),
            what,
            str(each["name"]),
        )
        for at, each, what in entries
    ]
    headers = ("OPENED (UTC)", "STATE", "SEVERITY", "TITLE", "NAME")
    if not cases:  # reports alone have neither state nor severity
        rows, headers = [(row[0], *row[3:]) for row in rows], (headers[0], *headers[3:])  # type: ignore[assignment,misc]
    human = shell.output.table(headers, rows, whole=True) or "no incidents yet"
    shell.output.result("incidents", {"incidents": [each for _, each, _ in entries]}, human)
    if entries:
        shell.output.next(f"backout incident show {entries[0][1]['name']}")


def _make_case_entry(case: Case) -> tuple[float, dict[str, object], str]:
    found = case.record
    entry = {**make_record(case), "name": found.id, "path": case.report or None}
    return found.opened_at, entry, case.title


def _make_page_entry(page: Page) -> tuple[float, dict[str, object], str]:
    entry: dict[str, object] = {
        "id": None,
        "name": page.path.stem,
        "environment": None,
        "title": page.title,
        "severity": None,
        "state": None,
        "opened_at": format_time(page.opened_at),
        "resolved_at": None,
        "path": str(page.path),
    }
    return page.opened_at, entry, page.what


@click.command(
    "show",
    cls=Command,
    short_help="Show one: timeline, impact, who was told.",
    epilog="""
Examples:
  backout incident show -e production              # the newest open one, or the newest
  backout incident show --page                     # its report, as it is on disk
  backout incident show 2026-11-25-production-errors
""",
)
@click.argument("name", required=False)
@click.option("--page", is_flag=True, help="The report on disk, laid out on a terminal, else as it is.")
@pass_shell
def show(shell: Shell, *, name: str | None, page: bool) -> None:
    """Show the incident NAME (its id, its run, a part of its report's name), or the newest open one, or the newest."""
    from backout.cli.support.paint import paint_for

    cases, pages = _read_cases(shell), list_pages(shell)
    case, shown = _find(cases, pages, name)
    payload: dict[str, object] = make_record(case) if case is not None else {"id": None}
    style = shell.output.style
    if shown is not None:
        more = {"name": shown.path.stem, "path": str(shown.path), "markdown": shown.text}
        payload = {"opened_at": format_time(shown.opened_at), **payload, **more}
    if case is not None and not page:
        human = format_text(case, width=style.width, paint=paint_for(style))
    elif shown is not None:
        human = reflow_markdown(shown.shown, style.width) if shell.output.stdout.isatty() else shown.shown
    else:
        raise UsageError("this incident has no report yet", hint="backout incident report")
    shell.output.result("incident", payload, human)


def _find(cases: tuple[Case, ...], pages: list[Page], name: str | None) -> tuple[Case | None, Page | None]:
    """Return an incident with the page of its report, as far as there are. Raises UsageError: neither, or several."""
    case = _find_case(cases, name)
    if case is not None:
        return case, next((each for each in pages if str(each.path.absolute()) == case.report), None)
    page = _find_page(pages, name)
    return next((each for each in cases if each.report == str(page.path.absolute())), None), page


def _find_case(cases: tuple[Case, ...], name: str | None) -> Case | None:
    if name is None:
        return next((each for each in cases if each.record.resolved_at is None), cases[0] if cases else None)
    exact = [each for each in cases if name == each.record.id or name in each.record.runs]
    fitting = exact or [each for each in cases if each.record.id.startswith(name)]
    if len(fitting) > 1:
        names = ", ".join(each.record.id for each in fitting)
        raise UsageError(f"'{name}' fits several incidents: {names}", hint="type more of the id")
    return fitting[0] if fitting else None


def _find_page(pages: list[Page], name: str | None) -> Page:
    found = [page for page in pages if name is None or name in page.path.stem]
    exact = [page for page in found if page.path.stem == name]
    if not found:
        raise UsageError(
            f"no incident or report matches '{name}'" if name else "no incident yet", hint="backout incident list"
        )
    if name is not None and not exact and len(found) > 1:
        names = ", ".join(page.path.stem for page in found)
        raise UsageError(f"'{name}' fits several reports: {names}", hint="type more of the name")
    return (exact or found)[0]
