"""Restores stop exactly before the commit that did the damage: under load, in savepoints, prepared, by every name."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from kept import template
from recovery_lab import ENVIRONMENT, Lab, Load, opened

from backout.errors import Refused, UsageError
from backout.model.database.recovery import RecoveryTarget, TargetKind
from backout.model.database.wal import parse_lsn, show_lsn
from backout.runbook.recovery.restore import mark_point, plan_side
from backout.runbook.recovery.restore_points import AFTER_DEPLOYMENT, BEFORE_DEPLOYMENT, record_point
from backout.runbook.recovery.target import find

from extent import by_extent
from polling import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SEEDS = range(by_extent(1, 2, proof=100))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("exact"), template()) as made:
        with made.connect() as connection:
            connection.execute("CREATE EXTENSION pg_walinspect")
            connection.execute("CREATE TABLE orders (id int PRIMARY KEY, status text, n int DEFAULT 0)")
            connection.execute("INSERT INTO orders SELECT g, 'paid' FROM generate_series(1, 2000) g")
        made.base("base")
        yield made


def test_what_was_received_ends_where_the_server_says(lab: Lab) -> None:
    """Also when it is idle: its last record, of the running transactions, ends with zeros."""
    with lab.connect() as connection:
        connection.execute("SELECT pg_log_standby_snapshot()")

        def is_all_there() -> bool:
            row = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
            return row is not None and lab.backups.wal()[-1].end_lsn == parse_lsn(row[0])

        until(is_all_there, 30, "the archive ends where the server's WAL does", every_s=0.2)


def committed_before(lab: Lab, xid: int, since: int) -> set[int]:
    """Return the transactions whose commit stands before that of `xid`, as the server itself reads its WAL."""
    query = (
        "SELECT start_lsn, record_type, xid::text::bigint, description FROM pg_get_wal_records_info(%s, "
        "pg_current_wal_flush_lsn()) WHERE resource_manager = 'Transaction' AND record_type LIKE 'COMMIT%%'"
    )
    with lab.connect() as connection:
        rows = connection.execute(query, (show_lsn(since),)).fetchall()
    own = [int(text.split(":")[0]) if kind == "COMMIT_PREPARED" else number for _, kind, number, text in rows]
    return set(own[: own.index(xid)])


def in_savepoints(connection: psycopg.Connection[Any], random_: random.Random, statements: list[str]) -> None:
    """Run the statements, each perhaps some savepoints deep, with one rolled back between."""
    for number, statement in enumerate(statements):
        for depth in range(random_.randrange(4)):
            connection.execute(f"SAVEPOINT s{number}_{depth}")
        if random_.random() < 0.5:
            connection.execute("SAVEPOINT back")
            connection.execute("UPDATE orders SET n = n + 1 WHERE id = 1")
            connection.execute("ROLLBACK TO SAVEPOINT back")
        connection.execute(statement)


def damage(lab: Lab, seed: int) -> tuple[int, str]:
    """Drop a column and spoil statuses in one transaction; return its id and the column's name."""
    random_ = random.Random(seed)  # noqa: S311 seeded, to be repeated
    column = f"email_{seed}"
    with lab.connect() as connection:
        connection.execute(f"ALTER TABLE orders ADD COLUMN {column} text DEFAULT 'a@b'")
        connection.execute("UPDATE orders SET status = 'paid'")
        prepared = random_.random() < 0.3
        statements = [f"ALTER TABLE orders DROP COLUMN {column}", "UPDATE orders SET status = 'bad' WHERE id % 3 = 0"]
        random_.shuffle(statements)
        connection.execute("BEGIN")
        row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
        assert row is not None
        in_savepoints(connection, random_, statements)
        connection.execute(f"PREPARE TRANSACTION 'damage {seed}'" if prepared else "COMMIT")
        if prepared:
            connection.execute("UPDATE ticks SET session = session WHERE id = 0")
            connection.execute(f"COMMIT PREPARED 'damage {seed}'")
    return int(row[0]), column


@pytest.mark.proof
@pytest.mark.parametrize("seed", SEEDS)
def test_a_restore_stops_exactly_before_the_damage(lab: Lab, seed: int, proof: Callable[..., None]) -> None:
    """Every row that was committed before is there, none from after, and the damage is not."""
    tools = lab.tools()
    with Load(lab) as load:
        load.await_ticks(50)
        xid, column = damage(lab, seed)
        load.await_ticks(50)
    lab.archived()
    asked = f"before drop of orders.{column}" if seed % 2 else str(xid)
    run = lab.run(plan_side(tools, asked), tools)
    name = str(run.plan.step("db_side").args["name"])
    try:
        side = tools.sides.find(name)
        assert side is not None
        with psycopg.connect(side.dsn, options="-c lock_timeout=5s") as connection:
            ticks = {int(x) for (x,) in connection.execute("SELECT xid::text FROM ticks").fetchall()}
            intact = connection.execute(
                f"SELECT count(*) FROM orders WHERE status = 'paid' AND {column} = 'a@b'"  # type: ignore[arg-type] # noqa: S608 ours
            ).fetchone()
    finally:
        tools.sides.drop(name)
    before = committed_before(lab, xid, lab.backups.found[0].begin_lsn)
    expected = {int(x) for (x,) in lab.rows("SELECT xid::text FROM ticks")} & before
    wrong = len(ticks ^ expected) + (intact != (2000,))
    proof("a restore stops exactly before the damage, under load", trials=1, failures=int(wrong > 0), note="seeded")
    assert ticks == expected
    assert intact == (2000,)
    assert len(expected) >= 50


def lsn_of(lab: Lab, text: str) -> RecoveryTarget:
    return find(lab.tools(), text).target


def test_every_name_of_the_moment_leads_to_the_same_position(lab: Lab) -> None:
    """Transaction, savepoint, position, dropped column: one COMMIT record."""
    xid, column = damage(lab, 1000)
    with lab.connect() as connection:
        row = connection.execute(
            "SELECT extract(epoch FROM pg_xact_commit_timestamp(%s::text::xid))::numeric::text", (xid,)
        ).fetchone()
        assert row is not None
        sub = connection.execute(
            "SELECT xmin::text FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attisdropped "
            "ORDER BY attnum DESC LIMIT 1"
        ).fetchone()
        assert sub is not None
    lab.archived()
    exact = lsn_of(lab, str(xid))
    assert exact.xid == xid
    assert lsn_of(lab, sub[0]).lsn == exact.lsn
    assert lsn_of(lab, f"before drop of orders.{column}").lsn == exact.lsn
    assert lsn_of(lab, f"before drop of public.orders.{column}").lsn == exact.lsn
    assert lsn_of(lab, "before drop of orders").lsn == exact.lsn
    assert lsn_of(lab, show_lsn(exact.lsn)).lsn == exact.lsn
    assert exact.at is not None
    assert abs(exact.at - float(row[0])) < 1e-4


def test_a_dropped_table_is_found_by_what_is_gone(lab: Lab) -> None:
    """The catalog has forgotten it; the COMMIT record names the object that is there no more."""
    with lab.connect() as connection:
        connection.execute("CREATE TABLE parcels (id int PRIMARY KEY)")
        connection.execute("INSERT INTO parcels VALUES (1)")
        with connection.transaction():
            row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            connection.execute("SAVEPOINT one")
            connection.execute("DROP TABLE parcels")
    assert row is not None
    lab.archived()
    found = find(lab.tools(), "before drop of parcels")
    assert found.target.xid == int(row[0])
    assert found.relation == "parcels"
    assert found.target.kind is TargetKind.DROP


def test_of_several_dropped_tables_the_one_of_that_name_is_found(lab: Lab) -> None:
    """The WAL tells object ids; a side instance just before the first drop tells which of them bore the name."""
    dropped = {}
    with lab.connect() as connection:
        connection.execute("CREATE TABLE crates (id int); CREATE TABLE boxes (id int); CREATE TABLE bags (id int)")
        for name in ("crates", "boxes", "bags"):
            with connection.transaction():
                row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
                connection.execute(f"DROP TABLE {name}")  # type: ignore[arg-type]
            assert row is not None
            dropped[name] = int(row[0])
    lab.archived()
    assert find(lab.tools(), "before drop of public.boxes").target.xid == dropped["boxes"]
    assert lab.tools().sides.list() == ()
    with pytest.raises(Refused, match="none of them never"):
        find(lab.tools(), "before drop of never")


def test_a_migration_begins_where_its_row_was_inserted(lab: Lab) -> None:
    """Three transactions as Prisma has them: the row, the script, the row again; the target is before the first."""
    with lab.connect() as connection:
        connection.execute(
            "CREATE TABLE _prisma_migrations (id text PRIMARY KEY, migration_name text, started_at timestamptz DEFAULT "
            "now(), finished_at timestamptz, rolled_back_at timestamptz, applied_steps_count int DEFAULT 0)"
        )
        connection.execute(
            "INSERT INTO _prisma_migrations (id, migration_name, finished_at) VALUES ('0', 'first', now())"
        )
        with connection.transaction():
            began = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            connection.execute("INSERT INTO _prisma_migrations (id, migration_name) VALUES ('1', 'split')")
        with connection.transaction():
            script = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            connection.execute("ALTER TABLE orders ADD COLUMN split int")
        connection.execute("UPDATE _prisma_migrations SET applied_steps_count = 1 WHERE id = '1'")
        connection.execute("UPDATE _prisma_migrations SET finished_at = now() WHERE id = '1'")
    assert began is not None
    assert script is not None
    lab.archived()
    tools = lab.tools()
    found = find(tools, "before migration split")
    assert found.target.xid == int(began[0])
    assert [commit.xid for commit in found.damage] == [int(script[0])]
    run = lab.run(plan_side(tools, "before migration split"), tools)
    result = lab.journal.result(run.id, "db_side_check")
    tools.sides.drop(str(run.plan.step("db_side").args["name"]))
    assert isinstance(result, dict)
    assert result["migration_head"] == "first"
    with pytest.raises(UsageError, match="no migration 'never'"):
        find(tools, "before migration never")


def test_a_restore_point_needs_no_search(lab: Lab) -> None:
    """Its position is where it was recorded, under its name and under its deployment's."""
    tools = lab.tools()
    marked = {"actor": "test", "deployment": "9d2c41aa-77"}
    record_point(tools.journal, ENVIRONMENT, tools.live, "before-9d2c41aa", why=BEFORE_DEPLOYMENT, **marked)
    point = record_point(tools.journal, ENVIRONMENT, tools.live, "after-9d2c41aa", why=AFTER_DEPLOYMENT, **marked)
    lab.archived()
    assert find(tools, "after-9d2c41aa").target.lsn == point.lsn
    assert find(tools, "9d2c41aa").target.how == "recorded as before-9d2c41aa (before deployment)"
    with pytest.raises(UsageError, match="exists"):
        mark_point(tools, "after-9d2c41aa")


@pytest.mark.parametrize(
    ("target", "error", "says"),
    [
        ("FFFF/0", Refused, "after the end of the archived WAL"),
        ("0/10", Refused, "before the first base backup"),
        ("2099-01-01T00:00:00Z", Refused, "in the future"),
        ("2020-01-01T00:00:00Z", Refused, "before everything that is kept"),
        ("4000000000", Refused, "no commit of transaction"),
        ("nonsense", UsageError, "is no target"),
        ("before drop of ticks.session", UsageError, "has lost no column"),
    ],
)
def test_a_target_that_cannot_be_reached_is_refused(lab: Lab, target: str, error: type[Exception], says: str) -> None:
    """Each says why, before anything is made."""
    with pytest.raises(error, match=says):
        find(lab.tools(), target)
    assert lab.tools().sides.list() == ()


def test_the_side_instance_shows_whether_it_was_this_one(lab: Lab) -> None:
    """The WAL tells no names: a column that is not there just before the drop was another one, and nothing follows."""
    _, column = damage(lab, 2000)
    lab.archived()
    tools = lab.tools()
    plan = plan_side(tools, f"before drop of orders.{column}_not")
    with pytest.raises(Refused, match="another one was dropped"):
        lab.run(plan, tools)
    tools.sides.drop(str(plan.step("db_side").args["name"]))


def test_what_was_rolled_back_is_no_target(lab: Lab) -> None:
    """A transaction without a COMMIT record did no damage."""
    with lab.connect() as connection, contextlib.suppress(psycopg.errors.DivisionByZero), connection.transaction():
        row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
        connection.execute("UPDATE orders SET n = 1 / 0")
    assert row is not None
    lab.archived()
    with pytest.raises(Refused, match="it was rolled back"):
        find(lab.tools(), row[0])
