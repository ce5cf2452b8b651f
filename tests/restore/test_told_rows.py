"""What a rescue tells to be typed for rows that it leaves alone: typed as it stands there, they are as before."""

# ruff: noqa: S608 - the names are ours

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
from kept import template
from recovery_lab import Lab, opened
from rescue_lab import damaged, type_told

from backout.journal.sqlite import SqliteJournal
from backout.journal.stop import StopRequest
from backout.providers.clock import SystemClock
from backout.runbook.recovery.restore import plan_rescue

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("told"), template()) as made:
        with made.connect() as connection:
            connection.execute("CREATE ROLE keeper LOGIN; GRANT CREATE ON DATABASE postgres TO keeper")
        yield made


@pytest.fixture(autouse=True)
def _own_journal(lab: Lab, tmp_path: Path) -> None:
    lab.journal = SqliteJournal(tmp_path / "journal.sqlite", SystemClock(), stop=StopRequest())


def left_out(lab: Lab, xid: str, skip: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Rescue, and return what is left out, by what it is."""
    tools = lab.tools()
    run = lab.run(plan_rescue(tools, xid, conflicts="live", skip=skip, queues=False), tools)
    told: Any = lab.journal.result(run.id, "db_rescue")
    return {str(each["what"]): each for each in told["left_out"]}


FORCED: Final = """
CREATE SCHEMA shut AUTHORIZATION keeper; SET ROLE keeper; SET search_path = shut;
CREATE TABLE tenants (id int PRIMARY KEY, v text, at text DEFAULT 'at first', doubled int GENERATED ALWAYS AS (id * 2)
  STORED);
CREATE TABLE uses (id int PRIMARY KEY, tenant int REFERENCES tenants ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.at := 'stamped'; RETURN NEW; END $$;
INSERT INTO tenants SELECT g, 'good' FROM generate_series(1, 9) g;
INSERT INTO uses SELECT g, g FROM generate_series(1, 9) g;
CREATE TRIGGER stamped BEFORE INSERT OR UPDATE ON tenants FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE TRIGGER idle BEFORE INSERT OR UPDATE ON tenants FOR EACH ROW EXECUTE FUNCTION stamp();
ALTER TABLE tenants DISABLE TRIGGER idle;
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY none ON tenants USING (false);
RESET ROLE
"""
FORCED_DAMAGE: Final = (
    "UPDATE shut.tenants SET v = 'bad' WHERE id <= 5; DELETE FROM shut.tenants WHERE id IN (8, 9);"
    "INSERT INTO shut.tenants VALUES (20, 'bad'), (21, 'bad'), (22, 'bad')"
)
FORCED_SINCE: Final = (
    "UPDATE shut.tenants SET v = 'newer' WHERE id = 2; DELETE FROM shut.tenants WHERE id = 22;"
    "INSERT INTO shut.tenants VALUES (30, 'newer'); INSERT INTO shut.uses VALUES (21, 21)"
)


def test_rows_behind_row_security_are_as_before_once_it_is_typed(lab: Lab, tmp_path: Path) -> None:
    """Changed, removed and added ones, past a trigger; what others wrote, or refer to, stays; nothing stays lifted."""
    xid = damaged(lab, "shut", FORCED, FORCED_DAMAGE, FORCED_SINCE)
    told = left_out(lab, xid)["table shut.tenants"]
    assert "row security holds for its owner too" in told["reason"]
    type_told(lab, xid, [told["sql"]], tmp_path, user="keeper")
    rows = lab.rows("SELECT id, v, at, doubled FROM shut.tenants ORDER BY 1")
    good = [(n, "good", "at first", 2 * n) for n in (1, 3, 4, 5, 6, 7, 8, 9)]
    assert [row for row in rows if row[1] == "good"] == good
    assert [row[:2] for row in rows if row[1] != "good"] == [(2, "newer"), (21, "bad"), (30, "newer")]
    query = "SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = 'shut.tenants'::regclass"
    assert lab.rows(query) == [(True, True)]
    query = (
        "SELECT tgname, tgenabled::text FROM pg_trigger WHERE NOT tgisinternal AND tgrelid = 'shut.tenants'::regclass"
    )
    assert sorted(lab.rows(query)) == [("idle", "D"), ("stamped", "O")]


KINDS: Final = """
CREATE SCHEMA kinds; SET search_path = kinds;
CREATE TABLE jobs (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "V it's" text);
INSERT INTO jobs ("V it's") SELECT 'good' || g FROM generate_series(1, 9) g;
CREATE TABLE late (a int, b text, v numeric, PRIMARY KEY (a, b) DEFERRABLE INITIALLY DEFERRED);
INSERT INTO late SELECT g, 'x', 1.10 FROM generate_series(1, 9) g;
CREATE TABLE moved (id int PRIMARY KEY, mail text UNIQUE);
INSERT INTO moved SELECT g, 'm' || g FROM generate_series(1, 9) g;
CREATE TABLE lost (id int PRIMARY KEY, v text, gone text NOT NULL DEFAULT 'd', whole int);
INSERT INTO lost SELECT g, 'good', 'was' || g, g FROM generate_series(1, 9) g;
CREATE TABLE bare (j json, p point, v text);
INSERT INTO bare VALUES ('{"a": 1}', '(1,2)', 'x'), ('{"a": 1}', '(1,2)', 'x');
INSERT INTO bare VALUES (NULL, NULL, ''), (NULL, NULL, NULL), ('[1]', '(3,4)', E'tab\\tb');
CREATE TABLE only_key (id int PRIMARY KEY); INSERT INTO only_key VALUES (1), (2);
CREATE TABLE parted (id int, r text, v text, PRIMARY KEY (id, r)) PARTITION BY LIST (r);
CREATE TABLE parted_a PARTITION OF parted FOR VALUES IN ('a');
INSERT INTO parted SELECT g, 'a', 'good' FROM generate_series(1, 5) g
"""
NAMES: Final = ("jobs", "late", "moved", "lost", "bare", "only_key", "parted_a")
SKIPPED: Final = ("kinds.late", "kinds.moved", "kinds.lost", "kinds.only_key", "kinds.parted_a")
KINDS_DAMAGE: Final = """
SET LOCAL search_path = kinds;
UPDATE jobs SET "V it's" = 'bad'; DELETE FROM jobs WHERE id > 7; INSERT INTO jobs ("V it's") VALUES ('bad');
UPDATE late SET v = 2 WHERE a < 5; DELETE FROM late WHERE a > 7; INSERT INTO late VALUES (20, 'y', 3);
UPDATE moved SET id = id + 100 WHERE id < 5;
ALTER TABLE lost DROP COLUMN gone; UPDATE lost SET v = 'bad' WHERE id < 4; DELETE FROM lost WHERE id = 9;
UPDATE bare SET v = 'bad' WHERE v = 'x'; DELETE FROM bare WHERE v IS NULL; INSERT INTO bare (v) VALUES ('bad');
DELETE FROM only_key WHERE id = 1; INSERT INTO only_key VALUES (3); UPDATE parted SET v = 'bad'
"""


@pytest.mark.long
def test_rows_of_tables_that_are_left_alone_are_as_before_once_it_is_typed(lab: Lab, tmp_path: Path) -> None:
    """A queue with an identity; keys that are deferrable, moved, or all there is; a lost column; no key at all."""

    def read() -> dict[str, list[Any]]:
        return {
            name: [str(text) for (text,) in lab.rows(f"SELECT to_jsonb(t)::text FROM kinds.{name} t ORDER BY 1")]
            for name in NAMES
        }

    before: dict[str, list[Any]] = {}
    with lab.connect() as connection:
        connection.execute(KINDS.encode())
        before = read()
    xid = damaged(lab, "kinds", "SELECT 1", KINDS_DAMAGE)
    assert all(rows != before[name] for name, rows in read().items())
    told = left_out(lab, xid, SKIPPED)
    assert {f"table kinds.{name}" for name in NAMES} <= set(told)
    type_told(lab, xid, [told[f"table kinds.{name}"]["sql"] for name in NAMES], tmp_path)
    assert read() == before
    query = "SELECT attnotnull FROM pg_attribute WHERE attrelid = 'kinds.lost'::regclass AND attname = 'gone'"
    assert lab.rows(query) == [(True,)]


@pytest.mark.long
def test_a_table_that_somebody_dropped_since_is_there_with_its_rows_once_it_is_typed(lab: Lab, tmp_path: Path) -> None:
    """With its key, its sequence and its owner; its names have a blank, a quote, an apostrophe and a dollar."""
    table = """ "Gone by"."Ta""b'le $x" """.strip()
    made = (
        f'CREATE SCHEMA "Gone by"; GRANT ALL ON SCHEMA "Gone by" TO keeper; CREATE TABLE {table} '
        f"(id serial PRIMARY KEY, v text); INSERT INTO {table} (v) VALUES ('good'), ('good'); "
        f"ALTER TABLE {table} OWNER TO keeper"
    )
    xid = damaged(lab, "goneby", made, f"UPDATE {table} SET v = 'bad'", f"DROP TABLE {table}")
    (told,) = (each for what, each in left_out(lab, xid).items() if what.startswith("table Gone by."))
    assert told["reason"] == "the table no longer exists"
    type_told(lab, xid, [told["sql"]], tmp_path)
    assert lab.rows(f"INSERT INTO {table} (v) VALUES ('new') RETURNING id") == [(3,)]
    assert lab.rows(f"SELECT id, v FROM {table} ORDER BY 1") == [(1, "good"), (2, "good"), (3, "new")]
    assert lab.rows("SELECT tableowner FROM pg_tables WHERE schemaname = 'Gone by'") == [("keeper",)]


@pytest.mark.rotating("restores", 3)
@pytest.mark.long
def test_rows_that_something_is_in_the_way_of_are_shown_and_then_come_back(lab: Lab, tmp_path: Path) -> None:
    """A unique value that is taken, for one that was deleted and one that was changed; then the same rescue again."""
    made = (
        "CREATE SCHEMA way; CREATE TABLE way.mails (id int PRIMARY KEY, mail text UNIQUE);"
        "INSERT INTO way.mails SELECT g, 'm' || g FROM generate_series(1, 9) g"
    )
    damage = "DELETE FROM way.mails WHERE id = 1; UPDATE way.mails SET mail = 'bad' || id WHERE id IN (2, 3)"
    xid = damaged(lab, "way", made, damage, "INSERT INTO way.mails VALUES (11, 'm1'), (12, 'm2')")
    told = left_out(lab, xid)["2 rows of table way.mails"]
    _, shown = type_told(lab, xid, [told["sql"]], tmp_path)
    assert [line.split() for line in shown.splitlines() if "|" in line][1:] == [["1", "|", "m1"], ["2", "|", "m2"]]
    with lab.connect() as connection:
        connection.execute("DELETE FROM way.mails WHERE id > 10")
    assert "2 rows of table way.mails" not in left_out(lab, xid)
    assert lab.rows("SELECT id, mail FROM way.mails ORDER BY 1") == [(n, f"m{n}") for n in range(1, 10)]


@pytest.mark.long
def test_old_rows_whose_numbers_are_taken_get_new_ones_once_it_is_typed(lab: Lab, tmp_path: Path) -> None:
    """The second of the two ways that are told, with a column that was renamed since."""
    made = (
        "CREATE SCHEMA again; CREATE TABLE again.counted (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text);"
        "INSERT INTO again.counted (v) VALUES ('a'), ('b'), ('c')"
    )
    since = """INSERT INTO again.counted (v) VALUES ('new'); ALTER TABLE again.counted RENAME v TO "named V\""""
    xid = damaged(lab, "again", made, "TRUNCATE again.counted RESTART IDENTITY", since)
    told = left_out(lab, xid)["1 rows of table again.counted"]
    _, way, second = told["sql"].partition("-- Or")
    type_told(lab, xid, [way + second], tmp_path)
    rows = [(1, "new"), (2, "b"), (3, "c"), (4, "a")]
    assert lab.rows("SELECT * FROM again.counted ORDER BY id") == rows


@pytest.mark.long
def test_what_good_transactions_made_between_bad_ones_is_shown_and_never_removed(lab: Lab, tmp_path: Path) -> None:
    """A row that a good one made and a bad one changed looks as if the damage had made it."""
    with lab.connect() as connection:
        connection.execute("CREATE SCHEMA mixed; CREATE TABLE mixed.seen (id int PRIMARY KEY, v text)")
        connection.execute("CREATE TABLE mixed.bare (v text); INSERT INTO mixed.bare VALUES ('good')")
        connection.execute("INSERT INTO mixed.seen VALUES (1, 'good'), (2, 'good')")
        lab.base("mixed")
        xids = []
        worst = "UPDATE mixed.seen SET v = 'bad'"
        for damage in (f"{worst}; DELETE FROM mixed.bare", f"{worst} WHERE id = 50"):
            with connection.transaction():
                row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
                connection.execute(damage.encode())
            assert row is not None
            xids.append(str(row[0]))
            connection.execute("INSERT INTO mixed.seen VALUES (50, 'theirs') ON CONFLICT DO NOTHING")
    lab.archived()
    told = left_out(lab, " ".join(xids), ("mixed.seen",))
    texts = [told[f"table mixed.{name}"]["sql"] for name in ("seen", "bare")]
    _, shown, *_ = type_told(lab, xids[0], texts, tmp_path)
    assert [line.split() for line in shown.splitlines() if "|" in line][1:] == [["50", "|", "bad"]]
    assert lab.rows("SELECT id, v FROM mixed.seen ORDER BY 1") == [(1, "good"), (2, "good"), (50, "bad")]
    assert lab.rows("SELECT v FROM mixed.bare") == [("good",)]


@pytest.mark.long
def test_a_name_that_would_be_a_command_of_psqls_own_is_not_told_to_be_typed(lab: Lab) -> None:
    """What stands behind a line's end in a name would be typed into psql: there is no text for such a table."""
    name = 'odd."a\n\\! touch pwned\n"'
    made = f"CREATE SCHEMA odd; CREATE TABLE {name} (v text); INSERT INTO {name} VALUES ('good')"
    xid = damaged(lab, "odd", made, f"DELETE FROM {name}")
    (told,) = (each for what, each in left_out(lab, xid).items() if what.startswith("table odd."))
    assert (told["reason"], told["sql"]) == ("it has no primary key", "")
