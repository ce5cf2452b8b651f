"""Whatever a journal is told, no secret is in its file: events, checkpoints, counts, each by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from journal import toy

from backout.journal.sqlite import SqliteJournal
from backout.model.guard.signals import Counts, RouteCounts
from backout.model.version import Mark, VersionId, VersionMark
from backout.report.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECRET = "Q7fK2mZ9xW4pL8sV"  # looked for as plain bytes below, so it must be in no other text
WAYS = {
    "an event": lambda journal: journal.mark(
        "staging",
        VersionMark(Mark.STABLE, VersionId("v1"), "hash", 1.0, "guard-1", f"it said {SECRET}", "head"),
        actor="guard",
    ),
    "an actor": lambda journal: journal.mark(
        "staging", VersionMark(Mark.STABLE, VersionId("v1"), "hash", 1.0, "guard-1", "why", "head"), actor=SECRET
    ),
    "a checkpoint": lambda journal: journal.save_checkpoint("guard-1", "watch", {"said": [f"token {SECRET}"]}),
    "a route": lambda journal: journal.keep(
        "staging", [Counts("v1", 7, requests=1, errors=0, routes={f"/{SECRET}": RouteCounts(requests=1, errors=0)})]
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_secret_is_written(tmp_path: Path, way: str) -> None:
    """Neither in the database nor beside it; what else was said stays."""
    mask = Redactor()
    mask.register(SECRET)
    journal = SqliteJournal(tmp_path / "journal.sqlite", toy.FakeClock(), mask=mask.values)
    tell: Callable[[SqliteJournal], None] = WAYS[way]
    tell(journal)
    written = b"".join(path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file())
    journal.close()
    assert b"***" in written
    assert SECRET.encode() not in written
