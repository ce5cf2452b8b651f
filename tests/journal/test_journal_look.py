"""The look of `doctor` at the journal's file: what is damaged anywhere in it is no tick."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from backout.journal.look import look_at_journal
from backout.journal.sqlite import SqliteJournal
from backout.providers.clock import SystemClock

if TYPE_CHECKING:
    from pathlib import Path

PAGE = 4096


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of some dozen pages."""
    path = tmp_path_factory.mktemp("look") / "journal.sqlite"
    journal = SqliteJournal(path, SystemClock())
    for number in range(120):
        journal.note("production", "test", str(number), {"text": "x" * 1000}, actor="test")
    journal.close()
    return path


def test_a_page_that_is_damaged_is_found_wherever_it_is(whole: Path, tmp_path: Path) -> None:
    """Every fourth page by itself; the newest event alone says nothing of the others."""
    assert look_at_journal(whole).problem == ""
    pages, copy = whole.stat().st_size // PAGE, tmp_path / "copy.sqlite"
    assert pages > 20
    missed = []
    for number in range(1, pages, 4):
        shutil.copy(whole, copy)
        with copy.open("r+b") as file:
            file.seek(number * PAGE)
            file.write(bytes((each * 151 + 7) % 256 for each in range(PAGE)))
        if "damaged" not in look_at_journal(copy).problem:
            missed.append(number)
    assert missed == []


def test_one_that_was_cut_off_is_found(whole: Path, tmp_path: Path) -> None:
    """To nothing, which SQLite takes for a new file, or by some pages."""
    copy = tmp_path / "copy.sqlite"
    for length in (PAGE, whole.stat().st_size - PAGE, whole.stat().st_size // 2):
        shutil.copy(whole, copy)
        os.truncate(copy, length)
        assert "damaged" in look_at_journal(copy).problem
    os.truncate(copy, 0)
    found = look_at_journal(copy)
    assert (found.problem, found.exists, found.emptied) == ("", False, True)
    copy.unlink()
    assert not look_at_journal(copy).emptied
