"""`backout secrets`: names, what is missing, and setting values. Each command is imported when it runs."""

from __future__ import annotations

from backout.cli.db import TableGroup


class _Secrets(TableGroup):
    table = {  # noqa: RUF012 the base's own, read only
        "list": ("backout.cli.secrets_look:list_", "The names: expected, present, set by backout, changed."),
        "check": ("backout.cli.secrets_look:check", "What is missing, now and after a rollback."),
        "push": ("backout.cli.secrets_push:push", "Set values from a file, variables, a keyring, a command."),
        "put": ("backout.cli.secrets_push:put", "Set one, typed or from stdin."),
    }


secrets = _Secrets("secrets", help="Secrets: which are there, and setting them.", no_args_is_help=True)
