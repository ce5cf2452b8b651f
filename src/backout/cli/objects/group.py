"""`backout objects`: the application's bucket. Each command has a module of its own, imported when it runs."""

from __future__ import annotations

from typing import Final

from backout.cli.db.group import TableGroup

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "check": ("backout.cli.objects.check:check", "Check what the access key may do, and whether versions are kept."),
    "snapshot": ("backout.cli.objects.snapshot:snapshot", "Keep what a bucket without versions holds now."),
    "history": ("backout.cli.objects.history:history", "Show when objects were written and deleted."),
    "restore": ("backout.cli.objects.restore:restore", "Bring the objects back to a moment."),
}


class _Objects(TableGroup):
    table = COMMANDS


objects = _Objects("objects", help="The application's bucket: check it, restore its objects.", no_args_is_help=True)
