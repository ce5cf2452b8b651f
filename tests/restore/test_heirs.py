"""Tables that inherit: an heir's rows are its own, and no foreign key or number of its parent's goes by them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from kept import template
from recovery_lab import Lab, opened
from rescue_lab import damaged, rescue, undone

from backout.journal.sqlite import SqliteJournal
from backout.journal.stop import StopRequest
from backout.providers.clock import SystemClock
from backout.runbook.recovery.restore import plan_rescue
from backout.runbook.recovery.restoring import foresee

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("heirs"), template()) as made:
        yield made


@pytest.fixture(autouse=True)
def _own_journal(lab: Lab, tmp_path: Path) -> None:
    lab.journal = SqliteJournal(tmp_path / "journal.sqlite", SystemClock(), stop=StopRequest())


def test_a_row_that_the_damage_made_goes_although_an_heir_of_what_refers_to_it_has_its_number(lab: Lab) -> None:
    """A foreign key does not hold for heirs, so the heir's row refers to nothing."""
    made = (
        "CREATE TABLE shelf (id int PRIMARY KEY, v text); INSERT INTO shelf VALUES (1, 'a');"
        "CREATE TABLE book (id int PRIMARY KEY, shelf int REFERENCES shelf); INSERT INTO book VALUES (1, 1);"
        "CREATE TABLE rare (PRIMARY KEY (id)) INHERITS (book); INSERT INTO rare VALUES (2, 100)"
    )
    told = rescue(lab, damaged(lab, "shelf", made, "INSERT INTO shelf VALUES (100, 'garbage')"))
    assert (told["public.shelf"]["deleted"], told["public.shelf"]["conflicts"]) == (1, 0)
    assert lab.rows("SELECT id FROM shelf") == [(1,)]


@pytest.mark.rotating("restores", 3)
@pytest.mark.long
def test_what_rows_of_heirs_stand_in_the_way_of_is_foreseen(lab: Lab) -> None:
    """An heir's row is no parent of a foreign key; a check holds for heirs as well."""
    made = (
        "CREATE TABLE kind (id int PRIMARY KEY); CREATE TABLE rare_kind (PRIMARY KEY (id)) INHERITS (kind);"
        "CREATE TABLE thing (id int PRIMARY KEY, kind int CONSTRAINT of_kind REFERENCES kind, "
        "n int CONSTRAINT positive CHECK (n > 0), m int CONSTRAINT alone CHECK (m > 0) NO INHERIT);"
        "CREATE TABLE rare_thing (PRIMARY KEY (id)) INHERITS (thing)"
    )
    damage = "ALTER TABLE thing DROP CONSTRAINT of_kind, DROP CONSTRAINT positive, DROP CONSTRAINT alone"
    since = (
        "INSERT INTO rare_kind VALUES (5); INSERT INTO thing VALUES (1, 5, 1, 1);"
        "INSERT INTO rare_thing VALUES (2, NULL, -1, -1)"
    )
    xid = damaged(lab, "thing", made, damage, since)
    tools = lab.tools()
    plan = plan_rescue(tools, xid, conflicts="live", skip=(), queues=False)
    foreseen = sorted(each.what for each in foresee(tools, plan).left_out)
    run = lab.run(plan, tools)
    told: Any = lab.journal.result(run.id, "db_rescue")
    assert sorted(each["what"] for each in told["left_out"]) == foreseen
    assert foreseen == ["check constraint public.thing positive", "fk constraint public.thing of_kind"]


@pytest.mark.long
def test_the_statement_that_gives_newer_rows_other_numbers_touches_no_heir(lab: Lab) -> None:
    """Rows of parent and heir lie at the same places of their files."""
    made = (
        "CREATE TABLE ticket (id serial PRIMARY KEY, v text); INSERT INTO ticket (v) VALUES ('old 1'), ('old 2');"
        "CREATE TABLE note (id int PRIMARY KEY, ticket int REFERENCES ticket);"
        "CREATE TABLE rare_note (PRIMARY KEY (id)) INHERITS (note); INSERT INTO rare_note VALUES (1, 1);"
        "CREATE TABLE rare_ticket (PRIMARY KEY (id)) INHERITS (ticket);"
        "INSERT INTO rare_ticket VALUES (1001, 'heir 1'), (1, 'heir 2')"
    )
    since = "INSERT INTO ticket (v) VALUES ('new 1'); INSERT INTO note VALUES (7, 1)"
    xid = damaged(lab, "ticket", made, "TRUNCATE ONLY ticket, ONLY note RESTART IDENTITY", since)
    tools = lab.tools()
    run = lab.run(plan_rescue(tools, xid, conflicts="live", skip=(), queues=False), tools)
    told: Any = lab.journal.result(run.id, "db_rescue")
    (way,) = (each["sql"] for each in told["left_out"] if each["what"] == "1 rows of table public.ticket")
    with lab.connect() as connection:
        connection.execute(way.partition("-- Or")[0].encode())
    assert lab.rows("SELECT id, v FROM rare_ticket ORDER BY v") == [(1001, "heir 1"), (1, "heir 2")]
    assert lab.rows("SELECT id, ticket FROM rare_note") == [(1, 1)]
    new = lab.rows("SELECT id FROM ONLY ticket WHERE v = 'new 1'")
    assert new != [(1,)]
    assert lab.rows("SELECT ticket FROM ONLY note WHERE id = 7") == new


@pytest.mark.rotating("restores", 3)
@pytest.mark.long
def test_a_column_that_was_dropped_from_parent_and_heir_is_the_heirs_own_again(lab: Lab) -> None:
    """It is added to the heir first: one that came from the parent already could not be added any more."""
    made = (
        "CREATE TABLE plant (id int PRIMARY KEY, v text NOT NULL); INSERT INTO plant VALUES (1, 'plant');"
        "CREATE TABLE tree (PRIMARY KEY (id), v text) INHERITS (plant); INSERT INTO tree VALUES (2, 'tree')"
    )
    own = (
        "SELECT attislocal, attinhcount::int, attnotnull, (SELECT count(*) FROM pg_constraint WHERE contype = 'n' "
        "AND conislocal AND conrelid = attrelid AND conkey[1] = attnum) FROM pg_attribute "
        "WHERE attrelid = 'tree'::regclass AND attname = 'v'"
    )
    xid = damaged(lab, "plant", made, "ALTER TABLE plant DROP v; ALTER TABLE tree DROP v")
    tools = lab.tools()
    run = lab.run(plan_rescue(tools, xid, conflicts="live", skip=(), queues=False), tools)
    told: Any = lab.journal.result(run.id, "db_rescue")
    assert told["left_out"] == []
    assert lab.rows("SELECT id, v FROM plant ORDER BY id") == [(1, "plant"), (2, "tree")]
    assert lab.rows(own) == [(True, 1, True, 0)]
    assert undone(lab) == {}
    assert lab.rows(own) == []
