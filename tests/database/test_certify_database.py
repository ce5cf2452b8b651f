"""The database of a trial on a real Postgres: rows made up, losses found, statements heard, rows read again counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import psycopg
import pytest
from kept import template

from backout.analysis.compatibility import judge
from backout.errors import BackoutError, Busy, Refused
from backout.model.database.certificate import HeardStatement, RowLoss
from backout.model.database.compatibility import Compatibility, MigrationFile, Reversible
from backout.providers.postgres.certify.aside import SetAside
from backout.providers.postgres.certify.cloning import copy_rows
from backout.providers.postgres.certify.database import CertifyDatabase
from backout.providers.postgres.certify.log import ServerLog
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA = """
CREATE TYPE status AS ENUM ('new', 'paid');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE users (id uuid PRIMARY KEY, email varchar(12) UNIQUE NOT NULL, extra jsonb NOT NULL,
                    kind text NOT NULL CHECK (kind IN ('a', 'b')), born date NOT NULL, tags text[] NOT NULL,
                    active bool NOT NULL);
CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id uuid NOT NULL REFERENCES users,
                     state status NOT NULL DEFAULT 'new', total numeric(10, 2) NOT NULL CHECK (total >= 100),
                     amount positive NOT NULL, note text, at timestamptz NOT NULL DEFAULT now());
CREATE TABLE items (order_id int NOT NULL REFERENCES orders, name text NOT NULL, PRIMARY KEY (order_id, name));
CREATE TABLE notes (text text);
CREATE TABLE odd (shape polygon NOT NULL);
"""


class Lab(NamedTuple):
    """A database with the schema, and its connection string."""

    database: CertifyDatabase
    url: str
    empty: tuple[str, ...]

    def migrate(self, sql: str) -> str:
        return self.database.migrate([MigrationFile("next", sql)])


class Server(NamedTuple):
    """A server with a filled database, of which each test gets a copy."""

    url: str
    log: Path
    empty: tuple[str, ...]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = PostgresServer(tmp_path_factory.mktemp("certify") / "data", find_binaries(), settings={"fsync": "off"})
    running.create(cache_directory=template())
    status = running.start(password="trial")
    url = f"postgresql://postgres:trial@127.0.0.1:{status.port}/"
    database = CertifyDatabase(f"{url}postgres", ServerLog(running.log_file))
    yield Server(
        url, running.log_file, database.prepare([MigrationFile("first", SCHEMA)], "INSERT INTO notes VALUES ('seed')")
    )
    running.stop(mode="immediate")


@pytest.fixture
def lab(server: Server) -> Lab:
    with psycopg.connect(f"{server.url}template1", autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS trial WITH (FORCE)")
        connection.execute("CREATE DATABASE trial TEMPLATE postgres")
    url = f"{server.url}trial"
    return Lab(CertifyDatabase(url, ServerLog(server.log)), url, server.empty)


def test_rows_are_made_up_from_the_schema(lab: Lab) -> None:
    """Keys, references, enumerations, domains and checks are kept; a table that defeats it is named."""
    rows = lab.database.read_rows()
    assert {name: len(table.rows) for name, table in rows.items()} == {
        "users": 12, "orders": 12, "items": 12, "notes": 1, "odd": 0,
    }  # fmt: skip
    assert lab.empty == ("odd",)
    assert rows["orders"].key == ("id",)
    assert set(rows["orders"].plain) == {"state", "total", "amount", "note"}


@pytest.mark.parametrize(
    ("sql", "losses"),
    [
        ("ALTER TABLE orders ADD COLUMN more text NOT NULL DEFAULT ''", []),
        ("ALTER TABLE orders ALTER total TYPE numeric(14, 4), ALTER amount TYPE bigint", []),
        ("ALTER TABLE users ALTER email TYPE text", []),
        ("ALTER TABLE users ALTER extra TYPE json", []),
        ("ALTER TABLE orders ALTER at TYPE date", [("orders", "at", 12)]),
        ("ALTER TABLE orders DROP COLUMN note", [("orders", "note", 12)]),
        ("ALTER TABLE users ALTER email TYPE varchar(8) USING left(id::text, 8)", [("users", "email", 12)]),
        ("DROP TABLE notes", [("notes", "", 1)]),
        ("TRUNCATE notes", [("notes", "", 1)]),
        ("DROP TABLE odd", [("odd", "", 0)]),
        ("ALTER TABLE odd DROP COLUMN shape", [("odd", "shape", 0)]),
        ("DELETE FROM items WHERE order_id < 3", [("items", "", 2)]),
        ("UPDATE orders SET note = upper(note) WHERE id = 1", [("orders", "note", 1)]),
        ("ALTER TABLE notes RENAME TO remarks; CREATE VIEW notes AS SELECT * FROM remarks", []),
        ("ALTER TABLE notes RENAME TO remarks", [("notes", "", 1)]),
    ],
)  # fmt: skip
def test_what_a_migration_takes_is_found(lab: Lab, sql: str, losses: list[tuple[str, str, int]]) -> None:
    """Rows and values that are not there any more, whatever type or place they have now."""
    before = lab.database.read_rows()
    assert lab.migrate(sql) == ""
    assert lab.database.find_losses(before) == tuple(RowLoss(*loss) for loss in losses)


def test_a_migration_that_fails_leaves_nothing(lab: Lab) -> None:
    """The script is one transaction; one that may not be in any runs a statement at a time."""
    said = lab.migrate("CREATE TABLE half (a int); ALTER TABLE orders ADD COLUMN b int NOT NULL")
    assert said == 'next: column "b" of relation "orders" contains null values (23502)'
    assert "half" not in lab.database.read_rows()
    assert lab.migrate("CREATE INDEX CONCURRENTLY i ON orders (note); CREATE TABLE whole (a int)") == ""
    assert "whole" in lab.database.read_rows()
    with pytest.raises(BackoutError, match="the schema of the old code cannot be built"):
        lab.database.prepare([MigrationFile("broken", "CREATE TABLE")])


def test_the_server_tells_what_it_was_sent(lab: Lab) -> None:
    """Simple and prepared statements with their values, of several lines, and errors; our own sessions are left out."""
    lab.database.take_statements()
    with psycopg.connect(lab.url, autocommit=True, application_name="app | @ 7") as connection:
        connection.execute("SELECT id FROM orders WHERE note = %s AND id > %s", ["it's\nso", 3], prepare=True)
        connection.execute("SELECT\n\t1")
        for broken in ("SELECT gone FROM orders", "INSERT INTO notes VALUES ('a', 'b')"):
            with pytest.raises(psycopg.Error):
                connection.execute(broken)
        with pytest.raises(psycopg.Error):
            connection.execute("INSERT INTO items VALUES (%s, %s)", [999_999, None], prepare=True)
    lab.database.read_rows()
    assert lab.database.take_statements() == (
        HeardStatement("SELECT id FROM orders WHERE note = $1 AND id > $2", ("it's\nso", "3")),
        HeardStatement("SELECT\n\t1"),
        HeardStatement("SELECT gone FROM orders", (), "42703", 'column "gone" does not exist'),
        HeardStatement(
            "INSERT INTO notes VALUES ('a', 'b')", (), "42601", "INSERT has more expressions than target columns"
        ),
        HeardStatement(
            "INSERT INTO items VALUES ($1, $2)", ("999999", None), "23502",
            'null value in column "name" of relation "items" violates not-null constraint',
        ),
    )  # fmt: skip
    assert lab.database.take_statements() == ()


def test_rows_count_as_read_where_the_result_depends_on_them(lab: Lab) -> None:
    """By key, in a list, in a sum, by an update: yes. Scanned and left out, counted beside, random: no."""
    rows = {"orders": [(str(number),) for number in (1, 2, 3)], "notes": [("seed", "1")]}

    def count(*statements: tuple[str, tuple[str | None, ...]]) -> int:
        heard = [HeardStatement(sql, values) for sql, values in statements]
        return lab.database.count_read_again(rows, heard)

    assert count(("SELECT note FROM orders WHERE id = $1", ("2",))) == 1
    assert count(("SELECT * FROM orders ORDER BY id LIMIT 2", ())) == 2
    assert count(("SELECT * FROM orders ORDER BY id DESC LIMIT 2", ())) == 0
    assert count(("SELECT sum(total) FROM orders", ())) == 3
    assert count(("UPDATE orders SET note = 'x' WHERE id = $1", ("3",))) == 1
    assert count(("SELECT text FROM notes", ())) == 1
    assert count(("SELECT id, random() FROM orders", ())) == 0
    assert count(("SELECT gone FROM orders", ()), ("SELECT 1", ())) == 0
    assert count(("SELECT 1 FROM orders WHERE id = 1", ()), ("SELECT 1 FROM orders WHERE id = 2", ())) == 2
    assert len(lab.database.read_rows()["orders"].rows) == 12


def test_rows_are_copied_and_no_code_of_that_database(server: Server) -> None:
    """The rows of a real database come into the schema of the migrations; its functions and triggers stay there."""
    with psycopg.connect(f"{server.url}template1", autocommit=True) as connection:
        for name in ("source", "trial"):
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
        connection.execute("CREATE DATABASE source TEMPLATE postgres")
        connection.execute("CREATE DATABASE trial TEMPLATE template0")
    source = f"{server.url}source"
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("CREATE TABLE _prisma_migrations (id text)")
        connection.execute("INSERT INTO _prisma_migrations VALUES ('1')")
        connection.execute("CREATE FUNCTION trap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''run''; END'")
        connection.execute("CREATE TRIGGER trap BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION trap()")
    database = CertifyDatabase(f"{server.url}trial", ServerLog(server.log))

    def copy(target: str) -> None:
        copy_rows(source, target, find_binaries())

    assert database.prepare([MigrationFile("first", SCHEMA)], copy=copy) == ()
    expected = CertifyDatabase(source, ServerLog(server.log)).read_rows()
    assert {name: table.rows for name, table in database.read_rows().items()} == {
        name: table.rows for name, table in expected.items()
    }
    with psycopg.connect(f"{server.url}trial", autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal").fetchone() == (0,)
    database.clear()
    other = SCHEMA.replace("note text, at", "remark text, at")
    with pytest.raises(BackoutError, match=r"the rows cannot be copied: .*note"):
        database.prepare([MigrationFile("first", other)], copy=copy)


ROLES = """
DROP DATABASE IF EXISTS shop WITH (FORCE)
DROP DATABASE IF EXISTS shop_backout_aside WITH (FORCE)
DROP DATABASE IF EXISTS shop_backout_trial WITH (FORCE)
DROP ROLE IF EXISTS owner, visitor
CREATE ROLE owner LOGIN PASSWORD 'own' CREATEDB
CREATE ROLE visitor LOGIN PASSWORD 'own'
CREATE DATABASE shop OWNER owner
REVOKE ALL ON DATABASE shop FROM PUBLIC
GRANT CONNECT ON DATABASE shop TO visitor
ALTER DATABASE shop SET search_path TO app, public
"""
ABOUT = """
SELECT pg_get_userbyid(datdba), encoding, datcollate, datctype, datacl::text, datallowconn,
  (SELECT array_agg(setrole::regrole || ' ' || setconfig::text ORDER BY 1) FROM pg_db_role_setting s
    WHERE s.setdatabase = d.oid)
FROM pg_database d WHERE datname = 'shop'
"""
NAMES = "SELECT datname, oid, datallowconn FROM pg_database WHERE datname LIKE 'shop%' ORDER BY 1"


def ask(url: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


def test_a_database_is_set_aside_and_taken_back(server: Server) -> None:
    """By a plain role that owns it: the empty one has its rights and settings, and its own rows are never touched."""
    with psycopg.connect(f"{server.url}postgres", autocommit=True) as connection:
        for statement in ROLES.strip().splitlines():
            connection.execute(statement.encode())
    url = server.url.replace("postgres:trial", "owner:own")
    with psycopg.connect(f"{url}shop", autocommit=True) as session:
        session.execute("CREATE TABLE kept AS SELECT 1 AS a")
        before, oid = ask(f"{server.url}postgres", ABOUT), ask(f"{url}shop", "SELECT 'kept'::regclass::oid")
        aside = SetAside(f"{url}shop", "shop")
        assert not aside.is_left()
        with pytest.raises(BackoutError, match="the lock"):
            aside.make()
        with aside.hold():
            aside.make()
            assert aside.is_left()
            aside.exchange()
        assert session.closed or ask(f"{url}shop", "SELECT to_regclass('kept')") == [(None,)]
    assert ask(f"{server.url}postgres", ABOUT) == before
    with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
        psycopg.connect(f"{url}shop_backout_aside")
    for _ in range(2):
        aside.take_back()
        assert ask(f"{server.url}postgres", ABOUT) == before
        assert ask(f"{url}shop", "SELECT 'kept'::regclass::oid") == oid
    assert not aside.is_left()


def test_no_one_takes_back_what_a_running_trial_set_aside(server: Server) -> None:
    """The lock is of its session: free once that has ended, and then the trial does nothing more in any database."""
    with psycopg.connect(f"{server.url}postgres", autocommit=True) as connection:
        for statement in ROLES.strip().splitlines():
            connection.execute(statement.encode())
        url = server.url.replace("postgres:trial", "owner:own")
        running, other = SetAside(f"{url}shop", "shop"), SetAside(f"{server.url}shop", "shop")
        with running.hold():
            running.make()
            running.exchange()
            before = ask(f"{server.url}postgres", NAMES)
            with pytest.raises(Busy, match="a trial runs there"):
                other.take_back()
            with pytest.raises(Busy, match="a trial runs there"), other.hold():
                pass
            assert ask(f"{server.url}postgres", NAMES) == before
            connection.execute(b"SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
            with pytest.raises(BackoutError, match="was lost"):
                running.check_held()
            other.take_back()
            with other.hold(), pytest.raises(Busy, match="a trial runs there"):
                running.take_back()
            with pytest.raises(BackoutError, match="was lost"):
                running.make()
        assert [row[0] for row in ask(f"{server.url}postgres", NAMES)] == ["shop"]


def test_a_trial_writes_to_the_database_that_it_made_alone(server: Server) -> None:
    """Another one has its name meanwhile: neither a migration nor a row to be tried reaches it."""
    with psycopg.connect(f"{server.url}postgres", autocommit=True) as connection:
        for statement in ROLES.strip().splitlines():
            connection.execute(statement.encode())
        aside, url = SetAside(f"{server.url}shop", "shop"), f"{server.url}shop"
        with psycopg.connect(url, autocommit=True) as session:
            session.execute("CREATE TABLE public.kept AS SELECT 1 AS a")
        with aside.hold():
            aside.make()
            aside.exchange()
            database = CertifyDatabase(url, ServerLog(server.log), ask=lambda: (), oid=aside.oid)
            assert database.migrate([MigrationFile("first", "CREATE TABLE public.ours (a int)")]) == ""
            aside.take_back()
        file = MigrationFile("next", "DROP TABLE public.kept")
        for act in (lambda: database.migrate([file]), database.clear, lambda: database.count_read_again({}, ())):
            with pytest.raises(BackoutError, match="shop is not the database that was made for the trial"):
                act()
    assert ask(url, "SELECT a FROM public.kept") == [(1,)]


def test_what_another_put_under_the_name_of_the_trial_is_not_ours(server: Server) -> None:
    """A database that is there already is none that was begun, so that nothing of it is thrown away."""
    with psycopg.connect(f"{server.url}postgres", autocommit=True) as connection:
        for statement in ROLES.strip().splitlines():
            connection.execute(statement.encode())
        connection.execute("CREATE DATABASE shop_backout_trial")
    aside = SetAside(f"{server.url}shop", "shop")
    with aside.hold(), pytest.raises(BackoutError, match="already exists"):
        aside.make()
    assert not aside.is_begun


def test_a_database_that_no_trial_made_is_not_thrown_away(server: Server) -> None:
    """Someone has put one of that name there by hand meanwhile."""
    with psycopg.connect(f"{server.url}postgres", autocommit=True) as connection:
        for statement in ROLES.strip().splitlines():
            connection.execute(statement.encode())
        connection.execute("ALTER DATABASE shop RENAME TO shop_backout_aside")
        connection.execute("CREATE DATABASE shop")
        with pytest.raises(Refused, match="is none that a trial made"):
            SetAside(f"{server.url}shop", "shop").take_back()
        connection.execute("DROP DATABASE shop WITH (FORCE)")
        SetAside(f"{server.url}shop", "shop").take_back()
        assert connection.execute("SELECT count(*) FROM pg_database WHERE datname ~ '^shop'").fetchone() == (1,)


BY_ALEMBIC = (
    """BEGIN;

CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

-- Running upgrade  -> a1

CREATE TABLE parcels (
    id SERIAL NOT NULL,
    total INTEGER NOT NULL,
    PRIMARY KEY (id)
);

INSERT INTO alembic_version (version_num) VALUES ('a1') RETURNING alembic_version.version_num;

COMMIT;
""",
    """BEGIN;

-- Running upgrade a1 -> b2

ALTER TABLE parcels ADD COLUMN note TEXT;

UPDATE alembic_version SET version_num='b2' WHERE alembic_version.version_num = 'a1';

COMMIT;
""",
)
"""As `alembic upgrade base:a1 --sql` and `alembic upgrade a1:b2 --sql` print them (1.20.1)."""


def test_what_alembic_prints_is_tried_as_any_other_sql(lab: Lab) -> None:
    """With its transactions in it, and its own record of versions, which is nobody's row and no doubt."""
    for text in BY_ALEMBIC:
        assert lab.migrate(text) == ""
    assert lab.database.read_rows()["parcels"].columns == ("id", "total", "note")
    assert "alembic_version" not in lab.database.read_rows()
    files = [MigrationFile(str(number), text) for number, text in enumerate(BY_ALEMBIC)]
    assert {each.reversible for verdict in judge(files)[1:] for each in verdict.statements} == {
        Reversible.YES,
        Reversible.IF,
    }
    assert judge(files)[1].verdict is Compatibility.SAFE
