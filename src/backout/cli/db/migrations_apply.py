"""`backout db migrations apply`: Prisma's deploy protocol, for drills and for machines without Prisma."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.support.confirm import confirm
from backout.cli.support.options import REASON, Amount, Command, pass_shell

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.config import Config


def refuse_meanwhile(config: Config) -> None:
    """Check that no run that switches or restores keeps the environment.

    A watch does not get in the way of migrations, and a roll-forward may wait for one.

    Raises:
        Busy: one does; the error has the command that continues it.
    """
    from backout.cli.support.session import make_busy_error
    from backout.model.plan import PlanKind
    from backout.wiring.records import open_journal

    newest = next(open_journal(config).walk_runs(config.name), None)
    mind_none = (PlanKind.GUARD, PlanKind.FORWARD)
    if newest is not None and not newest.state.is_over and newest.plan.kind not in mind_none:
        raise make_busy_error(newest)


@click.command(
    "apply",
    cls=Command,
    short_help="Apply pending migrations, as Prisma does.",
    epilog="""
Examples:
  backout db migrations apply -e staging --dry-run       # what would be applied
  backout db migrations apply -e staging --yes
  backout db migrations apply -e production -m "order notes" --confirm production
""",
)
@click.option("-m", "--message", type=REASON, metavar="WHY", help="The reason; required in a protected environment.")
@click.option("-n", "--dry-run", is_flag=True, help="Print what would be applied and change nothing.")
@click.option("--confirm", "typed", metavar="ENV", help="Confirm a protected environment by its name.")
@click.option(
    "--lock-timeout",
    type=Amount(min=0.1),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for another migration.",
)
@pass_shell
def apply(shell: Shell, *, message: str | None, dry_run: bool, typed: str | None, lock_timeout: float) -> int:
    """Apply the pending migrations as `prisma migrate deploy` does: lock, row, script, row.

    Before that it says what each does to the running code, as `db migrations check` does. Each script is one
    transaction: one that fails leaves nothing but its row, and stops all later ones. Prisma's CLI accepts the rows as
    its own. Exit codes: 0 applied (or nothing to do), 1 a script failed, 3 an earlier one failed and is unresolved, 6
    another migration is running.
    """
    from backout.analysis.compatibility import judge
    from backout.cli.support.paint import paint_for
    from backout.report.database import migration_history as words
    from backout.runbook.rollback.migrations import apply as apply_pending
    from backout.runbook.rollback.migrations import check_database, list_unapplied
    from backout.wiring.db import history

    config = shell.config()
    files = history.list_appliable(config)
    pending = list_unapplied(history.make_side(config).schema, files)
    out, settings = shell.output, config.environment.database
    judged = judge(files, app_checks_head=bool(settings and settings.app_checks_head))
    verdicts = [verdict for verdict in judged if verdict.name in pending]
    record = {"environment": config.name, "dry_run": dry_run, "applied": [], "reason": None}
    record |= {"pending": list(pending), "verdicts": [words.make_verdict_record(verdict) for verdict in verdicts]}
    if dry_run or not pending:
        style = out.style
        shown = words.format_pending(verdicts, width=style.width, paint=paint_for(style))
        out.result("db-migrations-apply", record, shown or "nothing to apply")
        if pending:
            out.say("\nnothing was changed (dry run)")
        return 0
    out.say(words.format_pending(verdicts, width=out.talk.width, paint=paint_for(out.talk)))
    refuse_meanwhile(config)
    what = f"apply {len(pending)} migration{'s' if len(pending) > 1 else ''}"
    reason = confirm(shell, config, what, message=message, typed=typed)
    pinned, ask = history.find_database_identity(config)
    if pinned is not None:
        check_database(config.name, pinned, ask())
    tools = history.make_deploying(config, files, lock_timeout, shell.output.say)
    applied = apply_pending(tools, pending, reason, lambda name: out.say(f"applied  {name}"))
    human = f"applied {', '.join(applied)}" if applied else "nothing to apply: another process applied them first"
    out.result("db-migrations-apply", record | {"applied": list(applied), "reason": reason}, human)
    out.next(f"backout db migrations status -e {config.name}")
    return 0
