"""`backout db branch`: side branches at the vendor, made at a moment of the past, looked at, put in place, deleted."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from backout.cli.options import REASON, group, pass_shell
from backout.errors import UsageError
from backout.private import private_folder

if TYPE_CHECKING:
    from backout.cli.shell import Shell
    from backout.config import Config
    from backout.model.branch import BranchTarget, SideBranch
    from backout.ports import VendorBackups

_message = click.option("-m", "--message", type=REASON, metavar="WHY", help="Why; kept in the journal.")
_confirm = click.option("--confirm", metavar="ENV", help="The environment's name, instead of typing it.")
_dry_run = click.option("--dry-run", is_flag=True, help="Say what would be done; nothing is changed.")


@group("branch", short_help="Side branches at the vendor: make, look, finalize.")
def branch() -> None:
    """Side branches at the vendor who runs the database (Neon, Xata): a copy at an earlier moment, beside the live one.

    The live branch stays as it is until `finalize`, which keeps its old state under a name.
    """


@branch.command("list", short_help="The branches that the vendor has.")
@pass_shell
def list_(shell: Shell) -> int:
    """Show the vendor's branches, newest first, the live one marked."""
    from backout.report import branches as words  # noqa: PLC0415 - only this command pays for it
    from backout.wiring.managed import vendor  # noqa: PLC0415

    config = shell.config()
    found = vendor(config).branches()
    human = shell.output.table(("name", "id", "state", "shows", "made"), [words.row(each) for each in found])
    payload = {"environment": config.name, "branches": [words.record(each) for each in found]}
    shell.output.result("db-branches", payload, human)
    return 0


@branch.command(
    "create",
    short_help="Make a side branch at a moment.",
    epilog="""
Examples:
  backout db branch create -e production --at 0/C3A5C918
  backout db branch create -e production --at "10 minutes ago" --dry-run
  backout db branch create -e production --at snapshot:snap-1
""",
)
@click.option("--at", "at", metavar="TARGET", help="An LSN, a time, or snapshot:ID; default: the newest state.")
@click.option("--name", metavar="NAME", help="The branch's name; default: from TARGET.")
@_dry_run
@_message
@_confirm
@pass_shell
def create(
    shell: Shell, *, at: str | None, name: str | None, dry_run: bool, message: str | None, confirm: str | None
) -> int:
    """Make a branch of the live one as it was at TARGET, and read it back; the live one is not touched.

    The same command again finds the branch by its name and makes none. Exit codes: 0 it is there; 3 TARGET is out of
    the vendor's window, or of a kind that the vendor does not take; 4 and 7 as usual.
    """
    from backout.report import branches as words  # noqa: PLC0415 - only this command pays for it
    from backout.wiring.managed import checked_vendor  # noqa: PLC0415

    config = shell.config()
    target = _target(at)
    name = name or f"backout-{_slug(at or 'newest')}"
    port = checked_vendor(config)
    existing = next((each for each in port.branches() if each.name == name), None)
    does = f"make the side branch {name} at {words.meant(target)}"
    if dry_run:
        said = f"would {does}" if existing is None else f"{name} is there already; nothing would be made"
        payload = {"environment": config.name, "action": "create", "dry_run": True, "branch": None, "name": name}
        shell.output.result("db-branch", payload, said)
        return 0
    why = _confirmed(shell, config, does, message, confirm)
    made = port.restore(target, name)
    _noted(config, "created", made, why)
    payload = {"environment": config.name, "action": "create", "dry_run": False, "branch": words.record(made)}
    shell.output.result("db-branch", {**payload, "name": name}, f"{made.name} ({made.id}) is ready beside the live one")
    shell.output.next(
        f"backout db branch look {name} -e {config.name}",
        f"backout db branch delete {name} -e {config.name}  # when it is not needed any more",
    )
    return 0


@branch.command("look", short_help="Write a file to connect with.")
@click.argument("name")
@click.option(
    "--to", "to", type=click.Path(path_type=Path), metavar="FILE", help="Default: .backout/NAME.pg_service.conf."
)
@click.option("--database", metavar="NAME", help="Default: the one in the connection string.")
@click.option("--role", metavar="NAME", help="Default: the one in the connection string.")
@pass_shell
def look(shell: Shell, *, name: str, to: Path | None, database: str | None, role: str | None) -> int:
    """Write how to connect to a branch into a service file (mode 0600), for psql and every program on libpq.

    The password stands in no command line and in no output.
    """
    from backout.providers.postgres.tls_access import parsed  # noqa: PLC0415 - only this command pays for it
    from backout.report import branches as words  # noqa: PLC0415
    from backout.wiring.managed import vendor  # noqa: PLC0415

    config = shell.config()
    port = vendor(config)
    found = _found(port, name)
    own = parsed(config.database_url().reveal())
    url = port.url(found, database or own.get("dbname", ""), role or own.get("user", ""))
    file = re.sub(r"[^0-9A-Za-z_-]", "_", found.name)  # a vendor lets a branch be called dev/../x
    path = shell.folder / (to or Path(".backout") / f"{file}.pg_service.conf")
    _write_service(path, parsed(url))
    payload = {"environment": config.name, "action": "look", "branch": words.record(found), "service_file": path}
    line = f"PGSERVICEFILE={path} psql service=side"
    shell.output.result("db-branch", {**payload, "name": name}, line)
    return 0


@branch.command("finalize", short_help="Put a side branch in the live one's place.")
@click.argument("name")
@click.option("--keep-as", metavar="NAME", help="Under which name the old state stays; default: LIVE-before-NAME.")
@_dry_run
@_message
@_confirm
@pass_shell
def finalize(
    shell: Shell, *, name: str, keep_as: str | None, dry_run: bool, message: str | None, confirm: str | None
) -> int:
    """Put a side branch's content in the live one's place; what was live stays as a branch under a name.

    Everything written to the live branch since the side branch's moment is in the kept branch alone. Connections are
    cut once. Exit codes: 0 done and read back; 3 the vendor has no such call (Xata), or nobody confirmed.
    """
    from backout.report import branches as words  # noqa: PLC0415 - only this command pays for it
    from backout.wiring.managed import checked_vendor  # noqa: PLC0415

    config = shell.config()
    port = checked_vendor(config)
    side, live = _found(port, name), next((each for each in port.branches() if each.live), None)
    kept = keep_as or f"{live.name if live else 'live'}-before-{name}"
    does = f"put {name} ({words.shows(side)}) in the place of the live branch, which stays as {kept}"
    if dry_run:
        payload = {"environment": config.name, "action": "finalize", "dry_run": True, "branch": words.record(side)}
        shell.output.result("db-branch", {**payload, "name": name, "kept": kept}, f"would {does}")
        return 0
    why = _confirmed(shell, config, does, message, confirm)
    done = port.finalize(side, kept)
    _noted(config, "finalized", done.live, why)
    database = config.environment.database
    if database and database.managed and database.managed.branch == done.kept.id:
        shell.output.warn(f'the live branch has another id now: database.managed.branch = "{done.live.id}"')
    payload = {"environment": config.name, "action": "finalize", "dry_run": False, "branch": words.record(done.live)}
    human = f"{done.live.name} ({done.live.id}) is live; the old state is {done.kept.name} ({done.kept.id})"
    shell.output.result("db-branch", {**payload, "name": name, "kept": done.kept.name}, human)
    shell.output.next(f"backout db branch finalize {done.kept.name} -e {config.name}  # takes it back")
    return 0


@branch.command("delete", short_help="Delete a side branch; never the live one.")
@click.argument("name")
@_dry_run
@_message
@_confirm
@pass_shell
def delete(shell: Shell, *, name: str, dry_run: bool, message: str | None, confirm: str | None) -> int:
    """Delete a side branch with everything in it, and look whether it is gone. The live branch is refused."""
    from backout.report import branches as words  # noqa: PLC0415 - only this command pays for it
    from backout.wiring.managed import checked_vendor  # noqa: PLC0415

    config = shell.config()
    port = checked_vendor(config)
    found = _found(port, name)
    payload = {"environment": config.name, "action": "delete", "branch": words.record(found), "name": name}
    if dry_run:
        shell.output.result("db-branch", {**payload, "dry_run": True}, f"would delete {name} ({found.id})")
        return 0
    why = _confirmed(shell, config, f"delete the branch {name} ({found.id}) with everything in it", message, confirm)
    port.delete(found)
    gone = all(each.id != found.id for each in port.branches())
    _noted(config, "deleted", found, why)
    said = f"{name} is deleted" if gone else f"{name} is being deleted; the vendor still lists it"
    shell.output.result("db-branch", {**payload, "dry_run": False, "gone": gone}, said)
    return 0


def _target(text: str | None) -> BranchTarget:
    """Return what --at means. Raises UsageError: neither an LSN, nor a time, nor a snapshot."""
    from backout.model.branch import BranchTarget as Target  # noqa: PLC0415 - only a branch needs it
    from backout.model.recovery import parse_lsn  # noqa: PLC0415
    from backout.plan.target import parse_time  # noqa: PLC0415
    from backout.providers.clock import SystemClock  # noqa: PLC0415

    if text is None:
        return Target()
    if text.startswith("snapshot:"):
        return Target(snapshot=text.removeprefix("snapshot:"))
    try:
        return Target(lsn=parse_lsn(text))
    except ValueError:
        at = parse_time(text, SystemClock().now())
    if at is None:
        hint = '0/C3A5C918, "10 minutes ago", 2026-11-25T10:00:00Z, snapshot:ID'
        raise UsageError(f"--at: no LSN, no time and no snapshot: {text!r}", hint=hint)
    return Target(at=at)


def _slug(text: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in text.lower()).strip("-")[:60]


def _found(port: VendorBackups, name: str) -> SideBranch:
    branches = port.branches()
    for each in branches:
        if name in (each.name, each.id):
            return each
    names = ", ".join(each.name for each in branches[:8])
    raise UsageError(f"the vendor has no branch {name!r}", hint=f"one of: {names}")


def _confirmed(shell: Shell, config: Config, does: str, message: str | None, typed: str | None) -> str:
    from backout.cli.confirm import confirm as asked  # noqa: PLC0415 - only a change asks

    return asked(shell, config, does, message=message, typed=typed)


def _noted(config: Config, what: str, found: SideBranch, why: str) -> None:
    """Keep in the journal what was done at the vendor."""
    from backout import wiring  # noqa: PLC0415 - only a change is kept

    data = {"name": found.name, "id": found.id, "why": why}
    key = f"{what}:{found.id}:{found.name}"
    wiring.journal(config).note(config.name, f"database.branch.{what}", key, data, actor=wiring.actor())


def _write_service(path: Path, parameters: dict[str, str]) -> None:
    private_folder(path.parent)
    lines = ["[side]", *(f"{name}={value}" for name, value in parameters.items())]
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.fchmod(descriptor, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
