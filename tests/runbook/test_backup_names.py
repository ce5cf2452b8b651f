"""What a new backup is called: never as one that lies there already."""

from __future__ import annotations

from typing import Any, cast

from backout.errors import Refused
from backout.model.database.backups import Cluster
from backout.providers.memory import World
from backout.runbook.backup.backup import BackupTools, prepare


class Fixed:
    """Every port that `prepare` asks: a cluster, and no backup that may be used."""

    def read(self) -> Cluster:
        return Cluster(0.0, "1", 1, 0, 180000, 16 << 20, 1, replication=True, summarize_wal=True, slot_limit_bytes=None)

    def backups(self) -> tuple[()]:
        return ()


def test_a_backup_that_may_not_be_used_is_not_written_over() -> None:
    """One of the same second that is not signed, or damaged, keeps its place."""
    world, fixed = World(), cast("Any", Fixed())
    ports = {"journal": fixed, "runs": fixed, "cluster": fixed, "backups": fixed, "taker": fixed, "keeper": fixed}

    def named(*there: str) -> str:
        tools = BackupTools(
            environment="e",
            actor="a",
            clock=world.clock,
            full_every_s=60.0,
            keep_s=60.0,
            refused=lambda: [(name, Refused("it is not signed")) for name in there],
            **ports,
        )
        return str(prepare(tools, None).steps[0].args["backup"])

    first = named()
    second = named(first)
    assert second > first
    assert named(first, second) not in {first, second}
