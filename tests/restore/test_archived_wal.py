"""Archived WAL is what it was: torn by a kill or a full disk it is fetched again."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from recovery_lab import Lab, PlainBackups, opened

from backout.analysis.recovery import Archive, stretches
from backout.errors import BackoutError
from backout.providers.postgres.walsearch import WalSearch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from backout.model.recovery import WalSpan


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("archived"), tmp_path_factory.mktemp("template")) as lab:
        lab.base("b1")
        for _ in range(3):
            lab.rows("INSERT INTO ticks (session) SELECT g FROM generate_series(1, 5) g RETURNING 1")
            lab.rows("SELECT pg_switch_wal()")
        lab.archived()
        yield lab


def spans_of(backups: PlainBackups) -> tuple[WalSpan, ...]:
    (only,) = stretches(Archive(backups.backups(), backups.wal(), {}), 1)
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
