"""`backout db`: the database. Each command has a module of its own, imported when it runs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from backout.cli.options import Group

if TYPE_CHECKING:
    from collections.abc import Mapping

    import click

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "migrations": ("backout.cli.db_migrations:migrations", "Migrations: verdicts, history, apply, drift."),
    "backup": ("backout.cli.db_backup:backup", "Take a base backup, verify and store it."),
    "backups": ("backout.cli.db_backups:backups", "List base backups; read them again."),
    "points": ("backout.cli.db_points:points", "Restore points: record one, list them."),
    "transactions": ("backout.cli.db_transactions:transactions", "What was committed, and which rows it wrote."),
    "restore": ("backout.cli.db_restore:restore", "Side instance, rescue of damaged rows, or the whole."),
    "wal": ("backout.cli.db_wal:wal", "Receive WAL: start, stop, status, run."),
    "branch": ("backout.cli.db_branch:branch", "Side branches at the vendor: make, look, finalize."),
    "check": ("backout.cli.db_check:check", "What can be recovered from here, and how."),
    "dump": ("backout.cli.db_dump:dump", "Take a logical copy, and prove it by a restore."),
    "dumps": ("backout.cli.db_dump:dumps", "Logical copies: list, prove again, restore."),
    "roles": ("backout.cli.db_roles:roles", "The script that makes the least role of a job."),
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


db = _Database("db", help="The database: migrations, backups, restores.", no_args_is_help=True)
