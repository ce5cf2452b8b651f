"""What was written since a moment, which a swap loses: all of the WAL that is kept counts, behind a hole too."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from paper_cluster import PaperServer
from values import replace

from backout.analysis.recovery.recovery import Archive, Machine, Route, find_route
from backout.errors import BackoutError
from backout.journal.sqlite import SqliteJournal
from backout.model.database.recovery import BackupKind, BaseBackup, RecoveryTarget, TargetKind
from backout.model.database.wal import WalSegment
from backout.providers.memory import World
from backout.runbook.recovery.target import Found
from backout.runbook.recovery.whole_cluster import Comes, read_written
from backout.runbook.rollback import remediation_options

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from backout.model.database.wal import WalSpan


class Told:
    """A restore's database and WAL that tell how many row versions lie in what is asked for."""

    def __init__(self) -> None:
        self.asked: list[WalSpan] = []

    def tables(self) -> dict[tuple[int, int], str]:
        return {(5, 100): "orders"}

    def written(self, spans: Sequence[WalSpan], *, apart_from: object) -> dict[tuple[int, int], int]:
        self.asked += spans
        return {(5, 100): len(spans)}


def test_what_was_written_behind_a_hole_is_counted_and_said_to_be_not_all() -> None:
    """A swap loses it too: what is told before it must not stop at the hole."""
    size = 16 << 20
    wal = tuple(WalSegment(f"{1:08X}{0:08X}{n:08X}", 1, n * size, (n + 1) * size, partial=False) for n in (1, 2, 4, 5))
    base = BaseBackup("b", BackupKind.FULL, None, 0, 1, size, size + 100, 1, "7", 180006, 1, 1, verified_at=1.0)
    archive = Archive((base,), wal, {})
    way = find_route(archive, 2 * size, 1, Machine(18))
    assert isinstance(way, Route)
    found = Found(RecoveryTarget(TargetKind.LSN, "x", 2 * size, 1), way, None, archive=archive)
    told = Told()
    tools = SimpleNamespace(live=told, wal=told)
    assert remediation_options.list_written_since(tools, found) == [("orders", 2)]  # type: ignore[arg-type] # two of its ports
    assert [(span.begin_lsn, span.end_lsn) for span in told.asked] == [
        (2 * size, 3 * size),
        (4 * size, 6 * size),
    ]
    assert remediation_options.is_beyond_hole(found)


class Recycling(PaperServer):
    """A server with segments of WAL in its data directory."""

    here = 5

    def wal_here(self, timeline: int, lsn: int) -> tuple[WalSegment, ...]:
        del lsn
        return tuple(WalSegment(f"{n}", timeline, n, n + 1, partial=False) for n in range(5 - self.here, 5))


@pytest.mark.parametrize(("recycles", "tries"), [(False, 1), (True, 3)])
def test_wal_is_read_again_only_where_the_server_took_some_away(tmp_path: Path, recycles: bool, tries: int) -> None:
    """Of a large archive each reading takes minutes, behind a fence; and what failed at once fails again at once."""
    world, tried = World(), list[float]()
    server = Recycling(world, tmp_path)

    def beside(segments: object, *, alone: bool) -> None:
        del segments, alone
        tried.append(world.clock.now())
        server.here -= recycles
        raise BackoutError("the WAL cannot be read")

    tools = replace(server.tools(SqliteJournal(tmp_path / "journal.sqlite", world.clock)), wal_beside=beside)
    with pytest.raises(BackoutError, match="cannot be read"):
        read_written(tools, server.facts(), Comes(()))
    assert [at - tried[0] for at in tried] == [float(n) for n in range(tries)]
