"""`backout db migrations`: what the schema's history is made of. Each command is imported when it runs."""

from __future__ import annotations

from typing import Final

from backout.cli.db import TableGroup

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "status": ("backout.cli.db_migrations_status:status", "What is applied, pending, failed, edited."),
    "check": ("backout.cli.db_check_migrations:check", "Does the code before each migration still run after it?"),
    "prove": ("backout.cli.db_prove:prove", "Try the old code's statements on the new schema."),
    "apply": ("backout.cli.db_migrations_apply:apply", "Apply what is pending, by Prisma's own protocol."),
    "drift": ("backout.cli.db_migrations_drift:drift", "The live schema against the one that the migrations build."),
}
"""Name: where it is ("module:attribute"), and its line in the help."""


class _Migrations(TableGroup):
    table = COMMANDS


migrations = _Migrations("migrations", help="Migrations: their verdicts and their history.", no_args_is_help=True)
