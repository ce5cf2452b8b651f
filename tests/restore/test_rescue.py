"""A rescue takes exactly the damage back: random good and bad writes against a model; do, undo, redo; what is shown."""

from __future__ import annotations

import copy
import random
from typing import TYPE_CHECKING

import psycopg
import pytest
from kept import template
from recovery_lab import Lab, opened
from rescue_model import Rows, Writer, rescued

from backout.errors import PartlyDone, Refused
from backout.runbook.recovery.restore import plan_rescue, plan_undo
from backout.runbook.recovery.restoring import foresee

from extent import by_extent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.rotating("restores", 5)

SEEDS = range(by_extent(1, 2, proof=60))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("rescue"), template()) as made:
        yield made


def rows(lab: Lab) -> Rows:
    return {key: list(values) for key, *values in lab.rows("SELECT id, a, b, c FROM items")}


def rescue(lab: Lab, target: str, conflicts: str = "live") -> None:
    tools = lab.tools()
    lab.run(plan_rescue(tools, target, conflicts=conflicts, skip=(), queues=False), tools)
    assert tools.sides.list() == ()


@pytest.mark.proof
@pytest.mark.parametrize("seed", SEEDS)
def test_the_damage_goes_and_newer_good_rows_stay(lab: Lab, seed: int, proof: Callable[..., None]) -> None:
    """Against a model of the rows; undone they are as they were, and redone they are right again."""
    random_ = random.Random(seed)  # noqa: S311 seeded, to be repeated
    model: Rows = {}
    with lab.connect() as connection:
        connection.execute("DROP TABLE IF EXISTS items")
        connection.execute("CREATE TABLE items (id int PRIMARY KEY, a text, b text, c text)")
        Writer(connection, model, random_, "old").write(200)
        lab.base(f"base{seed:03}")
        Writer(connection, model, random_, "good").write(60)
        before = copy.deepcopy(model)
        with connection.transaction():
            row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            assert row is not None
            Writer(connection, model, random_, "bad").write(random_.randrange(1, 90), savepoints=True)
        after = copy.deepcopy(model)
        Writer(connection, model, random_, "new").write(60)
    lab.archived()
    expected = rescued(before, after, model)
    rescue(lab, row[0])
    found = rows(lab)
    proof("a rescue loses no newer good row and leaves no damage", trials=1, failures=int(found != expected))
    assert found == expected
    tools = lab.tools()
    lab.run(plan_undo(tools), tools)
    assert rows(lab) == model
    rescue(lab, row[0])
    assert rows(lab) == expected


@pytest.fixture(scope="module")
def shop(lab: Lab) -> str:
    """Make tables that refer to each other, damage them in one transaction, and return its id."""
    with lab.connect() as connection:
        connection.execute(
            "CREATE TABLE customers (id int PRIMARY KEY, email text NOT NULL UNIQUE, tier text DEFAULT 'basic');"
            "CREATE TABLE sales (id int PRIMARY KEY, customer int REFERENCES customers ON DELETE CASCADE, status text);"
            "CREATE TABLE parcels (id serial PRIMARY KEY, sale int REFERENCES sales, label text CHECK (label <> ''));"
            "CREATE TABLE mail_outbox (id int PRIMARY KEY, body text); CREATE TABLE notes (body text);"
            "CREATE TABLE told (what text);"
            "CREATE VIEW addresses AS SELECT id, email FROM customers;"
            "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN INSERT INTO public.told VALUES (TG_OP); RETURN new; END $$;"
            "CREATE TRIGGER telling AFTER UPDATE ON sales FOR EACH ROW EXECUTE FUNCTION tell();"
            "INSERT INTO customers SELECT g, 'c' || g, 'gold' FROM generate_series(1, 500) g;"
            "INSERT INTO sales SELECT g, g, 'paid' FROM generate_series(1, 500) g;"
            "INSERT INTO parcels (sale, label) SELECT g, 'p' || g FROM generate_series(1, 40) g;"
            "INSERT INTO mail_outbox VALUES (1, 'kept'); INSERT INTO notes VALUES ('kept')"
        )
        lab.base("shop")
        with connection.transaction():
            row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            connection.execute("SAVEPOINT one; UPDATE sales SET status = 'bad' WHERE id <= 300")
            connection.execute("SAVEPOINT two; ALTER TABLE customers DROP COLUMN email CASCADE; DROP TABLE parcels")
            connection.execute("DELETE FROM customers WHERE id > 490; UPDATE notes SET body = 'bad'")
            connection.execute("INSERT INTO customers VALUES (900, 'bad'), (901, 'bad')")
            connection.execute("INSERT INTO mail_outbox VALUES (2)")
        connection.execute(
            "UPDATE sales SET status = 'shipped' WHERE id = 7; INSERT INTO sales VALUES (800, 901, 'paid');"
            "INSERT INTO customers VALUES (700, 'silver'), (495, 'again'); INSERT INTO sales VALUES (700, 700, 'paid')"
        )
    lab.archived()
    assert row is not None
    return str(row[0])


STATE = """
SELECT (SELECT count(*) FROM customers), (SELECT count(*) FROM sales WHERE status = 'bad'),
  (SELECT string_agg(status, ',' ORDER BY id) FROM sales WHERE id IN (7, 8, 700, 800)),
  (SELECT string_agg(id || tier, ',' ORDER BY id) FROM customers WHERE id IN (494, 495, 700, 900, 901)),
  (SELECT count(*) FROM sales WHERE id > 490), (SELECT string_agg(body, ',') FROM notes),
  (SELECT count(*) FROM told), (SELECT count(*) FROM mail_outbox)
"""


def test_what_a_rescue_would_do_is_shown_before(lab: Lab, shop: str) -> None:
    """By table: rows, conflicts with their keys, triggers that are kept still, and what is left alone, and why."""
    before = lab.rows(STATE)
    tools = lab.tools()
    report = foresee(tools, plan_rescue(tools, shop, conflicts="live", skip=(), queues=False))
    tables = {each.table: each for each in report.tables}
    assert tables["public.sales"].updated == 299
    assert tables["public.sales"].columns == ("status",)
    assert tables["public.sales"].triggers == ("telling",)
    assert "7" in tables["public.sales"].examples
    assert tables["public.customers"].columns == ("email",)
    assert tables["public.customers"].inserted == 9
    assert tables["public.parcels"].inserted == 40
    assert "queue" in tables["public.mail_outbox"].left
    assert "primary key" in tables["public.notes"].left
    assert any("ADD COLUMN" in text for text in report.definitions)
    assert lab.rows(STATE) == before
    assert tools.sides.list() == ()


@pytest.mark.long
def test_columns_tables_and_all_that_hung_on_them_come_back(lab: Lab, shop: str) -> None:
    """Values, constraints, indexes, the view; newer rows stay, referred ones too; no trigger fires; and undone."""
    before = lab.rows(STATE)
    rescue(lab, shop)
    after = lab.rows(STATE)
    customers, bad, statuses, tiers, sales, notes, told, queue = after[0]
    assert (customers, bad, statuses) == (502, 0, "shipped,paid,paid,paid")
    assert tiers == "494gold,495again,700silver,901bad"  # 901 is referred to by a newer row
    assert (sales, notes, queue) == (12, "bad", 2)
    assert told == before[0][6]
    assert lab.rows("SELECT count(*), count(email) FROM customers") == [(502, 500)]
    assert lab.rows("SELECT count(*), max(label) FROM parcels") == [(40, "p9")]
    assert lab.rows("SELECT email FROM addresses WHERE id = 3") == [("c3",)]
    assert lab.rows("INSERT INTO parcels (sale, label) VALUES (1, 'x') RETURNING id") == [(41,)]
    lab.rows("DELETE FROM parcels WHERE id = 41 RETURNING 1")
    for statement, error in (
        ("INSERT INTO parcels (sale, label) VALUES (12345, 'x') RETURNING 1", psycopg.errors.ForeignKeyViolation),
        ("INSERT INTO parcels (sale, label) VALUES (1, '') RETURNING 1", psycopg.errors.CheckViolation),
        ("INSERT INTO customers VALUES (1000, 'x', 'c3') RETURNING 1", psycopg.errors.UniqueViolation),
    ):
        with pytest.raises(error):
            lab.rows(statement)
    tools = lab.tools()
    lab.run(plan_undo(tools), tools)
    assert lab.rows(STATE) == before
    assert lab.rows("SELECT to_regclass('parcels'), to_regclass('addresses')") == [(None, None)]
    rescue(lab, shop)
    assert lab.rows(STATE) == after
    lab.run(plan_undo(tools), tools)  # the other tests find the damage as it was
    assert lab.rows(STATE) == before


@pytest.mark.long
def test_a_lock_is_not_waited_for_and_the_rescue_goes_on_later(lab: Lab, shop: str) -> None:
    """Two seconds, then it stops resumable; nothing queues behind it."""
    tools = lab.tools()
    plan = plan_rescue(tools, shop, conflicts="live", skip=(), queues=False)
    with lab.connect() as holder, holder.transaction():
        holder.execute("LOCK TABLE sales IN SHARE MODE")
        with pytest.raises(PartlyDone, match="no lock was granted within 2 s") as stopped:
            lab.run(plan, tools)
    assert stopped.value.where is not None
    from backout.runbook.recovery.restoring import make_actions  # noqa: PLC0415

    lab.journal.drive(stopped.value.where, make_actions(tools), actor="test")
    assert lab.rows("SELECT status FROM sales WHERE id = 8") == [("paid",)]
    lab.run(plan_undo(tools), tools)


def test_a_moment_alone_does_not_say_what_the_damage_was(lab: Lab, shop: str) -> None:
    """A time is no reason to overwrite anything: the ways on are named."""
    tools = lab.tools()
    with lab.connect() as connection:
        row = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
    assert row is not None
    lab.archived()
    with pytest.raises(Refused, match="does not say which transaction") as refused:
        plan_rescue(tools, row[0], conflicts="live", skip=(), queues=False)
    assert any("--swap" in option for option in refused.value.options)
    assert shop


@pytest.mark.long
def test_truncated_rewritten_partitioned_and_generated(lab: Lab) -> None:
    """TRUNCATE writes no row, a rewrite gives every row the damage's id, partitions hold the rows of their parent."""
    with lab.connect() as connection:
        connection.execute(
            "CREATE TABLE lines (a int, b int, n numeric, twice numeric GENERATED ALWAYS AS (n * 2) STORED, "
            "PRIMARY KEY (a, b));"
            "CREATE TABLE days (id int GENERATED ALWAYS AS IDENTITY, day date, v json, PRIMARY KEY (id, day)) "
            "PARTITION BY RANGE (day);"
            "CREATE TABLE days_old PARTITION OF days FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');"
            "CREATE TABLE days_new PARTITION OF days FOR VALUES FROM ('2026-07-01') TO ('2027-01-01');"
            'CREATE TABLE "Odd Name" ("Key" int PRIMARY KEY, "a""b" text, at timestamptz DEFAULT now());'
            "INSERT INTO lines (a, b, n) SELECT g / 10, g % 10, g FROM generate_series(1, 100) g;"
            "INSERT INTO days (day, v) SELECT DATE '2026-01-01' + g, '{\"n\": 1}' FROM generate_series(0, 299) g;"
            "INSERT INTO \"Odd Name\" SELECT g, 'x' || g FROM generate_series(1, 20) g"
        )
        before = [lab.rows(f"SELECT * FROM {name} ORDER BY 1, 2") for name in ("lines", "days", '"Odd Name"')]  # noqa: S608 ours
        lab.base("zz-odd")
        with connection.transaction():
            row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            connection.execute(
                "TRUNCATE lines; UPDATE days SET v = '{}' WHERE id % 2 = 0; DELETE FROM days WHERE id < 9"
            )
            connection.execute(
                'UPDATE days SET day = day + 200 WHERE id = 11; ALTER TABLE "Odd Name" DROP COLUMN "a""b"'
            )
        connection.execute("INSERT INTO lines (a, b, n) VALUES (77, 7, 1), (1, 1, 5)")
    assert row is not None
    lab.archived()
    damaged = [lab.rows(f"SELECT * FROM {name} ORDER BY 1, 2") for name in ("lines", "days", '"Odd Name"')]  # noqa: S608 ours
    rescue(lab, row[0])
    lines = lab.rows("SELECT * FROM lines ORDER BY 1, 2")
    assert [line for line in lines if line[:2] not in {(77, 7), (1, 1)}] == [
        line for line in before[0] if line[:2] != (1, 1)
    ]
    assert lab.rows("SELECT n::int FROM lines WHERE (a, b) IN ((77, 7), (1, 1)) ORDER BY a") == [(5,), (1,)]
    assert lab.rows("SELECT * FROM days ORDER BY 1, 2") == before[1]
    odd = lab.rows('SELECT "Key", "a""b", at FROM "Odd Name" ORDER BY 1')
    assert odd == before[2]
    tools = lab.tools()
    lab.run(plan_undo(tools), tools)
    after = [lab.rows(f"SELECT * FROM {name} ORDER BY 1, 2") for name in ("lines", "days", '"Odd Name"')]  # noqa: S608 ours
    assert after == damaged


@pytest.mark.long
def test_tables_that_refer_to_each_other_come_back_together(lab: Lab) -> None:
    """A parent before its child, a partitioned table before its partitions; undone they are gone again."""
    with lab.connect() as connection:
        connection.execute(
            "CREATE TABLE makers (id int PRIMARY KEY);"
            "CREATE TABLE cars (id int PRIMARY KEY, maker int REFERENCES makers);"
            "CREATE TABLE trips (id int, at date, car int REFERENCES cars, PRIMARY KEY (id, at)) "
            "PARTITION BY RANGE (at);"
            "CREATE TABLE trips_2026 PARTITION OF trips FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');"
            "INSERT INTO makers SELECT generate_series(1, 5);"
            "INSERT INTO cars SELECT g, g FROM generate_series(1, 5) g;"
            "INSERT INTO trips SELECT g, '2026-02-02', g FROM generate_series(1, 5) g"
        )
        lab.base("zz-parents")
        with connection.transaction():
            row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            connection.execute("DROP TABLE trips, cars, makers")
    assert row is not None
    lab.archived()
    rescue(lab, row[0])
    assert lab.rows("SELECT count(*) FROM trips JOIN cars ON cars.id = car JOIN makers ON makers.id = maker") == [(5,)]
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        lab.rows("INSERT INTO trips VALUES (9, '2026-03-03', 77) RETURNING 1")
    tools = lab.tools()
    lab.run(plan_undo(tools), tools)
    assert lab.rows("SELECT to_regclass('trips'), to_regclass('cars'), to_regclass('makers')") == [(None, None, None)]


@pytest.mark.long
def test_rows_that_need_each_other_come_back_together_and_go_together(lab: Lab) -> None:
    """In one transaction, for whose length the keys are deferred; of two owners they stay away, and it says how.

    What stands in the report is typed, and then they are there, and checked again.
    """
    with lab.connect() as connection:
        for one, other, how in (("heads", "tails", ""), ("lefts", "rights", "DEFERRABLE INITIALLY DEFERRED")):
            connection.execute(
                f"CREATE TABLE {one} (id int PRIMARY KEY, need int);"  # noqa: S608 ours
                f"CREATE TABLE {other} (id int PRIMARY KEY, need int REFERENCES {one} ON DELETE CASCADE {how});"
                f"ALTER TABLE {one} ADD FOREIGN KEY (need) REFERENCES {other} {how};"
                f"INSERT INTO {one} VALUES (1), (2); INSERT INTO {other} VALUES (1, 1), (2, 2);"
                f"UPDATE {one} SET need = id WHERE id = 1"
            )
        connection.execute(
            "CREATE ROLE left_owner; CREATE ROLE right_owner; GRANT USAGE ON SCHEMA public TO left_owner, right_owner;"
            "ALTER TABLE lefts OWNER TO left_owner; ALTER TABLE rights OWNER TO right_owner;"
            "GRANT ALL ON lefts TO right_owner; GRANT ALL ON rights TO left_owner"
        )
        lab.base("zzz-circles")
        with connection.transaction():
            row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            connection.execute("WITH gone AS (DELETE FROM heads WHERE id = 1) DELETE FROM tails WHERE id = 1")
            connection.execute("WITH gone AS (DELETE FROM lefts WHERE id = 1) DELETE FROM rights WHERE id = 1")
    assert row is not None
    lab.archived()
    tools = lab.tools()
    plan = plan_rescue(tools, row[0], conflicts="live", skip=(), queues=False)
    foreseen = foresee(tools, plan).notes
    assert [note.partition(": ")[0] for note in foreseen] == ["foreign keys in a circle"]
    run = lab.run(plan, tools)
    record = tools.runs.result(run.id, "db_rescue")
    assert isinstance(record, dict)
    assert [note for note in record["notes"] if "circle" not in note] == []
    (note,) = record["notes"]  # type: ignore[union-attr,misc]
    said = "foreign keys in a circle: rows that need each other did not come back, and nothing of them was written"
    assert str(note).partition(". ")[0] == f"{said}: public.lefts (1), public.rights (1)"
    state = (
        "SELECT ARRAY(SELECT id FROM heads ORDER BY 1), ARRAY(SELECT id FROM tails ORDER BY 1), "
        "ARRAY(SELECT id FROM lefts ORDER BY 1), ARRAY(SELECT id FROM rights ORDER BY 1)"
    )
    assert lab.rows(state) == [([1, 2], [1, 2], [2], [2])]
    deferrable = "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conrelid = ANY(%s) AND condeferrable"
    assert lab.rows(deferrable % "ARRAY['heads'::regclass, 'tails'::regclass]") == [(0,)]
    lab.run(plan_undo(tools), tools)
    assert lab.rows(state) == [([2], [2], [2], [2])]
    drop, back = str(note).partition(": ALTER")[2].split(" Then the same rescue again, and: ")
    with lab.connect() as connection:
        connection.execute(f"ALTER{drop}".encode())
    rescue(lab, row[0])
    assert lab.rows(state) == [([1, 2], [1, 2], [1, 2], [1, 2])]
    with lab.connect() as connection:
        connection.execute(back.encode())
    assert lab.rows(deferrable % "ARRAY['lefts'::regclass, 'rights'::regclass]") == [(2,)]
    lab.rows("INSERT INTO heads VALUES (3, 1) RETURNING 1")
    undone = lab.run(plan_undo(tools), tools)
    record = tools.runs.result(undone.id, "db_undo_rescue")
    assert isinstance(record, dict)
    assert "newer rows of public.heads refer to rows of public.tails" in str(record["left_out"])
    assert lab.rows(state)[0][:2] == ([1, 2, 3], [1, 2])
