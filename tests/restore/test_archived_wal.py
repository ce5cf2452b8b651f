"""Archived WAL says what happened, and in which order: torn it is fetched again, and no clock decides against it."""

from __future__ import annotations

import os
import pickle
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from kept import template
from recovery_lab import Lab, PlainBackups, opened
from values import replace

from backout.analysis.recovery.recovery import Archive, find_stretches
from backout.errors import BackoutError, Refused
from backout.providers.postgres.restore.wal_search import WalSearch
from backout.runbook.recovery.target import find

from polling import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from backout.model.database.recovery import Commit
    from backout.model.database.wal import WalSpan


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("archived"), template()) as lab:
        lab.base("b1")
        for _ in range(3):
            lab.rows("INSERT INTO ticks (session) SELECT g FROM generate_series(1, 5) g RETURNING 1")
            lab.rows("SELECT pg_switch_wal()")
        lab.archived()
        yield lab


def spans_of(backups: PlainBackups) -> tuple[WalSpan, ...]:
    (only,) = find_stretches(Archive(backups.backups(), backups.wal(), {}), 1)
    return only


@dataclass
class TornOnce(PlainBackups):
    """The first time the disk is full in the middle of each segment."""

    torn: bool = False

    def fetch_wal(self, names: Sequence[str], into: Path, laid: Callable[[str], None] = lambda _name: None) -> None:
        super().fetch_wal(names, into)
        if names and not self.torn:
            self.torn = True
            for name in names:
                os.truncate(into / name, 8192)
            raise BackoutError("no room left", where=str(into))
        for name in names:
            laid(name)


def test_a_segment_that_was_torn_while_it_was_laid_out_is_fetched_again(lab: Lab, tmp_path: Path) -> None:
    """What a search finds after it was cut off is what one finds that was never cut off."""
    spans = spans_of(lab.backups)
    whole = list(WalSearch(lab.binaries, lab.backups, tmp_path / "whole").commits(spans))
    search = WalSearch(lab.binaries, TornOnce(lab.backups.root), tmp_path / "torn")
    with pytest.raises(BackoutError, match="no room left"):
        list(search.commits(spans))
    assert list(search.commits(spans)) == whole != []


class AheadFor(WalSearch):
    """Transactions that committed while the server's clock was an hour ahead."""

    ahead: frozenset[int] = frozenset()

    def commits(self, spans: Sequence[WalSpan]) -> Iterator[Commit]:
        for commit in super().commits(spans):
            yield replace(commit, at=commit.at + 3600.0) if commit.xid in self.ahead else commit


def test_a_time_that_the_servers_clock_gave_to_two_places_is_refused(lab: Lab) -> None:
    """It was an hour ahead for one transaction: the time after that is not the place where that one stands."""
    insert = "INSERT INTO ticks (session) VALUES (7) RETURNING pg_current_xact_id()::text::int"
    (first,), (wrong,), (third,) = (lab.rows(insert)[0] for _ in range(3))
    began = time.time()
    until(lambda: time.time() > began + 1.5, what="the clock goes on")  # further than commits of one moment are apart
    (meant,) = lab.rows(insert)[0]
    lab.archived()
    search = AheadFor(lab.binaries, lab.backups, lab.root / "restore" / "wal")
    tools, asked = lab.tools(wal=search), datetime.fromtimestamp(began + 1.3, UTC).isoformat()
    assert find(tools, asked).target.xid == meant
    search.ahead = frozenset({wrong})
    with pytest.raises(Refused) as refused:
        find(tools, asked)
    said = f"{refused.value.what} {' '.join(refused.value.options)}"
    assert "means two places, for the server's clock went back" in said
    assert f"`backout db restore {wrong}`" in said
    assert f"`backout db restore {meant}`" in said
    assert f"the last is {third}," in said
    assert str(first) not in refused.value.what


@pytest.mark.long
def test_a_base_that_another_clock_dated_too_early_does_not_move_a_time(lab: Lab) -> None:
    """The time lies before that base: the WAL from an older one on is asked."""
    insert = "INSERT INTO ticks (session) VALUES (8) RETURNING pg_current_xact_id()::text::int"
    lab.rows(insert)
    began = time.time()
    until(lambda: time.time() > began + 0.4, what="the clock goes on")
    (meant,) = lab.rows(insert)[0]
    lab.archived()
    made = lab.base("b2")
    lab.rows(insert)
    lab.archived()
    early = replace(made, began_at=began - 60.0, ended_at=began - 59.0)
    (lab.root / "archive" / "bases" / "b2.pickle").write_bytes(pickle.dumps(early))
    try:
        asked = datetime.fromtimestamp(began + 0.2, UTC).isoformat()
        found = find(lab.tools(), asked)
        assert found.target.xid == meant
        assert found.route is not None
        assert found.route.base.id == "b1"
    finally:
        (lab.root / "archive" / "bases" / "b2.pickle").unlink()


def test_what_was_laid_out_before_the_machine_went_down_is_fetched_again(lab: Lab, tmp_path: Path) -> None:
    """Nothing of it was synced: after a power cut files are there with their names and full of zeros."""
    spans = spans_of(lab.backups)
    search = WalSearch(lab.binaries, lab.backups, tmp_path / "wal")
    whole = list(search.commits(spans))
    for path in (tmp_path / "wal").glob("0*"):
        path.write_bytes(bytes(path.stat().st_size))
    (tmp_path / "wal" / "boot").write_text("another start of the machine")
    (tmp_path / "wal" / "arriving-999999999-left").mkdir()
    assert list(search.commits(spans)) == whole != []
    assert list((tmp_path / "wal").glob("arriving-*")) == []
