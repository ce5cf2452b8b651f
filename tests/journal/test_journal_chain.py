"""The hash chain, canonical JSON, and the triggers that refuse what the chain would find."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from journal import toy

from backout.journal import schema
from backout.journal.chain import check, format_canonical, hash_row, make_plain

if TYPE_CHECKING:
    from pathlib import Path

    from backout.journal.chain import Row

TEXT = st.text(max_size=12)
BODIES = st.lists(
    st.tuples(st.floats(0, 2e9), TEXT, TEXT, st.none() | st.integers(0, 9), TEXT, TEXT), min_size=1, max_size=8
)


def chain_of(bodies: list[tuple[float, str, str, int | None, str, str]]) -> list[Row]:
    rows: list[Row] = []
    before = ""
    for seq, (at, environment, run, step, kind, actor) in enumerate(bodies, 1):
        unlinked = (seq, at, environment, run, step, kind, "{}", actor, before)
        before = hash_row(unlinked)
        rows.append((*unlinked, before))
    return rows


def head_of(rows: list[Row]) -> tuple[int, str]:
    return rows[-1][0], rows[-1][9]


@given(BODIES)
def test_an_untouched_chain_is_whole(bodies: list[tuple[float, str, str, int | None, str, str]]) -> None:
    """Whatever is recorded, the check counts it and finds nothing."""
    rows = chain_of(bodies)
    report = check(rows, head_of(rows))
    assert (report.count, report.broken_at) == (len(rows), None)


@given(BODIES, st.data())
def test_an_edited_column_is_found_at_its_row(
    bodies: list[tuple[float, str, str, int | None, str, str]], data: st.DataObject
) -> None:
    """Each column counts; a row whose hash was made to fit again is found at the row after it, or by the head."""
    rows = chain_of(bodies)
    head = head_of(rows)
    number = data.draw(st.integers(0, len(rows) - 1))
    column = data.draw(st.sampled_from((1, 2, 3, 4, 5, 6, 7)))
    changed = list(rows[number])
    changed[column] = {1: -1.0, 4: 99}.get(column, "forged\x00")
    rows[number] = tuple(changed)  # type: ignore[assignment]
    assert check(rows, head).broken_at == number + 1
    rows[number] = (*rows[number][:9], hash_row(rows[number][:9]))
    assert check(rows, head).broken_at == min(number + 2, len(rows))


@given(BODIES, st.data())
def test_a_missing_row_is_found_at_its_number(
    bodies: list[tuple[float, str, str, int | None, str, str]], data: st.DataObject
) -> None:
    """The last row too: the head remembers it."""
    rows = chain_of(bodies)
    head = head_of(rows)
    number = data.draw(st.integers(0, len(rows) - 1))
    del rows[number]
    assert check(rows, head).broken_at == number + 1


@given(BODIES, st.sampled_from((0, -3, None)))
def test_an_added_row_is_found_at_its_number(
    bodies: list[tuple[float, str, str, int | None, str, str]], place: int | None
) -> None:
    """Before the first or after the last, with a hash that fits or not."""
    rows = chain_of(bodies)
    head = head_of(rows)
    seq = len(rows) + 1 if place is None else place
    body = (seq, 1.0, "e", "r", None, "k", "{}", "a", rows[-1][9] if place is None else "")
    added: Row = (*body, hash_row(body))
    report = check(sorted([*rows, added]), head)
    assert report.broken_at == seq


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(JSON)
def test_json_is_recorded_as_it_is(value: object) -> None:
    """What is JSON already does not change, and its text does not depend on the order of keys."""
    assert make_plain(value) == value
    if isinstance(value, dict):
        assert format_canonical(dict(reversed(value.items()))) == format_canonical(value)


@pytest.mark.parametrize("value", [{1: "a"}, {"a": {2}}, b"a", float("nan"), [float("inf")], object()])
def test_what_json_would_change_or_cannot_hold_is_refused(value: object) -> None:
    """Nothing is coerced silently."""
    with pytest.raises(TypeError, match="value"):
        format_canonical(value)


def recorded(directory: Path) -> sqlite3.Connection:
    """Record a finished run and return a foreign connection to the file."""
    journal = toy.journal_in(directory)
    run = journal.submit(toy.plan_named("probed"), actor="me", reason="r")
    journal.drive(run, toy.actions_in(toy.World(directory)), actor="me")
    journal.close()
    return sqlite3.connect(directory / "journal" / "journal.db", isolation_level=None)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE event SET data = '{}' WHERE seq = 3",
        "DELETE FROM event WHERE seq = 3",
        "DELETE FROM event",
        "INSERT OR REPLACE INTO event SELECT * FROM event WHERE seq = 3",
        "INSERT OR REPLACE INTO event SELECT 3, 0, 'e', 'r', NULL, 'k', '{}', 'a', '', ''",
        "INSERT INTO event SELECT 999, 0, 'e', 'r', NULL, 'k', '{}', 'a', '', ''",
        "UPDATE head SET seq = 1",
        "DELETE FROM head",
        "INSERT OR REPLACE INTO head VALUES (1, 1, '')",
        "UPDATE lease SET fence = 0",
        "DELETE FROM lease",
        "UPDATE schema_version SET version = 0",
        "DELETE FROM schema_version",
        "INSERT OR REPLACE INTO schema_version VALUES (1, 0)",
    ],
)
def test_history_refuses_to_be_changed(tmp_path: Path, statement: str) -> None:
    """Any connection is refused, not only ours, and nothing is different afterwards."""
    foreign = recorded(tmp_path)
    before = list(foreign.iterdump())
    with pytest.raises(sqlite3.IntegrityError, match=r"append-only|fence number"):
        foreign.execute(statement)
    assert list(foreign.iterdump()) == before
    foreign.close()
    assert toy.journal_in(tmp_path).verify_chain().is_whole


@pytest.mark.parametrize(
    ("statement", "broken_at"),
    [
        ("UPDATE event SET actor = 'somebody else' WHERE seq = 4", 4),
        ("UPDATE event SET at = at + 1 WHERE seq = 1", 1),
        ("DELETE FROM event WHERE seq = 5", 5),
        ("DELETE FROM event WHERE seq = (SELECT MAX(seq) FROM event)", 12),
        ("DELETE FROM event", 1),
        (
            "INSERT INTO event SELECT 13, at, '', '', 0, kind, '{}', actor, hash, 'x' FROM event WHERE seq = 12",
            13,
        ),
    ],
)
def test_what_was_changed_behind_dropped_triggers_is_found(tmp_path: Path, statement: str, broken_at: int) -> None:
    """Whoever owns the file can drop the triggers; the chain names the first event that is not as written."""
    foreign = recorded(tmp_path)
    triggers = foreign.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
    assert len(triggers) == sum("TRIGGER" in s for s in (*schema.MIGRATIONS[0], *schema.VERSION_TABLE))
    for (name,) in triggers:
        foreign.execute(f"DROP TRIGGER {name}")
    assert foreign.execute("SELECT MAX(seq) FROM event").fetchone() == (12,)
    foreign.execute(statement)
    foreign.close()
    journal = toy.journal_in(tmp_path)
    report = journal.verify_chain()
    assert report.broken_at == broken_at
    assert str(broken_at) in report.why
    journal.close()
