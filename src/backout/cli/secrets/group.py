"""`backout secrets`: names, what is missing, and setting values. Each command is imported when it runs."""

from __future__ import annotations

from backout.cli.db.group import TableGroup


class _Secrets(TableGroup):
    table = {  # noqa: RUF012 the base's own, read only
        "list": ("backout.cli.secrets.look:list_", "List the names: expected, present, set by backout, changed."),
        "check": ("backout.cli.secrets.look:check", "Show what is missing, now and after a rollback."),
        "push": ("backout.cli.secrets.push:push", "Set values from a file, variables, a keyring or a command."),
        "put": ("backout.cli.secrets.push:put", "Set one secret, typed or from stdin."),
    }


secrets = _Secrets("secrets", help="Secrets: list, check and set them.", no_args_is_help=True)
