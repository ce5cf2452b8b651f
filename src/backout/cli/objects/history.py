"""`backout objects history`: when objects were written and deleted, as far as the bucket's versions tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.support.options import Command, pass_shell

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell

_BAR = 30


@click.command(
    "history",
    cls=Command,
    short_help="Show when objects were written and deleted.",
    epilog="""
Examples:
  backout objects history -e production
  backout objects history --since "2 hours ago" --prefix models/ -e production
""",
)
@click.option("--since", metavar="TIME", help="From then on; default: all that the bucket keeps.")
@click.option("--prefix", metavar="PREFIX", help="Only the objects below it; default: storage.prefix.")
@pass_shell
def history(shell: Shell, *, since: str | None, prefix: str | None) -> int:
    """List the bucket's versions and count, by time, how many objects were written and deleted.

    A burst of deletions or of writes shows when the damage was done: the moment for `backout objects restore --to`.
    """
    from backout.cli.db.backup_record import format_megabytes
    from backout.cli.objects.restore import open_object_tools
    from backout.report.times import format_time
    from backout.runbook.objects.history import count_by_time

    tools, live = open_object_tools(shell)
    storage = shell.config().environment.storage
    assert storage is not None
    entries = count_by_time(tools, since, storage.prefix if prefix is None else prefix)
    live.end()
    most = max((each.objects for each in entries), default=1)
    rows = [
        (
            format_time(each.at)[:19].replace("T", " "),
            each.kind,
            f"{each.objects:,}",
            format_megabytes(each.size_bytes) if each.size_bytes else "",
            "#" * max(1, round(_BAR * each.objects / most)),
        )
        for each in entries
    ]
    human = shell.output.table(("FROM (UTC)", "WHAT", "OBJECTS", "SIZE", ""), rows, whole=True)
    payload = {
        "environment": tools.environment,
        "bucket": tools.bucket,
        "entries": [
            {"at": format_time(each.at), "kind": each.kind, "objects": each.objects, "bytes": each.size_bytes}
            for each in entries
        ],
    }
    shell.output.result("objects", payload, human if entries else "no object was written or deleted in that time")
    return 0
