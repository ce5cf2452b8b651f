"""`backout db branch`: side branches at the vendor: created as of a past moment, inspected, put in place, deleted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from backout.cli.support.glass import BREAK_GLASS
from backout.cli.support.options import REASON, group, pass_shell
from backout.errors import UsageError
from backout.private import make_private_folder, write_over

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.config import Config
    from backout.model.database.branch import BranchTarget, SideBranch
    from backout.ports import VendorBackups

_FINALIZING = "database.branch.finalizing"
"""What the journal keeps before a branch is put in place: a name that is taken is then known to be of this attempt."""

_GLASS = "database.branch.broke_glass"
"""That a branch is put in place without the approval that it needs."""

_message = click.option("-m", "--message", type=REASON, metavar="WHY", help="The reason; recorded in the journal.")
_confirm = click.option("--confirm", metavar="ENV", help="Confirm a protected environment by its name.")
_dry_run = click.option("-n", "--dry-run", is_flag=True, help="Say what would be done; nothing is changed.")


@group("branch", short_help="Side branches at the vendor: create, inspect, finalize.")
def branch() -> None:
    """Side branches at the database vendor (Neon, Xata): a copy at an earlier moment, beside the live one.

    The live branch stays as it is until `finalize`, which keeps its old state under a name.
    """


@branch.command("list", short_help="List the vendor's branches.")
@pass_shell
def list_(shell: Shell) -> int:
    """Show the vendor's branches, newest first, the live one marked."""
    from backout.report.database import branches as words
    from backout.wiring.db.managed import make_vendor

    config = shell.config()
    found = make_vendor(config).branches()
    human = shell.output.table(("name", "id", "state", "shows", "made"), [words.format_row(each) for each in found])
    payload = {"environment": config.name, "branches": [words.make_record(each) for each in found]}
    shell.output.result("db-branches", payload, human)
    return 0


@branch.command(
    "create",
    short_help="Create a side branch as of a moment.",
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

    Run again, it finds the branch by its name and makes no other. Exit codes: 0 it exists; 1 the vendor made it as of
    another moment; 2 a branch of that name shows another moment; 3 TARGET is outside the vendor's window, or of a kind
    that the vendor does not accept; 4 and 7 as usual.
    """
    from backout.report.database import branches as words
    from backout.wiring.db.managed import open_checked_vendor

    config = shell.config()
    target = _parse_target(at)
    name = name or f"backout-{_make_slug(at or 'newest' if target.at is None else words.describe_target(target))}"
    port = open_checked_vendor(config, shell.output.say)
    existing = next((each for each in port.branches() if each.name == name), None)
    if existing is not None:
        _check_existing(config, existing, target)
    does = f"make the side branch {name} at {words.describe_target(target)}"
    if dry_run:
        said = f"would {does}" if existing is None else f"{_describe_existing(existing)}; nothing would be made"
        payload = {"environment": config.name, "action": "create", "dry_run": True, "branch": None, "name": name}
        shell.output.result("db-branch", payload, said)
        return 0
    why = _confirm_action(shell, config, does, message, confirm)
    made = port.restore(target, name)
    _record_in_journal(config, "created", made, why)
    payload = {"environment": config.name, "action": "create", "dry_run": False, "branch": words.make_record(made)}
    said = f"{made.name} ({made.id}) is ready beside the live one"
    if existing is not None:
        said = f"{_describe_existing(made)}; nothing was made"
    other = made.shows_other_than(target)
    if other:
        said += f", but shows {words.shows(made)}, where {words.describe_target(target)} was asked for"
    shell.output.result("db-branch", {**payload, "name": name, "made": existing is None}, said)
    shell.output.next(
        f"backout db branch look {name} -e {config.name}",
        f"backout db branch delete {name} -e {config.name}  # when it is not needed any more",
    )
    return 1 if other else 0


@branch.command("look", short_help="Write a file to connect with.")
@click.argument("name")
@click.option(
    "--to", "to", type=click.Path(path_type=Path), metavar="FILE", help="Default: .backout/NAME.pg_service.conf."
)
@click.option("--database", metavar="NAME", help="Default: the one in the connection string.")
@click.option("--role", metavar="NAME", help="Default: the one in the connection string.")
@pass_shell
def look(shell: Shell, *, name: str, to: Path | None, database: str | None, role: str | None) -> int:
    """Write a service file (mode 0600) for connecting to a branch, for psql and every other libpq program.

    The password appears on no command line and in no output. The server's certificate is checked (verify-full), also
    where the vendor hands out less.
    """
    from backout.config.places import check_around, locate_service_file
    from backout.report.database import branches as words
    from backout.wiring.db.branches import find_parameters
    from backout.wiring.db.managed import make_vendor

    config = shell.config()
    port = make_vendor(config, say=shell.output.say)
    found = _find_branch(port, name)
    parameters = find_parameters(config, port, found, database, role)
    file = re.sub(r"[^0-9A-Za-z_-]", "_", found.name)  # a vendor lets a branch be called dev/../x
    path = shell.folder / to if to else locate_service_file(shell.folder, file)
    check_around(config.path.parent, path, "the file")
    _write_service(path, parameters)
    payload = {"environment": config.name, "action": "look", "branch": words.make_record(found), "service_file": path}
    line = f"PGSERVICEFILE={path} psql service=side"
    shell.output.result("db-branch", {**payload, "name": name}, line)
    return 0


@branch.command("finalize", short_help="Put a side branch in place of the live one.")
@click.argument("name")
@click.option("--keep-as", metavar="NAME", help="The name that the old state keeps; default: LIVE-before-NAME.")
@_dry_run
@_message
@BREAK_GLASS
@_confirm
@pass_shell
def finalize(
    shell: Shell, *, name: str, keep_as: str | None, dry_run: bool, message: str | None, confirm: str | None
) -> int:
    """Put a side branch's content in place of the live one's; what was live is kept as a named branch.

    Everything written to the live branch since the side branch's moment is in the kept branch only. Connections are cut
    once. Another process notes before what the branch holds, and compares what is live with that. It is no run that
    could wait for an approval: where restores need one it is refused without --break-glass. Exit codes: 0 done, and
    nothing differs; 1 something does; 2 it is the live branch, or the name to keep is taken; 3 the vendor has no
    such call (Xata; Neon for a child branch), or it was not confirmed; 7 it was done, and nothing could be compared.
    """
    from backout.cli.support.cached import tell_cache
    from backout.plan.query_cache import CACHE_S
    from backout.report.database import branches as words
    from backout.report.database.comparison import format_comparison, get_comparison_code
    from backout.runbook.recovery.branch import check_cutover
    from backout.wiring import clock
    from backout.wiring.db.branches import finalize_check
    from backout.wiring.db.managed import open_checked_vendor
    from backout.wiring.declared import binds_hyperdrive

    config = shell.config()
    port = open_checked_vendor(config)
    side, live = _find_branch(port, name), next((each for each in port.branches() if each.live), None)
    rescue = f"Rescue the damaged rows alone: `backout db restore TARGET -e {config.name}`."
    check_cutover(port, config.name, rescue)
    kept = keep_as or f"{live.name if live else 'live'}-before-{name}"
    keeps = _check_keeps(config, port, side, kept)
    does = f"put {name} ({words.shows(side)}) in the place of the live branch, which stays as {kept}"
    if dry_run:
        payload = {"environment": config.name, "action": "finalize", "dry_run": True, "branch": words.make_record(side)}
        shell.output.result("db-branch", {**payload, "name": name, "kept": kept}, f"would {does}")
        return 0
    _check_approvals(shell, config)
    why = _confirm_action(shell, config, does, message, confirm)
    if shell.flags.glass:
        _break_glass(shell, config, f"{side.id}:{kept}", does, why)
    check = finalize_check(config, port)
    if live is not None:
        check.note(side, live, kept, keeps=keeps)
    if keeps:
        _record_attempt(config, side, kept, why)
    done = port.finalize(side, kept)
    _record_in_journal(config, "finalized", done.live, why)
    compared = check.compare(done.live)
    database = config.environment.database
    if database and database.managed and database.managed.branch == done.kept.id:
        shell.output.warn(f'the live branch has another id now: database.managed.branch = "{done.live.id}"')
    payload = {
        "environment": config.name,
        "action": "finalize",
        "dry_run": False,
        "branch": words.make_record(done.live),
    }
    payload |= {"name": name, "kept": done.kept.name, "comparison": compared.to_json()}
    human = f"{done.live.name} ({done.live.id}) is live; the old state is {done.kept.name} ({done.kept.id})"
    payload["stale_reads_until"], said = tell_cache(clock.now() + CACHE_S) if binds_hyperdrive(config) else (None, [])
    shell.output.result("db-branch", payload, "\n".join((human, *format_comparison(compared), *said)))
    shell.output.next(f"backout db branch finalize {done.kept.name} -e {config.name}  # takes it back")
    return get_comparison_code(compared)


@branch.command("delete", short_help="Delete a side branch; never the live one.")
@click.argument("name")
@_dry_run
@_message
@_confirm
@pass_shell
def delete(shell: Shell, *, name: str, dry_run: bool, message: str | None, confirm: str | None) -> int:
    """Delete a side branch with everything in it, and check that it is gone. The live branch is refused."""
    from backout.report.database import branches as words
    from backout.wiring.db.managed import open_checked_vendor

    config = shell.config()
    port = open_checked_vendor(config)
    found = _find_branch(port, name)
    payload = {"environment": config.name, "action": "delete", "branch": words.make_record(found), "name": name}
    if dry_run:
        shell.output.result("db-branch", {**payload, "dry_run": True}, f"would delete {name} ({found.id})")
        return 0
    why = _confirm_action(
        shell, config, f"delete the branch {name} ({found.id}) with everything in it", message, confirm
    )
    port.delete(found)
    gone = all(each.id != found.id for each in port.branches())
    _record_in_journal(config, "deleted", found, why)
    said = f"{name} is deleted" if gone else f"{name} is being deleted; the vendor still lists it"
    shell.output.result("db-branch", {**payload, "dry_run": False, "gone": gone}, said)
    return 0


def _parse_target(text: str | None) -> BranchTarget:
    """Return what --at means. Raises UsageError: neither an LSN, nor a time, nor a snapshot."""
    from backout.model.database.branch import BranchTarget as Target
    from backout.model.database.wal import parse_lsn
    from backout.plan.target import parse_time
    from backout.wiring import clock

    if text is None:
        return Target()
    if text.startswith("snapshot:"):
        return Target(snapshot=text.removeprefix("snapshot:"))
    try:
        return Target(lsn=parse_lsn(text))
    except ValueError:
        at = parse_time(text, clock.now())
    if at is None:
        hint = '0/C3A5C918, "10 minutes ago", 2026-11-25T10:00:00Z, snapshot:ID'
        raise UsageError(f"--at: no LSN, no time and no snapshot: {text!r}", hint=hint)
    return Target(at=at)


def _make_slug(text: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in text.lower()).strip("-")[:60]


def _find_branch(port: VendorBackups, name: str) -> SideBranch:
    branches = port.branches()
    for each in branches:
        if name in (each.name, each.id):
            return each
    names = ", ".join(each.name for each in branches[:8])
    raise UsageError(f"the vendor has no branch {name!r}", hint=f"one of: {names}")


def _check_existing(config: Config, existing: SideBranch, target: BranchTarget) -> None:
    """Raise UsageError: the branch of that name is the live one, or shows another moment than was asked for."""
    from backout.report.database import branches as words

    if existing.live or existing.shows_other_than(target):
        what = "is the live branch" if existing.live else f"is there already and shows {words.shows(existing)}"
        asked = words.describe_target(target)
        hint = f"another name: --name NAME; or first: backout db branch delete {existing.name} -e {config.name}"
        raise UsageError(
            f"{existing.name} {what}, where {asked} was asked for",
            hint="another name: --name NAME" if existing.live else hint,
        )


def _describe_existing(existing: SideBranch) -> str:
    from backout.report.database import branches as words
    from backout.report.times import format_time

    moment = f", and shows {words.shows(existing)}" if existing.lsn is not None or existing.at is not None else ""
    return f"{existing.name} ({existing.id}) is there already: made at {format_time(existing.created_at)}{moment}"


def _check_keeps(config: Config, port: VendorBackups, side: SideBranch, kept: str) -> bool:
    """Return whether the live branch is still to be kept under a name; not if an attempt that was cut off did that.

    Raises:
        UsageError: the branch is the live one, or the name to keep belongs to a branch that no such attempt left.
    """
    from backout.wiring.records import open_journal

    taken = any(each.name == kept for each in port.branches())
    tried = open_journal(config).events(environment=config.name, kind=_FINALIZING)
    if taken and not any(each.data.get("key") == f"{side.id}:{kept}" for each in tried):
        text = f"a branch named {kept} is there already, so what is live now cannot be kept under that name"
        raise UsageError(text, hint="another name: --keep-as NAME")
    if side.live and not taken:
        raise UsageError(f"{side.name} is the live branch already", hint=f"backout db branch list -e {config.name}")
    return not taken


def _record_attempt(config: Config, side: SideBranch, kept: str, why: str) -> None:
    """Record that a branch is about to be put in place, so that the same command can find what it did."""
    from backout.wiring.records import find_actor, open_journal

    data = {"name": side.name, "id": side.id, "kept": kept, "why": why}
    open_journal(config).note(config.name, _FINALIZING, f"{side.id}:{kept}", data, actor=find_actor())


def _confirm_action(shell: Shell, config: Config, does: str, message: str | None, typed: str | None) -> str:
    from backout.cli.support.confirm import confirm as asked

    return asked(shell, config, does, message=message, typed=typed)


def _check_approvals(shell: Shell, config: Config) -> None:
    """Raise Refused where data may be overwritten with an approval alone, and the glass is not broken."""
    from backout.errors import Refused
    from backout.model.approval import Change

    if Change.RESTORE in config.environment.approval_rule().required_for and not shell.flags.glass:
        raise Refused(
            "a change of data has to be approved here, and putting a branch in place is no run that could wait",
            where=f"environments.{config.name}.approvals",
            hint=f"backout db restore TARGET -e {config.name}  # waits for its approval",
            options=("If it cannot wait: the same command with `--break-glass -m WHY`; it is recorded, and told.",),
        )


def _break_glass(shell: Shell, config: Config, key: str, does: str, why: str) -> None:
    """Record that nobody approved it, before anything is done, and tell every channel, if an approval was needed."""
    from backout.cli.support.glass import tell_of_glass
    from backout.model.approval import Change
    from backout.model.incident.notice import Notice, NoticeKind
    from backout.wiring import clock
    from backout.wiring.records import find_actor, open_journal

    if Change.RESTORE not in config.environment.approval_rule().required_for:
        shell.output.say("it needs no approval: there is no glass to break")
        return
    name, actor, at = config.name, find_actor(), clock.now()
    open_journal(config).note(name, _GLASS, f"{key}:{at}", {"does": does, "why": why}, actor=actor)
    notice = Notice(
        kind=NoticeKind.BROKE_GLASS,
        environment=name,
        at=at,
        title=f"{name}: a branch is put in place without the approval that it needs",
        text=f"{actor} broke the glass: {why}. Nobody has approved it: {does}.",
        key=f"{name}:{NoticeKind.BROKE_GLASS}:{key}:{at}",
        run="",
        next=(f"backout db branch list -e {name}",),
        facts={"by": actor, "why": why},
    )
    tell_of_glass(shell, notice)


def _record_in_journal(config: Config, what: str, found: SideBranch, why: str) -> None:
    """Keep in the journal what was done at the vendor."""
    from backout.wiring.records import find_actor, open_journal

    data = {"name": found.name, "id": found.id, "why": why}
    key = f"{what}:{found.id}:{found.name}"
    open_journal(config).note(config.name, f"database.branch.{what}", key, data, actor=find_actor())


def _write_service(path: Path, parameters: dict[str, str]) -> None:
    make_private_folder(path.parent)
    lines = ["[side]", *(f"{name}={value}" for name, value in parameters.items())]
    write_over(path, ("\n".join(lines) + "\n").encode())
