"""Several transactions taken back as one damage: rows end as if none had been, against a ledger kept outside."""

# ruff: noqa: S608 - the names are ours

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from kept import template
from recovery_lab import Lab, opened

from backout.errors import Refused, UsageError
from backout.journal.sqlite import SqliteJournal
from backout.journal.stop import StopRequest
from backout.providers.clock import SystemClock
from backout.runbook.recovery.previews import rename_sides
from backout.runbook.recovery.restore import plan_rescue, plan_undo
from backout.runbook.recovery.restoring import foresee

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.rotating("restores", 5)

COLUMNS = ("a", "b", "c")
Ledger = dict[int, list[str]]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("several"), template()) as made:
        yield made


@pytest.fixture(autouse=True)
def _own_journal(lab: Lab, tmp_path: Path) -> None:
    lab.journal = SqliteJournal(tmp_path / "journal.sqlite", SystemClock(), stop=StopRequest())


class Writers:
    """Bad and good transactions on one table; `ledger` is what there would be if only the good ones had been."""

    def __init__(self, lab: Lab, name: str, many: int) -> None:
        self._lab, self._name, self._count = lab, name, 0
        self.ledger: Ledger = {key: [f"{column}{key}" for column in COLUMNS] for key in range(many)}
        self.bad: list[str] = []
        with lab.connect() as connection:
            connection.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, a text, b text, c text)".encode())
            with connection.cursor().copy(f"COPY {name} FROM STDIN".encode()) as copy:
                for key, values in self.ledger.items():
                    copy.write_row((key, *values))

    def worse(self, *statements: str) -> None:
        """Commit a bad transaction."""
        with self._lab.connect() as connection, connection.transaction():
            row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            for statement in statements:
                connection.execute(statement.format(self._name).encode())
        assert row is not None
        self.bad.append(str(row[0]))

    def set(self, key: int, column: str) -> None:
        """Commit a good write to a row that is there."""
        self._count += 1
        value = f"good{self._count}"
        with self._lab.connect() as connection:
            done = connection.execute(f"UPDATE {self._name} SET {column} = '{value}' WHERE id = {key}".encode())
        assert done.rowcount == 1
        self.ledger[key][COLUMNS.index(column)] = value

    def remove(self, key: int) -> None:
        """Commit a good DELETE of a row that is there."""
        with self._lab.connect() as connection:
            assert connection.execute(f"DELETE FROM {self._name} WHERE id = {key}".encode()).rowcount == 1
        del self.ledger[key]

    def make(self, key: int) -> None:
        """Commit a good INSERT."""
        with self._lab.connect() as connection:
            connection.execute(f"INSERT INTO {self._name} VALUES ({key}, 'x', 'y', 'z')".encode())
        self.ledger[key] = ["x", "y", "z"]

    def found(self) -> Ledger:
        return {key: values for key, *values in self._lab.rows(f"SELECT * FROM {self._name}")}


class Counted:
    """Passes what is asked on, and counts it."""

    def __init__(self, inner: Any, counts: Counter[str]) -> None:
        self._inner, self._counts = inner, counts

    def __getattr__(self, name: str) -> Any:
        self._counts[name] += 1
        return getattr(self._inner, name)


def rescue(lab: Lab, target: str) -> Counter[str]:
    """Rescue, and return how often WAL was read and side instances were made, by what was asked."""
    counts: Counter[str] = Counter()
    lab.archived()
    plain = lab.tools()
    counted = {"wal": plain.wal, "sides": plain.sides, "walker": plain.walker}
    tools = lab.tools(**{name: Counted(each, counts) for name, each in counted.items()})
    run = lab.run(plan_rescue(tools, target, conflicts="live", skip=(), queues=False), tools)
    compared = lab.journal.result(run.id, "db_compare")
    assert isinstance(compared, dict)
    assert compared["differs"] == []
    return counts


class Within:
    """A side instance that is read from moment to moment; something else is done before its first moment is read."""

    def __init__(self, inner: Any, do: Callable[[], object]) -> None:
        self._inner, self._left = inner, [do]

    def walk(self, order: Any, stops: Any, look: Callable[[Any, str], bool]) -> None:
        def look_after(stay: Any, dsn: str) -> bool:
            while self._left:
                self._left.pop()()
            return look(stay, dsn)

        self._inner.walk(order, stops, look_after)
        assert not self._left


@pytest.mark.long
def test_what_is_counted_while_its_run_goes_on_keeps_apart(lab: Lab) -> None:
    """A rescue is approved while its rows are counted: each has side instances of its own, and removes no others."""
    crowd = Writers(lab, "crowd", 20)
    lab.base("ab")
    crowd.worse("UPDATE {} SET a = 'bad' WHERE id < 5")
    crowd.set(1, "b")
    crowd.worse("UPDATE {} SET b = 'bad' WHERE id < 5")
    lab.archived()
    plan = plan_rescue(lab.tools(), ", ".join(crowd.bad), conflicts="live", skip=(), queues=False)
    plain = lab.tools()
    counting = lab.tools(walker=Within(plain.walker, lambda: lab.run(plan, lab.tools())))
    foresee(counting, rename_sides(plan))
    assert crowd.found() == crowd.ledger
    assert [each.name for each in plain.sides.list()] == []


@pytest.mark.long
def test_rows_that_good_transactions_wrote_in_between_are_right(lab: Lab) -> None:
    """Between bad ones, before the first write of a bad one, and behind the last; undone all is as it was."""
    lines = Writers(lab, "lines", 40)
    lab.base("aa")
    lines.worse("UPDATE {} SET a = 'bad' WHERE id < 10")
    lines.set(1, "b")  # of a damaged row another column
    lines.set(2, "a")  # the damaged column itself, taken again by the next one
    lines.set(12, "c")  # before anything bad is written there
    lines.worse(
        "UPDATE {} SET a = 'worse', c = 'worse' WHERE id IN (1, 2, 12)", "DELETE FROM {} WHERE id BETWEEN 30 AND 33"
    )
    lines.make(33)  # anew, where a bad one had deleted
    lines.set(3, "c")
    lines.worse("INSERT INTO {} SELECT g, 'made', 'made', 'made' FROM generate_series(100, 104) g")
    lines.worse("DELETE FROM {} WHERE id IN (1, 20)", "UPDATE {} SET b = 'bad' WHERE id = 3")
    lines.set(4, "c")  # newer than all of them
    lines.remove(5)
    damaged = lines.found()
    rescue(lab, ", ".join(lines.bad))
    assert lines.found() == lines.ledger
    tools = lab.tools()
    lab.run(plan_undo(tools), tools)
    assert lines.found() == damaged


@pytest.mark.long
def test_58_transactions_take_two_side_instances_and_as_many_passes_as_one(lab: Lab) -> None:
    """A bad deployment: nobody else wrote its rows, so that nothing in between has to be read."""
    orders = Writers(lab, "orders", 600)
    lab.base("ab")
    for number in range(58):
        orders.worse(
            f"UPDATE {{}} SET a = 'bad{number}' WHERE id BETWEEN {number * 5} AND {number * 5 + 9}",
            f"DELETE FROM {{}} WHERE id = {400 + number}",
        )
        orders.set(500 + number, "b")
    orders.set(7, "c")
    alone = Writers(lab, "alone", 5)
    alone.worse("UPDATE {} SET a = 'bad'")
    many, one = rescue(lab, " ".join(orders.bad)), rescue(lab, alone.bad[0])
    assert orders.found() == orders.ledger
    assert alone.found() == alone.ledger
    assert many["start"] == one["start"] == 2
    assert many["commits"] == one["commits"]
    assert (many["find_written_relations"], one["find_written_relations"], many["chains"]) == (1, 1, 1)


@pytest.mark.long
def test_one_more_side_instance_reads_all_that_lies_between_58_transactions(lab: Lab) -> None:
    """Good transactions write the rows that all of them write, also in another segment of WAL."""
    mixed = Writers(lab, "mixed", 60)
    lab.base("ae")
    for number in range(58):
        mixed.worse(f"UPDATE {{}} SET a = 'bad{number}' WHERE id < 10", f"DELETE FROM {{}} WHERE id = {number + 1000}")
        mixed.set(number % 10, "b")
        if number % 20 == 0:
            lab.rows("SELECT pg_switch_wal()")
    counts = rescue(lab, " ".join(mixed.bad))
    assert mixed.found() == mixed.ledger
    assert (counts["start"], counts["walk"]) == (2, 1)
    assert lab.tools().sides.list() == ()


def test_rows_on_pages_that_a_vacuum_has_marked_are_followed(lab: Lab) -> None:
    """A write there changes the visibility map, too, and its record names a block of that beside the row's own."""
    marked = Writers(lab, "marked", 900)
    with lab.connect() as connection:
        connection.execute("VACUUM (FREEZE) marked")
    lab.base("ag")
    marked.worse("DELETE FROM {} WHERE id % 10 = 3")
    marked.set(401, "b")
    with lab.connect() as connection:
        connection.execute("VACUUM marked")  # so that places are free again, and pages marked again
    marked.worse(
        "INSERT INTO {} SELECT g, 'made', 'x', 'x' FROM generate_series(2000, 2050) g",
        "UPDATE {} SET a = 'bad' WHERE id % 10 IN (1, 4)",
        "DELETE FROM {} WHERE id % 10 = 5",
    )
    marked.set(404, "c")
    with lab.connect() as connection:
        connection.execute("VACUUM marked")
    marked.worse("DELETE FROM {} WHERE id % 10 IN (4, 7) OR id > 2040")
    rescue(lab, " ".join(marked.bad))
    assert marked.found() == marked.ledger


@pytest.mark.long
def test_places_in_a_toast_table_are_no_rows(lab: Lab) -> None:
    """A long value that bad ones replaced lay where, in the table itself, a row lies that a good one removed."""
    long = Writers(lab, "long", 4)
    body = "repeat({}::text, 4000)"
    with lab.connect() as connection:
        connection.execute("ALTER TABLE long ALTER COLUMN c SET STORAGE EXTERNAL")
        connection.execute(f"UPDATE long SET c = {body.format('id')}".encode())
        connection.execute("VACUUM FULL long")
    for key, values in long.ledger.items():
        values[2] = str(key) * 4000
    lab.base("af")
    long.worse(f"UPDATE {{}} SET c = {body.format('9')} WHERE id = 3")
    long.worse("UPDATE {} SET a = 'bad' WHERE id = 3")
    for key in (0, 1, 2):
        long.remove(key)
    rescue(lab, " ".join(long.bad))
    assert long.found() == long.ledger


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2))
def test_random_bad_and_good_transactions(lab: Lab, seed: int) -> None:
    """Whatever the order is in which they write the same rows."""
    random_ = random.Random(seed)  # noqa: S311 seeded, to be repeated
    name = f"drawn{seed}"
    drawn = Writers(lab, name, 30)
    lab.base(f"ac{seed}")
    for number in range(16):
        there = sorted(set(drawn.found()) & set(drawn.ledger))
        key, column = random_.choice(there), random_.choice(COLUMNS)
        kind = random_.random()
        if kind < 0.4:
            keys = ", ".join(map(str, random_.sample(there, 3)))
            drawn.worse(f"SAVEPOINT s; UPDATE {{}} SET {column} = 'bad{number}' WHERE id IN ({keys})")
        elif kind < 0.5:
            drawn.worse(f"DELETE FROM {{}} WHERE id = {key}")
        elif kind < 0.9:
            drawn.set(key, column)
        elif kind < 0.95:
            drawn.remove(key)
        else:
            drawn.make(100 + number)
    drawn.worse(f"INSERT INTO {{}} VALUES ({900 + seed}, 'made', 'made', 'made')")
    rescue(lab, " ".join(drawn.bad))
    assert drawn.found() == drawn.ledger


@pytest.mark.long
def test_all_that_was_committed_in_a_time_is_taken_back(lab: Lab) -> None:
    """As --since and --until say it, or a deployment by its restore points."""
    during = Writers(lab, "during", 20)
    lab.base("ad")
    ends = []
    now = "SELECT to_char(clock_timestamp() AT TIME ZONE 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
    for number in range(4):
        ends.append(str(lab.rows(now)[0][0]))
        if number in (1, 2):
            during.worse(f"UPDATE {{}} SET a = 'bad{number}'")
        else:
            during.set(number, "a")
    rescue(lab, f"between {ends[1]} and {ends[3]}")
    assert during.found() == during.ledger


def test_what_names_no_transactions_is_refused(lab: Lab) -> None:
    """One of them that is not there, and a time that ends before it begins."""
    lab.base("zz")
    lab.archived()
    with pytest.raises(Refused, match=r"no commit of transaction [34]"):
        plan_rescue(lab.tools(), "3, 4000000000", conflicts="live", skip=(), queues=False)
    with pytest.raises(Refused, match="what else was committed then is not known"):
        plan_rescue(lab.tools(), "between 2020-01-01 and now", conflicts="live", skip=(), queues=False)
    with pytest.raises(UsageError, match="is no target"):
        plan_rescue(lab.tools(), "between 14:00 and 13:00", conflicts="live", skip=(), queues=False)
