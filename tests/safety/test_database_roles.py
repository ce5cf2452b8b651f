"""Each job passes with the role that its script makes, and with no other right, on each Postgres that is here.

BACKOUT_POSTGRES names more folders of programs, parted by colons, beside the wheel's and Debian's.
"""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from cli_shell import Answer
from cli_shell import backout as typed
from kept import template

from backout.errors import AuthError, Refused
from backout.providers.child import find_unprivileged_prefix
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer

from polling import until
from private import write_private
from twin_harness import ACCOUNT, TOKEN, running_api

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "canary-of-the-roles"
FOLDERS = [
    *sorted(path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")),
    *(Path(each) for each in os.environ.get("BACKOUT_POSTGRES", "").split(":") if each),
]
TOML = """
[app]
name = "shop"
[environments.lab]
platform = {{ provider = "cloudflare", account_id = "0123456789abcdef0123456789abcdef", script = "shop" }}
[environments.lab.database]
provider = "postgres"
url_env = "DATABASE_URL"
migrations = "prisma"
{binaries}
backup = {{ wal = "stream" }}
"""
SERVER = """
[environments.lab.database.server]
data_directory = "{data}"
start = '''{start}'''
stop = '''{stop}'''
"""
SCHEMA = """
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL REFERENCES customers, total numeric CHECK (total >= 0));
CREATE TABLE heads (id int PRIMARY KEY, tail int NOT NULL);
CREATE TABLE tails (id int PRIMARY KEY, head int NOT NULL REFERENCES heads);
INSERT INTO heads VALUES (1, 1);
INSERT INTO tails VALUES (1, 1);
ALTER TABLE heads ADD FOREIGN KEY (tail) REFERENCES tails;
CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'a trigger fired'; END $$;
CREATE TABLE _prisma_migrations (id text PRIMARY KEY, checksum text NOT NULL, finished_at timestamptz,
  migration_name text NOT NULL, logs text, rolled_back_at timestamptz, started_at timestamptz NOT NULL DEFAULT now(),
  applied_steps_count int NOT NULL DEFAULT 0);
INSERT INTO _prisma_migrations VALUES ('1', encode(sha256('SELECT 1;'), 'hex'), now(), '0001_init');
INSERT INTO customers VALUES (1, 'a'), (2, 'b');
INSERT INTO orders VALUES (1, 1, 10), (2, 2, 20), (3, 2, 30);
"""


@dataclass
class Lab:
    """A server whose database `shop` belongs to a role that is no superuser, with the roles that the scripts made."""

    folder: Path
    port: int
    database: str = "shop"
    line: str = ""
    known: set[str] = field(default_factory=set)

    def dsn(self, role: str, database: str | None = None) -> str:
        return f"postgresql://{role}:{PASSWORD}@127.0.0.1:{self.port}/{database or self.database}"

    def execute(self, role: str, *statements: str) -> None:
        with psycopg.connect(self.dsn(role), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.dsn("shop_owner")) as connection:
            return connection.execute(query.encode()).fetchall()

    def backout(self, role: str, *arguments: str) -> Answer:
        return typed(self.folder, *arguments, variables={"DATABASE_URL": self.dsn(role), "PATH": os.defpath})

    def make(self, job: str) -> str:
        """Run a job's script, as it is printed, and return the role."""
        role = f"backout_{job}"
        if job not in self.known:
            printed = typed(self.folder, "db", "roles", job, "--database", "shop", "--owner", "shop_owner")
            assert printed.code == 0, printed.err
            self.execute("postgres", printed.out, f"ALTER ROLE {role} PASSWORD '{PASSWORD}'")
            self.known.add(job)
        return role


@pytest.fixture(
    scope="module",
    params=[None, *(pytest.param(folder, marks=pytest.mark.long) for folder in FOLDERS)],
    ids=lambda folder: "wheel" if folder is None else str(folder),
)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("roles")
    binaries = find_binaries(request.param)
    settings = {
        "fsync": "off",
        "max_slot_wal_keep_size": "1GB",
        "shared_preload_libraries": "pg_stat_statements",
    }
    server = PostgresServer(folder / "data", binaries, settings=settings)
    server.create(cache_directory=template())
    status = server.start(password=PASSWORD)
    made = Lab(folder, status.port)
    try:
        with psycopg.connect(made.dsn("postgres", "postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE shop_owner LOGIN PASSWORD '{PASSWORD}'")
            connection.execute("CREATE DATABASE shop OWNER shop_owner")
        made.execute("postgres", "ALTER SCHEMA public OWNER TO shop_owner")
        made.execute("postgres", "CREATE EXTENSION pg_stat_statements")
        made.execute("shop_owner", SCHEMA)
        (folder / "prisma/migrations/0001_init").mkdir(parents=True)
        (folder / "prisma/migrations/0001_init/migration.sql").write_text("SELECT 1;", encoding="utf-8")
        made.line = f'binaries = "{request.param}"' if request.param else ""
        served = {**settings, "port": str(status.port), "unix_socket_directories": str(status.socket_directory)}
        options = shlex.join(f"-c{name}={value}" for name, value in served.items())
        control = (
            *find_unprivileged_prefix(),
            *(binaries.path("pg_ctl"), "-D", str(folder / "data"), "-w", "-l", str(folder / "data" / "swap.log")),
        )
        start, stop = shlex.join((*control, "-o", options, "start")), shlex.join((*control, "-m", "fast", "stop"))
        by_hand = SERVER.format(data=folder / "data", start=start, stop=stop)
        (folder / "backout.toml").write_text(TOML.format(binaries=made.line) + by_hand, encoding="utf-8")
        yield made
    finally:
        server.stop(mode="immediate")


def damage(lab: Lab) -> str:
    """Damage what the rescue has to bring back, as the owner, and return the transaction's id."""
    with psycopg.connect(lab.dsn("shop_owner")) as connection:
        row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
        assert row is not None
        connection.execute("CREATE TRIGGER loud BEFORE INSERT OR UPDATE ON orders EXECUTE FUNCTION loud()")
        connection.execute("ALTER TABLE orders DISABLE TRIGGER loud")
        connection.execute("UPDATE orders SET total = 0 WHERE id = 1")
        connection.execute("DELETE FROM orders WHERE id > 1")
        connection.execute("DELETE FROM customers WHERE id = 2")
        connection.execute("WITH gone AS (DELETE FROM heads) DELETE FROM tails")
    return str(row[0])


def left_of(rescue: object) -> dict[str, list[str]]:
    """Return the keys of the rows that a rescue left, by table."""
    assert isinstance(rescue, dict)
    return {each["table"]: each["examples"] for each in rescue["tables"] if each["conflicts"]}


@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
def test_the_roles_are_no_superusers_and_pass_their_jobs(lab: Lab) -> None:
    """Look, prove, back up and receive, side instance, rescue and its undo, migrate: each by its own role."""
    look, prove, backup = lab.make("look"), lab.make("prove"), lab.make("backup")
    swap, rescue = lab.make("swap"), lab.make("rescue")
    powers = lab.rows("SELECT rolname FROM pg_roles WHERE rolname ~ '^backout_' AND (rolsuper OR rolcreaterole)")
    assert powers == []

    def passes(role: str, *arguments: str, code: int = 0) -> Answer:
        answer = lab.backout(role, *arguments)
        assert answer.code == code, (role, arguments, answer.out[-300:], answer.err)
        return answer

    assert "not_readable" not in passes(look, "db", "check", "--json", code=1).out, "nothing to restore from, yet"
    status = passes(look, "db", "migrations", "status", "--json")
    assert "0001_init" in status.out
    passes(look, "db", "points", "add", "before-all")
    passes(prove, "db", "dump")
    passes(backup, "db", "wal", "start")
    try:
        passes(backup, "db", "backup", "--full")
        assert "verified" in passes(look, "db", "backups", "list").out
        xid = damage(lab)
        lab.execute(
            "shop_owner", "ALTER TABLE orders ENABLE TRIGGER loud", "UPDATE customers SET name = 'good' WHERE id = 1"
        )
        passes(look, "db", "points", "add", "after-it")
        passes(look, "db", "points", "add", "behind-it")
        assert passes(backup, "db", "wal", "status", "--json").json["receiving"]
        until(lambda: lab.backout(swap, "db", "restore", "after-it", "--side", "--dry-run").code == 0)
        side = passes(swap, "db", "restore", "after-it", "--side", "--json").json["side"]
        assert isinstance(side, dict)
        passes(swap, "db", "restore", "--drop-side", str(side["name"]))
        done = passes(rescue, "db", "restore", xid, "-m", "a wrong DELETE", "--yes", "--json").json["rescue"]
        assert left_of(done) == {}
        assert isinstance(done, dict)
        # How soon the last WAL arrives is the machine's: a rescue says where it did not wait any longer.
        notes = [note for note in done["notes"] if not str(note).startswith("the WAL from ")]
        assert (notes, done["left_out"]) == ([], [])
        assert lab.rows("SELECT (SELECT count(*) FROM heads), (SELECT count(*) FROM tails)") == [(1, 1)]
        assert lab.rows("SELECT id, customer, total FROM orders ORDER BY id") == [(1, 1, 10), (2, 2, 20), (3, 2, 30)]
        assert lab.rows("SELECT name FROM customers ORDER BY id") == [("good",), ("b",)]
        assert lab.rows("SELECT tgenabled FROM pg_trigger WHERE tgname = 'loud'") == [("O",)]
        passes(rescue, "db", "restore", "--undo", "-m", "once more", "--yes")
        assert lab.rows("SELECT count(*) FROM orders") == [(1,)]
        assert lab.rows("SELECT (SELECT count(*) FROM heads), (SELECT count(*) FROM tails)") == [(0, 0)]
        passes(swap, "db", "restore", xid, "--swap", "-m", "all of it", "--yes")
        assert lab.rows("SELECT count(*) FROM orders") == [(3,)]
        passes(swap, "db", "restore", "--undo", "-m", "back", "--yes")
        assert lab.rows("SELECT count(*) FROM orders") == [(1,)]
    finally:
        passes(backup, "db", "wal", "stop")


def test_a_role_of_another_job_is_refused_with_what_it_lacks(lab: Lab) -> None:
    """Looking is not enough to back up; backing up is not enough to read every row of a table."""
    look, backup = lab.make("look"), lab.make("backup")
    answer = lab.backout(look, "db", "backup", "--full")
    assert answer.code == AuthError.exit_code, answer.err
    assert "REPLICATION" in answer.err
    assert "backout db roles backup" in answer.err
    answer = lab.backout(backup, "db", "dump")
    assert answer.code == AuthError.exit_code, answer.err
    assert "pg_read_all_data" in answer.err


@pytest.mark.parametrize("job", ["rescue", "migrate"])
def test_a_member_of_nobody_in_particular_is_said(tmp_path: Path, job: str) -> None:
    """Without --owner the role is a member of `postgres`, who may do all: that is told."""
    printed = typed(tmp_path, "db", "roles", job)
    assert (printed.code, 'GRANT "postgres"' in printed.out, "--owner" in printed.err) == (0, True, True)
    assert typed(tmp_path, "db", "roles", job, "--owner", "shop_owner").err == ""


def test_what_is_migrated_belongs_to_the_owner(lab: Lab) -> None:
    """The session of the role that migrates is the owner's."""
    new = lab.folder / "prisma/migrations/0002_notes"
    new.mkdir()
    (new / "migration.sql").write_text("CREATE TABLE notes (id int);\n", encoding="utf-8")
    answer = lab.backout(lab.make("migrate"), "db", "migrations", "apply", "-m", "notes", "--yes")
    assert answer.code == 0, answer.err
    assert lab.rows("SELECT tableowner FROM pg_tables WHERE tablename = 'notes'") == [("shop_owner",)]
    shutil.rmtree(new)
    lab.execute("shop_owner", "DROP TABLE notes", "DELETE FROM _prisma_migrations WHERE migration_name = '0002_notes'")


def test_status_passes_with_the_role_that_looks(lab: Lab, tmp_path: Path) -> None:
    """The history of migrations is read, and what protects the database; the platform is asked as ever."""
    shutil.copytree(lab.folder / "prisma", tmp_path / "prisma")
    with running_api(tmp_path) as api:
        api.upload("shop")
        place = f'account_id = "{ACCOUNT}", api_base_url = "{api.url}/client/v4"'
        text = TOML.format(binaries=lab.line).replace('account_id = "0123456789abcdef0123456789abcdef"', place)
        write_private(tmp_path / "backout.toml", text)
        given = {"CLOUDFLARE_API_TOKEN": TOKEN, "DATABASE_URL": lab.dsn(lab.make("look"))}
        found = typed(tmp_path, "status", "--json", variables=given).json
    migrations, backups = found["migrations"], found["backups"]
    assert migrations == {"head": "0001_init", "failed": [], "problem": None}
    assert isinstance(backups, dict), "said of the archive, and of what the server receives"
    assert backups["protected"] is False


def test_the_old_codes_statements_are_proved_by_the_role_that_proves(lab: Lab) -> None:
    """It reads what the server has kept of them; the side database is the owner's."""
    prove = lab.make("prove")
    lab.execute("postgres", "SELECT pg_stat_statements_reset()")
    with psycopg.connect(lab.dsn("shop_owner")) as old:
        old.execute("SELECT id FROM customers WHERE name = %s", ("a",))
    lab.execute("postgres", "CREATE DATABASE side OWNER shop_owner")
    try:
        side = {"SIDE": lab.dsn("shop_owner", "side")}
        with psycopg.connect(side["SIDE"], autocommit=True) as connection:
            connection.execute(SCHEMA.encode())
            connection.execute("ALTER TABLE customers RENAME name TO title")
        given = {"DATABASE_URL": lab.dsn(prove), "PATH": os.defpath, **side}
        arguments = ("db", "migrations", "prove", "--side-url-env", "SIDE", "--json")
        answer = typed(lab.folder, *arguments, variables=given)
        assert answer.code == 1, answer.err + answer.out
        assert "FROM customers WHERE name" in str(answer.json["fails"]), "only who may read all statistics sees it"
    finally:
        lab.execute("postgres", "DROP DATABASE side WITH (FORCE)")


def test_drift_is_found_by_the_role_that_looks(lab: Lab) -> None:
    """The catalog is open to everybody; what is built to compare it with is built on this machine."""
    answer = lab.backout(lab.make("look"), "db", "migrations", "drift")
    assert answer.code == 1, answer.err
    assert "customers" in answer.out


@pytest.mark.long
def test_commits_wait_for_a_receiver_that_the_role_of_backups_started(lab: Lab, tmp_path: Path) -> None:
    """Started, waited for, and no longer, once it is stopped: `ALTER SYSTEM` of one setting, and a reload."""
    text = TOML.format(binaries=lab.line).replace('wal = "stream"', 'wal = "sync"')
    write_private(tmp_path / "backout.toml", text)
    given = {"DATABASE_URL": lab.dsn(lab.make("backup")), "PATH": os.defpath}
    names = "SELECT current_setting('synchronous_standby_names') <> ''"
    started = typed(tmp_path, "db", "wal", "start", variables=given)
    try:
        assert started.code == 0, started.err
        taken = typed(tmp_path, "db", "backup", "--full", variables=given)
        assert taken.code == 0, taken.err
        until(lambda: lab.rows(names) == [(True,)], what="commits wait")
        lab.execute("shop_owner", "CREATE TABLE waited (id int)")
        with psycopg.connect(lab.dsn("postgres")) as connection:
            state = connection.execute("SELECT sync_state FROM pg_stat_replication").fetchall()
        assert state == [("sync",)]
    finally:
        stopped = typed(tmp_path, "db", "wal", "stop", variables=given)
    assert stopped.code == 0, stopped.err
    until(lambda: lab.rows(names) == [(False,)], what="commits wait no more")
    lab.execute("shop_owner", "DROP TABLE waited")


def test_a_superuser_applies_no_migration_to_what_is_another_roles(lab: Lab) -> None:
    """Its trigger would run as him, and SET ROLE would not hold it: he is told which role may, and nothing is done."""
    lab.execute(
        "shop_owner",
        "CREATE TABLE trapped (id int)",
        "CREATE FUNCTION spring() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN EXECUTE 'RESET ROLE'; EXECUTE 'ALTER ROLE shop_owner SUPERUSER'; RETURN NEW; END $$",
        "CREATE TRIGGER spring BEFORE INSERT ON trapped FOR EACH ROW EXECUTE FUNCTION spring()",
    )
    new = lab.folder / "prisma/migrations/0009_trapped"
    new.mkdir()
    try:
        (new / "migration.sql").write_text("SET ROLE shop_owner; INSERT INTO trapped VALUES (1);", encoding="utf-8")
        answer = lab.backout("postgres", "db", "migrations", "apply", "-m", "more", "--yes")
        assert lab.rows("SELECT rolsuper FROM pg_roles WHERE rolname = 'shop_owner'") == [(False,)]
        assert answer.code == Refused.exit_code, answer.err
        assert "backout db roles migrate --database shop --owner shop_owner" in answer.err
        assert lab.rows("SELECT count(*) FROM _prisma_migrations WHERE migration_name = '0009_trapped'") == [(0,)]
        answer = lab.backout(lab.make("migrate"), "db", "migrations", "apply", "-m", "more", "--yes")
        assert answer.code != 0, "the owner's own trap gives him nothing"
        assert lab.rows("SELECT rolsuper FROM pg_roles WHERE rolname = 'shop_owner'") == [(False,)]
    finally:
        shutil.rmtree(new)
        lab.execute("postgres", "ALTER ROLE shop_owner NOSUPERUSER")
        lab.execute(
            "shop_owner",
            "DROP TABLE trapped",
            "DROP FUNCTION spring",
            "DELETE FROM _prisma_migrations WHERE migration_name = '0009_trapped'",
        )


@pytest.mark.long
def test_a_dump_of_forced_row_security_has_every_row_or_is_refused(lab: Lab) -> None:
    """Who is held by the policies is refused with the table's name; who is not dumps every row."""
    lab.execute(
        "shop_owner",
        "CREATE TABLE secluded (id int PRIMARY KEY)",
        "INSERT INTO secluded SELECT generate_series(1, 7)",
        "CREATE POLICY few ON secluded USING (id < 3)",
        "ALTER TABLE secluded ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    )
    before = lab.backout("shop_owner", "db", "dumps", "list", "--json").json["dumps"]
    try:
        for role in (lab.make("prove"), "shop_owner"):
            answer = lab.backout(role, "db", "dump")
            assert (answer.code, "secluded" in answer.err) == (AuthError.exit_code, True), answer.err
        assert lab.backout("shop_owner", "db", "dumps", "list", "--json").json["dumps"] == before
        lab.execute("postgres", "ALTER ROLE backout_prove BYPASSRLS")
        made = lab.backout("backout_prove", "db", "dump", "--json")
        assert made.code == 0, made.err
        dump = made.json["dump"]
        assert isinstance(dump, dict)
        assert lab.backout("backout_prove", "db", "dumps", "prove", str(dump["id"])).code == 0
        tables, proven = dump["tables"], dump["verified_at"]
        assert ({each["name"]: each["rows"] for each in tables}["public.secluded"], proven is not None) == (7, True)
    finally:
        shutil.rmtree(lab.folder / ".backout/backups/lab/dumps", ignore_errors=True)
        lab.execute("postgres", "ALTER ROLE backout_prove NOBYPASSRLS", "DROP TABLE secluded")


@pytest.mark.parametrize("name", ['sh"op', "sh'op", 'x:"owner"', ":'owner'", "a\\b", "a; DROP ROLE postgres; --"])
def test_a_name_stays_a_name_in_the_script(tmp_path: Path, name: str) -> None:
    """Whatever is in it: psql's own quoting, once."""
    for job in ("migrate", "look"):
        printed = typed(tmp_path, "db", "roles", job, "--owner", name, "--database", name, "--role", name)
        assert printed.code == 0, printed.err
        assert '"' + name.replace('"', '""') + '"' in printed.out
    assert typed(tmp_path, "db", "roles", "look", "--role", "a\nDROP ROLE b").code == 2
