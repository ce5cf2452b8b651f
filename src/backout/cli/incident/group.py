"""The commands of `backout incident`."""

from __future__ import annotations

from typing import Final

from backout.cli.db.group import TableGroup

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "list": ("backout.cli.incident.look:list_", "List the incidents, newest first."),
    "show": ("backout.cli.incident.look:show", "Show one: timeline, impact, who was told, its report."),
    "report": ("backout.cli.incident.report:report", "Write the report, or new facts into it."),
    "export": ("backout.cli.incident.export:export", "Write its files elsewhere; make issues of its actions."),
    "open": ("backout.cli.incident.people:open_", "Open one by hand."),
    "note": ("backout.cli.incident.people:note", "Add a note to the timeline."),
    "update": ("backout.cli.incident.people:update", "Tell customers one sentence."),
    "ack": ("backout.cli.incident.people:ack", "Say that you take care of it."),
    "resolve": ("backout.cli.incident.people:resolve", "Say that it is over."),
    "action": ("backout.cli.incident.people:action", "Write down what is to be done because of it."),
}


class _Incident(TableGroup):
    table = COMMANDS


incident = _Incident(
    "incident", help="Incidents: who was told, what was done, what is open; and their reports.", no_args_is_help=True
)
