"""`backout serve`: the pages behind a notice; `login` and `token` say who may use them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from backout.cli.db.group import TableGroup
from backout.cli.support.options import pass_shell

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell

DEFAULT: Final = "127.0.0.1:8765"
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "login": ("backout.cli.serve.logins:login", "Print an address that logs a person in, once."),
    "token": ("backout.cli.serve.logins:token", "Tokens for programs: create, list, revoke."),
}


class _Serve(TableGroup):
    table = COMMANDS


@click.command(
    "serve",
    cls=_Serve,
    invoke_without_command=True,
    epilog="""
Examples:
  backout serve                                    # http://127.0.0.1:8765, and an address to log in with
  backout serve login --name ada --role operator
  backout serve token create ci --role operator --only staging --expires 90d
  backout serve --listen 0.0.0.0:8443 --url https://backout.example.com:8443 --cert cert.pem --key key.pem
""",
)
@click.option("--listen", metavar="ADDRESS:PORT", default=DEFAULT, show_default=True, help="Where to answer.")
@click.option("--url", metavar="URL", help="What people type, where that is another address.")
@click.option("--cert", metavar="FILE", help="The certificate, for https.")
@click.option("--key", metavar="FILE", help="Its key.")
@click.option("--proxy", multiple=True, metavar="NETWORK", help="A trusted proxy in front; may be given several times.")
@click.option("--proxy-header", metavar="NAME", help="In which that proxy says who it is; it removes one that is sent.")
@click.option(
    "--proxy-role",
    type=click.Choice(["viewer", "operator", "approver"]),
    default="viewer",
    show_default=True,
    help="What everybody may whom it lets through.",
)
@click.option("--github-secret", metavar="FILE", help="With the secret of GitHub's webhooks to /hooks/github.")
@click.option("--webhook-secret", metavar="FILE", help="With that (whsec_...) of Standard Webhooks to /hooks/standard.")
@click.option("--github-oidc", metavar="OWNER/REPO", help="Let jobs of GitHub Actions in by their own tokens.")
@click.option("--github-oidc-issuer", metavar="URL", help="Who gives them, where that is a GitHub of your own.")
@click.option(
    "--github-oidc-role",
    type=click.Choice(["viewer", "operator"]),
    default="viewer",
    show_default=True,
    help="What such a job may, in the environment that it deploys to.",
)
@pass_shell
@click.pass_context
def serve(context: click.Context, shell: Shell, /, **typed: Any) -> int | None:
    """Show every environment, its runs and incidents on pages, kept up to date, until SIGTERM; Ctrl-C ends it, too.

    What people do there is written into the journal as a request, and `backout worker` acts on it: these pages hold no
    token of the platform and no password of the database. At its start all variables are dropped but those that it
    needs. Everybody logs in: with an address that works once, a token, or through a proxy that says who it is.
    """
    if context.invoked_subcommand is not None:
        return None
    from backout.cli.serve.serve import Wanted, run_server

    return run_server(shell, Wanted(**typed))
