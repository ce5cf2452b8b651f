"""Definitions come back as they were, and an undo takes exactly them away: rows and pg_dump's own text are compared."""

# ruff: noqa: S608 - the names are ours

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import pytest
from kept import template
from recovery_lab import Lab, opened
from rescue_lab import type_told

from backout.journal.sqlite import SqliteJournal
from backout.journal.stop import StopRequest
from backout.providers.clock import SystemClock
from backout.providers.postgres.server.template import run_tool
from backout.runbook.recovery.restore import plan_rescue, plan_undo
from backout.runbook.recovery.restoring import foresee

from extent import long

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backout.model.database.rescue import RescueReport

pytestmark = pytest.mark.rotating("restores", 5)

LONG: Final = "x" * 61


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("definitions"), template()) as made:
        yield made


@pytest.fixture(autouse=True)
def _own_journal(lab: Lab, tmp_path: Path) -> None:
    lab.journal = SqliteJournal(tmp_path / "journal.sqlite", SystemClock(), stop=StopRequest())


class Damaged:
    """A schema of its own that was damaged in one transaction, and what pg_dump and its rows said before and after."""

    def __init__(self, lab: Lab, name: str, made: str, damage: str, since: str = "") -> None:
        self.lab, self.name = lab, name
        with lab.connect() as connection:
            connection.execute(f"CREATE SCHEMA {name}; SET search_path = {name}")  # type: ignore[call-overload]
            connection.execute(made.encode())
            lab.base(name)
            self.before = self.state()
            with connection.transaction():
                row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
                connection.execute(damage.encode())
            if since:
                connection.execute(since.encode())
        self.damaged = self.state()
        lab.archived()
        assert row is not None
        self.xid = str(row[0])

    def state(self) -> tuple[list[str], dict[str, list[Any]]]:
        """Return each line of pg_dump's text (columns may stand in another order), and the rows of each table."""
        told = run_tool(self.lab.binaries, "pg_dump", "-d", self.lab.dsn, "--schema-only")
        lines = [re.sub(r",$", "", line) for line in told.splitlines() if not line.startswith(("\\", "--"))]
        tables = self.lab.rows(
            f"SELECT c.relname, string_agg(quote_ident(attname), ', ' ORDER BY attname) FROM pg_class c "
            f"JOIN pg_attribute a ON a.attrelid = c.oid AND attnum > 0 AND NOT attisdropped "
            f"WHERE relkind = 'r' AND relnamespace = to_regnamespace('{self.name}') GROUP BY 1"
        )
        rows = {
            name: self.lab.rows(f'SELECT ROW({columns})::text FROM ONLY {self.name}."{name}" ORDER BY 1')
            for name, columns in tables
        }
        return sorted(lines), rows

    def differs(self, wanted: tuple[list[str], dict[str, list[Any]]]) -> list[str]:
        """Return what the database has and should not, and what it lacks."""
        (lines, rows), (wanted_lines, wanted_rows) = self.state(), wanted
        ends = [Counter(lines) + Counter({f"{k}{v}": 1 for k, v in r.items()}) for lines, r in ((lines, rows), wanted)]
        assert wanted_lines
        assert wanted_rows
        return [f"+ {each}" for each in ends[0] - ends[1]] + [f"- {each}" for each in ends[1] - ends[0]]

    def foresee(self) -> RescueReport:
        tools = self.lab.tools()
        return foresee(tools, plan_rescue(tools, self.xid, conflicts="live", skip=(), queues=False))

    def rescue(self) -> dict[str, Any]:
        tools = self.lab.tools()
        run = self.lab.run(plan_rescue(tools, self.xid, conflicts="live", skip=(), queues=False), tools)
        told = self.lab.journal.result(run.id, "db_rescue")
        assert isinstance(told, dict)
        return told

    def undo(self) -> dict[str, Any]:
        tools = self.lab.tools()
        run = self.lab.run(plan_undo(tools), tools)
        told = self.lab.journal.result(run.id, "db_undo_rescue")
        assert isinstance(told, dict)
        return told


COLUMNS: Final = (
    "CREATE TABLE plain (id int PRIMARY KEY, made timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP, "
    "kind text COLLATE \"C\" NOT NULL DEFAULT 'new', size bigint DEFAULT 0, code uuid DEFAULT gen_random_uuid());"
    "ALTER TABLE plain ALTER kind SET STATISTICS 77, ALTER kind SET STORAGE EXTERNAL, ALTER size SET (n_distinct = 9);"
    f'CREATE TABLE "{LONG}yz" ("{LONG}ky" int PRIMARY KEY, "{LONG}v1" text, "{LONG}v2" text NOT NULL);'
    "CREATE TABLE parent (id int PRIMARY KEY, note text DEFAULT 'x', more int); CREATE TABLE heir () INHERITS (parent);"
    "ALTER TABLE heir ADD PRIMARY KEY (id);"
    "CREATE TABLE parted (id int PRIMARY KEY, note text NOT NULL, n int) PARTITION BY RANGE (id);"
    "CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (50);"
    "CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (50) TO (500);"
    "INSERT INTO plain SELECT g, timestamptz '2020-01-01' + g * interval '1 day', 'k' || g, g "
    "FROM generate_series(1, 20) g;"
    f"INSERT INTO \"{LONG}yz\" SELECT g, 'a' || g, 'b' || g FROM generate_series(1, 20) g;"
    "INSERT INTO parent SELECT g, 'p' || g, g FROM generate_series(1, 20) g;"
    "INSERT INTO heir SELECT g, 'h' || g, g FROM generate_series(31, 50) g;"
    "INSERT INTO parted SELECT g, 'n' || g, g FROM generate_series(1, 90) g;"
)
NO_COLUMNS: Final = (
    "ALTER TABLE plain DROP made, DROP kind, DROP size, DROP code; ALTER TABLE parent DROP note; "
    f'UPDATE "{LONG}yz" SET "{LONG}v1" = \'bad\'; ALTER TABLE "{LONG}yz" DROP "{LONG}v2"; '
    "ALTER TABLE parted DROP note; UPDATE parted SET n = 0 WHERE id IN (7, 70)"
)


@pytest.mark.long
def test_columns_come_back_as_they_were_and_go_again(lab: Lab) -> None:
    """Values, not the time of the rescue; NOT NULL, collation, statistics; of partitions, heirs, and of long names."""
    case = Damaged(lab, "columns", COLUMNS, NO_COLUMNS)
    told = case.rescue()
    assert case.differs(case.before) == []
    assert told["left_out"] == []
    assert {each["conflicts"] for each in told["tables"]} == {0}
    undone = case.undo()
    assert case.differs(case.damaged) == []
    assert [each["left"] for each in undone["tables"] if each["left"]] == []


HEIRS: Final = (
    "CREATE TABLE above (id int PRIMARY KEY, v text); CREATE TABLE beside (id int PRIMARY KEY, v text);"
    "CREATE TABLE pure (PRIMARY KEY (id)) INHERITS (above); CREATE TABLE owning (PRIMARY KEY (id), v text) "
    "INHERITS (above); CREATE TABLE below (PRIMARY KEY (id)) INHERITS (owning);"
    "CREATE TABLE mixed (PRIMARY KEY (id)) INHERITS (above, beside);"
    "CREATE TABLE twice (PRIMARY KEY (id)) INHERITS (above, pure);"
    "INSERT INTO above SELECT g, 'above' FROM generate_series(1, 5) g;"
    "INSERT INTO pure SELECT g, 'pure' FROM generate_series(11, 15) g;"
    "INSERT INTO owning SELECT g, 'owning' FROM generate_series(21, 25) g;"
    "INSERT INTO below SELECT g, 'below' FROM generate_series(31, 35) g;"
    "INSERT INTO mixed SELECT g, 'mixed' FROM generate_series(41, 45) g;"
    "INSERT INTO twice SELECT g, 'twice' FROM generate_series(51, 55) g;"
    "CREATE FUNCTION said() RETURNS int LANGUAGE sql AS 'SELECT 1'"
)


NO_HEIRS: Final = "UPDATE ONLY owning SET v = 'bad'; ALTER TABLE above DROP v; DROP FUNCTION said()"


@pytest.mark.long
def test_an_undo_counts_no_values_of_heirs_that_keep_a_column_of_their_own(lab: Lab) -> None:
    """A parent's column goes from heirs that have it from there alone; what others hold in theirs is put back."""
    case = Damaged(lab, "heirs", HEIRS, NO_HEIRS)
    assert case.rescue()["left_out"] == []
    assert case.differs(case.before) == []
    with lab.connect() as connection:
        connection.execute("UPDATE ONLY heirs.above SET v = 'newer' WHERE id = 1")
        connection.execute("UPDATE heirs.twice SET v = 'newer' WHERE id > 53")
        connection.execute("CREATE OR REPLACE FUNCTION heirs.said() RETURNS int LANGUAGE sql AS 'SELECT 2'")
    left = [(each["what"], each["reason"]) for each in case.undo()["left_out"]]
    changed = ("function heirs.said()", "stays: it was changed since")
    assert left == [("heirs.above", "column v stays with its values: 3 of them were written since"), changed]
    with lab.connect() as connection:
        connection.execute("UPDATE ONLY heirs.above SET v = 'above'; UPDATE heirs.twice SET v = 'twice'")
    for _ in range(2):  # what an earlier undo took back is not missed
        assert [(each["what"], each["reason"]) for each in case.undo()["left_out"]] == [changed]
    with lab.connect() as connection:
        connection.execute("DROP FUNCTION heirs.said()")
    assert case.differs(case.damaged) == []


DETACHED: Final = (
    "CREATE TABLE days (id int NOT NULL, n int NOT NULL DEFAULT 1, v text, CHECK (n > 0), PRIMARY KEY (id)) "
    "PARTITION BY RANGE (id);"
    "CREATE TABLE days_low PARTITION OF days FOR VALUES FROM (0) TO (50);"
    "CREATE TABLE days_high (id int NOT NULL, n int NOT NULL DEFAULT 2, v text, CONSTRAINT days_n_check CHECK (n > 0), "
    "PRIMARY KEY (id)); ALTER TABLE days ATTACH PARTITION days_high FOR VALUES FROM (50) TO (500);"
    "ALTER TABLE days_high ALTER v SET STORAGE EXTERNAL, ALTER v SET STATISTICS 77, ALTER v SET (n_distinct = 9);"
    "INSERT INTO days SELECT g, g, 'v' || g FROM generate_series(1, 90) g;"
)


@pytest.mark.parametrize("more", ["", long("; ALTER TABLE days_high ALTER n DROP NOT NULL, ALTER n SET DEFAULT 3")])
def test_a_partition_that_was_detached_is_attached_again_and_nothing_of_it_is_called_new(lab: Lab, more: str) -> None:
    """What it had from its parent becomes its own, which is no change; what was changed of it beside that goes back."""
    name = "detached_more" if more else "detached"
    case = Damaged(lab, name, DETACHED, f"ALTER TABLE days DETACH PARTITION days_high{more}")
    foreseen = case.foresee()
    assert foreseen.left_out == ()
    told = case.rescue()
    assert told["left_out"] == []
    assert told["differences"] == []
    assert case.differs(case.before) == []
    assert case.undo()["left_out"] == []
    assert case.differs(case.damaged) == []


@pytest.mark.long
def test_a_partition_that_cannot_be_attached_again_stops_nothing_else(lab: Lab) -> None:
    """What was written since does not belong in it: that is said, with the statements, and the rest comes back."""
    damage = "ALTER TABLE days DETACH PARTITION days_high; DELETE FROM days WHERE id < 10"
    case = Damaged(lab, "refused", DETACHED, damage, "INSERT INTO days_high (id) VALUES (7)")
    assert [each["what"] for each in case.rescue()["left_out"]] == [
        "table attach refused.days_high",
        "index attach refused.days_high_pkey",
    ]
    assert lab.rows("SELECT count(*) FROM refused.days") == [(49,)]


@pytest.mark.long
def test_a_partition_that_was_attached_is_named_with_statements_that_work(lab: Lab) -> None:
    """Its own columns and checks have become its parent's, which is no change of them."""
    made = (
        DETACHED + "ALTER TABLE days DETACH PARTITION days_high; ALTER TABLE days_high DROP CONSTRAINT days_high_pkey"
    )
    case = Damaged(lab, "attached", made, "ALTER TABLE days ATTACH PARTITION days_high FOR VALUES FROM (50) TO (500)")
    left = {each["what"]: each["sql"] for each in case.rescue()["left_out"]}
    with lab.connect() as connection:
        for sql in left.values():
            connection.execute(sql.encode())
    assert case.differs(case.before) == []
    assert list(left) == [
        "table attach attached.days_high",
        "constraint attached.days_high days_high_pkey",
        "index attach attached.days_high_pkey",
    ]


THINGS: Final = (
    "CREATE ROLE bob_of_things; CREATE ROLE owner_of_things; GRANT CREATE ON SCHEMA things TO owner_of_things;"
    "CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE DOMAIN word AS text CHECK (VALUE <> '');"
    "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.seen = true; RETURN NEW; END $$;"
    "CREATE FUNCTION say(n int) RETURNS int LANGUAGE sql AS 'SELECT n';"
    "CREATE TABLE owned (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, w word, m mood, seen bool, n serial);"
    "CREATE TABLE refers (id int PRIMARY KEY, owned int REFERENCES owned, n int CHECK (n > 0));"
    "CREATE TABLE parted (id int, n int, PRIMARY KEY (id)) PARTITION BY RANGE (id);"
    "CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (50);"
    "CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (50) TO (500);"
    "CREATE INDEX by_n ON parted (n);"
    "CREATE TRIGGER stamping BEFORE INSERT ON owned FOR EACH ROW EXECUTE FUNCTION stamp();"
    "ALTER TABLE owned DISABLE TRIGGER stamping;"
    "CREATE STATISTICS stats ON id, w FROM owned; CREATE INDEX lower_w ON owned (lower(w));"
    "CREATE VIEW shown WITH (security_invoker, security_barrier) AS SELECT id, w FROM owned;"
    "ALTER VIEW shown OWNER TO owner_of_things; GRANT SELECT (w) ON shown TO bob_of_things;"
    "COMMENT ON VIEW shown IS 'what; is shown'; CREATE RULE quiet AS ON INSERT TO shown DO INSTEAD NOTHING;"
    "CREATE MATERIALIZED VIEW kept AS SELECT count(*) FROM owned; CREATE UNIQUE INDEX ON kept (count);"
    "ALTER TABLE refers ENABLE ROW LEVEL SECURITY; CREATE POLICY all_of_it ON refers FOR SELECT USING (n > 0);"
    "CREATE PUBLICATION told FOR TABLE owned, refers; GRANT SELECT ON refers TO bob_of_things;"
    "COMMENT ON COLUMN refers.n IS 'how many'; COMMENT ON TABLE owned IS 'before';"
    "CREATE SCHEMA other; CREATE TABLE other.inner (id serial PRIMARY KEY, v text);"
    "INSERT INTO owned (w, m, seen) SELECT 'w' || g, 'good', true FROM generate_series(1, 20) g;"
    "INSERT INTO refers SELECT g, g, g FROM generate_series(1, 20) g;"
    "INSERT INTO parted SELECT g, g FROM generate_series(1, 90) g;"
    "INSERT INTO other.inner (v) SELECT 'v' || g FROM generate_series(1, 20) g; REFRESH MATERIALIZED VIEW kept"
)
NO_THINGS: Final = (
    "DROP TYPE mood CASCADE; DROP FUNCTION stamp() CASCADE; DROP VIEW shown; DROP MATERIALIZED VIEW kept;"
    "ALTER TABLE owned DROP n; ALTER TABLE owned DROP w CASCADE; DROP DOMAIN word; DROP SCHEMA other CASCADE;"
    "ALTER TABLE owned ALTER id DROP IDENTITY; DROP TABLE parted_2; DROP INDEX by_n;"
    "DROP POLICY all_of_it ON refers; ALTER TABLE refers DISABLE ROW LEVEL SECURITY;"
    "ALTER PUBLICATION told DROP TABLE refers; REVOKE SELECT ON refers FROM bob_of_things;"
    "GRANT UPDATE ON refers TO bob_of_things; COMMENT ON COLUMN refers.n IS NULL; COMMENT ON TABLE owned IS 'after';"
    "ALTER TABLE refers DROP CONSTRAINT refers_owned_fkey, DROP CONSTRAINT refers_n_check;"
    "ALTER TABLE refers ADD CONSTRAINT refers_n_check CHECK (n > -5);"
    "CREATE OR REPLACE FUNCTION say(n int) RETURNS int LANGUAGE sql AS 'SELECT -n'"
)


@pytest.mark.long
def test_everything_that_was_dropped_or_changed_comes_back_and_goes_again(lab: Lab) -> None:
    """Of each class of objects one, with owners, privileges, options and comments: pg_dump says the same as before."""
    case = Damaged(lab, "things", THINGS, NO_THINGS)
    foreseen = case.foresee()
    assert foreseen.left_out == ()
    told = case.rescue()
    assert told["left_out"] == []
    assert case.differs(case.before) == []
    assert [each["what"] for each in told["differences"]] == ["order of columns of table things.owned"]
    assert {each.rstrip(";") for each in told["definitions"]} == {each.rstrip(";") for each in foreseen.definitions}
    with lab.connect() as connection:
        connection.execute("CREATE OR REPLACE FUNCTION things.stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'")
    undone = case.undo()
    assert [(each["what"], each["reason"]) for each in undone["left_out"]] == [
        ("function things.stamp()", "stays: it was changed since")
    ]
    with lab.connect() as connection:
        connection.execute("DROP FUNCTION things.stamp()")
    assert case.differs(case.damaged) == []


LEFT: Final = (
    "CREATE TABLE parents (id int PRIMARY KEY); CREATE TABLE children (id int PRIMARY KEY, "
    "parent int CONSTRAINT of_parent REFERENCES parents); CREATE TABLE strict (id int PRIMARY KEY, v text NOT NULL);"
    "CREATE TABLE bare (v text); CREATE UNLOGGED TABLE fleeting (id int PRIMARY KEY);"
    "CREATE UNLOGGED TABLE unseen (id int PRIMARY KEY);"
    "CREATE TABLE counted (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, v text);"
    "CREATE TABLE named (id int PRIMARY KEY, v text); CREATE TABLE typed (id int PRIMARY KEY, v varchar(9));"
    "CREATE TABLE unique_v (id int PRIMARY KEY, v text UNIQUE);"
    "INSERT INTO parents VALUES (1); INSERT INTO children VALUES (1, 1); INSERT INTO strict VALUES (1, 'a');"
    "INSERT INTO bare VALUES ('a'), ('a'), ('b'); INSERT INTO fleeting VALUES (1);"
    "INSERT INTO counted (v) SELECT 'c' || g FROM generate_series(1, 50) g; INSERT INTO named VALUES (1, 'a');"
    "INSERT INTO typed VALUES (1, 'a'); INSERT INTO unique_v VALUES (1, 'a'), (2, 'b');"
    "SELECT lo_from_bytea(4711, 'good')"
)
LEFT_DAMAGE: Final = (
    "ALTER TABLE children DROP CONSTRAINT of_parent; ALTER TABLE strict DROP v; DELETE FROM bare; TRUNCATE fleeting;"
    "TRUNCATE counted RESTART IDENTITY; ALTER TABLE named RENAME TO renamed; ALTER TABLE typed ALTER v TYPE text;"
    "CREATE INDEX made ON unique_v (id, v); DELETE FROM unique_v WHERE id = 1; SELECT lo_put(4711, 0, 'bad!');"
    "ALTER TABLE unique_v ADD extra int"
)
LEFT_SINCE: Final = (
    "INSERT INTO counted (v) VALUES ('new'), ('new');"
    "INSERT INTO children VALUES (2, 77); INSERT INTO strict VALUES (2); INSERT INTO unique_v VALUES (3, 'a')"
)


@pytest.mark.long
def test_what_does_not_come_back_is_named_with_the_sql_that_does_it(lab: Lab) -> None:
    """Nothing is left without a word; what is typed as it stands there works, and then nothing is left."""
    case = Damaged(lab, "lefts", LEFT, LEFT_DAMAGE, LEFT_SINCE)
    foreseen = {each.what for each in case.foresee().left_out}
    told = case.rescue()
    left = {each["what"]: each for each in told["left_out"]}
    assert set(left) == {
        "fk constraint lefts.children of_parent",
        "NOT NULL of lefts.strict.v",
        "table lefts.bare",
        "table lefts.fleeting",
        "table lefts.named",
        "column lefts.typed.v",
        "column lefts.unique_v.extra",
        "index lefts.made",
        "1 rows of table lefts.unique_v",
        "2 rows of table lefts.counted",
        "large object 4711",
    }
    assert foreseen == set(left)
    assert [name for name, each in left.items() if not each["seen"]] == ["table lefts.fleeting"]
    assert [note for note in told["notes"] if "unlogged" in note and "lefts.unseen" in note]
    assert lab.rows("INSERT INTO lefts.counted (v) VALUES ('new') RETURNING id") == [(51,)]
    assert lab.rows("SELECT count(*) FROM lefts.counted") == [(51,)]  # two of the old ones have no number of their own
    with lab.connect() as connection:
        connection.execute("DELETE FROM lefts.children WHERE parent = 77; UPDATE lefts.strict SET v = 'b' WHERE id = 2")
        for each in left.values():
            sql = each["sql"].partition("-- Or")[0]  # the first of two ways
            if "\\" not in sql:
                connection.execute(sql.encode())
    assert case.rescue()["left_out"] != told["left_out"]
    assert lab.rows("SELECT count(*), count(*) FILTER (WHERE v = 'new') FROM lefts.counted") == [(53, 3)]
    others = r"[-+] (?!bare|children|counted|fleeting|strict|unique_v)"
    assert [each for each in case.differs(case.before) if re.match(others, each)] == []


STRANGE: Final = (
    "CREATE ROLE owner_of_strange LOGIN; GRANT ALL ON SCHEMA strange TO owner_of_strange;"
    "ALTER ROLE owner_of_strange SET search_path = strange; CREATE EXTENSION IF NOT EXISTS citext SCHEMA public;"
    "CREATE TABLE known (v text PRIMARY KEY); CREATE FUNCTION is_known(text) RETURNS bool LANGUAGE plpgsql AS "
    "$$ BEGIN RETURN EXISTS (SELECT FROM known WHERE v = $1); END $$; INSERT INTO known VALUES ('a');"
    "CREATE TABLE checked (id int PRIMARY KEY, v text CHECK (is_known(v)), w text);"
    "CREATE TABLE refused (id int PRIMARY KEY, v text CHECK (is_known(v)), w text);"
    "CREATE TABLE folded (k public.citext PRIMARY KEY, v text); CREATE TABLE forced (id int PRIMARY KEY, v text);"
    "CREATE TABLE since (id int PRIMARY KEY, a text, b varchar(9));"
    "INSERT INTO checked VALUES (1, 'a', 'good'); INSERT INTO refused VALUES (1, 'a', 'good');"
    "INSERT INTO folded VALUES ('A', 'good'); INSERT INTO forced VALUES (1, 'good');"
    "INSERT INTO since VALUES (1, 'good', 'good'), (2, 'good', 'good');"
    "ALTER TABLE known OWNER TO owner_of_strange; ALTER FUNCTION is_known OWNER TO owner_of_strange;"
    "ALTER TABLE checked OWNER TO owner_of_strange; ALTER TABLE forced OWNER TO owner_of_strange;"
    "ALTER TABLE forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
    "CREATE POLICY none ON forced USING (false); SET search_path = strange, public"
)
STRANGE_DAMAGE: Final = (
    "UPDATE checked SET w = 'bad'; UPDATE refused SET w = 'bad'; UPDATE folded SET v = 'bad'; "
    "UPDATE since SET a = 'bad', b = 'bad'; "
    "ALTER TABLE forced DISABLE ROW LEVEL SECURITY; UPDATE forced SET v = 'bad'; "
    "ALTER TABLE forced ENABLE ROW LEVEL SECURITY"
)


@pytest.mark.long
def test_what_postgres_refuses_of_one_table_stops_no_other_and_is_named(lab: Lab) -> None:
    """A check that needs the owner's search path, row security forced, a key of an extension's type, names since."""
    since = "ALTER TABLE since RENAME a TO renamed; ALTER TABLE since ALTER b TYPE text"
    case = Damaged(lab, "strange", STRANGE, STRANGE_DAMAGE, since)
    told = case.rescue()
    left = {each["what"]: each for each in told["left_out"]}
    assert set(left) == {"table strange.refused", "table strange.forced", "column strange.since.b"}
    assert "is_known" in left["table strange.refused"]["reason"]
    assert "row security holds for its owner too" in left["table strange.forced"]["reason"]
    assert "NO FORCE ROW LEVEL SECURITY" in left["table strange.forced"]["sql"]
    assert not left["column strange.since.b"]["seen"]
    assert lab.rows("SELECT w FROM strange.checked") == [("good",)]
    assert lab.rows("SELECT v FROM strange.folded") == [("good",)]
    assert lab.rows("SELECT renamed, b FROM strange.since") == [("good", "bad"), ("good", "bad")]


@pytest.mark.long
def test_a_moved_row_that_was_written_since_is_named_and_all_others_go_back(lab: Lab) -> None:
    """Rows that the damage moved to another partition go back; one that somebody wrote there stays, and is said."""
    made = (
        "CREATE TABLE moved (id int, r text, v text, PRIMARY KEY (id, r)) PARTITION BY LIST (r);"
        "CREATE TABLE moved_a PARTITION OF moved FOR VALUES IN ('a');"
        "CREATE TABLE moved_b PARTITION OF moved FOR VALUES IN ('b');"
        "INSERT INTO moved SELECT g, 'a', 'v' || g FROM generate_series(1, 30) g"
    )
    since = "UPDATE moved SET v = 'newer' WHERE id = 3"
    case = Damaged(lab, "moves", made, "UPDATE moved SET r = 'b' WHERE id <= 10", since)
    foreseen = case.foresee().left_out
    told = case.rescue()
    assert [each["what"] for each in told["left_out"]] == ["1 rows of table moves.moved_b"]
    assert told["left_out"][0]["reason"].endswith("3,b")
    assert [each.what for each in foreseen] == ["1 rows of table moves.moved_b"]
    assert lab.rows("SELECT r, count(*) FROM moves.moved GROUP BY 1 ORDER BY 1") == [("a", 30), ("b", 1)]


BY_HAND: Final = (
    'CREATE TABLE bare (v text, "Odd name" int);'
    "INSERT INTO bare VALUES ('a', 1), ('a', 1), (NULL, 2), ('tab\tb', 3);"
    "CREATE ROLE of_objects; SELECT lo_from_bytea(4801, 'good'), lo_from_bytea(4802, 'gone');"
    "ALTER LARGE OBJECT 4802 OWNER TO of_objects; COMMENT ON LARGE OBJECT 4802 IS 'it''s mine';"
    "GRANT SELECT ON LARGE OBJECT 4802 TO PUBLIC"
)


@pytest.mark.long
def test_what_is_told_to_be_done_by_hand_is_typed_and_does_it(lab: Lab, tmp_path: Path) -> None:
    """Rows of a table without a key, and large objects with owner, comment and privileges: in psql, at both ends."""
    damage = "DELETE FROM bare; SELECT lo_put(4801, 0, 'bad!'), lo_unlink(4802)"
    case = Damaged(lab, "byhand", BY_HAND, damage, "INSERT INTO bare VALUES ('new', 9)")
    left = {each["what"]: str(each["sql"]) for each in case.rescue()["left_out"]}
    assert set(left) == {"table byhand.bare", "large object 4801", "large object 4802"}
    type_told(lab, case.xid, [*left.values()], tmp_path)
    rows = [("a", 1), ("a", 1), ("new", 9), ("tab\tb", 3), (None, 2)]
    assert lab.rows("SELECT * FROM byhand.bare ORDER BY 1") == rows
    objects = (
        "SELECT convert_from(lo_get(oid), 'UTF8'), pg_get_userbyid(lomowner)::text, "
        "obj_description(oid, 'pg_largeobject'), lomacl::text LIKE '%,=r/%' OR lomacl::text LIKE '{=r/%' "
        "FROM pg_largeobject_metadata WHERE oid IN (4801, 4802) ORDER BY oid"
    )
    assert lab.rows(objects) == [("good", "postgres", None, None), ("gone", "of_objects", "it's mine", True)]
