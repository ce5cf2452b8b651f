"""`backout db migrations`: the history of the schema. Each command is imported when it runs."""

from __future__ import annotations

from typing import Final

from backout.cli.db.group import TableGroup

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "status": ("backout.cli.db.migrations_status:status", "Show what is applied, pending, failed or edited."),
    "check": (
        "backout.cli.db.migrations_check:check",
        "Check whether the code before each migration still runs after it.",
    ),
    "prove": ("backout.cli.db.migrations_prove:prove", "Try the old code's statements on the new schema."),
    "apply": ("backout.cli.db.migrations_apply:apply", "Apply pending migrations, as Prisma does."),
    "drift": (
        "backout.cli.db.migrations_drift:drift",
        "Compare the live schema with the one that the migrations build.",
    ),
}
"""Name: where it is ("module:attribute"), and its line in the help."""


class _Migrations(TableGroup):
    table = COMMANDS


migrations = _Migrations("migrations", help="Migrations: status, verdicts, and applying them.", no_args_is_help=True)
