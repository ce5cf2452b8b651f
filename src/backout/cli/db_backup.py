"""`backout db backup`: take, verify, store and prune, as a run of the journal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from backout.cli.options import Command, pass_shell
from backout.errors import PartlyDone
from backout.escaping import brief
from backout.model.incident import RunState
from backout.model.recovery import BackupKind

if TYPE_CHECKING:
    from collections.abc import Collection

    from backout.cli.live import Live
    from backout.cli.shell import Shell
    from backout.config import Config
    from backout.journal.stop import StopRequest
    from backout.model.backups import BackupProgress
    from backout.model.incident import Run
    from backout.runbook.backup import BackupTools

_SHOWN_EVERY_S = 0.5


@click.command(
    "backup",
    cls=Command,
    short_help="Take a base backup, verify and store it.",
    epilog="""
Examples:
  backout db backup -e production            full or incremental, as is due
  backout db backup -e production --full
  backout db backup -e production --dry-run  the plan, and what would go
""",
)
@click.option("--full", "kind", flag_value=BackupKind.FULL, type=BackupKind, help="Take a full one.")
@click.option(
    "--incremental", "kind", flag_value=BackupKind.INCREMENTAL, type=BackupKind, help="Take an incremental one."
)
@click.option("-n", "--dry-run", is_flag=True, help="Print the plan and what retention would remove; change nothing.")
@pass_shell
def backup(shell: Shell, *, kind: BackupKind | None, dry_run: bool) -> int:
    """Take a base backup with Postgres' own programs, check every file, store it, and remove what is too old.

    It decides by itself between full and incremental (backup.full_every). An interrupted one is picked up where it
    was. It holds nothing that a rollback needs.
    """
    from backout.journal.stop import StopRequest as Stop  # noqa: PLC0415 only what acts pays for it
    from backout.runbook.backup import prepare  # noqa: PLC0415 same

    config = shell.config()
    stop = Stop(lambda: shell.output.say("stopping after the current step; Ctrl-C again stops now"))
    tools, live = opened(shell, config, stop)
    unfinished = None if dry_run else _unfinished(tools)
    if unfinished is not None:
        if unfinished.state is not RunState.INTERRUPTED:
            from backout.cli.bench import busy  # noqa: PLC0415 only who has to wait

            raise busy(unfinished)
        shell.output.say(f"picking up run {unfinished.id} ({brief(unfinished.plan.why)}), which was interrupted")
        return finish(shell, config, tools, drive(tools, live, stop, unfinished.id))
    plan = prepare(tools, kind)
    if dry_run:
        return _show(shell, tools, plan)
    run = tools.journal.submit(plan, actor=tools.actor, reason=plan.notes[0])
    return finish(shell, config, tools, drive(tools, live, stop, run))


def opened(shell: Shell, config: Config, stop: StopRequest, accepted: Collection[str] = ()) -> tuple[BackupTools, Live]:
    """Return the ports, and what shows the steps; `accepted`: what a person takes although it is not signed."""
    from backout.cli.live import Live  # noqa: PLC0415 only what acts pays for it
    from backout.wiring.backups import BackupHooks, backup_tools  # noqa: PLC0415 same

    live = Live(shell.output, "db-backup")
    return backup_tools(config, BackupHooks(stop, Meter(live).show, live.say_once), accepted), live


def drive(tools: BackupTools, live: Live, stop: StopRequest, run: str) -> Run:
    """Drive a run of a backup to its end."""
    from backout.runbook.backup import BackupActions  # noqa: PLC0415 only what acts pays for it

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
    """Go on with an interrupted backup (`backout runs resume`)."""
    from backout.journal.stop import StopRequest as Stop  # noqa: PLC0415 only what acts pays for it
    from backout.plan.backup import environment_of  # noqa: PLC0415 same

    shell.take(environment=environment_of(run.environment))
    config = shell.config()
    stop = Stop(lambda: shell.output.say("stopping after the current step; Ctrl-C again stops now"))
    tools, live = opened(shell, config, stop)
    return finish(shell, config, tools, drive(tools, live, stop, run.id))


def finish(shell: Shell, config: Config, tools: BackupTools, run: Run) -> int:
    """Say what there is now, as read back from the repository."""
    from backout.cli.db_backups import backup_record, megabytes  # noqa: PLC0415 only what acts pays for it

    if run.state is not RunState.DONE:
        raise PartlyDone(f"run {run.id} is {run.state}: nothing was stored", hint=f"backout runs show {run.id}")
    name = str(run.plan.step("store_backup").args["backup"])
    found = next(each for each in tools.backups.backups() if each.id == name)
    pruned = tools.runs.result(run.id, "prune_backups")
    payload = {"run_id": run.id, "environment": config.name, "backup": backup_record(found), "pruned": pruned}
    kind = "full" if found.parent is None else f"incremental on {found.parent}"
    human = f"base backup {found.id} ({kind}): {megabytes(found.size_bytes)}, stored as {megabytes(found.stored_bytes)}"
    if isinstance(pruned, dict) and (pruned["removed"] or pruned["wal_segments"]):
        count = len(pruned["removed"]) if isinstance(pruned["removed"], list) else 0
        human += f"\nremoved: {count} older backups, {pruned['wal_segments']} segments of WAL"
    shell.output.result("db-backup", payload, human)
    shell.output.next(f"backout db backups list -e {config.name}")
    return 0


def _show(shell: Shell, tools: BackupTools, plan: object) -> int:
    from backout.cli.outcome import plan_record  # noqa: PLC0415 only a dry run
    from backout.cli.paint import paint_for  # noqa: PLC0415 same
    from backout.model.plan import Plan  # noqa: PLC0415 same
    from backout.report.plans import plan_text  # noqa: PLC0415 same
    from backout.runbook.backup import retention  # noqa: PLC0415 same

    assert isinstance(plan, Plan)  # noqa: S101 it was prepared
    out, would = shell.output, retention(tools)
    gone = ", ".join(would.remove) or "no backup"
    payload = {
        "dry_run": True,
        "environment": tools.environment,
        "plan": plan_record(plan),
        "would_remove": list(would.remove),
    }
    text = plan_text(plan, width=out.style.width, paint=paint_for(out.style))
    out.result("db-backup", payload, f"{text}\nretention would remove: {gone}")
    out.say("\nnothing was changed (dry run)")
    return 0


def _unfinished(tools: BackupTools) -> Run | None:
    from backout.plan.backup import lane  # noqa: PLC0415 only what acts pays for it

    newest = next(iter(tools.runs.runs(lane(tools.environment))), None)
    return None if newest is None or newest.state.is_over else newest


class Meter:
    """Shows how far a step is, with its rate and the time that is left."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._what = ""
        self._began = self._shown = time.monotonic()

    def show(self, progress: BackupProgress) -> None:
        """Show it, not too often."""
        now = time.monotonic()
        if progress.what != self._what:
            self._what, self._began, self._shown = progress.what, now, now
        if now - self._shown >= _SHOWN_EVERY_S:
            self._shown = now
            self._live.progress(meter(progress, now - self._began), now)


def meter(progress: BackupProgress, elapsed_s: float) -> str:
    """Return how far a step is.

    >>> from backout.model.backups import BackupProgress
    >>> meter(BackupProgress("storing", 250_000_000, 1_000_000_000), 2.0)
    'storing 250 MB of 1,000 MB (25 %), 125 MB/s, 6.0 s left'
    """
    from backout.cli.db_backups import megabytes  # noqa: PLC0415 only what acts pays for it
    from backout.report.times import duration  # noqa: PLC0415 same

    done, total = progress.done_bytes, max(progress.total_bytes, progress.done_bytes, 1)
    rate = done / elapsed_s if elapsed_s > 0 else 0.0
    left = f", {duration((total - done) / rate)} left" if rate else ""
    share = f"{done / total:.0%}".replace("%", " %")
    return f"{progress.what} {megabytes(done)} of {megabytes(total)} ({share}), {rate / 1e6:,.0f} MB/s{left}"
