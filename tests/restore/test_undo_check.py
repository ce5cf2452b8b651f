"""The second check of a rescue's undo: rows and definitions as before the rescue, or by whom they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from kept import template
from recovery_lab import Lab, opened
from rescue_lab import damaged, rescue

from backout.decoding import decode_values
from backout.model.database.rescue import RescueReport
from backout.model.steps.comparison import ComparisonResult
from backout.providers.postgres.comparison.undone import judge
from backout.report.database.comparison import format_comparison, get_comparison_code
from backout.runbook.recovery.restore import plan_undo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

OURS = 50
MADE = """
CREATE TABLE {name} (id int PRIMARY KEY, v text, gone text DEFAULT 'x', n int); CREATE INDEX {name}_n ON {name} (n);
INSERT INTO {name} SELECT g, 'a', 'b', g FROM generate_series(1, 40) g
"""
DAMAGE = """
UPDATE {name} SET v = 'bad' WHERE id <= 20; DELETE FROM {name} WHERE id > 30;
ALTER TABLE {name} DROP COLUMN gone; DROP INDEX {name}_n
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("undo-check"), template()) as made:
        yield made


def kind(noted: Any, before: Any, now: Any, *, late: bool = False) -> str:
    """Return what becomes of one row: each of its states as (written by, hash), or None."""
    rows = ({1: each} if each else {} for each in (noted, before, now))
    (found,) = judge(*rows, frozenset({OURS}), {1} if late else set())
    return found


def test_whose_doing_it_is_that_a_row_is_not_as_before_the_rescue() -> None:
    """As noted: equal. By others, before, beside or behind both: theirs. Left or written by the undo: damage."""
    good, rescued, theirs = (9, 100), (OURS, 200), (60, 300)
    assert kind(good, rescued, (OURS, 100)) == "equal"
    assert kind(good, rescued, rescued) == "left"
    assert kind(good, rescued, (OURS, 400)) == "wrong"
    assert kind(good, rescued, theirs) == "newer"
    assert kind(good, theirs, (OURS, 400)) == "newer", "somebody's value in another column stays beside it"
    assert kind(good, rescued, None) == "missing"
    assert kind(good, None, None) == "newer", "others had removed it before the undo began"
    assert kind(None, rescued, rescued) == "left", "a row that the rescue made, and its undo did not take away"
    assert kind(None, None, theirs) == "newer"
    assert kind(None, None, (OURS, 1)) == "wrong"
    assert kind(good, rescued, (OURS, 400), late=True) == "newer"


def made(lab: Lab, name: str) -> None:
    """Do a damage to rows, a column and an index, and rescue it."""
    xid = damaged(lab, name, MADE.format(name=name), DAMAGE.format(name=name))
    rescue(lab, xid)


def checked(lab: Lab, rescuer: Callable[[str], Any] | None = None) -> dict[str, Any]:
    """Take the rescue back, and return what its second check recorded."""
    tools = lab.tools(**({"rescuer": rescuer} if rescuer else {}))
    run = lab.run(plan_undo(tools), tools)
    found: Any = lab.journal.result(run.id, "db_compare_undo")
    return found  # type: ignore[no-any-return]


@pytest.mark.rotating("restores", 3)
@pytest.mark.long
def test_an_undo_is_compared_with_what_was_before_the_rescue(lab: Lab) -> None:
    """Rows and definitions; what others wrote since is counted and named, and is no damage."""
    made(lab, "honest")
    with lab.connect() as connection:
        connection.execute("UPDATE honest SET n = -1 WHERE id = 3; UPDATE honest SET v = 'new' WHERE id = 25")
        connection.execute("INSERT INTO honest (id) VALUES (99); DELETE FROM honest WHERE id = 28")
        connection.execute("CREATE VIEW honest_ids AS SELECT id FROM honest")
    found = checked(lab)
    assert (
        found["of"],
        found["differs"],
        found["behind"],
        get_comparison_code(decode_values(found, ComparisonResult)),
    ) == ("undo of a rescue", [], [], 0)
    assert (found["newer"], found["equal"]) == (4, 27)
    assert {"table": "relation public.honest_ids", "reason": "changed since by others"} in found["not_compared"]
    assert "with those just before the rescue" in found["sentence"]
    assert lab.rows("SELECT v, n FROM honest WHERE id = 3") == [("bad", -1)]


@pytest.mark.rotating("restores", 3)
@pytest.mark.long
def test_an_undo_that_goes_wrong_is_found(lab: Lab) -> None:
    """One that does nothing, and one that writes something else besides: with the keys, and exit code 1."""
    made(lab, "broken")

    class Idle:
        """One that says it is done."""

        def undo(self, _kept: Path, _progress: object) -> RescueReport:
            return RescueReport((), ())

    found = checked(lab, lambda _database: Idle())
    (rows,) = found["differs"]
    assert (rows["table"], rows["left"], get_comparison_code(decode_values(found, ComparisonResult))) == (
        "public.broken",
        30,
        1,
    )
    assert "index public.broken_n is there, and was not before" in found["behind"]
    assert any(
        each.startswith("NOT AS BEFORE: public.broken: 30 rows still as the rescue made them")
        for each in format_comparison(decode_values(found, ComparisonResult))
    )
    made(lab, "worse")
    true = lab.tools().rescuer("postgres")

    class Careless:
        """One that writes to a row that the rescue had not written to."""

        def undo(self, kept: Path, progress: Any) -> RescueReport:
            report = true.undo(kept, progress)
            with lab.connect() as connection, connection.transaction():
                row: Any = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
                connection.execute("UPDATE worse SET v = 'oops' WHERE id = 29")
            with (kept / "writers").open("a", encoding="ascii") as file:
                file.write(f"{row[0]}\n")
            return report

    (rows,) = checked(lab, lambda _database: Careless())["differs"]
    assert (rows["table"], rows["wrong"], rows["left"], rows["examples"]) == ("public.worse", 1, 0, ["29"])
