"""The second checks where one table cannot be read: it alone is named as not compared, and all others are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from kept import template
from recovery_lab import Lab, opened
from rescue_lab import damaged

from backout.decoding import decode_values
from backout.journal.sqlite import SqliteJournal
from backout.journal.stop import StopRequest
from backout.model.steps.comparison import ComparisonResult
from backout.providers.clock import SystemClock
from backout.report.database.comparison import format_comparison, get_comparison_code
from backout.runbook.recovery.restore import plan_rescue, plan_undo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MADE = """
CREATE SCHEMA {name}; GRANT ALL ON SCHEMA {name} TO keeper, other; SET search_path = {name};
CREATE TABLE orders (id int PRIMARY KEY, v text); INSERT INTO orders SELECT g, 'good' FROM generate_series(1, 40) g;
CREATE TABLE tenants (id int PRIMARY KEY, v text); INSERT INTO tenants SELECT g, 'good' FROM generate_series(1, 9) g;
CREATE TABLE quiet (id int PRIMARY KEY); INSERT INTO quiet VALUES (1);
ALTER TABLE orders OWNER TO keeper; ALTER TABLE tenants OWNER TO keeper; ALTER TABLE quiet OWNER TO other;
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY none ON tenants USING (false)
"""
DAMAGE = "UPDATE {name}.orders SET v = 'bad' WHERE id <= 30; UPDATE {name}.tenants SET v = 'bad'"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("unreadable"), template()) as made:
        with made.connect() as connection:
            connection.execute("CREATE ROLE keeper LOGIN; CREATE ROLE other LOGIN")
        yield made


@pytest.fixture(autouse=True)
def _own_journal(lab: Lab, tmp_path: Path) -> None:
    lab.journal = SqliteJournal(tmp_path / "journal.sqlite", SystemClock(), stop=StopRequest())


def rescued(lab: Lab, xid: str) -> dict[str, Any]:
    """Rescue, and return what the second check says."""
    tools = lab.tools()
    run = lab.run(plan_rescue(tools, xid, conflicts="live", skip=(), queues=False), tools)
    told: Any = lab.journal.result(run.id, "db_compare")
    return told  # type: ignore[no-any-return]


def list_not_compared(told: dict[str, Any], name: str) -> dict[str, str]:
    """Return the tables of a schema that were not compared, with the reasons."""
    return {each["table"]: each["reason"] for each in told["not_compared"] if each["table"].startswith(f"{name}.")}


def test_a_table_behind_row_security_does_not_switch_the_check_of_the_others_off(lab: Lab) -> None:
    """Of a rescue and of its undo: it is left alone, and named with the reason; no other row goes uncompared."""
    told = rescued(lab, damaged(lab, "forced", MADE.format(name="forced"), DAMAGE.format(name="forced")))
    reason = 'query would be affected by row-level security policy for table "tenants"'
    assert "failed" not in told, told
    assert list_not_compared(told, "forced") == {"forced.tenants": reason}
    assert told["differs"] == told["behind"] == []
    assert told["equal"] >= 41
    tools = lab.tools()
    run = lab.run(plan_undo(tools), tools)
    undone: Any = lab.journal.result(run.id, "db_compare_undo")
    assert "failed" not in undone, undone
    assert list_not_compared(undone, "forced") == {"forced.tenants": reason}
    assert (undone["equal"], undone["differs"]) == (40, [])


@pytest.mark.long
def test_a_table_that_had_to_be_compared_and_cannot_be_read_costs_only_itself(lab: Lab) -> None:
    """The damage gave it a column, so the rescue leaves none of its rows alone: exit 7, and the others are compared."""
    damage = "UPDATE {name}.orders SET v = 'bad'; ALTER TABLE {name}.tenants ADD COLUMN more int"
    told = rescued(lab, damaged(lab, "given", MADE.format(name="given"), damage.format(name="given")))
    record = decode_values(told, ComparisonResult)
    assert record.failed.startswith("table given.tenants could not be compared: query would be affected by row-level")
    assert record.equal >= 41
    assert get_comparison_code(record) == 7
    sentence, unchecked = format_comparison(record)
    assert f"{record.equal:,} rows of" in sentence
    assert unchecked == f"NOT CHECKED by other means: {record.failed}"


@pytest.mark.long
def test_a_table_whose_owner_is_not_let_in_costs_only_itself(lab: Lab) -> None:
    """The damage did not write to it, so that the rescue needs no session of its owner."""
    xid = damaged(lab, "owned", MADE.format(name="owned"), "UPDATE owned.orders SET v = 'bad'")
    hba = lab.data / "pg_hba.conf"
    before = hba.read_text()
    hba.write_text("local all postgres trust\nlocal all +keeper trust\nlocal replication all trust\n")
    lab.rows("SELECT pg_reload_conf()")
    try:
        told = rescued(lab, xid)
    finally:
        hba.write_text(before)
        lab.rows("SELECT pg_reload_conf()")
    assert "failed" not in told, told
    assert list_not_compared(told, "owned")["owned.quiet"].startswith("rows of other are never written as a superuser")
    assert told["equal"] >= 40


@pytest.mark.long
def test_a_table_that_cannot_be_read_before_the_undo_is_no_damage(lab: Lab) -> None:
    """What the undo wrote over is not known: it is named, with exit 7 because the rescue had written to it."""
    rescued(lab, damaged(lab, "later", MADE.format(name="later"), DAMAGE.format(name="later")))
    tools = lab.tools()
    (noted,) = (path for path in (tools.kept.parent / "compared").glob("*.json") if "later.orders" in path.read_text())
    into, comparer = noted.with_suffix(".test.undo"), tools.comparer("postgres")
    with lab.connect() as connection:
        connection.execute("ALTER TABLE later.orders ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        comparer.note_undo(noted, into)
        connection.execute("ALTER TABLE later.orders DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY")
    found = comparer.compare_undone(noted, into, tools.kept / noted.stem, lambda *_: None)
    (orders,) = (each for each in found.tables if each.table == "later.orders")
    assert (orders.reason, orders.failed, orders.differing) == ("it could not be read before the undo", True, 0)
