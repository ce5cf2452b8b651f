"""`backout db backups`: which backups there are, and whether they can still be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.db.backup_record import format_megabytes, make_backup_record
from backout.cli.support.options import REASON, Group, pass_shell
from backout.cli.support.style import Tone
from backout.report.times import format_time

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.config import Config
    from backout.model.database.backups import Cluster, Protection, Window

backups = Group("backups", help="List base backups, verify and prove them.", no_args_is_help=True)


@backups.command(
    "list",
    short_help="List the backups, and what can be restored.",
    epilog="""
Examples:
  backout db backups list -e production
  backout db backups list -e production --json
""",
)
@pass_shell
def list_(shell: Shell) -> int:
    """List the base backups with their chain, and the period to which the database can be restored.

    Exit codes: 0 protected, 1 UNPROTECTED (the reason is named), 4 or 7 when the live database does not answer.
    """
    from backout.analysis.recovery.backups import find_windows
    from backout.errors import AuthError, ProviderUnavailable
    from backout.report.database.capability import make_protection_record
    from backout.wiring.db import backups as wired

    config = shell.config()
    kept = wired.make_repository(config)
    found = kept.backups()
    trouble: ProviderUnavailable | AuthError | None = None
    live: Cluster | None = None
    try:
        live = wired.make_cluster(config).read()
    except (ProviderUnavailable, AuthError) as error:
        trouble = error
    state = None if live is None else wired.judge_protection(config, live)
    spans = find_windows(found, kept.wal())
    rows = [
        (
            each.id,
            each.kind.value + (f" on {each.parent}" if each.parent else ""),
            format_megabytes(each.size_bytes),
            format_megabytes(each.stored_bytes),
            "verified" if each.verified_at is not None else "not verified",
        )
        for each in found
    ]
    others = kept.others()
    rows += [(each.id, each.kind.value, format_megabytes(each.size_bytes), format_megabytes(each.stored_bytes),
              f"of another cluster, {each.system_identifier}") for each in others]  # fmt: skip
    refused = kept.list_refused()
    rows += [(name, "", "", "", f"not used: {why.what}") for name, why in refused]
    out = shell.output
    human = out.table(("BACKUP", "KIND", "SIZE", "STORED", ""), rows) or "no backups yet"
    payload = {
        "environment": config.name,
        "store": kept.store.name,
        "backups": [make_backup_record(each) for each in found],
        "refused": [{"id": name, "why": why.what, "hint": why.hint} for name, why in refused],
        "others": [make_backup_record(each) for each in others],
        "windows": [_make_window_record(span) for span in spans],
        "protection": None if state is None else make_protection_record(state),
    }
    out.result("db-backups", payload, human + "\n" + _describe_backups(shell, state, spans))
    if found and any(each.began_at > found[0].began_at for each in others):
        out.warn("two clusters write their backups into this store: give each a prefix or directory of its own")
    if trouble is not None:
        out.warn(f"the live database does not answer: {trouble.what}")
        return trouble.exit_code
    if state is None or not state.protected:
        out.next(*_list_protecting_commands(config, live))
        return 1
    return 0


def _list_protecting_commands(config: Config, live: Cluster | None) -> tuple[str, ...]:
    """Return the commands to type, in order: a backup from before the first received WAL reaches no later moment."""
    from backout.wiring.db.backups import get_backup_settings

    is_received = live is not None and live.slot is not None and live.slot.active
    begin = get_backup_settings(config).wal != "off" and not is_received
    wal = (f"backout db wal start -e {config.name}",) if begin else ()
    return (*wal, f"backout db backup -e {config.name}")


def _make_window_record(span: Window) -> dict[str, object]:
    from backout.model.database.wal import show_lsn

    return {
        "base": span.base,
        "timeline": span.timeline,
        "from": format_time(span.from_at),
        "from_lsn": show_lsn(span.from_lsn),
        "to_lsn": show_lsn(span.to_lsn),
    }


def _describe_backups(shell: Shell, state: Protection | None, spans: tuple[Window, ...]) -> str:
    from backout.model.database.wal import show_lsn

    style = shell.output.style
    lines = [
        f"restorable: timeline {span.timeline}, from {format_time(span.from_at)} ({show_lsn(span.from_lsn)})"
        f" to {show_lsn(span.to_lsn)}"
        for span in spans
    ]
    if state is None:
        lines.append("whether it is protected is not known: the live database does not answer")
    elif state.protected:
        lines.append(style.badge(f"protected: {state.claim}", Tone.GOOD))
    else:
        lines.append(style.badge(f"UNPROTECTED: {state.why}", Tone.BAD))
    if state is not None and state.alarm:
        lines.append(style.badge(state.alarm, Tone.BAD))
    return "\n".join(lines)


@backups.command(
    "verify",
    short_help="Read every byte of a backup again.",
    epilog="""
Examples:
  backout db backups verify -e production                 # the newest one, with what it builds on
  backout db backups verify 20261125-190203 -e production
""",
)
@click.argument("backup", required=False)
@click.option(
    "--accept-unsigned",
    "unsigned",
    multiple=True,
    metavar="ID",
    help="Take this backup although it is not signed; repeatable, recorded.",
)
@click.option("-m", "--message", type=REASON, metavar="WHY", help="The reason; recorded in the journal.")
@pass_shell
def verify(shell: Shell, *, backup: str | None, unsigned: tuple[str, ...], message: str | None) -> int:
    """Read a backup with everything it builds on, unpack it, and run pg_verifybackup on it.

    It needs room for the unpacked database in backup.directory. Exit codes: 0 whole, 1 damaged (the part is named),
    3 not signed although there is a key.
    """
    from backout.cli.db.backup import open_backup_tools
    from backout.errors import UsageError
    from backout.journal.stop import StopRequest
    from backout.model.database.backups import BackupProgress
    from backout.runbook.recovery.unsigned import Acceptance, read_names, record_accepted

    config = shell.config()
    accepted = read_names(unsigned)
    tools, live = open_backup_tools(shell, config, StopRequest(lambda: None), accepted)
    found = (*tools.others(), *tools.backups.backups())
    chosen = found[-1].id if found and backup is None else backup
    if chosen is None:
        if refused := tools.refused():
            raise refused[-1][1]
        raise UsageError("there is no backup yet", hint=f"backout db backups list -e {config.name}")
    reason = shell.mask_reason(message or "verify (no reason given)")
    record_accepted(tools.journal, config.name, Acceptance(accepted, reason, tools.actor, tools.clock.now()))
    tools.keeper.check(chosen, lambda done, total: tools.progress(BackupProgress("reading", done, total)))
    live.end()
    after = next(each for each in (*tools.others(), *tools.backups.backups()) if each.id == chosen)
    text = shell.output.style.badge(f"backup {chosen} was read and is whole", Tone.GOOD)
    shell.output.result("db-backups-verify", {"environment": config.name, "backup": make_backup_record(after)}, text)
    return 0


@backups.command(
    "prove",
    short_help="Restore the newest backup beside the live database, and read it all.",
    epilog="""
Examples:
  backout db backups prove -e production
  backout db backups prove -e production --if-due         # from cron: only when half of backup.prove_within has passed
  backout db backups prove -e production --dry-run
""",
)
@click.option("--if-due", is_flag=True, help="Only when the last proof is older than half of backup.prove_within.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be restored; change nothing.")
@pass_shell
def prove(shell: Shell, *, if_due: bool, dry_run: bool) -> int:
    """Restore the newest backup to the end of the received WAL as a side instance, read every row, and remove it.

    The live database is not touched. The result is recorded with its time. `status`, `db check` and the notification
    channels say when the last proof is older than backup.prove_within, or failed. Exit codes: 0 proved, or not due; 1
    it cannot be restored or read; 3 a restore is not possible, and the reasons are named.
    """
    from backout.analysis.recovery.backups import is_proof_due
    from backout.cli.db.backup import Meter
    from backout.cli.guard.live import Live
    from backout.model.database.backups import BackupProgress
    from backout.runbook.backup.proof import make_record, plan_proof, prove_backup
    from backout.wiring.db import backups as wired
    from backout.wiring.db.restore import make_restore_tools

    config = shell.config()
    last, within_s = wired.find_last_proof(config), float(wired.get_backup_settings(config).prove_within)
    tools = make_restore_tools(config, say=shell.output.say)
    if if_due and last.at is not None and not is_proof_due(last, tools.clock.now(), within_s):
        payload: dict[str, object] = {"environment": config.name, "due": False, "proved_at": format_time(last.at)}
        shell.output.result("db-backups-prove", payload, f"not due: proved last at {format_time(last.at)}")
        return 0
    if dry_run:
        wanted = plan_proof(tools)
        text = f"would restore {wanted.order.backup} and {len(wanted.order.wal)} segments of WAL, and read all of it"
        payload = {"environment": config.name, "dry_run": True, "backup": wanted.order.backup}
        shell.output.result("db-backups-prove", payload, text)
        return 0
    live = Live(shell.output, "db-backup")
    meter = Meter(live)
    with wired.proving(config):
        proof = prove_backup(
            tools, lambda doing, done, of: meter.show(BackupProgress(doing, done, of)), wired.make_proof_teller(config)
        )
    live.end()
    record = {**make_record(proof), "at": format_time(proof.at)}
    text = (
        f"backup {proof.backup} was restored to the end of the WAL ({record['lsn']}) and read: {proof.rows:,} rows in "
        f"{proof.tables:,} tables of {proof.databases} databases, in {proof.took_s:,.0f} s"
    )
    payload = {"environment": config.name, "due": True, "proof": record}
    shell.output.result("db-backups-prove", payload, shell.output.style.badge(text, Tone.GOOD))
    return 0
