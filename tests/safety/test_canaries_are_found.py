"""The look for canaries can fail: each spelling of each is found, in files and in text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from canaries import CANARIES, leaks_below, leaks_in, spellings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", CANARIES)
def test_every_spelling_is_found(name: str) -> None:
    """With whatever stands around it."""
    found = spellings(CANARIES[name])
    assert len(found) >= 6
    for spelling in found:
        assert leaks_in(b"before " + spelling + b" after", "x"), spelling


def test_files_are_looked_at_and_stores_are_not(tmp_path: Path) -> None:
    """A journal, a report and a folder deeper; not what was planted."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    planted = tmp_path / "planted"
    planted.mkdir()
    value = CANARIES["EMAIL_API_KEY"]
    (planted / "secrets.json").write_text(value)
    assert leaks_below(tmp_path) == []
    leaked = tmp_path / "deep" / "er" / "journal.sqlite"
    leaked.write_bytes(b"\0" + value.encode().hex().encode())
    assert leaks_below(tmp_path) == [f"EMAIL_API_KEY in {leaked}"]
    leaked.unlink()


def test_other_text_is_not_taken_for_one() -> None:
    """The word alone is none."""
    assert leaks_in("a canary deployment, Y2FuYXJ5, 63616e617279", "x") == []
