"""`backout release route`: what Caddy's configuration needs, once."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import click

from backout.cli.support.options import Command, pass_shell
from backout.errors import UsageError

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell

_SITE = re.compile(r"(?:[\w.-]*|\[[0-9a-fA-F:]+\]):\d{1,5}|[\w-]+(?:\.[\w-]+)+")


@click.command(
    "route",
    cls=Command,
    short_help="Print what Caddy's configuration needs.",
    epilog="""
Examples:
  backout release route -e production                                        # what goes into your configuration
  backout release route -e production --site shop.example.com > caddy.json   # a whole one
""",
)
@click.option(
    "--site", default="", metavar="SITE", help="A whole configuration for this name (by HTTPS), or HOST:PORT (by HTTP)."
)
@pass_shell
def route(shell: Shell, *, site: str) -> int:
    """Print the application's route and two small servers beside it, as JSON for Caddy's configuration.

    One server shows what is live, the other one answers 503 while a maintenance page is. They are put there once, by
    you; a switch changes none of them. With --site it is a whole configuration, for a Caddy that serves nothing else
    yet.
    """
    from backout.wiring.caddy import describe_caddy

    if site and not _SITE.fullmatch(site):
        raise UsageError(
            "it is neither a name nor HOST:PORT", where=f"--site {site}", hint="shop.example.com, or 127.0.0.1:8080"
        )
    config = shell.config()
    payload = describe_caddy(config, site)
    lines = [
        '"routes" of your site in Caddy\'s JSON (apps.http.servers.SITE):',
        json.dumps([payload["route"]], indent=2),
        "",
        "beside it, in apps.http.servers:",
        json.dumps({"backout": payload["server"], "maintenance": payload["maintenance"]}, indent=2),
    ]
    if site:
        lines = [json.dumps(payload["config"], indent=2)]
    shell.output.result("release", {"environment": config.name, **payload}, "\n".join(lines))
    return 0
