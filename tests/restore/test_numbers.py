"""Numbers that were given out again behind a damage: what referred to a row of before does not go to a newer one."""

# ruff: noqa: S608 - the names are ours

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

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.rotating("restores", 5)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("numbers"), template()) as made:
        yield made


@pytest.fixture(autouse=True)
def _own_journal(lab: Lab, tmp_path: Path) -> None:
    lab.journal = SqliteJournal(tmp_path / "journal.sqlite", SystemClock(), stop=StopRequest())


def test_what_referred_to_a_number_that_was_given_out_again_stays_away(lab: Lab) -> None:
    """And is left out by name."""
    made = (
        "CREATE TABLE once (id serial PRIMARY KEY, v text);"
        "CREATE TABLE once_line (id int PRIMARY KEY, owner int REFERENCES once, v text);"
        "INSERT INTO once (v) VALUES ('old 1'), ('old 2'); INSERT INTO once_line VALUES (1, 1, 'of 1'), (2, 2, 'of 2')"
    )
    damage = "TRUNCATE once, once_line RESTART IDENTITY"
    xid = damaged(lab, "once", made, damage, "INSERT INTO once (v) VALUES ('new 1')")
    tools = lab.tools()
    run = lab.run(plan_rescue(tools, xid, conflicts="live", skip=(), queues=False), tools)
    assert lab.rows("SELECT id, v FROM once ORDER BY 1") == [(1, "new 1"), (2, "old 2")]
    assert lab.rows("SELECT id, owner FROM once_line") == [(2, 2)]
    told: Any = lab.journal.result(run.id, "db_rescue")
    left = sorted(each["what"] for each in told["left_out"] if each["seen"])
    assert left == ["1 rows of table public.once", "1 rows of table public.once_line"]
    assert {path.stat().st_mode & 0o777 for path in tools.kept.glob("*/*")} == {0o600}  # rows are in them


@pytest.mark.long
def test_what_referred_to_such_a_number_by_other_columns_or_by_another_row_stays_away(lab: Lab) -> None:
    """A page of a note whose own key is the number, and a visit by tenant and number."""
    made = (
        "CREATE TABLE far (id serial PRIMARY KEY, tenant int DEFAULT 7, v text, UNIQUE (tenant, id));"
        "CREATE TABLE far_note (id int PRIMARY KEY REFERENCES far, v text);"
        "CREATE TABLE far_page (note int REFERENCES far_note, page int, v text, PRIMARY KEY (note, page));"
        "CREATE TABLE far_visit (id int PRIMARY KEY, tenant int, owner int, "
        "FOREIGN KEY (tenant, owner) REFERENCES far (tenant, id));"
        "INSERT INTO far (v) VALUES ('old 1'), ('old 2'); INSERT INTO far_note VALUES (1, 'of old 1'), (2, 'of old 2');"
        "INSERT INTO far_page VALUES (1, 1, 'of old 1'), (2, 1, 'of old 2');"
        "INSERT INTO far_visit VALUES (1, 7, 1), (2, 7, 2)"
    )
    damage = "TRUNCATE far, far_note, far_page, far_visit RESTART IDENTITY"
    newer = "INSERT INTO far (v) VALUES ('new 1'); INSERT INTO far_note VALUES (1, 'of new 1')"
    xid = damaged(lab, "far", made, damage, newer)
    tools = lab.tools()
    run = lab.run(plan_rescue(tools, xid, conflicts="live", skip=(), queues=False), tools)
    assert lab.rows("SELECT note, v FROM far_page") == [(2, "of old 2")]
    assert lab.rows("SELECT id, owner FROM far_visit") == [(2, 2)]
    told: Any = lab.journal.result(run.id, "db_rescue")
    left = sorted(each["what"] for each in told["left_out"])
    assert left == [f"1 rows of table public.far{name}" for name in ("", "_page", "_visit")]
    assert {each["table"]: each["conflicts"] for each in told["tables"]}["public.far_note"] == 1  # made anew by others


@pytest.mark.long
@pytest.mark.parametrize("always", ["ALWAYS", "BY DEFAULT"])
def test_rows_of_a_number_that_was_given_out_again_do_not_go_to_its_new_bearer(lab: Lab, always: str) -> None:
    """They stay away until the newer rows have other numbers, by the statement that is told, and then come back."""
    name = f"again_{always[0].lower()}"
    key = f"id int GENERATED {always} AS IDENTITY PRIMARY KEY"
    made = (
        f"CREATE TABLE {name} ({key}, v text, up int REFERENCES {name});"
        f"CREATE TABLE {name}_line (id int PRIMARY KEY, owner int REFERENCES {name}, v text);"
        f"INSERT INTO {name} (v) VALUES ('old 1'), ('old 2'), ('old 3');"
        f"INSERT INTO {name}_line VALUES (1, 1, 'of old 1'), (3, 3, 'of old 3')"
    )
    since = (
        f"INSERT INTO {name} (v) VALUES ('new 1'), ('new 2'); UPDATE {name} SET up = 1 WHERE id = 2;"
        f"INSERT INTO {name}_line VALUES (11, 1, 'of new 1')"
    )
    xid = damaged(lab, name, made, f"TRUNCATE {name}, {name}_line RESTART IDENTITY", since)
    tools = lab.tools()
    run = lab.run(plan_rescue(tools, xid, conflicts="live", skip=(), queues=False), tools)
    bearers = f"SELECT c.v, p.v FROM {name}_line c JOIN {name} p ON p.id = c.owner ORDER BY c.id"
    assert lab.rows(bearers) == [("of old 3", "old 3"), ("of new 1", "new 1")]
    told: Any = lab.journal.result(run.id, "db_rescue")
    (by_hand,) = (each["sql"] for each in told["left_out"] if each["what"] == f"2 rows of table public.{name}")
    with lab.connect() as connection:
        connection.execute(by_hand.partition("-- Or")[0].encode())
    rescue(lab, xid)
    assert lab.rows(bearers) == [("of old 1", "old 1"), ("of old 3", "old 3"), ("of new 1", "new 1")]
    rows = f"SELECT a.v, b.v FROM {name} a LEFT JOIN {name} b ON b.id = a.up ORDER BY a.id"
    olds = [(f"old {number}", None) for number in (1, 2, 3)]
    assert lab.rows(rows) == [*olds, ("new 1", None), ("new 2", "new 1")]
    undone(lab)
    assert lab.rows(rows) == [olds[2], ("new 1", None), ("new 2", "new 1")]
    assert lab.rows(bearers) == [("of old 3", "old 3"), ("of new 1", "new 1")]


ELSEWHERE = (
    "CREATE ROLE number_owner;"
    "CREATE TABLE given (id serial PRIMARY KEY, v text, up int REFERENCES given);"
    "CREATE TABLE given_owned (id int PRIMARY KEY, owner int REFERENCES given, v text);"
    "CREATE TABLE given_null (id int PRIMARY KEY, owner int REFERENCES given ON DELETE SET NULL, v text);"
    "CREATE TABLE given_dropped (id int PRIMARY KEY, owner int REFERENCES given, v text);"
    "GRANT USAGE ON SCHEMA public TO number_owner; GRANT SELECT, REFERENCES ON given TO number_owner;"
    "ALTER TABLE given_owned OWNER TO number_owner;"
    "CREATE TABLE given_left (id serial PRIMARY KEY, other int, v text);"
    "CREATE TABLE given_right (id int PRIMARY KEY, back int NOT NULL REFERENCES given_left, v text);"
    "ALTER TABLE given_left ADD FOREIGN KEY (other) REFERENCES given_right;"
    "CREATE TABLE given_pair (tenant int, id serial, v text, PRIMARY KEY (tenant, id));"
    "CREATE TABLE given_of_pair (id int PRIMARY KEY, tenant int, owner int, v text, "
    "FOREIGN KEY (tenant, owner) REFERENCES given_pair);"
    "INSERT INTO given (v, up) VALUES ('old 1', NULL), ('old 2', NULL), ('old 3', NULL), ('old 4', 1);"
    "INSERT INTO given_owned VALUES (1, 1, 'of old 1'), (3, 3, 'of old 3');"
    "INSERT INTO given_null VALUES (1, 1, 'of old 1'), (3, 3, 'of old 3');"
    "INSERT INTO given_dropped VALUES (1, 1, 'of old 1'), (3, 3, 'of old 3');"
    "INSERT INTO given_left (v) VALUES ('old 1'), ('old 2'), ('old 3');"
    "INSERT INTO given_right VALUES (1, 1, 'of old 1'), (3, 3, 'of old 3');"
    "UPDATE given_left SET other = 3 WHERE id = 3;"
    "INSERT INTO given_pair (tenant, v) VALUES (7, 'old 1'), (7, 'old 2');"
    "INSERT INTO given_of_pair VALUES (1, 7, 1, 'of old 1'), (2, 7, 2, 'of old 2')"
)
ELSEWHERE_DAMAGE = (
    "DROP TABLE given_dropped; DELETE FROM given_owned; DELETE FROM given; ALTER SEQUENCE given_id_seq RESTART;"
    "TRUNCATE given_left, given_right, given_pair, given_of_pair RESTART IDENTITY"
)
ELSEWHERE_SINCE = (
    "INSERT INTO given (v) VALUES ('new 1'); INSERT INTO given_left (v) VALUES ('new 1');"
    "INSERT INTO given_pair (tenant, v) VALUES (7, 'new 1')"
)


@pytest.mark.long
def test_rows_of_a_number_that_was_given_out_again_stay_away_wherever_it_is_referred_to(lab: Lab) -> None:
    """From the table itself and another owner's, in a circle, by several columns, and by a value that was set to NULL.

    What came back with its whole table is named.
    """
    xid = damaged(lab, "given", ELSEWHERE, ELSEWHERE_DAMAGE, ELSEWHERE_SINCE)
    tools = lab.tools()
    run = lab.run(plan_rescue(tools, xid, conflicts="live", skip=(), queues=False), tools)
    told: Any = lab.journal.result(run.id, "db_rescue")
    assert lab.rows("SELECT id, v, up FROM given ORDER BY 1") == [
        (1, "new 1", None),
        (2, "old 2", None),
        (3, "old 3", None),
    ]
    assert lab.rows("SELECT id, owner FROM given_owned ORDER BY 1") == [(3, 3)]
    assert lab.rows("SELECT id, owner FROM given_null ORDER BY 1") == [(1, None), (3, 3)]
    assert lab.rows("SELECT id, v, other FROM given_left ORDER BY 1") == [
        (1, "new 1", None),
        (2, "old 2", None),
        (3, "old 3", 3),
    ]
    assert lab.rows("SELECT id, back FROM given_right ORDER BY 1") == [(3, 3)]
    assert lab.rows("SELECT id, v FROM given_pair ORDER BY 1") == [(1, "new 1"), (2, "old 2")]
    assert lab.rows("SELECT id, owner FROM given_of_pair ORDER BY 1") == [(2, 2)]
    left = sorted((each["what"].removeprefix("1 rows of table public."), each["seen"]) for each in told["left_out"])
    pairs = [("given_dropped", False), ("given_left", True), ("given_null", True), ("given_of_pair", True)]
    pairs += [("given_owned", True), ("given_pair", True), ("given_right", True)]
    assert left == [("given", True), ("given", True), *pairs]  # what has the number, and what refers to it
    (dropped,) = (each["sql"] for each in told["left_out"] if not each["seen"])
    assert lab.rows(dropped.rstrip(";")) == [(1, 1, "of old 1")]
    conflicts = {str(each["table"]): each["conflicts"] for each in told["tables"] if each["conflicts"]}
    assert conflicts == {
        "public.given": 2,
        "public.given_owned": 1,
        "public.given_null": 1,
        "public.given_left": 1,
        "public.given_right": 1,
        "public.given_pair": 1,
        "public.given_of_pair": 1,
    }
    with lab.connect() as connection:
        connection.execute("DELETE FROM given_dropped WHERE id = 1")
        ways = [each["sql"] for each in told["left_out"] if "WITH moved" in each["sql"]]
        assert len(ways) == 2
        for way in ways:
            connection.execute(way.partition("-- Or")[0].encode())
    rescue(lab, xid)
    olds = "SELECT v, up FROM given WHERE v LIKE 'old%' ORDER BY 1"
    assert lab.rows(olds) == [("old 1", None), ("old 2", None), ("old 3", None), ("old 4", 1)]
    for name, column in (("owned", "owner"), ("null", "owner"), ("right", "back")):
        assert lab.rows(f"SELECT id, {column} FROM given_{name} ORDER BY 1") == [(1, 1), (3, 3)]
    undone(lab)
    assert lab.rows("SELECT v FROM given ORDER BY 1") == [("new 1",), ("old 2",), ("old 3",)]
