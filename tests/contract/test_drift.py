"""A schema with every kind of object against itself; each kind of change found, and undone by its own statements."""

from __future__ import annotations

import contextlib
import random
import uuid
from typing import TYPE_CHECKING

import psycopg
import pytest
from kept import template

from backout.analysis.recovery.drift import find_differences, write_script
from backout.errors import AuthError, ProviderUnavailable
from backout.model.database.catalog import Change, ObjectKind
from backout.providers.postgres.schema.catalog import PostgresCatalog
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer

from extent import ALL, PROOF
from scripted_server import refused_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.model.database.catalog import Difference, SchemaObject

    from conftest import Record

EVERYTHING = """
CREATE SCHEMA shop;
CREATE EXTENSION pg_trgm;
CREATE TYPE shop.mood AS ENUM ('sad', 'it''s ok');
CREATE TYPE shop.address AS (street text, "No" int);
CREATE TYPE shop.floats AS RANGE (subtype = float8);
CREATE DOMAIN shop.cents AS bigint DEFAULT 0 NOT NULL CHECK (VALUE >= 0);
CREATE SEQUENCE shop.numbers AS int START 5 INCREMENT 2 MAXVALUE 1000 CYCLE;
CREATE TABLE shop.users (
  id bigint GENERATED ALWAYS AS IDENTITY (START 10) PRIMARY KEY, email varchar(50) NOT NULL UNIQUE,
  "Display Name" text COLLATE "C" DEFAULT 'x', mood shop.mood NOT NULL DEFAULT 'sad', price shop.cents,
  upper text GENERATED ALWAYS AS (upper(email)) STORED, at timestamptz(3) DEFAULT now(), n numeric(10, 2),
  CONSTRAINT "long enough" CHECK (length(email) > 2)
) WITH (fillfactor = 70);
CREATE TABLE orders (
  id serial PRIMARY KEY, user_id bigint NOT NULL REFERENCES shop.users ON DELETE CASCADE, span int4range,
  number int DEFAULT nextval('shop.numbers'), EXCLUDE USING gist (span WITH &&)
);
CREATE UNLOGGED TABLE scratch (n int);
CREATE TABLE events (id int, at date NOT NULL, note text) PARTITION BY RANGE (at);
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE INDEX events_at ON events (at);
CREATE TABLE kinds (k text); CREATE TABLE special (extra int) INHERITS (kinds);
CREATE UNIQUE INDEX users_lower ON shop.users (lower(email) text_pattern_ops) INCLUDE (n) WHERE n > 0;
CREATE STATISTICS shop.together ON email, n FROM shop.users;
CREATE FUNCTION shop.twice(n int, OUT r int) LANGUAGE sql IMMUTABLE AS 'SELECT 2 * n';
CREATE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$;
CREATE PROCEDURE clean() LANGUAGE sql AS 'DELETE FROM scratch';
CREATE VIEW a_names AS SELECT id, email FROM shop.users;
CREATE VIEW zz_base AS SELECT 1 AS one;
CREATE VIEW above WITH (security_barrier = true) AS SELECT one, a.id FROM zz_base, a_names a;
CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS n FROM orders;
CREATE UNIQUE INDEX totals_n ON totals (n);
CREATE TRIGGER touch BEFORE UPDATE OF email ON shop.users FOR EACH ROW EXECUTE FUNCTION shop.touch();
CREATE TRIGGER silent AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION shop.touch();
ALTER TABLE orders DISABLE TRIGGER silent;
CREATE RULE quiet AS ON DELETE TO scratch DO INSTEAD NOTHING;
ALTER TABLE orders ENABLE ROW LEVEL SECURITY; ALTER TABLE orders FORCE ROW LEVEL SECURITY;
CREATE POLICY mine ON orders AS RESTRICTIVE FOR UPDATE TO postgres, pg_monitor
  USING (user_id > 0) WITH CHECK (user_id > 1);
CREATE TABLE _prisma_migrations (id text PRIMARY KEY);
CREATE SCHEMA drizzle; CREATE TABLE drizzle.__drizzle_migrations (id serial PRIMARY KEY, hash text NOT NULL);
"""

CHANGES = [
    ("CREATE SCHEMA other; CREATE TABLE other.t (n int)", [("schema", "other", "extra")]),
    ("DROP EXTENSION pg_trgm", [("extension", "pg_trgm", "missing")]),
    ("ALTER TYPE shop.mood ADD VALUE 'glad' BEFORE 'sad'", [("enum", "shop.mood", "different")]),
    ("ALTER TYPE shop.mood RENAME VALUE 'sad' TO 'blue'", [
        ("enum", "shop.mood", "different"), ("default", "shop.users.mood", "different"),
    ]),
    ("ALTER TYPE shop.address ADD ATTRIBUTE city text", [("type", "shop.address", "different")]),
    ("ALTER DOMAIN shop.cents DROP NOT NULL", [("domain", "shop.cents", "different")]),
    ("ALTER DOMAIN shop.cents SET DEFAULT 7", [("domain", "shop.cents", "different")]),
    ("ALTER DOMAIN shop.cents ADD CONSTRAINT few CHECK (VALUE < 9)", [
        ("domain constraint", "shop.cents.few", "extra"),
    ]),
    ("ALTER SEQUENCE shop.numbers INCREMENT 3 NO CYCLE", [("sequence", "shop.numbers", "different")]),
    ("ALTER SEQUENCE orders_id_seq OWNED BY NONE", [("sequence owner", "public.orders_id_seq", "missing")]),
    ("CREATE TABLE extra (id serial PRIMARY KEY, u bigint REFERENCES shop.users)", [
        ("foreign key", "public.extra.extra_u_fkey", "extra"), ("table", "public.extra", "extra"),
    ]),
    ("DROP TABLE scratch CASCADE", [
        ("table", "public.scratch", "missing"), ("rule", "public.scratch.quiet", "missing"),
    ]),
    ("DROP TABLE orders CASCADE", [
        ("sequence", "public.orders_id_seq", "missing"), ("table", "public.orders", "missing"),
        ("default", "public.orders.id", "missing"), ("default", "public.orders.number", "missing"),
        ("sequence owner", "public.orders_id_seq", "missing"),
        ("constraint", "public.orders.orders_pkey", "missing"),
        ("constraint", "public.orders.orders_span_excl", "missing"),
        ("view", "public.totals", "missing"), ("index", "public.totals_n", "missing"),
        ("foreign key", "public.orders.orders_user_id_fkey", "missing"), ("trigger", "public.orders.silent", "missing"),
        ("row security", "public.orders.enable", "missing"), ("row security", "public.orders.force", "missing"),
        ("policy", "public.orders.mine", "missing"),
    ]),
    ("ALTER TABLE scratch SET LOGGED", [("table", "public.scratch", "different")]),
    ("ALTER TABLE events DETACH PARTITION events_2026", [
        ("table", "public.events_2026", "different"), ("column", "public.events_2026.at", "extra"),
        ("column", "public.events_2026.id", "extra"), ("column", "public.events_2026.note", "extra"),
        ("index", "public.events_2026_at_idx", "extra"),
    ]),
    ("ALTER TABLE scratch ADD COLUMN m text NOT NULL DEFAULT 'x'", [("column", "public.scratch.m", "extra")]),
    ("ALTER TABLE orders DROP COLUMN number", [
        ("column", "public.orders.number", "missing"), ("default", "public.orders.number", "missing"),
    ]),
    ("ALTER TABLE shop.users ALTER COLUMN n TYPE numeric(12, 4)", [("column", "shop.users.n", "different")]),
    ('ALTER TABLE shop.users ALTER COLUMN "Display Name" TYPE text COLLATE "POSIX"', [
        ("column", 'shop.users."Display Name"', "different"),
    ]),
    ("ALTER TABLE shop.users ALTER COLUMN mood DROP NOT NULL", [("column", "shop.users.mood", "different")]),
    ("ALTER TABLE shop.users ALTER COLUMN id SET GENERATED BY DEFAULT", [("column", "shop.users.id", "different")]),
    ("ALTER TABLE shop.users ALTER COLUMN id DROP IDENTITY", [("column", "shop.users.id", "different")]),
    ("ALTER TABLE shop.users ALTER COLUMN upper DROP EXPRESSION", [("column", "shop.users.upper", "different")]),
    ("ALTER TABLE shop.users ALTER COLUMN at DROP DEFAULT", [("default", "shop.users.at", "missing")]),
    ("ALTER TABLE scratch ALTER COLUMN n SET DEFAULT 3", [("default", "public.scratch.n", "extra")]),
    ("ALTER TABLE shop.users ALTER COLUMN at SET DEFAULT 'epoch'", [("default", "shop.users.at", "different")]),
    ('ALTER TABLE shop.users DROP CONSTRAINT "long enough"', [
        ("constraint", 'shop.users."long enough"', "missing"),
    ]),
    ("ALTER TABLE scratch ADD CONSTRAINT few CHECK (n < 9) NOT VALID", [
        ("constraint", "public.scratch.few", "extra"),
    ]),
    ("ALTER TABLE orders DROP CONSTRAINT orders_user_id_fkey, ADD CONSTRAINT orders_user_id_fkey FOREIGN KEY (user_id) REFERENCES shop.users", [  # noqa: E501
("foreign key", "public.orders.orders_user_id_fkey", "different")]),
    ("DROP INDEX shop.users_lower", [("index", "shop.users_lower", "missing")]),
    ("CREATE INDEX slow ON orders (user_id)", [("index", "public.slow", "extra")]),
    ("DROP STATISTICS shop.together", [("statistics", "shop.together", "missing")]),
    ("CREATE OR REPLACE FUNCTION shop.twice(n int, OUT r int) LANGUAGE sql IMMUTABLE AS 'SELECT 3 * n'", [
        ("function", "shop.twice(n integer, OUT r integer)", "different"),
    ]),
    ("DROP PROCEDURE clean", [("function", "public.clean()", "missing")]),
    ("CREATE OR REPLACE VIEW zz_base AS SELECT 2 AS one", [("view", "public.zz_base", "different")]),
    ("CREATE OR REPLACE VIEW above AS SELECT one, a.id, a.email FROM zz_base, a_names a", [
        ("view", "public.above", "different"),
    ]),
    ("DROP MATERIALIZED VIEW totals", [
        ("view", "public.totals", "missing"), ("index", "public.totals_n", "missing"),
    ]),
    ("DROP TRIGGER touch ON shop.users", [("trigger", "shop.users.touch", "missing")]),
    ("ALTER TABLE orders ENABLE TRIGGER silent", [("trigger", "public.orders.silent", "different")]),
    ("DROP RULE quiet ON scratch", [("rule", "public.scratch.quiet", "missing")]),
    ("ALTER TABLE orders NO FORCE ROW LEVEL SECURITY", [("row security", "public.orders.force", "missing")]),
    ("ALTER TABLE scratch ENABLE ROW LEVEL SECURITY", [("row security", "public.scratch.enable", "extra")]),
    ("ALTER POLICY mine ON orders USING (true)", [("policy", "public.orders.mine", "different")]),
    ("DROP POLICY mine ON orders", [("policy", "public.orders.mine", "missing")]),
]  # fmt: skip
FOR_A_PERSON = {"ALTER TYPE shop.mood ADD VALUE", "ALTER TYPE shop.address ADD", "ALTER TABLE events DETACH"}
"""What no single statement undoes."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("drift")
    server = PostgresServer(directory / "data", find_binaries(), settings={"fsync": "off"})
    server.create(cache_directory=template())
    port = server.start(password="canary-pw").port
    dsn = f"postgresql://postgres:canary-pw@127.0.0.1:{port}"
    run(f"{dsn}/postgres", "CREATE DATABASE everything")
    run(f"{dsn}/everything", EVERYTHING)
    yield dsn
    server.stop(mode="immediate")


def run(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement.encode())


@contextlib.contextmanager
def database(server: str) -> Iterator[str]:
    """Make a database with everything in it."""
    name = f"drift_{uuid.uuid4().hex[:12]}"
    run(f"{server}/postgres", f"CREATE DATABASE {name} TEMPLATE everything")
    yield f"{server}/{name}"
    run(f"{server}/postgres", f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def dsn(server: str) -> Iterator[str]:
    """A database with everything in it."""
    with database(server) as made:
        yield made


class Restored:
    """A database with everything in it, for one change after the other: who brought it back passes it on.

    To make one takes longer than all that a case does with it. In `make test-all` each case has its own.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self._left: contextlib.ExitStack | None = None
        self.is_as_it_was = False

    @contextlib.contextmanager
    def lend(self) -> Iterator[str]:
        """Lend it for a change, after which it is thrown away unless the case has set `is_as_it_was`."""
        if self._left is None:
            self._left = contextlib.ExitStack()
            self._dsn = self._left.enter_context(database(self._server))
        self.is_as_it_was = False
        yield self._dsn
        if ALL or not self.is_as_it_was:
            self.close()

    def close(self) -> None:
        """Throw it away."""
        if self._left is not None:
            self._left.close()
            self._left = None


@pytest.fixture(scope="module")
def restored(server: str) -> Iterator[Restored]:
    made = Restored(server)
    yield made
    made.close()


@pytest.fixture
def lent(restored: Restored) -> Iterator[str]:
    with restored.lend() as dsn:
        yield dsn


def read_catalog(dsn: str, ignore_schemas: tuple[str, ...] = ()) -> tuple[SchemaObject, ...]:
    return PostgresCatalog(lambda: dsn, ignore_schemas=ignore_schemas).read().objects


@pytest.fixture(scope="module")
def wanted(server: str) -> tuple[SchemaObject, ...]:
    """What stands in each database before its change; that a copy is equal to it has a test of its own."""
    return read_catalog(f"{server}/everything")


def told(found: tuple[Difference, ...]) -> list[tuple[str, str, str]]:
    return [(d.kind.value, d.name, d.change.value) for d in found]


def test_every_kind_is_read_and_equal_to_itself(server: str, dsn: str) -> None:
    """A copy differs in nothing, and reading twice gives the same, in the same order."""
    wanted = read_catalog(f"{server}/everything")
    assert {o.kind for o in wanted} == set(ObjectKind)
    assert read_catalog(dsn) == wanted
    assert find_differences(read_catalog(dsn), wanted) == ()
    names = " ".join(o.name for o in wanted)
    assert "_prisma_migrations" not in names
    assert "drizzle" not in names
    assert "similarity" not in names  # pg_trgm's


def test_all_of_it_can_be_built_from_nothing_and_removed_again(server: str, dsn: str) -> None:
    """The statements make the same schema; the other way round nothing of it stays."""
    run(f"{server}/postgres", "DROP DATABASE IF EXISTS fresh")
    run(f"{server}/postgres", "CREATE DATABASE fresh")
    nothing, wanted = read_catalog(f"{server}/fresh"), read_catalog(dsn)
    run(f"{server}/fresh", "\n".join(write_script(find_differences(nothing, wanted))))
    assert find_differences(read_catalog(f"{server}/fresh"), wanted) == ()
    run(f"{server}/fresh", "\n".join(write_script(find_differences(wanted, nothing))))
    assert read_catalog(f"{server}/fresh") == nothing


@pytest.mark.parametrize(("change", "expected"), CHANGES, ids=[change[:60] for change, _ in CHANGES])
def test_each_kind_of_change_is_found_and_its_statements_undo_it(
    wanted: tuple[SchemaObject, ...],
    restored: Restored,
    lent: str,
    change: str,
    expected: list[tuple[str, str, str]],
) -> None:
    """Exactly it, nothing beside it."""
    run(lent, change)
    found = find_differences(read_catalog(lent), wanted)
    assert sorted(told(found)) == sorted(expected)
    statements = write_script(found)
    assert statements
    if any(change.startswith(begin) for begin in FOR_A_PERSON):
        assert any(statement.startswith("--") for statement in statements)
        return
    run(lent, "\n".join(statements))
    assert find_differences(read_catalog(lent), wanted) == ()
    restored.is_as_it_was = True


@pytest.mark.long
@pytest.mark.proof
def test_several_changes_at_once_are_undone_together(server: str, proof: Record) -> None:
    """Whatever was done to a schema in whatever order: the statements run as they stand, and bring it back."""
    trials, wrong = (400 if PROOF else 12), []
    for seed in range(trials):
        name = f"drift_{uuid.uuid4().hex[:12]}"
        run(f"{server}/postgres", f"CREATE DATABASE {name} TEMPLATE everything")
        wanted, done = read_catalog(f"{server}/{name}"), []
        for change, _ in random.Random(seed).sample(CHANGES, 6):  # noqa: S311 - a seeded sample
            if not any(change.startswith(begin) for begin in FOR_A_PERSON):
                with contextlib.suppress(psycopg.Error):  # it stands on what an earlier one took away
                    run(f"{server}/{name}", change)
                    done.append(change)
        try:
            run(f"{server}/{name}", "\n".join(write_script(find_differences(read_catalog(f"{server}/{name}"), wanted))))
            same = find_differences(read_catalog(f"{server}/{name}"), wanted) == ()
        except psycopg.Error as error:
            same = False
            done.append(str(error))
        if not same:
            wrong.append((seed, done))
        run(f"{server}/postgres", f"DROP DATABASE {name} WITH (FORCE)")
    proof("six changes of a schema are undone by the statements of drift", trials=trials, failures=len(wrong))
    assert wrong == []


def test_an_enum_that_lacks_values_gets_them_in_their_places(dsn: str) -> None:
    """In front, between, behind."""
    before = read_catalog(dsn)
    run(dsn, "ALTER TYPE shop.mood ADD VALUE 'a' BEFORE 'sad'; ALTER TYPE shop.mood ADD VALUE 'b' AFTER 'sad'")
    run(dsn, "ALTER TYPE shop.mood ADD VALUE 'c'")
    assert write_script(find_differences(before, read_catalog(dsn))) == (
        "ALTER TYPE shop.mood ADD VALUE 'a' BEFORE 'sad';",
        "ALTER TYPE shop.mood ADD VALUE 'b' AFTER 'sad';",
        "ALTER TYPE shop.mood ADD VALUE 'c' AFTER 'it''s ok';",
    )


def test_an_index_whose_building_failed_is_another(dsn: str) -> None:
    """CREATE INDEX CONCURRENTLY leaves it behind, invalid; nothing uses it."""
    run(dsn, "INSERT INTO scratch VALUES (1), (1); CREATE TABLE wanted (n int)")
    wanted = read_catalog(dsn)
    with pytest.raises(psycopg.errors.UniqueViolation):
        run(dsn, "CREATE UNIQUE INDEX CONCURRENTLY scratch_n ON scratch (n)")
    ((difference),) = find_differences(read_catalog(dsn), wanted)
    assert difference.change is Change.EXTRA
    assert "its building failed" in difference.found


def test_schemas_can_be_left_out(dsn: str) -> None:
    """A vendor's own are no drift."""
    found = read_catalog(dsn, ignore_schemas=("shop",))
    assert not any(o.name.startswith("shop.") or o.owner.startswith("shop.") for o in found)


def test_it_only_reads_and_needs_no_more_than_a_login(server: str, dsn: str) -> None:
    """The catalogs are everybody's."""
    role = f"r{uuid.uuid4().hex}"
    run(dsn, f"CREATE ROLE {role} LOGIN PASSWORD 'canary-pw'")
    try:
        assert read_catalog(dsn.replace("//postgres:", f"//{role}:")) == read_catalog(dsn)
        with pytest.raises(AuthError, match="authentication failed") as caught:
            read_catalog(dsn.replace("//postgres:canary-pw", f"//{role}:canary-wrong"))
        assert "canary" not in f"{caught.value} {caught.value.hint}"
    finally:
        run(dsn, f"DROP ROLE {role}")


def test_a_database_that_is_not_there_is_unavailable() -> None:
    """Without its password."""
    port = refused_url().rpartition(":")[2]
    with pytest.raises(ProviderUnavailable) as caught:
        read_catalog(f"postgresql://u:canary-pw@127.0.0.1:{port}/app")
    assert "canary" not in f"{caught.value} {caught.value.hint}"
