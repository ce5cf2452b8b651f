"""A database whose owner is the attacker: whatever he may create says what it was called as, and tries to be more."""

# ruff: noqa: S608 - statements of a test, put together from its own words

from __future__ import annotations

import contextlib
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from kept import template

from backout.providers.postgres.server.binaries import Binaries, find_binaries
from backout.providers.postgres.server.launcher import PostgresServer
from backout.providers.postgres.server.template import give_away, run_tool

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "canary-pw"
DEBIANS = sorted(path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres"))

# Whoever runs it: it leaves every role that a session can leave, then writes where a superuser's session alone can.
TRAP = """
CREATE FUNCTION public.trap() RETURNS void LANGUAGE plpgsql AS $trap$
BEGIN
  BEGIN RESET ROLE; EXCEPTION WHEN OTHERS THEN NULL; END;
  BEGIN RESET SESSION AUTHORIZATION; EXCEPTION WHEN OTHERS THEN NULL; END;
  BEGIN SET ROLE postgres; EXCEPTION WHEN OTHERS THEN NULL; END;
  BEGIN
    COPY (SELECT 'x') TO PROGRAM 'cat >> PWNED';
  EXCEPTION WHEN OTHERS THEN NULL; END;
  BEGIN ALTER ROLE app SUPERUSER; EXCEPTION WHEN OTHERS THEN NULL; END;
END $trap$;
CREATE FUNCTION public.later() RETURNS void LANGUAGE plpgsql AS $trap$
BEGIN  -- what is left for the end of the transaction, when no function of anybody runs any more
  BEGIN EXECUTE 'DECLARE held CURSOR WITH HOLD FOR SELECT public.trap()'; EXCEPTION WHEN OTHERS THEN NULL; END;
  BEGIN
    CREATE TEMP TABLE IF NOT EXISTS wake (n int);
    CREATE CONSTRAINT TRIGGER up AFTER INSERT ON pg_temp.wake DEFERRABLE INITIALLY DEFERRED
      FOR EACH ROW EXECUTE FUNCTION public.on_row();
  EXCEPTION WHEN OTHERS THEN NULL; END;
  BEGIN INSERT INTO pg_temp.wake VALUES (1); EXCEPTION WHEN OTHERS THEN NULL; END;
END $trap$;
CREATE FUNCTION public.sly(value text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS
  $sly$ BEGIN PERFORM public.trap(); RETURN value; END $sly$;
CREATE FUNCTION public.guarded(value anyelement) RETURNS bool IMMUTABLE LANGUAGE plpgsql AS
  $sly$ BEGIN PERFORM public.trap(); PERFORM public.later(); RETURN true; END $sly$;
CREATE FUNCTION public.on_row() RETURNS trigger LANGUAGE plpgsql AS
  $sly$ BEGIN PERFORM public.trap(); RETURN new; END $sly$;
"""
FUNCTIONS = {
    "pg_control_system()": "TABLE (system_identifier bigint)",
    "pg_control_checkpoint()": "TABLE (timeline_id int)",
    "pg_is_in_recovery()": "bool",
    "pg_backend_pid()": "int",
    "current_database()": "name",
    "current_setting(text)": "text",
    "current_setting(text, bool)": "text",
    "pg_current_wal_lsn()": "pg_lsn",
    "pg_current_wal_insert_lsn()": "pg_lsn",
    "pg_current_wal_flush_lsn()": "pg_lsn",
    "pg_database_size(name)": "bigint",
    "pg_walfile_name(pg_lsn)": "text",
    "to_regclass(text)": "regclass",
    "format_type(oid, int)": "text",
    "pg_create_restore_point(text)": "pg_lsn",
    "has_database_privilege(name, text)": "bool",
    "pg_has_role(name, oid, text)": "bool",
    "clock_timestamp()": "timestamptz",
    "now()": "timestamptz",
    "quote_ident(text)": "text",
    "concat_ws(text, text)": "text",
}
VIEWS = ("pg_roles", "pg_class", "pg_settings", "pg_database", "pg_stat_activity", "pg_namespace", "pg_extension",
         "pg_stat_archiver", "pg_replication_slots", "pg_available_extensions")  # fmt: skip
OPERATORS = {
    "%": ("numeric", "numeric", "numeric"),
    "=": ("name", "name", "bool"),
    "<>": ("name", "name", "bool"),
    "~": ("name", "text", "bool"),
    "!~": ("name", "text", "bool"),
    "||": ("text", "text", "text"),
    "/": ("numeric", "numeric", "numeric"),
    "-": ("int4", "int4", "int4"),
}
HISTORY = """
CREATE TABLE public._prisma_migrations (
  id varchar(36) PRIMARY KEY, checksum varchar(64) NOT NULL DEFAULT 'x', finished_at timestamptz,
  migration_name varchar(255) NOT NULL, logs text, rolled_back_at timestamptz,
  started_at timestamptz NOT NULL DEFAULT pg_catalog.now(), applied_steps_count int NOT NULL DEFAULT 0
);
INSERT INTO public._prisma_migrations (id, migration_name, finished_at) VALUES ('1', '20260101_init', pg_catalog.now());
"""
VIEW = """
CREATE VIEW public._prisma_migrations AS SELECT public.sly('20260101_init') AS migration_name,
  pg_catalog.now() AS started_at, pg_catalog.now() AS finished_at, NULL::timestamptz AS rolled_back_at, 'x'::text AS
  checksum, NULL::text AS logs, 1 AS applied_steps_count
"""


def canary() -> Path:
    """Return where a program would write that the attacker's code starts, as whoever runs the server."""
    return Path(tempfile.gettempdir()) / f"pwned-{uuid.uuid4().hex}"


def trap(pwned: Path) -> str:
    """Return the statements that make the attacker's functions."""
    return TRAP.replace("PWNED", str(pwned))


def shadows() -> list[str]:
    """Return the statements that put the attacker's own under the names of Postgres's."""
    made = []
    for signature, returns in FUNCTIONS.items():
        answer = "RETURN" if returns.startswith("TABLE") else "RETURN NULL"
        made.append(
            f"CREATE FUNCTION public.{signature} RETURNS {returns} LANGUAGE plpgsql AS "
            f"$f$ BEGIN PERFORM public.trap(); {answer}; END $f$"
        )
    made += [
        f"CREATE VIEW public.{name} AS SELECT c.* FROM pg_catalog.{name} AS c, "
        "LATERAL (SELECT public.trap() OFFSET 0) AS t"
        for name in VIEWS
    ]
    for number, (name, (left, right, returns)) in enumerate(OPERATORS.items()):
        body = {"bool": "true", "text": "'x'::text", "numeric": "1::numeric", "int4": "1"}[returns]
        made.append(
            f"CREATE FUNCTION public.op{number}({left}, {right}) RETURNS {returns} LANGUAGE plpgsql AS "
            f"$f$ BEGIN PERFORM public.trap(); RETURN {body}; END $f$"
        )
        made.append(
            f"CREATE OPERATOR public.{name} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = public.op{number})"
        )
    return made


@dataclass
class Hostile:
    """A server with the database `shop`, which the role `app` owns; `postgres` administers it."""

    server: PostgresServer
    port: int
    pwned: Path

    def url(self, user: str = "postgres", database: str = "shop", query: str = "") -> str:
        return f"postgresql://{user}:{PASSWORD}@127.0.0.1:{self.port}/{database}{query}"

    def connect(self, user: str = "postgres", database: str = "shop") -> psycopg.Connection[Any]:
        options = "-c search_path=pg_catalog,public"
        return psycopg.connect(self.url(user, database), autocommit=True, options=options)

    def run(self, *statements: str, user: str = "app", database: str = "shop") -> None:
        with self.connect(user, database) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def reset(self) -> None:
        """Begin with a new database; what the attacker did is forgotten."""
        self.pwned.unlink(missing_ok=True)
        self.run("DROP DATABASE IF EXISTS shop WITH (FORCE)", user="postgres", database="postgres")
        self.run("CREATE DATABASE shop OWNER app", user="postgres", database="postgres")
        self.run("ALTER ROLE app NOSUPERUSER", user="postgres", database="postgres")
        self.run("ALTER SCHEMA public OWNER TO app", user="postgres")
        self.run(trap(self.pwned))

    def gained(self) -> list[str]:
        """Return what the attacker has won: a file that a program wrote, a role that is a superuser's."""
        with self.connect(database="postgres") as connection:
            query = b"SELECT rolname FROM pg_roles WHERE rolsuper AND rolname <> 'postgres'"
            roles = [f"{name} is superuser" for (name,) in connection.execute(query)]
        return roles + (["a program ran"] if self.pwned.exists() else [])


@contextlib.contextmanager
def hostile(folder: Path, programs: Path | None = None, **settings: str) -> Iterator[Hostile]:
    binaries = find_binaries() if programs is None else Binaries(programs)
    server = PostgresServer(folder / "data", binaries, settings={"fsync": "off", **settings})
    if programs is None:
        server.create(cache_directory=template())
    else:  # whose initdb does not know all of what backout's own servers have
        folder.joinpath("data").mkdir(mode=0o700)
        give_away(folder / "data")
        run_tool(binaries, "initdb", f"--pgdata={folder / 'data'}", "--username=postgres", "--auth-local=trust",
                 "--auth-host=scram-sha-256", "--no-sync", "--encoding=UTF8", "--locale=C")  # fmt: skip
    port = server.start(password=PASSWORD).port
    made = Hostile(server, port, canary())
    try:
        made.run(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'", user="postgres", database="postgres")
        yield made
    finally:
        server.stop(mode="immediate")
        made.pwned.unlink(missing_ok=True)
