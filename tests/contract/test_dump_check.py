"""The second check of a restored dump: rows, definitions, sequences, large objects, and what is not restored."""

from __future__ import annotations

import json
import shutil
import sys
import uuid
from typing import TYPE_CHECKING

import psycopg
import pytest
from cli_shell import backout
from kept import template
from values import replace

from backout.providers.memory import WorldClock
from backout.providers.postgres.backup.dumps import PostgresDumps
from backout.providers.postgres.comparison.dump_check import check_catalog, reading_figures
from backout.providers.postgres.server.binaries import Binaries, find_binaries
from backout.providers.postgres.server.launcher import PostgresServer
from backout.runbook.backup.dump import DumpTools, dump, restore, verify

from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWORD = "canary-of-the-check"
SCHEMA = """
CREATE ROLE app; CREATE ROLE reporting; CREATE SCHEMA shop AUTHORIZATION app;
CREATE TYPE shop.state AS ENUM ('open', 'paid'); CREATE DOMAIN shop.cents AS bigint DEFAULT 0 CHECK (VALUE >= 0);
CREATE TABLE shop.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, state shop.state, total shop.cents,
  gone int, note text COLLATE "C", doubled bigint GENERATED ALWAYS AS (id * 2) STORED);
ALTER TABLE shop.orders DROP COLUMN gone; ALTER TABLE shop.orders ALTER COLUMN note SET STATISTICS 7;
CREATE TABLE shop.lines (order_id bigint REFERENCES shop.orders, at date NOT NULL, CHECK (order_id > 0))
  PARTITION BY RANGE (at);
CREATE TABLE shop.lines_1 PARTITION OF shop.lines FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE INDEX lines_at ON shop.lines (at); CREATE UNIQUE INDEX ON shop.orders (lower(note)) WHERE total > 5;
CREATE SEQUENCE shop.numbers INCREMENT BY -5; CREATE SEQUENCE shop.unused;
CREATE VIEW shop.paid WITH (security_barrier) AS SELECT id, note FROM shop.orders WHERE state = 'paid';
CREATE MATERIALIZED VIEW shop.sums AS SELECT count(*) FROM shop.lines;
CREATE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql SET search_path = shop, pg_temp AS
  $$BEGIN RETURN NEW; END$$;
CREATE FUNCTION shop.twice(n int) RETURNS int LANGUAGE sql IMMUTABLE BEGIN ATOMIC SELECT n * 2; END;
CREATE AGGREGATE shop.total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
CREATE TRIGGER touched BEFORE UPDATE ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.touch();
ALTER TABLE shop.orders DISABLE TRIGGER touched;
CREATE RULE nothing AS ON DELETE TO shop.orders DO INSTEAD NOTHING;
CREATE STATISTICS shop.correlated ON state, total FROM shop.orders;
ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY; ALTER TABLE shop.orders FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON shop.orders TO reporting USING (total < 100);
CREATE COLLATION shop.plain FROM "C"; CREATE TYPE shop.pair AS (a int, b text);
CREATE TYPE shop.span AS RANGE (subtype = int);
COMMENT ON COLUMN shop.orders.total IS 'in cents';
INSERT INTO shop.orders (state, total, note) SELECT 'paid', i, 'order ' || i FROM generate_series(1, 30) AS i;
INSERT INTO shop.lines SELECT i, '2026-05-05' FROM generate_series(1, 20) AS i;
SELECT nextval('shop.numbers'), nextval('shop.numbers');
SELECT lo_from_bytea(4711, decode(repeat('0badcafe', 200000), 'hex'));
ALTER TABLE shop.orders OWNER TO app; ALTER FUNCTION shop.twice(int) OWNER TO app;
GRANT SELECT, INSERT ON shop.orders TO reporting; GRANT UPDATE (note) ON shop.orders TO reporting WITH GRANT OPTION;
GRANT USAGE ON SCHEMA shop TO reporting; REVOKE EXECUTE ON FUNCTION shop.twice(int) FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA shop GRANT SELECT ON TABLES TO reporting;
"""
NOT_RESTORED = {
    "ALTER TABLE shop.orders OWNER TO app",
    "ALTER ROUTINE shop.twice(integer) OWNER TO app",
    "ALTER SCHEMA shop OWNER TO app",
    "GRANT INSERT, SELECT ON TABLE shop.orders TO reporting",
    "GRANT UPDATE (note) ON TABLE shop.orders TO reporting WITH GRANT OPTION",
    "GRANT USAGE ON SCHEMA shop TO reporting",
    "REVOKE ALL ON ROUTINE shop.twice(integer) FROM PUBLIC",
    "ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA shop GRANT SELECT ON TABLES TO reporting",
}
CONFIGURATION = """
[app]
name = "shop"
[environments.staging]
platform = {{ provider = "cloudflare", account_id = "0123456789abcdef0123456789abcdef", script = "shop" }}
[environments.staging.database]
provider = "postgres"
url_env = "DATABASE_URL"
{binaries}
"""
MEDDLER = """#!{python}
import os, subprocess, sys
import psycopg
done = subprocess.run(["{real}", *sys.argv[1:]])
database = [each for each in sys.argv if each.startswith("--dbname=")]
if database and not done.returncode:
    with psycopg.connect(database[0].removeprefix("--dbname="), autocommit=True) as connection:
        connection.execute({sql!r})
sys.exit(done.returncode)
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("check-server")
    server = PostgresServer(folder / "data", find_binaries(), settings={"fsync": "off"})
    server.create(cache_directory=template())
    port = server.start(password=PASSWORD).port
    with psycopg.connect(f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE shop")
    with psycopg.connect(f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/shop", autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
    yield f"127.0.0.1:{port}"
    server.stop(mode="immediate")


def url(address: str, database: str = "shop") -> str:
    return f"postgresql://postgres:{PASSWORD}@{address}/{database}"


def empty(address: str) -> str:
    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(url(address), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return url(address, name)


def tools(folder: Path, dsn: str, binaries: Binaries | None = None) -> DumpTools:
    clock = WorldClock(1_795_600_800.0)
    made = PostgresDumps(folder / "dumps", lambda: dsn, lambda: binaries or find_binaries(), clock)
    return DumpTools(made, made, clock, 86400.0)


def meddling(folder: Path, sql: str) -> Binaries:
    """Programs whose pg_restore restores as always, and then runs something else in that database."""
    folder.mkdir()
    for program in find_binaries().directory.iterdir():
        (folder / program.name).symlink_to(program)
    (folder / "pg_restore").unlink()
    real = find_binaries().path("pg_restore")
    (folder / "pg_restore").write_text(MEDDLER.format(python=sys.executable, real=real, sql=sql))
    (folder / "pg_restore").chmod(0o755)
    return Binaries(folder)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, address: str) -> Path:
    """A folder with a dump that its own restore proved."""
    folder = tmp_path_factory.mktemp("checked")
    done = dump(tools(folder, url(address)))
    assert done.dump is not None
    assert (done.dump.problem, done.dump.no_figures) == ("", "")
    return folder


@pytest.mark.long
def test_a_restore_is_compared_and_names_the_owners_and_privileges_that_it_leaves(kept: Path, address: str) -> None:
    """Nothing differs in any kind of object; each statement is one that makes it so again, and then nothing is left."""
    made = tools(kept, url(address))
    (found,) = made.dumps.list_dumps()
    assert found.figures is not None
    assert len(found.figures.definitions) > 40
    target = empty(address)
    check = restore(made, found, target).check
    assert (check.differs, check.not_compared, check.failed) == ((), (), "")
    assert (check.tables, check.rows, check.sequences, check.large_objects) == (2, 50, 3, 1)
    assert check.definitions == len(found.figures.definitions)
    assert set(check.not_restored) >= NOT_RESTORED
    with psycopg.connect(target, autocommit=True) as connection:
        for statement in check.not_restored:
            connection.execute(statement.encode())
    assert check_catalog(target, found) == replace(check, tables=0, rows=0, large_objects=0, not_restored=())


BROKEN = {
    "UPDATE shop.lines SET order_id = 21 WHERE order_id = 3": "table shop.lines_1 has other content in its 20 rows",
    "SELECT setval('shop.numbers', -1, false)": "sequence shop.numbers stands at its start, and stood at -6",
    "SELECT nextval('shop.unused')": "",
    "ALTER TABLE shop.orders ENABLE TRIGGER touched": "trigger touched of shop.orders is another one",
    "ALTER TABLE shop.orders ALTER COLUMN note SET DEFAULT 'x'": "column shop.orders.note is another one",
    "ALTER TYPE shop.state ADD VALUE 'sent'": "type shop.state is another one",
    "SELECT lo_put(4711, 300000, '\\x00')": "large object 4711 is another one",
    "DROP POLICY own ON shop.orders": "policy own of shop.orders is missing",
    "DROP INDEX shop.lines_at": "index shop.lines_at is missing",
    "ALTER TABLE shop.orders DROP CONSTRAINT orders_pkey CASCADE": "constraint orders_pkey of shop.orders is missing",
    "COMMENT ON COLUMN shop.orders.total IS 'in euros'": "comment on table column shop.orders.total is another one",
    "CREATE FUNCTION shop.twice(n bigint) RETURNS bigint RETURN n": "routine shop.twice(bigint) was not in it",
}


@pytest.mark.long
def test_a_restore_that_went_wrong_is_found(kept: Path, address: str, tmp_path: Path) -> None:
    """Whatever pg_restore says of itself, here by one that spoils what it restored: each thing is named."""
    made = tools(kept, url(address), meddling(tmp_path / "bin", "; ".join(BROKEN)))
    (found,) = made.dumps.list_dumps()
    check = restore(made, found, empty(address)).check
    assert set(check.differs) >= {what for what in BROKEN.values() if what}
    assert not [each for each in check.differs if "unused" in each], (
        "a sequence that is further on hands out nothing twice"
    )


@pytest.mark.long
def test_a_proof_that_went_wrong_is_none(kept: Path, address: str, tmp_path: Path) -> None:
    """The second check is a part of the proof; another proof mends what the first one said."""
    (found,) = tools(kept, url(address)).dumps.list_dumps()
    proof = verify(tools(kept, url(address), meddling(tmp_path / "bin", "DROP POLICY own ON shop.orders")), found)
    assert (proof.problem, proof.verified_at) == ("policy own of shop.orders is missing", None)
    assert verify(tools(kept, url(address)), found).problem == ""


@pytest.mark.long
def test_the_command_says_what_was_compared_and_exits_by_it(kept: Path, address: str, tmp_path: Path) -> None:
    """In its sentence, in JSON and in the journal; a dump of an earlier version says what was not compared."""
    for name, binaries, code, said in (
        ("good", None, 0, "50 rows of 2 tables"),
        ("bad", meddling(tmp_path / "bin", "DROP VIEW shop.paid"), 1, "NOT AS DUMPED: relation shop.paid is missing"),
        ("old", None, 0, "not compared: definitions, sequences and large objects: the dump has no figures"),
    ):
        folder = tmp_path / name
        held = folder / ".backout" / "backups" / "staging" / "dumps"
        shutil.copytree(kept / "dumps", held)
        if name == "old":
            (path,) = held.glob("*.json")
            told = json.loads(path.read_text())
            path.write_text(json.dumps({key: told[key] for key in told if key not in ("figures", "no_figures")}))
        where = f"binaries = {str(binaries.directory)!r}" if binaries else ""
        (folder / "backout.toml").write_text(CONFIGURATION.format(binaries=where))
        variables = {"DATABASE_URL": url(address), "TARGET_URL": empty(address)}
        typed = ("db", "dumps", "restore", "20261125T100000Z", "--into", "TARGET_URL", "--yes")
        answer = backout(folder, *typed, variables=variables)
        assert (answer.code, PASSWORD in answer.out + answer.err) == (code, False), answer.err
        assert said in answer.out
        assert ("ALTER TABLE shop.orders OWNER TO app" in answer.out) == (name != "old")
        journal = b"".join(path.read_bytes() for path in (folder / ".backout").glob("journal*"))
        assert b"second_check" in journal


def test_what_reads_along_with_a_dump_ends_with_it(address: str) -> None:
    """A dump that fails leaves no session behind: here one that waits for a table."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop' AND wait_event_type = 'Lock'"
    with psycopg.connect(url(address)) as owner, psycopg.connect(url(address, "postgres"), autocommit=True) as other:

        def waits() -> bool:
            return other.execute(waiting).fetchone() != (0,)

        def read_along(snapshot: str) -> None:
            with reading_figures(url(address), snapshot):
                until(waits, what="the check waits for the table")
                raise KeyboardInterrupt

        snapshot = owner.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
        owner.execute("LOCK TABLE shop.orders")
        with pytest.raises(KeyboardInterrupt):
            read_along(str(snapshot[0]))
        until(lambda: not waits(), what="its session is gone")
