"""`backout db points`: recorded moments, so that a restore need not search for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from click import argument, option

from backout.cli.support.options import REASON, Group, pass_shell

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.model.database.recovery import RestorePoint

points = Group("points", help="Record and list restore points.", no_args_is_help=True)


@points.command(
    "add",
    short_help="Record a restore point now.",
    epilog="""
Examples:
  backout db points add before-import -e production
""",
)
@argument("name")
@pass_shell
def add(shell: Shell, *, name: str) -> int:
    """Write a named record into the WAL and keep its position, so that `backout db restore NAME` finds it at once.

    At Xata, which goes back to no moment, a branch keeps what is there now; `backout db points prune` deletes old ones.
    """
    from backout.runbook.recovery.restore import mark_point
    from backout.wiring.db.points import add_branches
    from backout.wiring.db.restore import make_restore_tools

    config = shell.config()
    tools = make_restore_tools(config, say=shell.output.say)
    point = mark_point(tools, name, add_branches(config, tools.live, shell.output.say))
    record = make_point_record(point)
    payload = {"environment": tools.environment, "points": [record]}
    kept = f", kept by branch {point.branch}" if point.branch else ""
    shell.output.result("db-points", payload, f"restore point {name} at {record['lsn']}{kept}")
    prune = (f"backout db points prune -e {tools.environment}  # old branches cost storage",) if point.branch else ()
    shell.output.next(f"backout db restore {name} --side -e {tools.environment}", *prune)
    return 0


@points.command("list", short_help="List the restore points, newest first.")
@pass_shell
def list_(shell: Shell) -> int:
    """List the restore points, newest first."""
    from backout.report.times import format_time
    from backout.runbook.recovery.branch_points import list_kept
    from backout.runbook.recovery.restore import list_points as recorded
    from backout.wiring.db.managed import make_vendor
    from backout.wiring.db.points import keeps_branches
    from backout.wiring.db.restore import make_restore_tools

    config = shell.config()
    tools = make_restore_tools(config, say=shell.output.say)
    found = recorded(tools)[::-1]
    records = [make_point_record(point) for point in found]
    rows: list[tuple[str, ...]] = [
        (point.name, format_time(point.at), str(record["lsn"]), point.why, point.deployment, point.migration_head)
        for point, record in zip(found, records, strict=True)
    ]
    heads: tuple[str, ...] = ("NAME", "UTC", "LSN", "WHY", "DEPLOYMENT", "MIGRATION")
    if keeps_branches(config):
        there = {branch.name for branch in list_kept(make_vendor(config))}
        states = [(point.branch if point.branch in there else "gone") if point.branch else "-" for point in found]
        heads, rows = (*heads, "BRANCH"), [(*row, state) for row, state in zip(rows, states, strict=True)]
        records = [
            {**record, "kept": state not in {"gone", "-"}} for record, state in zip(records, states, strict=True)
        ]
    human = shell.output.table(heads, rows) or "no restore points"
    shell.output.result("db-points", {"environment": tools.environment, "points": records}, human)
    return 0


@points.command(
    "prune",
    short_help="Delete the branches of old restore points (Xata).",
    epilog="""
Examples:
  backout db points prune -e production --dry-run
  backout db points prune -e production --older-than 2d -m "tidy up" --confirm production
""",
)
@option("--older-than", metavar="DURATION", default="7d", show_default=True, help="Younger ones stay.")
@option("-n", "--dry-run", is_flag=True, help="Say what would be deleted; nothing is changed.")
@option("-m", "--message", type=REASON, metavar="WHY", help="The reason; recorded in the journal.")
@option("--confirm", metavar="ENV", help="Confirm a protected environment by its name.")
@pass_shell
def prune(shell: Shell, *, older_than: str, dry_run: bool, message: str | None, confirm: str | None) -> int:
    """Delete the branches that keep restore points, apart from young ones and the newest, and check that they are gone.

    The points stay in the journal, and cannot be returned to any more. Exit codes: 0 done, or there was nothing to do;
    2 the vendor needs no such branches; 5 the vendor still lists some of them.
    """
    from backout.cli.support.confirm import confirm as ask
    from backout.config.scalars import parse_seconds
    from backout.errors import PartlyDone, UsageError
    from backout.report.database.branches import make_record
    from backout.wiring import clock
    from backout.wiring.db.managed import open_checked_vendor
    from backout.wiring.db.points import keeps_branches
    from backout.wiring.records import find_actor, open_journal

    config = shell.config()
    keep_s = float(parse_seconds(older_than, "--older-than"))
    if not keeps_branches(config):
        raise UsageError("no branches keep restore points here: they are positions in the WAL", where=config.name)
    from backout.runbook.recovery.branch_points import list_kept

    vendor = open_checked_vendor(config)
    old = [branch for branch in list_kept(vendor)[1:] if branch.created_at <= clock.now() - keep_s]
    payload = {"environment": config.name, "dry_run": dry_run, "deleted": [make_record(branch) for branch in old]}
    names = ", ".join(branch.name for branch in old) or "none"
    if dry_run or not old:
        shell.output.result("db-points-prune", payload, f"would delete: {names}" if old else "nothing to delete")
        return 0
    why = ask(shell, config, f"delete the branches of old restore points: {names}", message=message, typed=confirm)
    for branch in old:
        vendor.delete(branch)
        data = {"name": branch.name, "id": branch.id, "why": why}
        key = f"deleted:{branch.id}:{branch.name}"
        open_journal(config).note(config.name, "database.branch.deleted", key, data, actor=find_actor())
    left = {branch.id for branch in vendor.branches()} & {branch.id for branch in old}
    said = f"the vendor still lists {len(left)} of them" if left else "they are gone"
    shell.output.result("db-points-prune", {**payload, "left": len(left)}, f"deleted: {names}; {said}")
    return PartlyDone.exit_code if left else 0


def make_point_record(point: RestorePoint) -> dict[str, object]:
    """Return a point as JSON values."""
    from backout.model.database.wal import show_lsn
    from backout.report.times import format_time

    return {
        "name": point.name,
        "lsn": show_lsn(point.lsn),
        "timeline": point.timeline,
        "xid": point.xid,
        "at": format_time(point.at),
        "why": point.why,
        "deployment": point.deployment,
        "migration_head": point.migration_head,
        "branch": point.branch or None,
    }
