"""Old events in a signed file: what is in it, and that a file or a journal that was changed is found."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest
from journal import toy

from backout.errors import Refused
from backout.journal.archive import find_end, read_archive, write_archive

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.journal.stored import StoredJournal

pytestmark = pytest.mark.usefixtures("engine")
KEY, OTHER = b"k" * 32, b"o" * 32


def record(directory: Path, clock: toy.FakeClock) -> StoredJournal:
    """Record two runs that are over, an hour apart, and a third one that is open, with notes in between."""
    journal = toy.journal_in(directory, clock=clock)
    for number in range(2):
        journal.note("staging", "x.noted", str(number), {"at": 0.1}, actor="ann")
        run = journal.submit(toy.plan_named("probed"), actor="me", reason="r")
        journal.drive(run, toy.actions_in(toy.World(directory)), actor="me")
        clock.sleep(3600)
    journal.submit(toy.plan_named("probed"), actor="me", reason="r")
    journal.note("staging", "x.noted", "last", {}, actor="ann")
    return journal


def test_it_holds_what_was_over_before_that_time_and_nothing_is_removed(tmp_path: Path) -> None:
    """No run is cut in two; each event is there as it is stored, for its owner alone."""
    clock = toy.FakeClock()
    journal = record(tmp_path, clock)
    events = list(journal.events())
    ends = [event.seq for event in events if event.kind == "run.ok"]
    assert find_end(events, events[0].at) == 0
    assert find_end(events, events[0].at + 1800) == ends[0]
    assert find_end(events, clock.at + 1) == ends[1], "behind it a run is open"
    path = tmp_path / "old.jsonl"
    write_archive(path, journal.read_rows(), ends[1], KEY)
    found = read_archive(path, (OTHER, KEY))
    assert (found.events, found.head, found.journal) == (ends[1], events[ends[1] - 1].hash, events[0].hash)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row[5] for row in rows[:-1]] == [event.kind for event in events[: ends[1]]]
    assert list(journal.events()) == events
    with pytest.raises(FileExistsError):
        write_archive(path, journal.read_rows(), ends[1], KEY)
    journal.close()


def swap(text: str) -> str:
    lines = text.splitlines(keepends=True)
    return "".join([lines[1], lines[0], *lines[2:]])


def sign_anew(text: str) -> str:
    """Leave the last event out, with a manifest that fits, and no key to sign it with."""
    *rows, last = text.splitlines(keepends=True)
    manifest = {**json.loads(last), "events": len(rows) - 1, "head": json.loads(rows[-2])[9]}
    return "".join([*rows[:-1], json.dumps(manifest), "\n"])


CHANGES: dict[str, Callable[[str], str]] = {
    "another actor": lambda text: text.replace('"ann"', '"bob"', 1),
    "the end cut off": lambda text: text[: len(text) // 2],
    "a line less": lambda text: text.partition("\n")[2],
    "two lines swapped": swap,
    "a shorter one": sign_anew,
    "another signature": lambda text: text.replace('"hmac":"', '"hmac":"0', 1),
    "nothing": lambda _text: "",
    "another file": lambda _text: '{"a": 1}\n',
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_is_not_as_it_was_written_is_refused(tmp_path: Path, change: str) -> None:
    """By its chain, its sum, or its signature; by another key, too."""
    journal = record(tmp_path, toy.FakeClock())
    path = tmp_path / "old.jsonl"
    write_archive(path, journal.read_rows(), 5, KEY)
    journal.close()
    assert read_archive(path, (KEY,)).events == 5
    with pytest.raises(Refused, match="not signed with a key"):
        read_archive(path, (OTHER,))
    path.write_text(CHANGES[change](path.read_text()))
    with pytest.raises(Refused, match=r"is damaged|is not signed"):
        read_archive(path, (KEY,))
