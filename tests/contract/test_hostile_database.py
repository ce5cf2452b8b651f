"""A database whose owner wants more: what his code does while we prove his dump, and while we look at a copy of it.

Each way calls the same function. It tries to leave the role that runs it, to make a superuser, to run a program that
writes down its environment, and to write a file. On a server of ours it must not come to anything.
"""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from backup_lab import Lab, running_lab
from kept import template

from extent import long

if TYPE_CHECKING:
    from collections.abc import Iterator

DUMPED = """
[app]
name = "shop"
[environments.lab]
platform = {{ provider = "cloudflare", account_id = "0123456789abcdef0123456789abcdef", script = "shop" }}
[environments.lab.database]
provider = "postgres"
url_env = "DATABASE_URL"
migrations = "prisma"
[environments.lab.database.backup]
directory = "{directory}"
"""
GRAB = """
CREATE FUNCTION public.grab(way text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF pg_catalog.inet_server_addr() IS NOT NULL THEN RETURN true; END IF;  -- not yet: that is the live one
  BEGIN EXECUTE 'RESET ROLE'; EXCEPTION WHEN OTHERS THEN NULL; END;
  BEGIN EXECUTE 'RESET SESSION AUTHORIZATION'; EXCEPTION WHEN OTHERS THEN NULL; END;
  BEGIN EXECUTE pg_catalog.format('ALTER ROLE %I SUPERUSER', current_user); EXCEPTION WHEN OTHERS THEN NULL; END;
  BEGIN EXECUTE 'CREATE ROLE backdoor SUPERUSER LOGIN'; EXCEPTION WHEN OTHERS THEN NULL; END;
  BEGIN
    EXECUTE pg_catalog.format($c$COPY (SELECT 1) TO PROGRAM %L$c$, 'env > {folder}/' || way);
  EXCEPTION WHEN OTHERS THEN NULL; END;
  BEGIN
    EXECUTE pg_catalog.format($c$COPY (SELECT 1) TO %L$c$, '{folder}/' || way || '.written');
  EXCEPTION WHEN OTHERS THEN NULL; END;
  RETURN true;
END $$;
CREATE FUNCTION public.surely(way text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
  $$ BEGIN PERFORM public.grab(way); RETURN 1; END $$;
"""
"""`surely` lies about being immutable, as an application may: it is then called where only such functions are."""

WAYS = """
CREATE TABLE checked (i int CHECK (public.surely('check') = i));
INSERT INTO checked VALUES (1);
CREATE DOMAIN d AS int CHECK (public.surely('domain') = VALUE);
CREATE TABLE of_domain (i d);
INSERT INTO of_domain VALUES (1);
CREATE FUNCTION e(i int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT public.surely('expression') $$;
CREATE FUNCTION p(i int) RETURNS bool LANGUAGE sql IMMUTABLE AS $$ SELECT public.surely('predicate') = 1 $$;
CREATE TABLE indexed (i int);
INSERT INTO indexed VALUES (1);
CREATE INDEX ON indexed (public.e(i));
CREATE INDEX ON indexed (i) WHERE public.p(i);
CREATE TABLE generated (i int, j int GENERATED ALWAYS AS (i + public.surely('generated')) STORED);
INSERT INTO generated (i) VALUES (1);
CREATE MATERIALIZED VIEW m AS SELECT public.grab('materialized') AS g;
CREATE TABLE closed (i int);
INSERT INTO closed VALUES (1);
ALTER TABLE closed ENABLE ROW LEVEL SECURITY;
ALTER TABLE closed FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON closed USING (public.grab('policy'));
CREATE TABLE cast_to_text (i int);
INSERT INTO cast_to_text VALUES (1);
CREATE FUNCTION c(cast_to_text) RETURNS text LANGUAGE plpgsql AS
  $$ BEGIN PERFORM public.grab('cast'); RETURN 'x'; END $$;
CREATE CAST (cast_to_text AS text) WITH FUNCTION c(cast_to_text);
CREATE VIEW _prisma_migrations AS SELECT gen_random_uuid()::text AS id, ''::text AS checksum, now() AS finished_at,
  'x'::text AS migration_name, ''::text AS logs, NULL::timestamptz AS rolled_back_at, now() AS started_at,
  1 AS applied_steps_count WHERE public.grab('history');
CREATE FUNCTION v() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM public.grab('event'); END $$;
CREATE EVENT TRIGGER everything ON ddl_command_end EXECUTE FUNCTION v();
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("hostile")
    with running_lab(folder, template(), small=False) as running:
        yield running


@pytest.fixture
def loot(tmp_path: Path) -> Path:
    """Where the database's code would write."""
    place = tmp_path / "loot"
    place.mkdir()
    place.chmod(0o777)
    return place


def hostile(lab: Lab, loot: Path, *statements: str) -> str:
    """Make a database with these statements on the live server, and return its connection string."""
    name = f"h{uuid.uuid4().hex}"
    lab.execute(f"CREATE DATABASE {name}")
    dsn = f"{lab.dsn.rpartition('/')[0]}/{name}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in (GRAB.format(folder=loot), *statements):
            connection.execute(statement.encode())
    return dsn


def configured(lab: Lab, loot: Path, **variables: str) -> None:
    (lab.folder / "backout.toml").write_text(DUMPED.format(directory=loot.parent / "kept"))
    lab.variables = variables


def test_the_proof_of_a_dump_gives_its_code_no_power(lab: Lab, loot: Path) -> None:
    """Restored, counted and compared: what is in the dump runs, and may nothing. What was left out is named."""
    configured(lab, loot, DATABASE_URL=hostile(lab, loot, WAYS))
    done = lab.backout("db", "dump", "--checksums", "--json")
    assert sorted(path.name for path in loot.iterdir()) == []
    assert done.code == 0, done.err + done.out
    left = ["event trigger everything", "materialized view public.m: its rows are its query's"]
    assert done.json["dump"]["not_proved"] == left
    assert "not proved: event trigger everything" in lab.backout("db", "dumps", "prove", done.json["dump"]["id"]).out


@pytest.mark.long
def test_a_restore_gives_the_dump_no_power_though_a_superuser_asks_for_it(lab: Lab, loot: Path) -> None:
    """It is done by a role that is gone afterwards; what was made belongs to the database's owner."""
    configured(lab, loot, DATABASE_URL=hostile(lab, loot, WAYS))
    made = lab.backout("db", "dump", "--checksums", "--json").json["dump"]["id"]
    for path in loot.iterdir():
        path.unlink()  # where even the proof gave it power
    lab.execute("CREATE ROLE shop_owner", "CREATE DATABASE target OWNER shop_owner")
    target = f"{lab.status.socket_dsn} dbname=target"  # through the socket: there the code begins to work
    lab.variables["TARGET"] = target
    done = lab.backout("db", "dumps", "restore", made, "--into", "TARGET", "--yes", "-m", "a trial", "--json")
    assert sorted(path.name for path in loot.iterdir()) == []
    assert done.code == 0, done.err + done.out
    assert done.json["not_restored"] == ["event trigger everything"]
    with psycopg.connect(target) as connection:
        connection.execute("SET row_security = off")
        owners = (
            "SELECT DISTINCT pg_get_userbyid(relowner)::text FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        )
        assert connection.execute(owners).fetchall() == [("shop_owner",)]
        forced = "SELECT relforcerowsecurity FROM pg_class WHERE relname = 'closed'"
        assert connection.execute(forced).fetchall() == [(True,)]
        roles = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'backout%' OR rolname = 'backdoor'"
        assert connection.execute(roles).fetchall() == [(0,)]


@pytest.mark.long
def test_a_role_that_reaches_the_servers_files_restores_nothing(lab: Lab, loot: Path) -> None:
    """It is no superuser, and what is in a dump could run programs all the same."""
    configured(lab, loot, DATABASE_URL=hostile(lab, loot))
    made = lab.backout("db", "dump", "--json").json["dump"]["id"]
    for power in ("pg_execute_server_program", "pg_write_server_files"):
        role, name = f"filer_{power}", f"of_{power}"
        lab.execute(f"CREATE ROLE {role} LOGIN", f"GRANT {power} TO {role}", f"CREATE DATABASE {name} OWNER {role}")
        lab.variables["TARGET"] = f"{lab.status.socket_dsn.replace('user=postgres', f'user={role}')} dbname={name}"
        done = lab.backout("db", "dumps", "restore", made, "--into", "TARGET", "--yes", "-m", "a trial", "--json")
        assert (done.code, "the server's files" in done.err + done.out) == (3, True)


def test_an_extension_that_reaches_out_is_refused_by_name(lab: Lab, loot: Path) -> None:
    """The dump is kept, not proven, and says what to do."""
    configured(lab, loot, DATABASE_URL=hostile(lab, loot, "CREATE EXTENSION file_fdw; CREATE EXTENSION hstore"))
    done = lab.backout("db", "dump", "--json")
    assert (done.code, "file_fdw" in str(done.json["dump"]["problem"])) == (1, True)
    assert "hstore" not in str(done.json["dump"]["problem"])


TRIED = """
CREATE TABLE _prisma_migrations (id varchar(36), checksum varchar(64), finished_at timestamptz,
  migration_name varchar(255), logs text, rolled_back_at timestamptz, started_at timestamptz, applied_steps_count int);
INSERT INTO _prisma_migrations VALUES ('1', '', now(), '1_first', NULL, NULL, now(), 1);
CREATE TABLE orders (id int PRIMARY KEY, note text);
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM public.grab('trigger'); RETURN NEW; END $$;
CREATE TRIGGER t BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION f();
CREATE VIEW seen AS SELECT id FROM orders WHERE public.grab('view');
INSERT INTO orders VALUES (1, current_user);
"""
SENT = "INSERT INTO orders VALUES (2, 'x'); SELECT * FROM seen; SELECT public.grab('called'); DELETE FROM orders;"
DENIED = "SELECT * FROM locked"


@pytest.mark.parametrize("application", ["web", "postgres"])
def test_a_trial_of_statements_gives_them_no_power(lab: Lab, loot: Path, application: str) -> None:
    """They run as a member of the application's role; where that is a superuser, as one who reads and writes rows."""
    dsn = hostile(lab, loot, TRIED)
    name = dsn.rpartition("/")[2]
    if application == "web":
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE ROLE web LOGIN")
            connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO web")
            connection.execute("CREATE TABLE locked (i int)")
    configured(lab, loot, DATABASE_URL=dsn.replace("//postgres:", f"//{application}:"))
    lab.variables["SIDE"] = f"{lab.status.socket_dsn} dbname={name}"
    (lab.folder / "prisma" / "migrations").mkdir(parents=True, exist_ok=True)
    sent = str(lab.folder / "sent.sql")
    Path(sent).write_text(SENT + DENIED * (application == "web"))
    done = lab.backout("db", "migrations", "prove", "--side-url-env", "SIDE", "--statements", sent, "--json")
    assert sorted(path.name for path in loot.iterdir()) == []
    assert done.code in (0, 1), done.err + done.out
    failing = [(each["sql"], each["why"]) for each in done.json["fails"]]
    denied = [(DENIED, "permission denied for table locked")] if application == "web" else []
    assert (failing, done.json["tried"]) == (denied, 4 + len(denied)), done.err
    assert lab.value("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'backout%' OR rolname = 'backdoor'") == 0


PLANNED = """
CREATE ROLE {role};
CREATE TABLE planned (i int);
INSERT INTO planned VALUES (1), (2);
CREATE FUNCTION at_planning(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN i; END';
CREATE INDEX ON planned (at_planning(1));
CREATE FUNCTION public.run(way text) RETURNS int LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  EXECUTE pg_catalog.format($c$COPY (SELECT 1) TO PROGRAM %L$c$, 'env > {folder}/' || way);
  RETURN 1;
EXCEPTION WHEN OTHERS THEN RETURN 0;
END $$;
CREATE OR REPLACE FUNCTION at_planning(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
  $$ BEGIN PERFORM public.run('planned'); RETURN i; END $$;
CREATE FUNCTION pg_export_snapshot() RETURNS text LANGUAGE plpgsql AS
  $$ BEGIN PERFORM public.run('named'); RETURN pg_catalog.pg_export_snapshot(); END $$;
ALTER TABLE planned OWNER TO {role};
ALTER FUNCTION at_planning OWNER TO {role};
ALTER DATABASE {name} SET search_path = public, pg_catalog;
"""


@pytest.mark.parametrize("checksums", [False, long(True)])
def test_taking_a_dump_gives_the_live_database_no_power(lab: Lab, loot: Path, *, checksums: bool) -> None:
    """It is counted by COPY: an index's expression runs where a query is planned, as whoever asks."""
    dsn = hostile(lab, loot)
    name = dsn.rpartition("/")[2]
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(PLANNED.format(folder=loot, role=f"owner_{name}", name=name).encode())
    configured(lab, loot, DATABASE_URL=dsn)
    done = lab.backout("db", "dump", "--json", *(["--checksums"] if checksums else []))
    assert sorted(path.name for path in loot.iterdir()) == []
    assert done.code == 0, done.err + done.out
    (table,) = done.json["dump"]["tables"]
    assert (table["rows"], table["checksum"] is not None) == (2, True)  # without the option, for the check of a restore


MIGRATIONS = {
    "1_extension": 'CREATE EXTENSION "vector"; CREATE TABLE near (v vector(3));',
    "2_owner": "ALTER TABLE near OWNER TO postgres; CREATE ROLE {role};CREATE POLICY p ON near TO {role} USING (true);",
    "3_grab": "CREATE TABLE t AS SELECT public.grab('migration'); COPY t TO PROGRAM 'env > {folder}/program';",
}


def migrations(lab: Lab, loot: Path, *names: str) -> None:
    """Write these migrations, after one that makes the function that grabs."""
    root = lab.folder / "prisma" / "migrations"
    shutil.rmtree(root, ignore_errors=True)
    texts = {"0_function": GRAB.format(folder=loot), **{name: MIGRATIONS[name] for name in names}}
    for name, text in texts.items():
        (root / name).mkdir(parents=True)
        script = text.format(folder=loot, role=f"role_{uuid.uuid4().hex}") if name in MIGRATIONS else text
        (root / name / "migration.sql").write_text(script)


@pytest.mark.parametrize("where", [(), ("--shadow-env", "SHADOW")], ids=["fresh", "named"])
def test_migrations_that_are_built_have_no_power(lab: Lab, loot: Path, where: tuple[str, ...]) -> None:
    """On a server of ours, and on one that a superuser's connection string names; nothing is left there."""
    configured(lab, loot, DATABASE_URL=hostile(lab, loot), SHADOW=lab.status.socket_dsn)
    migrations(lab, loot, "3_grab")
    done = lab.backout("db", "migrations", "drift", *where, "--json")
    assert sorted(path.name for path in loot.iterdir()) == []
    assert (done.code, "3_grab failed" in done.err, "permission denied" in done.err) == (1, True, True), done.err
    left = "SELECT count(*) FROM pg_database WHERE datname LIKE 'backout%'"
    assert lab.value(left) == 0
    assert lab.value("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'backout%' OR rolname = 'backdoor'") == 0


def test_migrations_build_all_the_same_what_they_always_built(lab: Lab, loot: Path) -> None:
    """An extension that only a superuser makes, a table that is given to the role postgres, and a role of their own."""
    configured(lab, loot, DATABASE_URL=hostile(lab, loot, MIGRATIONS["1_extension"]))
    migrations(lab, loot, "1_extension", "2_owner")
    done = lab.backout("db", "migrations", "drift", "--json")
    assert done.code == 1, done.err + done.out
    assert "statements" in done.json, done.err + done.out
    assert all("POLICY" in str(statement) for statement in done.json["statements"]), done.json["statements"]
    assert lab.backout("db", "migrations", "drift", "--shadow-env", "DATABASE_URL", "--json").code == 1
