"""`backout drill`: drills. Each command has a module of its own, imported when it runs."""

from __future__ import annotations

from typing import Final

from backout.cli.db.group import TableGroup

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "list": ("backout.cli.drill.list:list_", "List the drills that there are, and how each last ended."),
    "run": ("backout.cli.drill.run:run", "Run drills on a twin of their own, and measure them."),
    "history": ("backout.cli.drill.history:history", "Show the drills that were run, newest first."),
    "report": ("backout.cli.drill.report:report", "Print the scorecard: a table, Markdown, or JSON."),
    "due": ("backout.cli.drill.due:due", "Name the drills that should be run again."),
}


class _Drill(TableGroup):
    table = COMMANDS


drill = _Drill("drill", help="Break something on purpose, and measure what backout does.", no_args_is_help=True)
