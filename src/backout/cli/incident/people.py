"""`backout incident open | note | update | ack | resolve | action`: what people say of an incident."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.support.options import REASON, Command, pass_shell
from backout.errors import UsageError

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.runbook.incident.case import IncidentRecords

_EPILOGS = {
    "open": 'Examples:\n  backout incident open "checkout answers slowly" -e production\n',
    "note": 'Examples:\n  backout incident note -m "the vendor confirms it" -e production\n',
    "update": 'Examples:\n  backout incident update -m "Payments work again since 10:04." -e production\n',
    "ack": "Examples:\n  backout incident ack -e production\n",
    "resolve": 'Examples:\n  backout incident resolve -m "the fix is live" -e production\n',
    "action": """
Examples:
  backout incident action -m "alert on failed payments" --kind detect -e production
  backout incident action -m "test the import" --owner ada --due 2026-12-24
""",
}
_NAME = click.argument("name", metavar="[INCIDENT]", required=False)


@click.command("open", cls=Command, short_help="Open one by hand.", epilog=_EPILOGS["open"])
@click.argument("title", type=REASON)
@click.option("--severity", type=click.Choice(["critical", "major", "minor"]), help="Default: by policy.")
@click.option("--version", "blamed", metavar="VERSION", type=REASON, default="", help="The version that caused it.")
@pass_shell
def open_(shell: Shell, *, title: str, severity: str | None, blamed: str) -> None:
    """Open an incident that nothing else opened, with one line that says what is wrong.

    A regressed watch, a rollback, a roll-forward and a restore open one by themselves. Repairs that follow belong to
    it. What a person opened is resolved by `backout incident resolve`.
    """
    from backout.model.incident.record import Severity
    from backout.runbook.incident.case import open_incident

    records = open_incident_records(shell)
    said = _require(shell, title, 'backout incident open "WHAT IS WRONG"')
    name = open_incident(records, said, None if severity is None else Severity(severity), blamed)
    _answer(shell, records, name)
    shell.output.next("backout incident ack", "backout incident note -m TEXT", "backout incident resolve -m HOW")


@click.command("note", cls=Command, short_help="Add a note to the timeline.", epilog=_EPILOGS["note"])
@_NAME
@click.option("-m", "--message", type=REASON, metavar="TEXT", required=True, help="The note.")
@pass_shell
def note(shell: Shell, *, name: str | None, message: str) -> None:
    """Add a note with your name and the time to the timeline of INCIDENT, or of the newest open one."""
    from backout.model.incident import record

    _remark(shell, name, record.NOTED, _require(shell, message, "backout incident note -m TEXT"))


@click.command("update", cls=Command, short_help="Tell customers one sentence.", epilog=_EPILOGS["update"])
@_NAME
@click.option("-m", "--message", type=REASON, metavar="SENTENCE", required=True, help="At most 280 characters.")
@pass_shell
def update(shell: Shell, *, name: str | None, message: str) -> None:
    """Keep one sentence for customers, and send it to the channels of `notify.updates`."""
    from backout.model.incident import record

    _remark(shell, name, record.UPDATED, _require(shell, message, "backout incident update -m SENTENCE"))
    if not shell.config().settings.notify.updates:
        shell.output.say("kept; no channel wants such sentences (`notify.updates` in backout.toml names those that do)")


@click.command("ack", cls=Command, short_help="Say that you take care of it.", epilog=_EPILOGS["ack"])
@_NAME
@click.option("-m", "--message", type=REASON, metavar="TEXT", default="", help="What you are about to do.")
@pass_shell
def ack(shell: Shell, *, name: str | None, message: str) -> None:
    """Acknowledge INCIDENT, or the newest open one: the channels are told, and when is kept."""
    from backout.model.incident import record

    _remark(shell, name, record.ACKNOWLEDGED, shell.mask_reason(message))


@click.command("resolve", cls=Command, short_help="Say that it is over.", epilog=_EPILOGS["resolve"])
@_NAME
@click.option("-m", "--message", type=REASON, metavar="HOW", default="", help="What ended it.")
@pass_shell
def resolve(shell: Shell, *, name: str | None, message: str) -> None:
    """Resolve INCIDENT, or the newest open one. One that a verified repair resolved already keeps that time."""
    from backout.cli.support.runbook import name_runbook
    from backout.model.incident import record

    _remark(shell, name, record.RESOLVED, shell.mask_reason(message))
    shell.output.next("backout incident action -m WHAT --kind prevent")
    name_runbook(shell, shell.config())


@click.command("action", cls=Command, short_help="Write down what is to be done.", epilog=_EPILOGS["action"])
@_NAME
@click.option("-m", "--message", type=REASON, metavar="WHAT", required=True, help="What is to be done.")
@click.option(
    "--kind",
    type=click.Choice(["prevent", "detect", "mitigate", "process"]),
    default="prevent",
    show_default=True,
    help="What it is good for.",
)
@click.option("--owner", metavar="WHO", type=REASON, default="", help="Who does it.")
@click.option("--due", metavar="YYYY-MM-DD", default="", help="By when.")
@pass_shell
def action(shell: Shell, *, name: str | None, message: str, kind: str, owner: str, due: str) -> None:
    """Add an action item to INCIDENT, or to the newest one: it stands in the report."""
    from datetime import date

    from backout.runbook.incident.case import add_action
    from backout.runbook.incident.records import choose_incident

    try:
        due = date.fromisoformat(due).isoformat() if due else ""
    except ValueError:
        raise UsageError(f"'{due}' is no day", where="--due", hint="--due 2026-12-24") from None
    records = open_incident_records(shell)
    found = choose_incident(records.list_records(), name, records.environment)
    text = _require(shell, message, "backout incident action -m WHAT")
    add_action(records, found, text, kind, shell.mask_reason(owner), due)
    _answer(shell, records, found.id)


def open_incident_records(shell: Shell) -> IncidentRecords:
    """Return what incidents are kept and read with; its notices are delivered when the command ends."""
    from backout.wiring.incidents import make_incident_records

    records = make_incident_records(shell.config())
    shell.notifier = records.notifier
    return records


def _require(shell: Shell, text: str, hint: str) -> str:
    if not text.strip():
        raise UsageError("the text is empty", hint=hint)
    return shell.mask_reason(text)


def _remark(shell: Shell, name: str | None, kind: str, text: str) -> None:
    from backout.runbook.incident.case import add_remark
    from backout.runbook.incident.records import choose_incident

    records = open_incident_records(shell)
    found = choose_incident(records.list_records(), name, records.environment)
    add_remark(records, found, kind, text)
    _answer(shell, records, found.id)


def _answer(shell: Shell, records: IncidentRecords, name: str) -> None:
    """Show where the incident stands, as read back from the journal."""
    from backout.report.incident.case import make_record
    from backout.runbook.incident.case import read_case
    from backout.runbook.incident.records import choose_incident

    case = read_case(records, choose_incident(records.list_records(), name, records.environment))
    last = case.timeline[-1] if case.timeline else None
    said = f": {last.text}" if last is not None else ""
    shell.output.result("incident", make_record(case), f"{name} ({case.severity}, {case.record.state}){said}")
