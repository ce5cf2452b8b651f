"""`backout db points`: recorded moments, so that a restore need not search for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from click import argument

from backout.cli.support.options import Group, pass_shell

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
    """Write a named record into the WAL and keep its position, so that `backout db restore NAME` finds it at once."""
    from backout.runbook.recovery.restore import mark_point
    from backout.wiring.db.restore import make_restore_tools

    tools = make_restore_tools(shell.config(), say=shell.output.say)
    point = mark_point(tools, name)
    record = make_point_record(point)
    payload = {"environment": tools.environment, "points": [record]}
    shell.output.result("db-points", payload, f"restore point {name} at {record['lsn']}")
    shell.output.next(f"backout db restore {name} --side -e {tools.environment}")
    return 0


@points.command("list", short_help="List the restore points, newest first.")
@pass_shell
def list_(shell: Shell) -> int:
    """List the restore points, newest first."""
    from backout.report.times import format_time
    from backout.runbook.recovery.restore import list_points as recorded
    from backout.wiring.db.restore import make_restore_tools

    tools = make_restore_tools(shell.config(), say=shell.output.say)
    found = recorded(tools)[::-1]
    records = [make_point_record(point) for point in found]
    rows = [
        (point.name, format_time(point.at), str(record["lsn"]), point.why, point.deployment, point.migration_head)
        for point, record in zip(found, records, strict=True)
    ]
    human = shell.output.table(("NAME", "UTC", "LSN", "WHY", "DEPLOYMENT", "MIGRATION"), rows) or "no restore points"
    shell.output.result("db-points", {"environment": tools.environment, "points": records}, human)
    return 0


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
    }
