"""`backout release route`: what Caddy's configuration needs, once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from backout.cli.support.options import Command, pass_shell

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell


@click.command("route", cls=Command, short_help="Print what Caddy's configuration needs.")
@pass_shell
def route(shell: Shell) -> int:
    """Print the application's route and two small servers beside it, as JSON for Caddy's configuration.

    One server shows what is live, the other one answers 503 while a maintenance page is. They are put there once, by
    you; a switch changes none of them.
    """
    from backout.wiring.caddy import describe_caddy

    config = shell.config()
    payload = describe_caddy(config)
    lines = [
        '"routes" of your site in Caddy\'s JSON (apps.http.servers.SITE):',
        json.dumps([payload["route"]], indent=2),
        "",
        "beside it, in apps.http.servers:",
        json.dumps({"backout": payload["server"], "maintenance": payload["maintenance"]}, indent=2),
    ]
    shell.output.result("release", {"environment": config.name, **payload}, "\n".join(lines))
    return 0
