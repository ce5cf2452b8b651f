"""`backout db dump` and `backout db dumps`: logical copies, each proven by a restore, and the way back from them."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING

import click

from backout.cli.support.options import REASON, Command, group, pass_shell
from backout.errors import BackoutError, UsageError
from backout.report.times import format_time

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.config import Config
    from backout.model.database.dump import Dump, Figures
    from backout.model.plan import Json
    from backout.runbook.backup.dump import DumpTools


@click.command(
    "dump",
    cls=Command,
    short_help="Take a logical copy, and prove it by a restore.",
    epilog="""
Examples:
  backout db dump -e production
  backout db dump -e production --every 1d    # for a timer: does nothing before
  backout db dump -e production --dry-run
""",
)
@click.option("--every", metavar="DURATION", default="0s", help="Only if the newest proven one is older (1d, 6h).")
@click.option("--checksums", is_flag=True, help="Also hash the rows where the figures of the check are not available.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be done; nothing is written.")
@pass_shell
def dump(shell: Shell, *, every: str, checksums: bool, dry_run: bool) -> int:
    """Dump the database with pg_dump, restore it into a scratch server, and compare every table with the source.

    The source is hashed in the same snapshot that is dumped, so that a busy database compares exactly. Dumps older than
    database.backup.keep are removed; the newest proven one never is. Exit codes: 0 proven (or none was due); 1 it is
    kept, but could not be proven; 3 the server is newer than pg_dump; 4 and 7 as usual.
    """
    from backout.config.scalars import parse_seconds
    from backout.runbook.backup.dump import dump as take
    from backout.wiring.db.managed import make_dump_tools

    config = shell.config()
    every_s = float(parse_seconds(every, "--every"))
    tools = make_dump_tools(config, shell.output.say)
    if dry_run:
        return _would(shell, config.name, tools, every_s)
    done = take(tools, every_s=every_s, checksums=checksums)
    assert done.dump is not None
    payload = {
        "environment": config.name,
        "dry_run": False,
        "taken": done.taken,
        "dump": _record(done.dump),
        "removed": [old.id for old in done.removed],
    }
    shell.output.result("db-dump", payload, _describe_dump(done.dump, taken=done.taken))
    shell.output.next(f"backout db dumps list -e {config.name}")
    return 1 if done.dump.problem else 0


def _would(shell: Shell, environment: str, tools: DumpTools, every_s: float) -> int:
    from backout.analysis.recovery.dumps import find_expired, find_newest_verified, is_due

    there, now = tools.dumps.list_dumps(), tools.clock.now()
    due = not every_s or is_due(there, now, every_s)
    best = find_newest_verified(there)
    gone = [old.id for old in find_expired(there, now, tools.keep_s)] if due else []
    does = "would take a dump, and prove it" if due else "no dump is due"
    newest = f"the newest proven one is {best.id}" if best else "there is no proven one yet"
    payload = {"environment": environment, "dry_run": True, "due": due, "dump": None, "removed": gone}
    shell.output.result("db-dump", payload, f"{does}; {newest}; {len(gone)} would go")
    return 0


_unsigned = click.option(
    "--accept-unsigned",
    "unsigned",
    multiple=True,
    metavar="ID",
    help="Accept this dump although it is not signed; recorded, and proven by a restore first.",
)


@group("dumps", short_help="List, verify and restore logical copies.")
def dumps() -> None:
    """Logical copies of the database that `backout db dump` keeps in database.backup.directory."""


@dumps.command("list", short_help="List the dumps.")
@pass_shell
def list_(shell: Shell) -> int:
    """List the dumps, newest first, with what proves each."""
    from backout.wiring.db.managed import make_dump_tools

    config = shell.config()
    tools = make_dump_tools(config)
    found = sorted(tools.dumps.list_dumps(), key=lambda each: each.id, reverse=True)
    rows = [(d.id, f"{d.rows:,}", f"{d.size_bytes / 1e6:,.1f} MB", d.problem or _describe_proof(d)) for d in found]
    refused = tools.refused()
    rows += [(name, "", "", f"not used: {why.what}") for name, why in refused]
    human = shell.output.table(("dump", "rows", "size", "proof"), rows) if rows else "no dump yet: backout db dump"
    payload = {
        "environment": config.name,
        "dumps": [_record(d) for d in found],
        "refused": [{"id": name, "why": why.what, "hint": why.hint} for name, why in refused],
    }
    shell.output.result("db-dumps", payload, human)
    return 0


@dumps.command("prove", short_help="Restore a dump into a scratch server, and compare.")
@click.argument("dump_id", metavar="ID")
@_unsigned
@click.option("-m", "--message", type=REASON, metavar="WHY", help="The reason; recorded in the journal.")
@pass_shell
def prove(shell: Shell, *, dump_id: str, unsigned: tuple[str, ...], message: str | None) -> int:
    """Restore a dump into a scratch server and compare every table.

    Exit codes: 0 it holds; 1 it does not; 3 it is not signed although there is a key.
    """
    from backout.runbook.backup.dump import verify
    from backout.wiring.db.managed import make_dump_tools

    config = shell.config()
    tools = make_dump_tools(config, shell.output.say, unsigned)
    found = _find_dump(tools, dump_id)
    _record_accepted(shell, config, unsigned, message or "prove (no reason given)")
    proven = verify(tools, found)
    payload = {"environment": config.name, "dump": _record(proven)}
    shell.output.result("db-dumps-verify", payload, _describe_dump(proven, taken=True))
    return 1 if proven.problem else 0


_verify = copy.copy(prove)
_verify.name, _verify.hidden = (
    "verify",
    True,
)  # what it was called: `db backups verify` reads a copy and restores nothing
dumps.add_command(_verify)


@dumps.command(
    "restore",
    short_help="Restore a dump into a new, empty database.",
    epilog="""
Examples:
  TARGET_URL=... backout db dumps restore 20261125T100000Z -e production --into TARGET_URL
""",
)
@click.argument("dump_id", metavar="ID")
@click.option(
    "--into", required=True, metavar="VARIABLE", help="The variable that holds the target's connection string."
)
@_unsigned
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be done; nothing is written.")
@click.option("-m", "--message", type=REASON, metavar="WHY", help="The reason; recorded in the journal.")
@click.option("--confirm", metavar="ENV", help="Confirm a protected environment by its name.")
@pass_shell
def restore(
    shell: Shell,
    *,
    dump_id: str,
    into: str,
    unsigned: tuple[str, ...],
    dry_run: bool,
    message: str | None,
    confirm: str | None,
) -> int:
    """Restore a dump in one transaction into an empty database, and compare it with the snapshot that was dumped.

    A database that holds anything is refused. Owners and privileges are not restored; their statements are listed, and
    the restored objects belong to the role in the connection string. A superuser never runs what is in a dump: it
    creates a role for the restore, and the objects then belong to the owner of the database. At the end another process
    compares rows, definitions, sequences and large objects with what was recorded when the dump was made. Exit codes: 0
    restored, and nothing differs; 1 something does; 3 not empty, or not confirmed; 7 it could not be compared, or the
    server does not answer; 4 as usual.
    """
    from backout.analysis.recovery.dumps import summarize
    from backout.cli.support.confirm import confirm as asked
    from backout.report.database.dump_check import format_dump_check, get_dump_check_code, make_dump_check_record
    from backout.runbook.backup.dump import list_unchecked
    from backout.runbook.backup.dump import restore as bring_back
    from backout.wiring.db.managed import make_dump_tools
    from backout.wiring.records import find_actor, open_journal

    config = shell.config()
    if (target := shell.environment.secret(into)) is None:
        what = f"the variable {into} is not set: it holds the target's connection string"
        raise UsageError(what, where="--into", hint=f"export {into}=postgresql://...; never in the command line itself")
    tools = make_dump_tools(config, shell.output.say, unsigned)
    found = _find_dump(tools, dump_id)
    does = f"restore {found.id} ({found.rows:,} rows) into the database that {into} names"
    payload = {"environment": config.name, "dump": _record(found), "dry_run": dry_run}
    if dry_run:
        shell.output.result("db-dumps-restore", payload, f"would {does}")
        return 0
    why = asked(shell, config, does, message=message, typed=confirm)
    if found.id in unsigned:  # nothing but a restore says that it is what it claims to be
        _record_accepted(shell, config, unsigned, why)
        if (proven := prove(tools, found)).problem:
            raise BackoutError(f"it is not signed, and could not be proven: {proven.problem}", where=found.id)
    there = bring_back(tools, found, target.reveal())
    skipped, has_figures = list_unchecked(found, there), found.figures is not None
    record = make_dump_check_record(there.check, skipped, has_figures=has_figures)
    book = open_journal(config)
    key = f"{found.id}:{tools.clock.now():.6f}"
    noted: dict[str, Json] = {"dump": found.id, "why": why, "second_check": record}
    book.note(config.name, "database.dump.restored", key, noted, actor=find_actor())
    same = "" if there.check.differs else ", the same as when they were dumped"
    said = f"{found.rows:,} rows in {len(found.tables)} tables are there{same}"
    said += f"; not restored: {summarize(there.left_out)}" if there.left_out else ""
    lines = format_dump_check(there.check, skipped, has_figures=has_figures)
    payload |= {"not_restored": list(there.left_out), "second_check": record}
    shell.output.result("db-dumps-restore", payload, "\n".join([said, *lines]))
    return get_dump_check_code(there.check)


def _record_accepted(shell: Shell, config: Config, names: tuple[str, ...], why: str) -> None:
    from backout.runbook.recovery.unsigned import Acceptance, read_names, record_accepted
    from backout.wiring.records import find_actor, open_journal

    if names:
        told = Acceptance(read_names(names), shell.mask_reason(why), find_actor(), time.time())
        record_accepted(open_journal(config), config.name, told)


def _find_dump(tools: DumpTools, dump_id: str) -> Dump:
    there = tools.dumps.list_dumps()
    for each in there:
        if each.id == dump_id:
            return each
    for name, why in tools.refused():
        if name == dump_id:
            raise why
    known = ", ".join(each.id for each in there[-5:]) or "there is none"
    raise UsageError(f"no dump {dump_id!r}", hint=f"one of: {known}")


def _describe_dump(dump: Dump, *, taken: bool) -> str:
    if dump.problem:
        return f"{dump.id} is kept, but not proven: {dump.problem}"
    head = f"{dump.id}: {dump.rows:,} rows in {len(dump.tables)} tables, {dump.size_bytes / 1e6:,.1f} MB"
    if taken and dump.not_proved:
        from backout.analysis.recovery.dumps import summarize

        return f"{head}; {_describe_proof(dump)}; not proved: {summarize(dump.not_proved)}"
    return f"{head}; {_describe_proof(dump)}" if taken else f"no dump is due; the newest proven one is {head}"


def _describe_proof(dump: Dump) -> str:
    return "never proven" if dump.verified_at is None else f"proven {format_time(dump.verified_at)}"


def _record(dump: Dump) -> dict[str, object]:
    return {
        "id": dump.id,
        "began_at": format_time(dump.began_at),
        "ended_at": format_time(dump.ended_at),
        "database": dump.database,
        "server_version": dump.server_version,
        "size_bytes": dump.size_bytes,
        "sha256": dump.sha256,
        "rows": dump.rows,
        "tables": [{"name": t.name, "rows": t.rows, "checksum": t.checksum or None} for t in dump.tables],
        "verified_at": None if dump.verified_at is None else format_time(dump.verified_at),
        "problem": dump.problem or None,
        "not_proved": list(dump.not_proved),
        "figures": None if dump.figures is None else _make_figures_record(dump.figures),
    }


def _make_figures_record(figures: Figures) -> dict[str, object]:
    return {
        "definitions": len(figures.definitions),
        "sequences": len(figures.sequences),
        "large_objects": len(figures.large_objects),
        "owners": list(figures.owners),
        "privileges": list(figures.privileges),
        "not_noted": list(figures.not_noted),
    }
