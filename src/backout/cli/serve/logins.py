"""`backout serve login | token`: who may use the pages; what is printed is shown once and kept nowhere."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from backout.cli.serve.group import DEFAULT
from backout.cli.support.options import REASON, Command, Group, pass_shell
from backout.errors import UsageError
from backout.report.times import format_time

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.model.login import Login
    from backout.runbook.serve.logins import Logins

_ROLE = click.option(
    "--role",
    type=click.Choice(["viewer", "operator", "approver"]),
    default="viewer",
    show_default=True,
    help="viewer reads; operator also asks for rollbacks and holds, and writes notes; approver also approves plans.",
)
_ONLY = click.option(
    "--only", multiple=True, metavar="ENV", help="Counts in this environment; may be given several times."
)


@click.command(
    "login",
    cls=Command,
    short_help="Print an address that logs a person in, once.",
    epilog="Examples:\n  backout serve login --name ada --role operator\n",
)
@click.option("--name", type=REASON, help="Who it is for; what that person does is recorded under it. Default: you.")
@_ROLE
@_ONLY
@click.option(
    "--url", metavar="URL", help=f"Where the pages are. Default: notify.pages, where it is set, else http://{DEFAULT}."
)
@pass_shell
def login(shell: Shell, *, name: str | None, role: str, only: tuple[str, ...], url: str | None) -> None:
    """Print an address of the pages that logs a person in; it works once, within five minutes.

    Whoever can write the journal can do this: it is how the first login comes about.
    """
    from backout.model.login import Permission
    from backout.wiring.records import find_actor

    logins = _open_logins(shell, only)
    secret = logins.offer(name or find_actor().partition("@")[0], Permission(role), only)
    pages = url or shell.config().settings.notify.pages or f"http://{DEFAULT}"
    address = f"{str(pages).rstrip('/')}/login?offer={secret}"
    shell.output.result("serve-login", {"login_url": address, "role": role, "environments": list(only)}, address)


@click.group("token", cls=Group, short_help="Tokens for programs: create, list, revoke.")
def token() -> None:
    """Tokens for programs, sent as `Authorization: Bearer bko_...`."""


@token.command("create", short_help="Create a token, and print it once.")
@click.argument("name", type=REASON)
@_ROLE
@_ONLY
@click.option(
    "--expires", metavar="DURATION", default="90d", show_default=True, help="How long it counts; a year at most."
)
@pass_shell
def create(shell: Shell, *, name: str, role: str, only: tuple[str, ...], expires: str) -> None:
    """Create a token for the program NAME; it is printed once, and the journal keeps its hash."""
    from backout.config.scalars import parse_seconds
    from backout.model.login import Permission

    secret, made = _open_logins(shell, only).issue(name, Permission(role), only, parse_seconds(expires, "--expires"))
    payload = {**_make_record(made), "token": secret}
    shell.output.result("serve-token", payload, secret)
    shell.output.say(f"token {made.id} of {made.name}, a {made.role}, counts until {format_time(made.expires_at)}")
    shell.output.next(f"backout serve token revoke {made.id}")


@token.command("list", short_help="List the tokens that count.")
@pass_shell
def list_(shell: Shell) -> None:
    """List the tokens that count now; what they are is kept nowhere."""
    found = _open_logins(shell, ()).list_tokens()
    rows = [
        (each.id, each.name, each.role, ", ".join(each.environments) or "all", format_time(each.expires_at))
        for each in found
    ]
    human = shell.output.table(("ID", "NAME", "ROLE", "ENVIRONMENTS", "UNTIL"), rows, whole=True)
    shell.output.result("serve-tokens", {"tokens": [_make_record(each) for each in found]}, human or "no tokens")


@token.command("revoke", short_help="Revoke a token.")
@click.argument("id_", metavar="ID")
@pass_shell
def revoke(shell: Shell, *, id_: str) -> None:
    """Revoke the token with this id, on every server within a second."""
    logins = _open_logins(shell, ())
    found = next((each for each in logins.list_tokens() if each.id == id_), None)
    if found is None:
        raise UsageError(
            "there is no such token, or it is over", where=shlex.quote(id_), hint="backout serve token list"
        )
    logins.end(found)
    human = f"token {found.id} of {found.name} is revoked"
    shell.output.result("serve-token", {**_make_record(found), "revoked": True}, human)


def _make_record(login: Login) -> dict[str, object]:
    return {
        "id": login.id,
        "name": login.name,
        "role": login.role,
        "environments": list(login.environments),
        "expires_at": format_time(login.expires_at),
    }


def _open_logins(shell: Shell, only: tuple[str, ...]) -> Logins:
    """Return the logins of the journal. Raises UsageError for an environment that is not in the file."""
    from backout.wiring.serve import open_logins

    config = shell.config()
    known = tuple(config.settings.environments)
    for name in only:
        if name not in known:
            raise UsageError(f"there is no environment {name!r}", where="--only", hint=f"--only {known[0]}")
    return open_logins(config)
