"""What was written since a moment, which a swap loses: all of the WAL that is kept counts, behind a hole too."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

from backout.analysis.recovery.recovery import Archive, Machine, Route, find_route
from backout.model.database.recovery import BackupKind, BaseBackup, RecoveryTarget, TargetKind
from backout.model.database.wal import WalSegment
from backout.runbook.recovery.target import Found
from backout.runbook.rollback import remediation_options

if TYPE_CHECKING:
    from collections.abc import Sequence

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
