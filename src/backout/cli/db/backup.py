"""`backout db backup`: take, verify, store and prune, as a run of the journal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from backout.cli.support.options import Command, pass_shell
from backout.errors import PartlyDone
from backout.escaping import shorten
from backout.model.database.recovery import BackupKind
from backout.model.incident.incident import RunState

if TYPE_CHECKING:
    from collections.abc import Collection

    from backout.cli.guard.live import Live
    from backout.cli.support.shell import Shell
    from backout.config import Config
    from backout.journal.stop import StopRequest
    from backout.model.database.backups import BackupProgress
    from backout.model.incident.incident import Run
    from backout.runbook.backup.backup import BackupTools

_SHOWN_EVERY_S = 0.5


@click.command(
    "backup",
    cls=Command,
    short_help="Take a base backup, verify and store it.",
    epilog="""
Examples:
  backout db backup -e production            # full or incremental, as is due
  backout db backup -e production --full
  backout db backup -e production --dry-run  # the plan, and what would go
""",
)
@click.option("--full", "kind", flag_value=BackupKind.FULL, type=BackupKind, help="Take a full one.")
@click.option(
    "--incremental", "kind", flag_value=BackupKind.INCREMENTAL, type=BackupKind, help="Take an incremental one."
)
@click.option("-n", "--dry-run", is_flag=True, help="Print the plan and what retention would remove; change nothing.")
@pass_shell
def backup(shell: Shell, *, kind: BackupKind | None, dry_run: bool) -> int:
    """Take a base backup with Postgres' own programs, check every file, store it, and remove backups that are too old.

    It chooses between full and incremental (backup.full_every). An interrupted backup is picked up where it was. It
    holds no lock that a rollback needs.
    """
    from backout.journal.stop import StopRequest as Stop
    from backout.runbook.backup.backup import prepare

    config = shell.config()
    stop = Stop(lambda: shell.output.say("stopping after the current step; Ctrl-C again stops now"))
    tools, live = open_backup_tools(shell, config, stop)
    unfinished = None if dry_run else _find_unfinished(tools)
    if unfinished is not None:
        if unfinished.state is not RunState.INTERRUPTED:
            from backout.cli.support.session import make_busy_error

            raise make_busy_error(unfinished)
        shell.output.say(f"picking up run {unfinished.id} ({shorten(unfinished.plan.why)}), which was interrupted")
        return finish(shell, config, tools, drive(tools, live, stop, unfinished.id))
    plan = prepare(tools, kind)
    if dry_run:
        return _show(shell, tools, plan)
    run = tools.journal.submit(plan, actor=tools.actor, reason=plan.notes[0])
    return finish(shell, config, tools, drive(tools, live, stop, run))


def open_backup_tools(
    shell: Shell, config: Config, stop: StopRequest, accepted: Collection[str] = ()
) -> tuple[BackupTools, Live]:
    """Return the ports, and what shows the steps; `accepted`: what a person accepts although it is not signed."""
    from backout.cli.guard.live import Live
    from backout.wiring.db.backups import BackupHooks, make_backup_tools

    live = Live(shell.output, "db-backup")
    return make_backup_tools(config, BackupHooks(stop, Meter(live).show, live.say_once), accepted), live


def drive(tools: BackupTools, live: Live, stop: StopRequest, run: str) -> Run:
    """Drive a run of a backup to its end."""
    from backout.runbook.backup.backup import BackupActions

    found = tools.runs.find(run)
    if found is not None:
        live.follow(found.plan)
    stop.install()
    try:
        return tools.journal.drive(run, BackupActions(tools), actor=tools.actor, notify=live.event)
    finally:
        stop.restore()
        live.end()


def resume(shell: Shell, run: Run) -> int:
    """Continue an interrupted backup (`backout runs resume`)."""
    from backout.journal.stop import StopRequest as Stop
    from backout.plan.backup import get_environment

    shell.take(environment=get_environment(run.environment))
    config = shell.config()
    stop = Stop(lambda: shell.output.say("stopping after the current step; Ctrl-C again stops now"))
    tools, live = open_backup_tools(shell, config, stop)
    return finish(shell, config, tools, drive(tools, live, stop, run.id))


def finish(shell: Shell, config: Config, tools: BackupTools, run: Run) -> int:
    """Say what was stored, as read back from the repository.

    Raises:
        PartlyDone: the run is not done, so nothing was stored.
    """
    from backout.cli.db.backup_record import format_megabytes, make_backup_record
    from backout.model.steps.backup import PruneBackupsStep, StoreBackupStep
    from backout.model.steps.base import to_json
    from backout.ports import find_result

    if run.state is not RunState.DONE:
        raise PartlyDone(f"run {run.id} is {run.state}: nothing was stored", hint=f"backout runs show {run.id}")
    name = run.plan.arguments(StoreBackupStep).backup
    found = next(each for each in tools.backups.backups() if each.id == name)
    pruned = find_result(tools.runs, run.id, PruneBackupsStep)
    payload = {
        "run_id": run.id,
        "environment": config.name,
        "backup": make_backup_record(found),
        "pruned": to_json(pruned),
    }
    kind = "full" if found.parent is None else f"incremental on {found.parent}"
    human = (
        f"base backup {found.id} ({kind}): {format_megabytes(found.size_bytes)}, stored as "
        f"{format_megabytes(found.stored_bytes)}"
    )
    if pruned is not None and (pruned.removed or pruned.wal_segments):
        human += f"\nremoved: {len(pruned.removed)} older backups, {pruned.wal_segments} segments of WAL"
    shell.output.result("db-backup", payload, human)
    shell.output.next(f"backout db backups list -e {config.name}")
    return 0


def _show(shell: Shell, tools: BackupTools, plan: object) -> int:
    from backout.cli.support.paint import paint_for
    from backout.model.plan import Plan
    from backout.report.event_records import make_plan_record
    from backout.report.plans import format_plan
    from backout.runbook.backup.backup import find_retention

    assert isinstance(plan, Plan)
    out, would = shell.output, find_retention(tools)
    gone = ", ".join(would.remove) or "no backup"
    payload = {
        "dry_run": True,
        "environment": tools.environment,
        "plan": make_plan_record(plan),
        "would_remove": list(would.remove),
    }
    text = format_plan(plan, width=out.style.width, paint=paint_for(out.style))
    out.result("db-backup", payload, f"{text}\nretention would remove: {gone}")
    out.say("\nnothing was changed (dry run)")
    return 0


def _find_unfinished(tools: BackupTools) -> Run | None:
    from backout.plan.backup import name_lane

    newest = next(tools.runs.walk_runs(name_lane(tools.environment)), None)
    return None if newest is None or newest.state.is_over else newest


class Meter:
    """Shows the progress of a step, with its rate and the time left."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._what = ""
        self._began = self._shown = time.monotonic()

    def show(self, progress: BackupProgress) -> None:
        """Show it, at a limited rate."""
        now = time.monotonic()
        if progress.what != self._what:
            self._what, self._began, self._shown = progress.what, now, now
        if now - self._shown >= _SHOWN_EVERY_S:
            self._shown = now
            self._live.progress(format_progress(progress, now - self._began), now)


def format_progress(progress: BackupProgress, elapsed_s: float) -> str:
    """Return the progress of a step.

    >>> from backout.model.database.backups import BackupProgress
    >>> format_progress(BackupProgress("storing", 250_000_000, 1_000_000_000), 2.0)
    'storing 250 MB of 1,000 MB (25 %), 125 MB/s, 6.0 s left'
    """
    from backout.cli.db.backup_record import format_megabytes
    from backout.report.times import format_duration

    done, total = progress.done_bytes, max(progress.total_bytes, progress.done_bytes, 1)
    rate = done / elapsed_s if elapsed_s > 0 else 0.0
    left = f", {format_duration((total - done) / rate)} left" if rate else ""
    share = f"{done / total:.0%}".replace("%", " %")
    return (
        f"{progress.what} {format_megabytes(done)} of {format_megabytes(total)} ({share}), {rate / 1e6:,.0f} MB/s{left}"
    )
