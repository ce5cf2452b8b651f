"""The second check of a rescue: what its SQL gets wrong is found by other SQL, in another process."""

# ruff: noqa: S608 - the names are ours

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, Final

import pytest
from kept import template
from recovery_lab import Lab, opened

from backout.decoding import decode_values
from backout.errors import BackoutError
from backout.journal.sqlite import SqliteJournal
from backout.journal.stop import StopRequest
from backout.model.steps.comparison import ComparisonResult
from backout.providers.clock import SystemClock
from backout.providers.postgres.comparison.comparer import PostgresComparer
from backout.providers.postgres.rescue import definitions, rows
from backout.report.database.comparison import format_comparison
from backout.runbook.recovery.restore import plan_rescue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.rotating("restores", 5)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("second"), template()) as made:
        yield made


@pytest.fixture(autouse=True)
def _own_journal(lab: Lab, tmp_path: Path) -> None:
    lab.journal = SqliteJournal(tmp_path / "journal.sqlite", SystemClock(), stop=StopRequest())


ROWS: Final = {"whole": 900, "by its writers": 12_000}
CASES: Final = (
    "right", "skips a batch", "flips a column", "writes one row wrong", "writes what was not damaged", "under load",
    "quiet",
)  # fmt: skip

OTHERS: Final = {
    "gone": "DROP TABLE gone",
    "named": "ALTER TABLE named RENAME body TO bad; UPDATE named SET bad = 'bad' WHERE id <= 30",
}


@pytest.fixture(scope="module")
def damages(lab: Lab) -> dict[tuple[str, str], tuple[str, str]]:
    """Damage 400 rows of a table, delete 50, make 5; others write since. Return (its name, the damage's id) by case.

    A table whose pages are almost empty is as large as one of which only what was written is looked at.
    """
    found = {}
    with lab.connect() as connection:
        connection.execute("CREATE TABLE calm (id int PRIMARY KEY, body text)")
        connection.execute("INSERT INTO calm SELECT g, 'x' FROM generate_series(1, 70) g")
        connection.execute("CREATE TABLE gone (id int PRIMARY KEY, body text)")
        connection.execute("INSERT INTO gone SELECT g, 'x' || g FROM generate_series(1, 90) g")
        connection.execute("CREATE TABLE named (id int PRIMARY KEY, body text)")
        connection.execute("INSERT INTO named SELECT g, 'x' || g FROM generate_series(1, 90) g")
        cases = [(case, how, f"t{number}") for number, (case, how) in enumerate(product(CASES, ROWS))]
        for _, how, name in cases:
            connection.execute(
                f"CREATE TABLE {name} (id int PRIMARY KEY, status text, price float8, note jsonb) "
                "WITH (fillfactor = 10)"
            )
            connection.execute(
                f"INSERT INTO {name} SELECT g, 'paid', g / 3.0, '{{\"a\": 1}}' FROM generate_series(1, {ROWS[how]}) g"
            )
        lab.base("second")
        for name, damage in OTHERS.items():
            with connection.transaction():
                row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
                connection.execute(damage.encode())
            assert row is not None
            found[name, "whole"] = name, str(row[0])
        connection.execute("ALTER TABLE named RENAME bad TO body")
        for case, how, name in cases:
            with connection.transaction():
                row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
                connection.execute(
                    f"UPDATE {name} SET status = 'lost', price = 0 WHERE id <= 400;"
                    f"DELETE FROM {name} WHERE id BETWEEN 801 AND 850;"
                    f"INSERT INTO {name} SELECT -g, 'made', 1, NULL FROM generate_series(1, 5) g"
                )
            connection.execute(f"UPDATE {name} SET note = '{{\"a\": 2}}' WHERE id IN (3, 500)")
            connection.execute(f"UPDATE {name} SET status = 'sent' WHERE id = 4")
            assert row is not None
            found[case, how] = name, str(row[0])
    lab.archived()
    return found


def rescued(lab: Lab, xid: str, **more: Any) -> dict[str, Any]:
    """Rescue, and return what the second check says."""
    tools = lab.tools(**more)
    run = lab.run(plan_rescue(tools, xid, conflicts="live", skip=(), queues=False), tools)
    told = lab.journal.result(run.id, "db_compare")
    assert isinstance(told, dict)
    return told


def test_a_right_rescue_passes_and_says_what_was_compared(
    lab: Lab, damages: dict[tuple[str, str], tuple[str, str]]
) -> None:
    """Rows of others are named as not compared, and so are those of a large table that the damage did not write."""
    told = rescued(lab, damages["right", "whole"][1])
    assert told["differs"] == told["behind"] == told["left_out"] == []
    assert told["newer"] >= 3  # also in the tables that this rescue is not about
    assert told["equal"] >= 70 + 900 - 3
    assert f"{told['equal']:,} rows of" in told["sentence"]
    assert f"{told['newer']:,} rows that the application or a person wrote or removed since" in told["sentence"]


@pytest.mark.long
def test_of_a_large_table_what_was_written_is_compared(
    lab: Lab, damages: dict[tuple[str, str], tuple[str, str]]
) -> None:
    """The others are counted, and named as not compared."""
    name, xid = damages["right", "by its writers"]
    told = rescued(lab, xid)
    assert told["differs"] == []
    assert told["unread"] == ROWS["by its writers"] - 450
    assert "rows of large tables that the damage did not write" in told["sentence"]
    assert lab.rows(f"SELECT count(*) FROM {name} WHERE status = 'paid'") == [(ROWS["by its writers"] - 1,)]


BROKEN: Final = {
    "skips a batch": ("xmax::text <> '0'", "xmax::text <> '0' AND id % 2 = 0", {"left": 0, "missing": 224, "wrong": 0}),
    "flips a column": ('"price"', '"price" + 1', {"left": 0, "missing": 0, "wrong": 450}),
    "writes one row wrong": (
        '"status"', "CASE WHEN id = 7 THEN 'odd' ELSE status END", {"left": 0, "missing": 0, "wrong": 1}
    ),
}  # fmt: skip


@pytest.mark.rotating("wrong rescues", 3)
@pytest.mark.long
@pytest.mark.parametrize("how", ROWS)
@pytest.mark.parametrize("case", BROKEN)
def test_what_the_rescue_gets_wrong_is_found(
    lab: Lab,
    damages: dict[tuple[str, str], tuple[str, str]],
    case: str,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own check, with the same SQL, finds nothing."""
    found, instead, differs = BROKEN[case]
    _, xid = damages[case, how]
    real = rows.copy_rows

    def pipe(source: Any, read: str, target: Any, write: str, values: Any = None) -> None:
        if " xmax" in read:
            read = read.replace(found, instead)
        real(source, read, target, write, values)

    monkeypatch.setattr(rows, "copy_rows", pipe)
    told = rescued(lab, xid)
    (table,) = told["differs"]
    assert {name: table[name] for name in differs} == differs
    assert table["examples"]
    assert any(line.startswith("NOT AS BEFORE") for line in format_comparison(decode_values(told, ComparisonResult)))


@pytest.mark.long
def test_a_write_outside_the_damage_is_found(
    lab: Lab, damages: dict[tuple[str, str], tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rescue's own check never looks at rows that the damage did not write."""
    name, xid = damages["writes what was not damaged", "whole"]
    real = rows.write_quietly

    def quietly(live: Any, *words: Any, wrote: Any) -> int:
        with live.transaction():
            live.execute(f"UPDATE public.{name} SET price = price * 2 WHERE id = 600")
            wrote(live)
        return real(live, *words, wrote=wrote)

    monkeypatch.setattr(rows, "write_quietly", quietly)
    told = rescued(lab, xid)
    (table,) = told["differs"]
    assert (table["wrong"], table["examples"]) == (1, ["600"])


@pytest.mark.long
def test_wrong_values_in_a_table_that_was_made_again_are_found(
    lab: Lab, damages: dict[tuple[str, str], tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it was not there, nobody had written to it: no value of it is somebody's newer one."""
    _, xid = damages["gone", "whole"]
    real = definitions.copy_rows

    def pipe(source: Any, read: str, target: Any, write: str) -> None:
        changed = "COPY (SELECT id, CASE WHEN id = 7 THEN 'odd' ELSE body END FROM public.gone) TO STDOUT"
        real(source, changed if "gone" in read else read, target, write)

    monkeypatch.setattr(definitions, "copy_rows", pipe)
    told = rescued(lab, xid)
    (table,) = told["differs"]
    assert (table["table"], table["wrong"], table["examples"]) == ("public.gone", 1, ["7"])


@pytest.mark.rotating("wrong rescues", 3)
@pytest.mark.long
@pytest.mark.parametrize("how", ROWS)
def test_what_is_wrong_beside_newer_rows_is_found(
    lab: Lab, damages: dict[tuple[str, str], tuple[str, str]], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others write rows and remove some while the rescue runs: only these may differ, by their keys."""
    name, xid = damages["under load", how]
    real, silent = rows.copy_rows, rows.write_quietly
    told: list[bool] = []

    def pipe(source: Any, read: str, target: Any, write: str, values: Any = None) -> None:
        if " xmax" in read:
            read = read.replace('"status"', "CASE WHEN id = 7 THEN 'odd' ELSE status END")
            with lab.connect() as others:  # behind what was noted
                others.execute(f"UPDATE {name} SET note = '{{}}' WHERE id IN (8, 9, 200, 700); ")  # type: ignore[call-overload]
                others.execute(f"DELETE FROM {name} WHERE id = 10")  # type: ignore[call-overload]
        real(source, read, target, write, values)

    def quietly(live: Any, *words: Any, wrote: Any) -> int:
        if not told:
            told.append(True)
            with live.transaction():
                live.execute(f"DELETE FROM public.{name} WHERE id = 11")
                wrote(live)
        return silent(live, *words, wrote=wrote)

    monkeypatch.setattr(rows, "copy_rows", pipe)
    monkeypatch.setattr(rows, "write_quietly", quietly)
    (table,) = rescued(lab, xid)["differs"]
    assert (table["left"], table["wrong"]) == (0, 1)
    assert {"7", "11"} <= set(table["examples"])
    assert lab.rows(f"SELECT id, note::text FROM {name} WHERE id IN (8, 10, 11)") == [(8, "{}")]


@pytest.mark.long
@pytest.mark.parametrize("how", ROWS)
def test_newer_rows_alone_are_no_damage(
    lab: Lab, damages: dict[tuple[str, str], tuple[str, str]], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that others write and remove while the rescue runs are theirs, however many."""
    name, xid = damages["quiet", how]
    real = rows.copy_rows

    def pipe(source: Any, read: str, target: Any, write: str, values: Any = None) -> None:
        if " xmax" in read:
            with lab.connect() as others:
                others.execute(f"UPDATE {name} SET note = '{{}}' WHERE id BETWEEN 8 AND 60")  # type: ignore[call-overload]
                others.execute(f"DELETE FROM {name} WHERE id BETWEEN 100 AND 160")  # type: ignore[call-overload]
        real(source, read, target, write, values)

    monkeypatch.setattr(rows, "copy_rows", pipe)
    told = rescued(lab, xid)
    assert told["differs"] == []
    assert lab.rows(f"SELECT count(*) FROM {name} WHERE id BETWEEN 8 AND 60 AND status = 'paid'") == [(53,)]


@pytest.mark.long
def test_a_check_before_which_nothing_could_be_noted_does_not_pass(
    lab: Lab, damages: dict[tuple[str, str], tuple[str, str]]
) -> None:
    """What the rescue writes wrong would be taken for somebody's newer rows."""

    class Forgetful(PostgresComparer):
        """One that compares, and could not note."""

        def note(self, *_words: object) -> None:
            raise BackoutError("the server did not answer")

    told = rescued(lab, damages["right", "whole"][1], comparer=lambda name: Forgetful(lambda: lab.dsn, name))
    assert "the server did not answer" in told["failed"]
    (line,) = format_comparison(decode_values(told, ComparisonResult))
    assert line.startswith("NOT CHECKED")


@pytest.mark.long
def test_a_column_that_was_named_back_by_hand_is_compared(
    lab: Lab, damages: dict[tuple[str, str], tuple[str, str]]
) -> None:
    """The damage had given it another name, so that the rescue leaves it alone, and it holds the damage's values."""
    told = rescued(lab, damages["named", "whole"][1])
    (table,) = told["differs"]
    assert (table["table"], table["left"]) == ("public.named", 30)
