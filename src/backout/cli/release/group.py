"""`backout release`: releases on hosts. Each command has a module of its own, imported when it runs."""

from __future__ import annotations

from typing import Final

from backout.cli.db.group import TableGroup

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "push": ("backout.cli.release.push:push", "Push a folder as a new release, prove it, make it live."),
    "live": ("backout.cli.release.live:live", "Make a release live on every host."),
    "list": ("backout.cli.release.list:list_", "List the releases, newest first."),
    "start": ("backout.cli.release.state:start", "Have a release run."),
    "stop": ("backout.cli.release.state:stop", "Have a release end that no visitor gets."),
    "prune": ("backout.cli.release.state:prune", "Remove old releases, but for live, stable and last ones."),
    "route": ("backout.cli.release.route:route", "Print what Caddy's configuration needs."),
}


class _Release(TableGroup):
    table = COMMANDS


release = _Release("release", help="Releases on hosts behind Caddy.", no_args_is_help=True)
