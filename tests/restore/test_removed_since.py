"""Rows that clients write and remove while a rescue runs, or between damage and rescue: theirs, and no damage."""

# ruff: noqa: S608 - the names are ours

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
from kept import template
from recovery_lab import Lab, opened
from rescue_lab import damaged

from backout.errors import BackoutError, PartlyDone
from backout.journal.sqlite import SqliteJournal
from backout.journal.stop import StopRequest
from backout.model.incident.incident import RunState
from backout.providers.clock import SystemClock
from backout.providers.postgres.rescue import rows, writing
from backout.providers.postgres.schema import rowsql
from backout.runbook.recovery.restore import plan_rescue, plan_undo
from backout.runbook.recovery.restoring import make_actions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.rotating("restores", 5)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("removed"), template()) as made:
        yield made


@pytest.fixture(autouse=True)
def _own_journal(lab: Lab, tmp_path: Path) -> None:
    lab.journal = SqliteJournal(tmp_path / "journal.sqlite", SystemClock(), stop=StopRequest())


CASES: Final = (
    "behind it", "behind what it gets wrong", "silently", "resumed", "made again", "dropped since", "typed again",
    "made anew", "meanwhile", "compressed",
)  # fmt: skip


KINDS: Final = """
CREATE DOMAIN short AS varchar(9);
CREATE TABLE kinds (gone int, body text, a text, b uuid, c bigint, d date, e timestamptz, f boolean, g short,
  h smallint, note text, PRIMARY KEY (h, g, a, b, c, d, e, f));
ALTER TABLE kinds DROP COLUMN gone;
CREATE TABLE kinds_like AS SELECT CASE WHEN n % 3 > 0 THEN repeat('x', n * 40) END AS body, repeat('é', n * 30) AS a,
  md5(n::text)::uuid AS b, n * -5000000000 AS c, date '1969-12-30' + n AS d,
  timestamptz '1999-12-31 23:59:59.5+02' + n * interval '7.000001 s' AS e, n % 2 = 0 AS f, 'it''s\\' || n AS g,
  n::smallint AS h, 'n' AS note FROM generate_series(0, 9) AS n;
INSERT INTO kinds SELECT * FROM kinds_like;
"""


@pytest.fixture(scope="module")
def damages(lab: Lab) -> dict[str, tuple[str, str]]:
    """Damage a table for each case: half of its rows are deleted, the others changed. Return its name and the id."""
    found = {}
    with lab.connect() as connection:
        names = {case: f"t{number}" for number, case in enumerate(CASES)}
        for name in names.values():
            connection.execute(
                f"CREATE TABLE {name} (id int PRIMARY KEY, status text, note text);"
                f"INSERT INTO {name} SELECT g, 'paid', 'n' || g FROM generate_series(1, 40) g"
            )
        connection.execute(KINDS)
        lab.base("removed")
        for case, name in names.items():
            with connection.transaction():
                row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
                damage = f"DELETE FROM {name} WHERE id > 20; UPDATE {name} SET status = 'lost'"
                connection.execute(f"DROP TABLE {name}" if case in ("made again", "dropped since") else damage)
            assert row is not None
            found[case] = name, str(row[0])
        with connection.transaction():
            row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            connection.execute("DELETE FROM kinds")
        assert row is not None
        found["kinds"] = "kinds", str(row[0])
    lab.archived()
    return found


class Beside:
    """Rescues, and lets clients write before anybody looks at what it did; `stops`: and then ends with an error."""

    def __init__(self, lab: Lab, statements: str, *, stops: bool = False) -> None:
        self._lab = lab
        self._statements = statements
        self._stops = stops

    def __call__(self, database: str) -> Any:
        self._real = self._lab.tools().rescuer(database)
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def rescue(self, *words: Any, **more: Any) -> Any:
        report = self._real.rescue(*words, **more)
        with self._lab.connect() as client:
            client.execute(self._statements.encode())
        if self._stops:
            raise BackoutError("the process was stopped")
        return report


def rescued(lab: Lab, xid: str, statements: str = "") -> dict[str, Any]:
    """Rescue, with statements of clients behind the writes and before the checks; return what the steps recorded."""
    tools = lab.tools(rescuer=Beside(lab, statements)) if statements else lab.tools()
    run = lab.run(plan_rescue(tools, xid, conflicts="live", skip=(), queues=False), tools)
    assert run.state is RunState.DONE
    names = ("db_rescue", "db_rescue_check", "db_compare")
    return {name: lab.journal.result(run.id, name) for name in names}


def keys(lab: Lab, name: str) -> set[int]:
    return {key for (key,) in lab.rows(f"SELECT id FROM {name}")}


def test_rows_that_clients_remove_behind_a_rescue_are_no_loss(lab: Lab, damages: dict[str, tuple[str, str]]) -> None:
    """Neither its own check nor the second one takes them for damage; both those put back and those changed back."""
    name, xid = damages["behind it"]
    told = rescued(lab, xid, f"DELETE FROM {name} WHERE id IN (3, 4, 25, 26, 27)")
    assert keys(lab, name) == {*range(1, 41)} - {3, 4, 25, 26, 27}
    assert told["db_rescue_check"]["left"] == 0
    assert told["db_compare"]["differs"] == []
    assert told["db_compare"]["newer"] >= 5


@pytest.mark.long
def test_what_was_never_put_back_is_found_beside_what_clients_removed(
    lab: Lab, damages: dict[str, tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rescue's SQL leaves a row out, and its own check with the same SQL sees nothing."""
    name, xid = damages["behind what it gets wrong"]
    real = rowsql.copy_rows

    def pipe(source: Any, read: str, target: Any, write: str, values: Any = None) -> None:
        if " xmax" in read:
            read = read.replace("xmax::text <> '0'", "xmax::text <> '0' AND id NOT IN (7, 31)")
        real(source, read, target, write, values)

    monkeypatch.setattr(rows, "copy_rows", pipe)
    (table,) = rescued(lab, xid, f"DELETE FROM {name} WHERE id IN (3, 25, 26)")["db_compare"]["differs"]
    assert (table["missing"], table["left"], table["wrong"]) == (2, 0, 0)
    assert set(table["examples"]) == {"7", "31"}


@pytest.mark.long
def test_a_row_that_the_rescue_itself_removes_again_is_found(
    lab: Lab, damages: dict[str, tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was put back, and the server counts one deletion that the rescue does not tell of."""
    name, xid = damages["silently"]
    real = writing.write_quietly

    def quietly(live: Any, *words: Any, wrote: Any) -> int:
        count = real(live, *words, wrote=wrote)
        if words[2].startswith("UPDATE"):
            with live.transaction():
                live.execute(f"DELETE FROM public.{name} WHERE id = 33")
                wrote(live)
        return count

    monkeypatch.setattr(rows, "write_quietly", quietly)
    (table,) = rescued(lab, xid, f"DELETE FROM {name} WHERE id = 25")["db_compare"]["differs"]
    assert "33" in table["examples"]


@pytest.mark.long
def test_a_rescue_that_is_resumed_leaves_to_clients_what_they_did_since(
    lab: Lab, damages: dict[str, tuple[str, str]]
) -> None:
    """What it had put back and they removed stays away; what they set since to the damage's value stays so."""
    name, xid = damages["resumed"]
    since = (
        f"DELETE FROM {name} WHERE id IN (3, 25);"
        f"UPDATE {name} SET note = 'newer' WHERE id = 5; UPDATE {name} SET status = 'lost' WHERE id = 5"
    )
    tools = lab.tools(rescuer=Beside(lab, since, stops=True))
    with pytest.raises(PartlyDone) as stopped:
        lab.run(plan_rescue(tools, xid, conflicts="live", skip=(), queues=False), tools)
    run = str(stopped.value.where)
    tools = lab.tools()
    lab.journal.drive(run, make_actions(tools), actor="test")
    assert keys(lab, name) == {*range(1, 41)} - {3, 25}
    assert lab.rows(f"SELECT status, note FROM {name} WHERE id = 5") == [("lost", "newer")]
    assert lab.rows(f"SELECT count(*) FROM {name} WHERE status = 'lost'") == [(1,)]
    told = lab.journal.result(run, "db_compare")
    assert isinstance(told, dict)
    assert told["differs"] == []


@pytest.mark.long
def test_a_rescue_that_is_typed_again_leaves_away_what_clients_removed_since(
    lab: Lab, damages: dict[str, tuple[str, str]]
) -> None:
    """It is another run, and the row was there after the damage: it was put back, and somebody removed it."""
    name, xid = damages["typed again"]
    rescued(lab, xid)
    with lab.connect() as client:
        client.execute(f"DELETE FROM {name} WHERE id IN (3, 25)".encode())
    told = rescued(lab, xid)
    assert keys(lab, name) == {*range(1, 41)} - {3, 25}
    assert told["db_compare"]["differs"] == []
    tools = lab.tools()
    lab.run(plan_undo(tools), tools)
    lab.run(plan_undo(tools), tools)
    assert lab.rows(f"SELECT count(*), count(*) FILTER (WHERE status = 'lost') FROM {name}") == [(19, 19)]


@pytest.mark.long
@pytest.mark.parametrize("case", ["made again", "dropped since"])
def test_what_clients_remove_from_a_table_that_was_made_again_is_no_loss(
    lab: Lab, damages: dict[str, tuple[str, str]], case: str
) -> None:
    """All its rows were there when the rescue had made it."""
    name, xid = damages[case]
    since = f"DELETE FROM {name} WHERE id = 25" if case == "made again" else f"DROP TABLE {name}"
    told = rescued(lab, xid, since)
    assert told["db_compare"]["differs"] == []
    if case == "made again":
        assert keys(lab, name) == {*range(1, 41)} - {25}
    else:
        assert "dropped since by others" in told["db_compare"]["sentence"]


def test_rows_that_were_made_anew_and_removed_on_pages_that_a_vacuum_has_marked_stay_away(lab: Lab) -> None:
    """Such writes change the visibility map, too, and their records name a block of that beside the row's own."""
    xid = damaged(
        lab,
        "marked",
        "CREATE TABLE marked (id int PRIMARY KEY, v text);"
        "INSERT INTO marked SELECT g, repeat('x', 80) FROM generate_series(1, 400) g",
        "DELETE FROM marked WHERE id > 390",
    )
    with lab.connect() as client:
        client.execute("VACUUM (FREEZE) marked")
        client.execute("INSERT INTO marked SELECT g, 'new' FROM generate_series(391, 396) g")
        client.execute("VACUUM (FREEZE) marked")
        client.execute("DELETE FROM marked WHERE id IN (391, 392, 393)")
    lab.archived()
    told = rescued(lab, xid)
    assert keys(lab, "marked") == {*range(1, 401)} - {391, 392, 393}
    assert told["db_compare"]["differs"] == []


@pytest.mark.long
def test_rows_that_clients_made_anew_and_removed_before_a_rescue_stay_away(
    lab: Lab, damages: dict[str, tuple[str, str]]
) -> None:
    """Nothing in the table tells of them, so that the WAL is read; what was never committed was never there."""
    name, xid = damages["made anew"]
    with lab.connect() as client:
        client.execute("CHECKPOINT")  # the first insert is in the image of its page, the next ones by themselves
        client.execute(f"INSERT INTO {name} VALUES (21, 'new', 'a'), (22, 'new', 'b'), (23, 'new', 'c')".encode())
        client.execute(f"UPDATE {name} SET status = 'newer' WHERE id = 22".encode())
        client.execute(f"UPDATE {name} SET id = 60 WHERE id = 23; UPDATE {name} SET id = 23 WHERE id = 60".encode())
        with client.cursor().copy(f"COPY {name} FROM STDIN".encode()) as copy:
            copy.write("".join(f"{key}\tcopied\t{key}\n" for key in (25, 26, 27, 28)))
        client.execute(f"DELETE FROM {name} WHERE id IN (21, 22, 25, 27, 28)".encode())
        client.execute(f"INSERT INTO {name} VALUES (28, 'newest', 'd')".encode())
        both = f"INSERT INTO {name} VALUES (31, 'x', 'x'); DELETE FROM {name} WHERE id = 31"
        client.execute(f"BEGIN; {both}; COMMIT".encode())
        client.execute(f"BEGIN; INSERT INTO {name} VALUES (32, 'x', 'x'); ROLLBACK".encode())
    told = rescued(lab, xid)
    assert keys(lab, name) == {*range(1, 41)} - {21, 22, 25, 27}
    assert lab.rows(f"SELECT id, status FROM {name} WHERE id IN (23, 26, 28, 31) ORDER BY 1") == [
        (23, "new"), (26, "copied"), (28, "newest"), (31, "paid")
    ]  # fmt: skip
    assert told["db_compare"]["differs"] == []
    assert told["db_rescue_check"]["left"] == 0
    notes = [str(note) for note in told["db_rescue"]["notes"]]
    assert any("4 rows that others had made anew are gone since: they stay away (21, 22, 25, 27)" in n for n in notes)
    tools = lab.tools()
    lab.run(plan_undo(tools), tools)
    rescued(lab, xid)  # another run, which reads it once more
    assert keys(lab, name) == {*range(1, 41)} - {21, 22, 25, 27}


@pytest.mark.long
def test_what_clients_made_anew_and_removed_while_a_rescue_ran_is_named(
    lab: Lab, damages: dict[str, tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was put back, for the first look at the WAL was before that; with the SQL that removes it again."""
    name, xid = damages["meanwhile"]

    def lock_table(live: Any, oid: int, table: str) -> None:
        with lab.connect() as client:
            there = client.execute(f"SELECT count(*) FROM {name} WHERE id = 25".encode()).fetchone()
            if there == (0,) and not told:
                told.append(table)
                client.execute(f"INSERT INTO {name} VALUES (25, 'x', 'x'), (26, 'x', 'x')".encode())
                client.execute(f"DELETE FROM {name} WHERE id IN (25, 26)".encode())
        locks(live, oid, table)

    told: list[str] = []
    locks = writing.lock_table
    monkeypatch.setattr(rows, "lock_table", lock_table)
    left = rescued(lab, xid)["db_rescue"]["left_out"]
    assert told
    (named,) = [each for each in left if "while the rescue ran" in each["reason"]]
    assert named["what"] == f"2 rows of table public.{name}"
    assert named["reason"].endswith("25, 26")
    lab.rows(f"{named['sql'].rstrip(';')} RETURNING 1")
    assert keys(lab, name) == {*range(1, 41)} - {25, 26}


@pytest.mark.long
def test_rows_whose_keys_the_wal_does_not_tell_are_counted(lab: Lab, damages: dict[str, tuple[str, str]]) -> None:
    """The page that holds the row was compressed; nobody can say whether it is among those that came back."""
    name, xid = damages["compressed"]
    with lab.connect() as client:
        client.execute("SET wal_compression = on")
        client.execute("CHECKPOINT")
        client.execute(f"INSERT INTO {name} VALUES (25, 'x', 'x')".encode())
        client.execute(f"DELETE FROM {name} WHERE id = 25".encode())
    (left,) = rescued(lab, xid)["db_rescue"]["left_out"]
    assert left["seen"] is False
    assert left["what"] == f"1 rows of table public.{name}"
    assert "whose keys the WAL does not tell" in left["reason"]


@pytest.mark.long
def test_keys_of_every_kind_that_bytes_tell_are_known_again(lab: Lab, damages: dict[str, tuple[str, str]]) -> None:
    """Of several columns, behind a dropped one, behind NULL and long values, before and after 1970 and 2000."""
    _, xid = damages["kinds"]
    with lab.connect() as client:
        client.execute("INSERT INTO kinds SELECT * FROM kinds_like")
        client.execute("DELETE FROM kinds WHERE h < 7")
    told = rescued(lab, xid)
    assert lab.rows("SELECT h FROM kinds ORDER BY 1") == [(7,), (8,), (9,)]
    assert told["db_compare"]["differs"] == told["db_rescue"]["left_out"] == []
