"""What is newer than the damage stays, and values are values; against a ledger of what was committed."""

# ruff: noqa: S608 - the names are ours

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
from kept import template
from recovery_lab import Lab, opened

from backout.journal.sqlite import SqliteJournal
from backout.journal.stop import StopRequest
from backout.providers.clock import SystemClock
from backout.runbook.recovery.restore import plan_rescue, plan_undo

from extent import by_extent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backout.model.plan import Json

pytestmark = pytest.mark.rotating("restores", 5)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("newer"), template()) as made:
        yield made


@pytest.fixture(autouse=True)
def _own_journal(lab: Lab, tmp_path: Path) -> None:
    lab.journal = SqliteJournal(tmp_path / "journal.sqlite", SystemClock(), stop=StopRequest())


def damaged(lab: Lab, base: str, made: str, damage: str) -> str:
    """Make tables, take a base, do the damage in one transaction; return its id."""
    with lab.connect() as connection:
        connection.execute(made.encode())
        lab.base(base)
        with connection.transaction():
            row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            connection.execute(damage.encode())
    assert row is not None
    return str(row[0])


def since(lab: Lab, *statements: str) -> None:
    """Commit each of them."""
    with lab.connect() as connection:
        for statement in statements:
            connection.execute(statement.encode())


def rescue(lab: Lab, xid: str) -> dict[str, Json]:
    """Rescue, and return what is reported."""
    lab.archived()
    tools = lab.tools()
    run = lab.run(plan_rescue(tools, xid, conflicts="live", skip=(), queues=False), tools)
    told = lab.journal.result(run.id, "db_rescue")
    assert isinstance(told, dict)
    return told


def table(told: dict[str, Json], name: str) -> dict[str, Any]:
    tables = told["tables"]
    assert isinstance(tables, list)
    return next(dict(each) for each in tables if isinstance(each, dict) and each["table"] == f"public.{name}")


def rows(lab: Lab, name: str) -> dict[Any, tuple[Any, ...]]:
    return {key: tuple(rest) for key, *rest in lab.rows(f"SELECT * FROM {name}")}


def test_a_row_that_was_set_since_to_the_damages_own_value_stays(lab: Lab) -> None:
    """Ten orders are really cancelled behind an UPDATE without WHERE, and rows like the damage's are made anew."""
    ledger = {number: ("paid", f"note{number}", "2026-01-01") for number in range(1, 101)}
    xid = damaged(
        lab,
        "aa",
        "CREATE TABLE orders (id int PRIMARY KEY, status text, note text, changed_at date);"
        "INSERT INTO orders SELECT g, 'paid', 'note' || g, '2026-01-01' FROM generate_series(1, 100) g",
        "UPDATE orders SET status = 'cancelled'; INSERT INTO orders SELECT g, 'cancelled', 'made', '2026-01-02' "
        "FROM generate_series(200, 204) g",
    )
    since(
        lab,
        "UPDATE orders SET status = 'cancelled' WHERE id <= 5",
        "UPDATE orders SET status = 'cancelled', changed_at = '2026-02-02' WHERE id BETWEEN 6 AND 10",
        "UPDATE orders SET note = 'newer' WHERE id BETWEEN 11 AND 20",
        "DELETE FROM orders WHERE id IN (200, 201)",
        "INSERT INTO orders VALUES (200, 'cancelled', 'made', '2026-01-02')",
    )
    for number in range(1, 11):
        ledger[number] = ("cancelled", f"note{number}", "2026-01-01" if number < 6 else "2026-02-02")
    for number in range(11, 21):
        ledger[number] = ("paid", "newer", "2026-01-01")
    damage = {key: (status, note, str(day)) for key, (status, note, day) in rows(lab, "orders").items()}
    ledger[200] = ("cancelled", "made", "2026-01-02")
    for again in range(by_extent(1, 2)):
        told = rescue(lab, xid)
        assert {key: (status, note, str(day)) for key, (status, note, day) in rows(lab, "orders").items()} == ledger
        assert table(told, "orders")["conflicts"] == 11
        left_out = told["left_out"]
        assert isinstance(left_out, list)
        left = [each for each in left_out if isinstance(each, dict)]
        assert [(each["what"], each["seen"]) for each in left] == [("10 rows of table public.orders", False)]
        assert "cannot be determined: 1, 10, 2, 3, 4, 5, 6, 7, 8, 9" in str(left[0]["reason"])
        notes = told["notes"]
        assert isinstance(notes, list)
        if not again and by_extent(0, 1):  # taken back and done again it knows its own writes
            assert any("10 damaged rows were written since in other columns" in str(note) for note in notes)
            tools = lab.tools()
            lab.run(plan_undo(tools), tools)
            assert {k: (status, note, str(day)) for k, (status, note, day) in rows(lab, "orders").items()} == damage


@pytest.mark.long
def test_who_wrote_a_row_is_bookkeeping_too(lab: Lab) -> None:
    """Three orders are really cancelled, and the application notes by whom and counts the version."""
    xid = damaged(
        lab,
        "who",
        'CREATE TABLE audited (id int PRIMARY KEY, status text, updated_by text, "lockVersion" int);'
        "INSERT INTO audited SELECT g, 'paid', 'ann', 1 FROM generate_series(1, 9) g",
        "UPDATE audited SET status = 'cancelled'",
    )
    since(lab, "UPDATE audited SET status = 'cancelled', updated_by = 'bob', \"lockVersion\" = 2 WHERE id <= 3")
    assert table(rescue(lab, xid), "audited")["conflicts"] == 3
    assert [row[0] for _, row in sorted(rows(lab, "audited").items())] == ["cancelled"] * 3 + ["paid"] * 6


@pytest.mark.long
def test_parents_whose_keys_the_damage_changed_leave_none_behind(lab: Lab) -> None:
    """The change cascaded to their children: these come back first, then nothing refers to the keys of the damage."""
    xid = damaged(
        lab,
        "ab",
        "CREATE TABLE parents (id int PRIMARY KEY, name text);"
        "CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents ON UPDATE CASCADE, v text);"
        "INSERT INTO parents SELECT g, 'p' || g FROM generate_series(1, 100) g;"
        "INSERT INTO children SELECT g, 1 + g % 100, 'c' || g FROM generate_series(1, 300) g",
        "UPDATE parents SET id = id + 1000",
    )
    since(lab, "UPDATE children SET v = 'newer' WHERE id = 7")
    told = rescue(lab, xid)
    assert rows(lab, "parents") == {number: (f"p{number}",) for number in range(1, 101)}
    assert rows(lab, "children") == {
        number: (1 + number % 100, "newer" if number == 7 else f"c{number}") for number in range(1, 301)
    }
    assert table(told, "parents")["conflicts"] == 0


@pytest.mark.long
def test_ids_that_were_shifted_without_their_key_come_back(lab: Lab) -> None:
    """The key was dropped and made again within the damage: each row is the one that it was, whatever is unique."""
    xid = damaged(
        lab,
        "ac",
        "CREATE TABLE shifted (id int CONSTRAINT shifted_key PRIMARY KEY, email text UNIQUE);"
        "INSERT INTO shifted SELECT g, 'e' || g FROM generate_series(1, 60) g",
        "ALTER TABLE shifted DROP CONSTRAINT shifted_key; UPDATE shifted SET id = id + 1;"
        "ALTER TABLE shifted ADD PRIMARY KEY (id)",
    )
    told = rescue(lab, xid)
    assert rows(lab, "shifted") == {number: (f"e{number}",) for number in range(1, 61)}
    assert table(told, "shifted")["conflicts"] == 0


@pytest.mark.long
def test_a_key_that_was_made_anew_since_is_no_evidence(lab: Lab) -> None:
    """Good work shifted the ids behind the damage: no row gets another one's values, each is named."""
    xid = damaged(
        lab,
        "ad",
        "CREATE TABLE anew (id int CONSTRAINT anew_key PRIMARY KEY, name text, v text);"
        "INSERT INTO anew SELECT g, 'n' || g, 'v' || g FROM generate_series(1, 50) g",
        "UPDATE anew SET v = 'bad'",
    )
    since(
        lab,
        "ALTER TABLE anew DROP CONSTRAINT anew_key; UPDATE anew SET id = id + 1; ALTER TABLE anew ADD PRIMARY KEY (id)",
    )
    told = rescue(lab, xid)
    assert rows(lab, "anew") == {number + 1: (f"n{number}", "bad") for number in range(1, 51)}
    assert table(told, "anew")["conflicts"] == 49


@pytest.mark.long
def test_rows_that_have_another_key_since_are_left_out_by_name(lab: Lab) -> None:
    """Nothing is under the keys of the damage any more; that is not said to be all."""
    xid = damaged(
        lab,
        "ag",
        "CREATE TABLE moved (id int PRIMARY KEY, v text);INSERT INTO moved SELECT g, 'v' FROM generate_series(1, 20) g",
        "UPDATE moved SET v = 'bad' WHERE id <= 10",
    )
    since(lab, "UPDATE moved SET id = id + 1000", "DELETE FROM moved WHERE id = 1003")
    told = rescue(lab, xid)
    assert rows(lab, "moved") == {1000 + n: ("bad" if n <= 10 else "v",) for n in range(1, 21) if n != 3}
    left_out = told["left_out"]
    assert isinstance(left_out, list)
    assert [each["what"] for each in left_out if isinstance(each, dict)] == [
        "rows of public.moved whose key was changed since"
    ]


TYPES: Final = {
    "f": "float8",
    "g": "float4",
    "d": "date",
    "t": "timestamptz",
    "i": "interval",
    "b": "bytea",
    "a": "text[]",
    "m": "money",
    "n": "numeric",
}
DRAWN: Final = """
SELECT g, random() * power(10, g % 300 - 150), (random() / 3)::float4, date '2026-01-01' + g % 360,
  timestamptz '2026-01-01 00:00:00+00' + g * interval '11:13:17.123457', make_interval(0, g % 13, 0, -g, g, g),
  sha256(g::text::bytea), ARRAY['a,b', NULL, 'NULL', '"' || g], (g * 1.25)::money,
  CASE g % 3 WHEN 0 THEN 'NaN' ELSE g::text END::numeric FROM generate_series(1, 300) g
"""
ODD: Final = {
    "extra_float_digits": "0",
    "datestyle": "SQL, DMY",
    "intervalstyle": "sql_standard",
    "timezone": "Asia/Kathmandu",
    "bytea_output": "escape",
    "array_nulls": "off",
}


def bits(lab: Lab, name: str) -> dict[int, tuple[Any, ...]]:
    """Return each value as its type's own bytes: no setting says how these look."""
    sent = ", ".join(
        f"encode({'array' if type_ == 'text[]' else 'cash' if type_ == 'money' else type_}_send({column}), 'hex')"
        if type_ in ("text[]", "money", "interval", "numeric", "date", "timestamptz")
        else f"encode({column if type_ == 'bytea' else f'{type_}send({column})'}, 'hex')"
        for column, type_ in TYPES.items()
    )
    return {key: tuple(rest) for key, *rest in lab.rows(f"SELECT id, {sent} FROM {name}")}


@pytest.mark.long
def test_values_come_back_as_they_were_whatever_sessions_are_told(lab: Lab) -> None:
    """Floats to the last bit, days that are months elsewhere: sessions here and in the past begin with odd settings."""
    columns = ", ".join(f"{name} {type_}" for name, type_ in TYPES.items())
    with lab.connect() as connection:
        connection.execute(
            f"CREATE TABLE kinds (id int PRIMARY KEY, {columns}); INSERT INTO kinds {DRAWN};"
            "CREATE TABLE dropped (LIKE kinds INCLUDING ALL); INSERT INTO dropped SELECT * FROM kinds".encode()
        )
    ledger = bits(lab, "kinds")
    settings = "".join(f"ALTER ROLE postgres SET {name} = '{value}';" for name, value in ODD.items())
    nulls = ", ".join(f"{name} = NULL" for name in TYPES)
    try:
        xid = damaged(
            lab, "ae", settings, f"DELETE FROM kinds WHERE id % 2 = 0; UPDATE kinds SET {nulls}; DROP TABLE dropped"
        )
        rescue(lab, xid)
        assert (bits(lab, "kinds"), bits(lab, "dropped")) == (ledger, ledger)
        tools = lab.tools()
        lab.run(plan_undo(tools), tools)
        assert {len(set(row)) for row in bits(lab, "kinds").values()} == {1}
        rescue(lab, xid)
        assert (bits(lab, "kinds"), bits(lab, "dropped")) == (ledger, ledger)
    finally:
        since(lab, "ALTER ROLE postgres RESET ALL")


@pytest.mark.long
def test_more_batches_than_a_statement_is_prepared_after(lab: Lab) -> None:
    """Twelve small tables of different columns: no statement outlives a change of what it reads."""
    names = {f"small{number}": ("int", "text", "numeric")[number % 3] for number in range(12)}
    xid = damaged(
        lab,
        "af",
        "".join(
            f"CREATE TABLE {name} (id int PRIMARY KEY, {name}_v {type_});"
            f"INSERT INTO {name} SELECT g, g FROM generate_series(1, 10) g;"
            for name, type_ in names.items()
        ),
        "".join(f"UPDATE {name} SET {name}_v = 0;" for name in names),
    )
    rescue(lab, xid)
    for name, type_ in names.items():
        assert rows(lab, name) == {n: (str(n) if type_ == "text" else n,) for n in range(1, 11)}
