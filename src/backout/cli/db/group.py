"""`backout db`: the database. Each command has a module of its own, imported when it runs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from backout.cli.support.options import Group

if TYPE_CHECKING:
    from collections.abc import Mapping

    import click

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "migrations": ("backout.cli.db.migrations:migrations", "Migrations: verdicts, history, apply, drift."),
    "backup": ("backout.cli.db.backup:backup", "Take a base backup, verify and store it."),
    "backups": ("backout.cli.db.backups:backups", "List base backups, verify and prove them."),
    "points": ("backout.cli.db.points:points", "Record and list restore points."),
    "transactions": ("backout.cli.db.transactions:transactions", "List what was committed, and which rows it wrote."),
    "restore": (
        "backout.cli.db.restore:restore",
        "Restore to a side instance, rescue damaged rows, or restore the whole.",
    ),
    "wal": ("backout.cli.db.wal:wal", "Receive WAL: start, stop, status, run."),
    "branch": ("backout.cli.db.branch:branch", "Side branches at the vendor: create, inspect, finalize."),
    "check": ("backout.cli.db.check:check", "Check what can be recovered from here, and how."),
    "dump": ("backout.cli.db.dump:dump", "Take a logical copy, and prove it by a restore."),
    "dumps": ("backout.cli.db.dump:dumps", "List, verify and restore logical copies."),
    "roles": ("backout.cli.db.roles:roles", "Print SQL for the least-privileged role for a job."),
}
"""Name: where it is ("module:attribute"), and its line in the help."""


class TableGroup(Group):
    """A group that knows its commands from a table alone, so that its help imports none of them."""

    table: Mapping[str, tuple[str, str]] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """Return the names."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """Import and return one command."""
        if cmd_name not in self.table:
            return None
        module, _, attribute = self.table[cmd_name][0].partition(":")
        found: click.Command = getattr(importlib.import_module(module), attribute)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write the commands, from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in self.table.items()])


class _Database(TableGroup):
    table = COMMANDS


db = _Database("db", help="The database: migrations, backups and restores.", no_args_is_help=True)
