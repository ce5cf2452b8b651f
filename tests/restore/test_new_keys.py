"""`--conflicts new-keys`: old rows whose numbers newer rows have come back under new ones, with what refers to them."""

# ruff: noqa: S608 - the names are ours

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kept import template
from recovery_lab import Lab, opened
from rescue_lab import damaged, undone

from backout.journal.sqlite import SqliteJournal
from backout.journal.stop import StopRequest
from backout.providers.clock import SystemClock
from backout.providers.postgres.rescue import renumbering
from backout.runbook.recovery.restore import plan_rescue
from backout.runbook.recovery.restoring import foresee, make_actions

from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).parents[1] / "support" / "database" / "restore_killed.py"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("new-keys"), template()) as made:
        yield made


@pytest.fixture(autouse=True)
def _own_journal(lab: Lab, tmp_path: Path) -> None:
    lab.journal = SqliteJournal(tmp_path / "journal.sqlite", SystemClock(), stop=StopRequest())


def rescued(lab: Lab, xid: str, conflicts: str = "new-keys") -> tuple[dict[str, Any], dict[str, Any]]:
    """Rescue, and return what is reported, and what the second check says."""
    tools = lab.tools()
    run = lab.run(plan_rescue(tools, xid, conflicts=conflicts, skip=(), queues=False), tools)
    told: Any = lab.journal.result(run.id, "db_rescue")
    compared: Any = lab.journal.result(run.id, "db_compare")
    return told, compared


def made(name: str) -> str:
    """Return the SQL for a table with numbers, referred to by itself, by lines, and one to one by notes with a page."""
    return (
        f"CREATE TABLE {name} (id serial PRIMARY KEY, v text, up int REFERENCES {name});"
        f"CREATE TABLE {name}_line (id int PRIMARY KEY, owner int REFERENCES {name}, v text);"
        f"CREATE TABLE {name}_note (id int PRIMARY KEY REFERENCES {name}, v text);"
        f"CREATE TABLE {name}_page (note int REFERENCES {name}_note, page int, v text, PRIMARY KEY (note, page));"
        f"INSERT INTO {name} (v, up) VALUES ('old 1', NULL), ('old 2', 1), ('old 3', 2);"
        f"INSERT INTO {name} (id, v) VALUES (9, 'old 9');"
        f"INSERT INTO {name}_line VALUES (1, 1, 'of old 1'), (2, 2, 'of old 2'), (3, 3, 'of old 3');"
        f"INSERT INTO {name}_note VALUES (1, 'of old 1'), (3, 'of old 3');"
        f"INSERT INTO {name}_page VALUES (1, 1, 'of old 1'), (3, 1, 'of old 3')"
    )


def emptied(name: str) -> str:
    return f"TRUNCATE {name}, {name}_line, {name}_note, {name}_page RESTART IDENTITY"


def since(name: str) -> str:
    return (
        f"INSERT INTO {name} (v) VALUES ('new 1'), ('new 2'); UPDATE {name} SET up = 1 WHERE id = 2;"
        f"INSERT INTO {name}_line VALUES (11, 1, 'of new 1'); INSERT INTO {name}_note VALUES (1, 'of new 1')"
    )


def rows(lab: Lab, name: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return what is there, each reference with the row that it leads to."""
    return {
        "itself": lab.rows(f"SELECT a.id, a.v, b.v FROM {name} a LEFT JOIN {name} b ON b.id = a.up ORDER BY a.id"),
        "line": lab.rows(f"SELECT c.id, c.v, p.v FROM {name}_line c JOIN {name} p ON p.id = c.owner ORDER BY 1"),
        "note": lab.rows(f"SELECT c.id, c.v, p.v FROM {name}_note c JOIN {name} p USING (id) ORDER BY 1"),
        "page": lab.rows(f"SELECT c.note, p.v FROM {name}_page c JOIN {name}_note p ON p.id = c.note ORDER BY 1"),
    }


@pytest.mark.rotating("new keys", 3)
@pytest.mark.long
def test_old_rows_come_back_under_new_numbers_with_what_refers_to_them(lab: Lab) -> None:
    """The newer rows keep theirs; a second time nothing comes back twice; the undo leaves the newer rows alone."""
    xid = damaged(lab, "renewed", made("renewed"), emptied("renewed"), since("renewed"))
    newer = rows(lab, "renewed")
    tools = lab.tools()
    foreseen = foresee(tools, plan_rescue(tools, xid, conflicts="new-keys", skip=(), queues=False))
    assert rows(lab, "renewed") == newer
    assert lab.rows("SELECT last_value FROM renewed_id_seq") == [(2,)]
    assert {each.table: each.renumbered for each in foreseen.tables if each.renumbered} == {"public.renewed": 2}
    assert any("2 rows would get new numbers" in note and "URLs" in note for note in foreseen.notes)
    assert [each.what for each in foreseen.left_out] == []
    told, compared = rescued(lab, xid)
    right = {
        "itself": [
            (1, "new 1", None), (2, "new 2", "new 1"), (3, "old 3", "old 2"), (9, "old 9", None),
            (10, "old 1", None), (11, "old 2", "old 1"),
        ],
        "line": [
            (1, "of old 1", "old 1"), (2, "of old 2", "old 2"), (3, "of old 3", "old 3"), (11, "of new 1", "new 1"),
        ],
        "note": [(1, "of new 1", "new 1"), (3, "of old 3", "old 3"), (10, "of old 1", "old 1")],
        "page": [(3, "of old 3"), (10, "of old 1")],
    }  # fmt: skip
    assert rows(lab, "renewed") == right
    assert told["left_out"] == []
    assert {each["table"]: each["renumbered"] for each in told["tables"] if "renumbered" in each} == {
        "public.renewed": 2
    }
    (note,) = (each for each in told["notes"] if "have new numbers" in each)
    assert "public.renewed: 2 rows" in note
    kept = Path(note.partition("old and new: ")[2].partition(")")[0])
    assert kept.read_text(encoding="utf-8").splitlines()[1:] == ["1\t10", "2\t11"]
    assert kept.stat().st_mode & 0o777 == 0o600
    assert any("without a foreign key" in each for each in told["notes"])
    assert "failed" not in compared
    assert [*compared["differs"], *compared["behind"], *compared["left_out"]] == []
    for conflicts in ("new-keys", "live"):
        again, compared = rescued(lab, xid, conflicts)
        assert rows(lab, "renewed") == right
        assert again["left_out"] == []
        assert compared["differs"] == []
    for _ in range(3):
        undone(lab)
    assert rows(lab, "renewed") == newer
    rescued(lab, xid)
    assert rows(lab, "renewed") == right  # the numbers that they had been given
    undone(lab)
    assert lab.rows("INSERT INTO renewed (v) VALUES ('newest') RETURNING id") == [(12,)]


ELSEWHERE = (
    "CREATE ROLE new_keys_owner;"
    "CREATE TABLE given (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant int DEFAULT 7, v text, mail text "
    "UNIQUE, UNIQUE (tenant, id));"
    "CREATE TABLE given_owned (id int PRIMARY KEY, owner bigint REFERENCES given, v text);"
    "CREATE TABLE given_null (id int PRIMARY KEY, owner bigint REFERENCES given ON DELETE SET NULL, v text);"
    "CREATE TABLE given_tenant (id int PRIMARY KEY, tenant int, owner bigint, "
    "FOREIGN KEY (tenant, owner) REFERENCES given (tenant, id));"
    "CREATE TABLE given_dropped (id int PRIMARY KEY, owner bigint REFERENCES given, v text);"
    "CREATE TABLE given_lost (id int PRIMARY KEY, v text, owner bigint REFERENCES given);"
    "CREATE TABLE given_loose (id int PRIMARY KEY, owner bigint);"
    "GRANT USAGE ON SCHEMA public TO new_keys_owner; GRANT SELECT, REFERENCES ON given TO new_keys_owner;"
    "ALTER TABLE given_owned OWNER TO new_keys_owner;"
    "CREATE TABLE given_left (id serial PRIMARY KEY, other int, v text);"
    "CREATE TABLE given_right (id int PRIMARY KEY, back int NOT NULL REFERENCES given_left, v text);"
    "ALTER TABLE given_left ADD FOREIGN KEY (other) REFERENCES given_right;"
    "INSERT INTO given (v, mail) VALUES ('old 1', 'a'), ('old 2', 'b'), ('old 3', 'c');"
    "INSERT INTO given_owned VALUES (1, 1, 'of old 1'), (3, 3, 'of old 3');"
    "INSERT INTO given_null VALUES (1, 1, 'of old 1'), (3, 3, 'of old 3');"
    "INSERT INTO given_tenant VALUES (1, 7, 1), (2, 7, 2), (3, 7, 3);"
    "INSERT INTO given_dropped VALUES (1, 1, 'of old 1');"
    "INSERT INTO given_lost VALUES (1, 'of old 1', 1), (3, 'of old 3', 3);"
    "INSERT INTO given_loose VALUES (1, 1);"
    "INSERT INTO given_left (v) VALUES ('old 1'), ('old 2');"
    "INSERT INTO given_right VALUES (1, 1, 'of old 1'); UPDATE given_left SET other = 1 WHERE id = 1"
)
ELSEWHERE_DAMAGE = (
    "DROP TABLE given_dropped; ALTER TABLE given_lost DROP COLUMN owner; DELETE FROM given_owned;"
    "DELETE FROM given_tenant; DELETE FROM given_loose; DELETE FROM given; ALTER SEQUENCE given_id_seq RESTART;"
    "TRUNCATE given_left, given_right RESTART IDENTITY"
)
ELSEWHERE_SINCE = (
    "INSERT INTO given (v, mail) VALUES ('new 1', 'b'), ('new 2', 'x'); INSERT INTO given_left (v) VALUES ('new 1')"
)


@pytest.mark.rotating("new keys", 3)
@pytest.mark.long
def test_new_numbers_are_followed_wherever_a_foreign_key_refers_to_the_old_ones(lab: Lab) -> None:
    """From another owner's table, in a circle, by several columns, in a lost column, and where it was set to NULL.

    A row whose unique value a newer one has stays away with what refers to it; what came back with its whole table is
    named; what no foreign key tells holds the old number.
    """
    xid = damaged(lab, "given", ELSEWHERE, ELSEWHERE_DAMAGE, ELSEWHERE_SINCE)
    told, compared = rescued(lab, xid)
    assert lab.rows("SELECT id, v FROM given ORDER BY 1") == [
        (1, "new 1"), (2, "new 2"), (3, "old 3"), (4, "old 1"),
    ]  # fmt: skip
    for name in ("owned", "null", "tenant", "lost"):
        assert lab.rows(f"SELECT id, owner FROM given_{name} ORDER BY 1") == [(1, 4), (3, 3)], name
    assert lab.rows("SELECT a.id, a.v, b.v FROM given_left a LEFT JOIN given_right b ON b.id = a.other ORDER BY 1") == [
        (1, "new 1", None), (2, "old 2", None), (3, "old 1", "of old 1"),
    ]  # fmt: skip
    assert lab.rows("SELECT id, back FROM given_right") == [(1, 3)]
    assert lab.rows("SELECT id, owner FROM given_dropped") == [(1, 1)]
    assert lab.rows("SELECT id, owner FROM given_loose") == [(1, 1)]
    left = sorted((each["what"].removeprefix("1 rows of table public."), each["seen"]) for each in told["left_out"])
    assert left == [("given", True), ("given_dropped", False), ("given_tenant", True)]
    assert "public.given_lost: 1 references follow them, in the rows that come back" in told["notes"]
    (dropped,) = (each for each in told["left_out"] if not each["seen"])
    assert "give those that mean an old row its new number" in dropped["reason"]
    assert lab.rows(dropped["sql"].rstrip(";")) == [(1, 1, "of old 1")]
    assert [(each["table"], each["missing"]) for each in compared["differs"]] == [
        ("public.given", 1),
        ("public.given_tenant", 1),
    ]
    undone(lab)
    assert lab.rows("SELECT id, v FROM given ORDER BY 1") == [(1, "new 1"), (2, "new 2")]
    assert lab.rows("SELECT id, owner FROM given_null ORDER BY 1") == [(1, None), (3, None)]
    assert lab.rows("SELECT v FROM given_left") == [("new 1",)]


@pytest.mark.rotating("new keys", 3)
@pytest.mark.long
def test_where_no_new_number_can_be_given_the_rows_stay_away_with_the_reason(lab: Lab) -> None:
    """Keys of several columns, a sequence that is used up or begins anew, and a column that refers to two tables."""
    names = {
        "pair": "tenant int DEFAULT 7, id serial, v text, PRIMARY KEY (tenant, id)",
        "shared": "id int PRIMARY KEY DEFAULT nextval('refused_numbers'), v text",
        "full": "id smallint GENERATED ALWAYS AS IDENTITY (MAXVALUE 3) PRIMARY KEY, v text",
        "round": "id int GENERATED ALWAYS AS IDENTITY (CYCLE) PRIMARY KEY, v text",
        "one": "id serial PRIMARY KEY, v text",
        "two": "id serial PRIMARY KEY, v text",
        "right": "id serial PRIMARY KEY, v text",
    }
    tables = "".join(f"CREATE TABLE refused_{name} ({columns});" for name, columns in names.items())
    old = "".join(f"INSERT INTO refused_{name} (v) VALUES ('old 1'), ('old 2');" for name in names)
    new = "".join(f"INSERT INTO refused_{name} (v) VALUES ('new 1'), ('new 2');" for name in names)
    both = (
        "CREATE TABLE refused_of_both (id int PRIMARY KEY REFERENCES refused_one REFERENCES refused_two);"
        "CREATE TABLE refused_skipped (id int PRIMARY KEY, owner int REFERENCES refused_right)"
    )
    lines = "INSERT INTO refused_of_both VALUES (1); INSERT INTO refused_skipped VALUES (1, 1)"
    made = f"CREATE SEQUENCE refused_numbers; {tables} {both}; {old} {lines}"
    every = ", ".join(f"refused_{name}" for name in (*names, "of_both", "skipped"))
    damage = f"TRUNCATE {every} RESTART IDENTITY; ALTER SEQUENCE refused_numbers RESTART"
    xid = damaged(lab, "refused", made, damage, new)
    tools = lab.tools()
    plan = plan_rescue(tools, xid, conflicts="new-keys", skip=("public.refused_skipped",), queues=False)
    foreseen = foresee(tools, plan)
    run = lab.run(plan, tools)
    told: Any = lab.journal.result(run.id, "db_rescue")
    reasons = {
        "pair": "its key has several columns",
        "full": "its sequence has too few numbers left",
        "round": "its sequence begins anew at its end (CYCLE)",
        "one": "a column refers to the keys of several such tables",
        "two": "a column refers to the keys of several such tables",
    }
    for left_out in (told["left_out"], [{"what": each.what, "reason": each.reason} for each in foreseen.left_out]):
        said = {each["what"]: each["reason"].partition("new ones: ")[2] for each in left_out}
        assert {
            f"2 rows of table public.refused_{name}": why for name, why in reasons.items()
        } == {what: why for what, why in said.items() if why}  # fmt: skip
    for name in reasons:
        assert lab.rows(f"SELECT v FROM refused_{name} ORDER BY 1") == [("new 1",), ("new 2",)]
    assert lab.rows("SELECT id, v FROM refused_right ORDER BY 1")[2:] == [(3, "old 1"), (4, "old 2")]
    by_hand = "public.refused_skipped.owner: rows of this table that you bring back by hand hold the old numbers there"
    assert by_hand in told["notes"]
    assert by_hand in foreseen.notes
    assert lab.rows("SELECT FROM refused_of_both") == lab.rows("SELECT FROM refused_skipped") == []
    undone(lab)


BROKEN = {
    "swaps the numbers of rows": ("id", {"wrong": 2, "missing": 0}),
    "lets references lead to another row": ("owner", {"wrong": 2, "missing": 0}),
    "forgets a row": ("", {"wrong": 0, "missing": 1}),
}


@pytest.mark.parametrize(
    "case", [next(iter(BROKEN)), *(pytest.param(each, marks=pytest.mark.long) for each in [*BROKEN][1:])]
)
def test_what_the_renumbering_gets_wrong_is_found(lab: Lab, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the second check: the rescue's own sees rows under the numbers that it gave."""
    name = f"broken_{[*BROKEN].index(case)}"
    column, differs = BROKEN[case]
    real = renumbering.replace_numbers

    def replace(live: Any, there: str, columns: Any, which: Any = None) -> int:
        if case == "forgets a row":
            live.execute(f"DELETE FROM {there} WHERE v = 'of old 2'".encode())
        if column in columns and (column != "id" or "up" not in columns):
            numbers = columns[column]
            columns = {**columns, column: dict(zip(numbers, [*numbers.values()][::-1], strict=True))}
        return real(live, there, columns, which)

    monkeypatch.setattr(renumbering, "replace_numbers", replace)
    xid = damaged(
        lab,
        name,
        f"CREATE TABLE {name} (id serial PRIMARY KEY, v text);"
        f"CREATE TABLE {name}_line (id int PRIMARY KEY, owner int REFERENCES {name}, v text);"
        f"INSERT INTO {name} (v) VALUES ('old 1'), ('old 2');"
        f"INSERT INTO {name}_line VALUES (1, 1, 'of old 1'), (2, 2, 'of old 2')",
        f"TRUNCATE {name}, {name}_line RESTART IDENTITY",
        f"INSERT INTO {name} (v) VALUES ('new 1'), ('new 2')",
    )
    _, compared = rescued(lab, xid)
    (table,) = compared["differs"]
    assert table["table"] == f"public.{name}{'' if column == 'id' else '_line'}"
    assert {kind: table[kind] for kind in differs} == differs
    assert table["examples"]


@pytest.mark.rotating("new keys", 3)
@pytest.mark.long
@pytest.mark.parametrize("held", ["its own rows", "what refers to them"])
def test_a_kill_in_between_ends_with_the_same_numbers(lab: Lab, held: str) -> None:
    """Kill -9 when the numbers are kept and nothing is written, and when the rows are and their lines are not."""
    name = "killed" if held == "its own rows" else "killed_later"
    lab.journal = SqliteJournal(lab.root / "journal.sqlite", SystemClock(), stop=StopRequest())  # the process's own
    xid = damaged(lab, name, made(name), emptied(name), since(name))
    newer, tools = rows(lab, name), lab.tools()
    run = lab.journal.submit(
        plan_rescue(tools, xid, conflicts="new-keys", skip=(), queues=False), actor="test", reason="a kill"
    )
    known = set(tools.kept.glob("*/renumbered-*.tsv"))
    given = lambda: set(tools.kept.glob("*/renumbered-*.tsv")) - known  # noqa: E731
    with lab.connect() as holder, holder.transaction():
        holder.execute(f"LOCK TABLE {name if held == 'its own rows' else name + '_line'} IN SHARE MODE".encode())
        argv = (sys.executable, str(SCRIPT), str(lab.root), str(lab.sockets), str(lab.port), run, "10000000")
        paths = os.pathsep.join((str(SCRIPT.parent), *sys.path))
        process: Any = subprocess.Popen(argv, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": paths})
        try:
            there = 0 if held == "its own rows" else 6
            until(
                lambda: given() and len(rows(lab, name)["itself"]) >= there,
                timeout_s=PATIENCE_S,
                what="it is under way",
            )
        finally:
            process.kill()
            process.wait(timeout=PATIENCE_S)
    (path,) = given()
    numbers = path.read_text(encoding="utf-8").splitlines()[1:]
    lab.journal.drive(run, make_actions(tools), actor="test")
    assert path.read_text(encoding="utf-8").splitlines()[1:] == numbers
    assert [row[:2] for row in rows(lab, name)["itself"]][-2:] == [
        (int(number.partition("\t")[2]), f"old {place}") for place, number in enumerate(numbers, start=1)
    ]
    assert len(rows(lab, name)["line"]) == 4
    compared: Any = lab.journal.result(run, "db_compare")
    assert "failed" not in compared
    assert compared["differs"] == []
    undone(lab)
    assert rows(lab, name) == newer


@pytest.mark.rotating("new keys", 3)
@pytest.mark.long
def test_of_a_large_table_the_second_check_knows_the_new_numbers(lab: Lab) -> None:
    """It reads the rows that the damage and the rescue wrote alone; one of the newer rows is changed meanwhile."""
    xid = damaged(
        lab,
        "wide",
        "CREATE TABLE wide (id serial PRIMARY KEY, v text) WITH (fillfactor = 10);"
        "INSERT INTO wide (v) SELECT repeat('x', 80) || g FROM generate_series(1, 12000) g",
        "DELETE FROM wide WHERE id <= 50; ALTER SEQUENCE wide_id_seq RESTART",
        "INSERT INTO wide (v) SELECT 'new ' || g FROM generate_series(1, 20) g",
    )
    told, compared = rescued(lab, xid)
    (table,) = (each for each in told["tables"] if each["table"] == "public.wide")
    assert (table["inserted"], table["renumbered"], told["left_out"]) == (50, 20, [])
    assert lab.rows("SELECT count(*), min(id), max(id) FROM wide WHERE id > 12000") == [(20, 12001, 12020)]
    assert lab.rows("SELECT count(*), min(id), max(id) FROM wide WHERE v LIKE 'new %'") == [(20, 1, 20)]
    assert compared["differs"] == []
    assert compared["unread"] >= 11_950
    with lab.connect() as connection:
        connection.execute("UPDATE wide SET v = 'changed' WHERE id = 12003")
    undone(lab)
    assert lab.rows("SELECT id, v FROM wide WHERE id > 12000") == [(12003, "changed")]
    rescued(lab, xid)
    assert lab.rows("SELECT count(*) FROM wide WHERE id > 12000") == [(20,)]  # the one that stayed comes back only once
    assert lab.rows("SELECT count(*) FROM wide WHERE v IN (repeat('x', 80) || 3, 'changed')") == [(1,)]


@pytest.mark.rotating("new keys", 3)
@pytest.mark.long
def test_rows_of_several_transactions_get_new_numbers_together(lab: Lab) -> None:
    """A good transaction wrote one of them in between: it comes back as that left it, under its new number."""
    with lab.connect() as connection:
        connection.execute(
            "CREATE TABLE many (id serial PRIMARY KEY, v text, w text); CREATE TABLE many_line (id int PRIMARY KEY, "
            "owner int REFERENCES many); INSERT INTO many (v, w) VALUES ('old 1', 'a'), ('old 2', 'a'), ('old 3', 'a');"
            "INSERT INTO many_line VALUES (1, 1), (2, 2)"
        )
        lab.base("many")
        xids = []
        for damage in (
            "UPDATE many SET v = 'bad'",
            "DELETE FROM many_line; DELETE FROM many; ALTER SEQUENCE many_id_seq RESTART",
        ):
            with connection.transaction():
                row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
                connection.execute(damage.encode())
            assert row is not None
            xids.append(str(row[0]))
            if len(xids) == 1:
                connection.execute("UPDATE many SET w = 'good' WHERE id = 1")
        connection.execute("INSERT INTO many (v) VALUES ('new 1')")
    lab.archived()
    told, compared = rescued(lab, ", ".join(xids))
    assert lab.rows("SELECT id, v, w FROM many ORDER BY 1") == [
        (1, "new 1", None), (2, "old 2", "a"), (3, "old 3", "a"), (4, "old 1", "good"),
    ]  # fmt: skip
    assert lab.rows("SELECT id, owner FROM many_line ORDER BY 1") == [(1, 4), (2, 2)]
    assert told["left_out"] == []
    assert "failed" not in compared
    assert compared["differs"] == []
    undone(lab)
    assert lab.rows("SELECT id, v FROM many") == [(1, "new 1")]
    rescued(lab, xids[1])
    alone = lab.rows("SELECT id, v FROM many ORDER BY 1")
    assert alone == [(1, "new 1"), (2, "bad"), (3, "bad"), (5, "bad")]
    told, _ = rescued(lab, ", ".join(xids))
    assert lab.rows("SELECT id FROM many ORDER BY 1") == [(1,), (2,), (3,), (5,)]  # none a second time
    reason = "a rescue of another choice among these transactions gave them some"
    assert [each["what"] for each in told["left_out"] if reason in each["reason"]] == ["1 rows of table public.many"]


@pytest.mark.rotating("new keys", 3)
@pytest.mark.long
def test_what_a_rescue_without_it_left_away_comes_back_with_it(lab: Lab) -> None:
    """The first one names the way; the undo of the second leaves what the first brought back."""
    xid = damaged(lab, "twice", made("twice"), emptied("twice"), since("twice"))
    told, _ = rescued(lab, xid, "live")
    assert any("--conflicts new-keys" in each["sql"] for each in told["left_out"])
    between = rows(lab, "twice")
    assert [row[:2] for row in between["itself"]] == [(1, "new 1"), (2, "new 2"), (9, "old 9")]
    told, compared = rescued(lab, xid)
    assert told["left_out"] == []
    assert compared["differs"] == []
    assert rows(lab, "twice") == {
        "itself": [
            (1, "new 1", None), (2, "new 2", "new 1"), (3, "old 3", "old 2"), (9, "old 9", None),
            (10, "old 1", None), (11, "old 2", "old 1"),
        ],
        "line": [
            (1, "of old 1", "old 1"), (2, "of old 2", "old 2"), (3, "of old 3", "old 3"), (11, "of new 1", "new 1"),
        ],
        "note": [(1, "of new 1", "new 1"), (3, "of old 3", "old 3"), (10, "of old 1", "old 1")],
        "page": [(3, "of old 3"), (10, "of old 1")],
    }  # fmt: skip
    undone(lab)
    assert rows(lab, "twice") == between


@pytest.mark.rotating("new keys", 3)
@pytest.mark.long
def test_names_that_have_to_be_quoted_are_no_obstacle(lab: Lab) -> None:
    """Quotes, percent signs and a line end in names of tables and columns; numbers that fall; and a negative one."""
    table, line = '"o\'d""d %s\n"', '"of o\'d""d %s"'
    made = (
        f'CREATE TABLE {table} ("i""d %s" int GENERATED BY DEFAULT AS IDENTITY (INCREMENT -1) PRIMARY KEY, "v%" text);'
        f'CREATE TABLE {line} (id int PRIMARY KEY, "o%s" int REFERENCES {table});'
        f"INSERT INTO {table} (\"v%\") VALUES ('old 1'), ('old 2'); INSERT INTO {line} VALUES (1, -1), (2, -2)"
    )
    newer = f"INSERT INTO {table} (\"v%\") VALUES ('new 1')"
    xid = damaged(lab, "quoted", made, f"TRUNCATE {table}, {line} RESTART IDENTITY", newer)
    told, compared = rescued(lab, xid)
    assert lab.rows(f"SELECT * FROM {table} ORDER BY 1") == [(-3, "old 1"), (-2, "old 2"), (-1, "new 1")]
    assert lab.rows(f"SELECT * FROM {line} ORDER BY 1") == [(1, -3), (2, -2)]
    assert told["left_out"] == []
    assert compared["differs"] == []
    undone(lab)
    assert lab.rows(f"SELECT * FROM {table} ORDER BY 1") == [(-1, "new 1")]
