"""The undo of a rescue takes back the rows to which a table refers that the rescue had created."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from kept import template
from recovery_lab import Lab, opened
from rescue_lab import damaged, rescue, undone

from backout.journal.sqlite import SqliteJournal
from backout.journal.stop import StopRequest
from backout.providers.clock import SystemClock
from backout.runbook.recovery.restore import plan_undo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("parents"), template()) as made:
        yield made


@pytest.fixture(autouse=True)
def _own_journal(lab: Lab, tmp_path: Path) -> None:
    lab.journal = SqliteJournal(tmp_path / "journal.sqlite", SystemClock(), stop=StopRequest())


def test_rows_to_which_a_created_table_refers_are_removed(lab: Lab) -> None:
    """They stay until the table is dropped, and so does a column in which they have values."""
    xid = damaged(
        lab,
        "plain",
        "CREATE TABLE shops (id int PRIMARY KEY, v text, note text);"
        "INSERT INTO shops SELECT g, 'a', 'n' || g FROM generate_series(1, 6) g;"
        "CREATE TABLE visits (id int PRIMARY KEY, shop int REFERENCES shops);"
        "INSERT INTO visits SELECT g, g FROM generate_series(1, 6) g",
        "DROP TABLE visits; DELETE FROM shops WHERE id > 4; ALTER TABLE shops DROP note",
    )
    assert rescue(lab, xid)["public.shops"]["inserted"] == 2
    assert lab.rows("SELECT count(*) FROM visits JOIN shops ON shops.id = shop") == [(6,)]
    assert undone(lab) == {}
    assert lab.rows("SELECT to_regclass('visits')") == [(None,)]
    rows = [(f'{{"v": "a", "id": {number}}}',) for number in range(1, 5)]
    assert lab.rows("SELECT to_jsonb(shops)::text FROM shops ORDER BY id") == rows


def test_values_to_which_a_created_table_refers_are_put_back(lab: Lab) -> None:
    """And a row that refers to nothing comes back once the foreign key is gone with the table that it refers to."""
    xid = damaged(
        lab,
        "codes",
        "CREATE TABLE codes (id int PRIMARY KEY, code text UNIQUE);"
        "INSERT INTO codes SELECT g, 'c' || g FROM generate_series(1, 4) g;"
        "CREATE TABLE uses (id int PRIMARY KEY, code text REFERENCES codes (code));"
        "INSERT INTO uses SELECT g, 'c' || g FROM generate_series(1, 4) g;"
        "CREATE TABLE refers (id int PRIMARY KEY, uses int REFERENCES uses); INSERT INTO refers VALUES (1, 1)",
        "DROP TABLE uses CASCADE; UPDATE codes SET code = 'bad' || id WHERE id > 2; INSERT INTO refers VALUES (2, 99)",
    )
    told = rescue(lab, xid)
    assert (told["public.codes"]["updated"], told["public.refers"]["deleted"]) == (2, 1)
    assert undone(lab) == {}
    assert lab.rows("SELECT to_regclass('uses')") == [(None,)]
    assert lab.rows("SELECT id, code FROM codes ORDER BY id") == [(1, "c1"), (2, "c2"), (3, "bad3"), (4, "bad4")]
    assert lab.rows("SELECT id, uses FROM refers ORDER BY id") == [(1, 1), (2, 99)]


def test_rows_of_a_circle_to_which_a_created_table_refers_are_removed(lab: Lab) -> None:
    """They go together, as they came."""
    xid = damaged(
        lab,
        "circle",
        "CREATE TABLE heads (id int PRIMARY KEY, need int);"
        "CREATE TABLE tails (id int PRIMARY KEY, need int REFERENCES heads ON DELETE CASCADE);"
        "ALTER TABLE heads ADD FOREIGN KEY (need) REFERENCES tails;"
        "INSERT INTO heads VALUES (1), (2); INSERT INTO tails VALUES (1, 1), (2, 2); UPDATE heads SET need = id;"
        "CREATE TABLE hats (id int PRIMARY KEY, head int REFERENCES heads); INSERT INTO hats VALUES (1, 1), (2, 2)",
        "DROP TABLE hats; WITH gone AS (DELETE FROM heads WHERE id = 1) DELETE FROM tails WHERE id = 1",
    )
    told = rescue(lab, xid)
    assert [told[f"public.{name}"]["inserted"] for name in ("heads", "tails", "hats")] == [1, 1, 2]
    assert undone(lab) == {}
    assert lab.rows("SELECT to_regclass('hats')") == [(None,)]
    assert lab.rows("SELECT id FROM heads UNION ALL SELECT id FROM tails") == [(2,), (2,)]


def test_they_stay_where_the_table_stays_and_go_when_it_may_go(lab: Lab) -> None:
    """A row that somebody wrote keeps the table and what it refers to; the next undo removes all of it."""
    xid = damaged(
        lab,
        "kept",
        "CREATE TABLE towns (id int PRIMARY KEY, v text); INSERT INTO towns SELECT g, 'a' FROM generate_series(1, 4) g;"
        "CREATE TABLE roads (id int PRIMARY KEY, town int REFERENCES towns);"
        "INSERT INTO roads SELECT g, g FROM generate_series(1, 4) g",
        "DROP TABLE roads; DELETE FROM towns WHERE id > 2; UPDATE towns SET v = 'bad'",
    )
    rescue(lab, xid)
    with lab.connect() as connection:
        connection.execute("INSERT INTO roads VALUES (5, 1)")
    tools = lab.tools()
    told: Any = lab.journal.result(lab.run(plan_undo(tools), tools).id, "db_undo_rescue")
    stay = {each["table"]: each for each in told["tables"]}
    why = "2 rows stay: others refer to them"
    assert [stay["public.towns"][name] for name in ("updated", "deleted", "conflicts", "left")] == [2, 0, 0, why]
    assert ("public.towns", why, True) in [(each["what"], each["reason"], each["seen"]) for each in told["left_out"]]
    assert "rows were written since" in stay["public.roads"]["left"]
    assert lab.rows("SELECT (SELECT count(*) FROM towns), (SELECT count(*) FROM roads)") == [(4, 5)]
    with lab.connect() as connection:
        connection.execute("DELETE FROM roads WHERE id = 5")
    assert undone(lab) == {}
    state = "SELECT to_regclass('roads'), ARRAY(SELECT id || v FROM towns ORDER BY id)"
    assert lab.rows(state) == [(None, ["1bad", "2bad"])]
