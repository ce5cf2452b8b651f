"""`backout objects snapshot`: what a bucket without versions holds now, into its history."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.support.options import Command, pass_shell

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell


@click.command(
    "snapshot",
    cls=Command,
    short_help="Keep what a bucket without versions holds now.",
    epilog="""
Examples:
  backout objects snapshot -e production
  17 * * * * cd /srv/shop && .venv/bin/backout objects snapshot -e production -q   # in a crontab
""",
)
@pass_shell
def snapshot(shell: Shell) -> int:
    """Copy what is new in the bucket into the bucket of its history, and write a signed manifest of all of it.

    For buckets that keep no versions themselves (R2). Contents travel inside the store, each once. What was written and
    lost between two snapshots cannot be brought back: the time between them is the most that can be lost. Snapshots
    older than storage.history_keep are removed.
    """
    from backout.cli.db.backup_record import format_megabytes
    from backout.cli.objects.restore import open_object_tools
    from backout.report.times import format_duration, format_time
    from backout.runbook.objects.snapshot import take_snapshot

    config = shell.config()
    storage = config.environment.storage
    tools, live = open_object_tools(shell)
    assert storage is not None
    taken = take_snapshot(tools, float(storage.history_keep))
    live.end()
    name = taken.manifest
    payload = {
        "environment": tools.environment,
        "bucket": tools.bucket,
        "manifest": name.name,
        "at": format_time(name.at),
        "objects": name.objects,
        "bytes": name.size_bytes,
        "changed": name.changed,
        "deleted": name.deleted,
        "since_last_s": taken.since_last_s,
        "removed_manifests": taken.removed,
    }
    lines = [
        f"snapshot {name.name}: {name.objects:,} objects, {format_megabytes(name.size_bytes)}; it was read back",
        f"since the one before: {name.changed:,} stored anew, {name.deleted:,} gone",
    ]
    if taken.since_last_s is not None:
        lines.append(f"what was written and lost within {format_duration(taken.since_last_s)} before it is not kept")
    if taken.removed:
        lines.append(f"removed: {taken.removed} older snapshots")
    shell.output.result("objects", payload, "\n".join(lines))
    return 0
