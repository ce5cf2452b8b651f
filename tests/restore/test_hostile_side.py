"""A copy of a database whose application wants more: what its code does while we look at the copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from backup_lab import Lab, running_lab
from kept import template

from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WAYS = """
CREATE ROLE application LOGIN;
CREATE FUNCTION public.grab(way text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF pg_catalog.inet_server_addr() IS NOT NULL THEN RETURN true; END IF;  -- not yet: that is the live one
  BEGIN EXECUTE 'RESET ROLE'; EXCEPTION WHEN OTHERS THEN NULL; END;
  BEGIN EXECUTE 'RESET SESSION AUTHORIZATION'; EXCEPTION WHEN OTHERS THEN NULL; END;
  BEGIN
    EXECUTE pg_catalog.format($c$COPY (SELECT 1) TO PROGRAM %L$c$, 'env > {folder}/' || way);
  EXCEPTION WHEN OTHERS THEN NULL; END;
  RETURN true;
END $$;
CREATE FUNCTION public.surely(way text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
  $$ BEGIN PERFORM public.grab(way); RETURN 1; END $$;
CREATE VIEW _prisma_migrations AS SELECT 'x'::text AS id, ''::text AS checksum, now() AS finished_at,
  'x'::text AS migration_name, ''::text AS logs, NULL::timestamptz AS rolled_back_at, now() AS started_at,
  1 AS applied_steps_count WHERE public.grab('view');
CREATE TABLE alembic_version (version_num varchar(32));
CREATE FUNCTION public.of_planning(i text) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT public.surely('index') $$;
CREATE INDEX ON alembic_version (public.of_planning('x'));
INSERT INTO alembic_version VALUES ('a1');
CREATE FUNCTION public.at_login() RETURNS event_trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM public.grab('login'); END $$;
ALTER FUNCTION public.at_login() OWNER TO application;
CREATE EVENT TRIGGER at_login ON login EXECUTE FUNCTION public.at_login();
CREATE FUNCTION public.same(name, text) RETURNS boolean LANGUAGE plpgsql AS
  $$ BEGIN PERFORM public.grab('operator'); RETURN $1 OPERATOR(pg_catalog.=) $2; END $$;
CREATE OPERATOR public.= (LEFTARG = name, RIGHTARG = text, FUNCTION = public.same);
CREATE TABLE users (id int PRIMARY KEY, email text);
INSERT INTO users VALUES (1, 'a@example.com');
ALTER DATABASE postgres SET search_path = public, pg_catalog;
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("side")
    settings = {"max_slot_wal_keep_size": "64MB"}
    with running_lab(folder, template(), settings, small=False) as running:
        yield running


def test_looking_at_a_side_instance_gives_its_code_no_power(lab: Lab, tmp_path: Path) -> None:
    """A view and an index where the history should be, a trigger at login, operators that come first."""
    loot = tmp_path / "loot"
    loot.mkdir()
    loot.chmod(0o777)
    lab.configure('wal = "stream"')
    for command in (("wal", "start"), ("backup",)):
        done = lab.backout("db", *command)
        assert done.code == 0, done.err
    try:
        lab.execute(WAYS.format(folder=loot))
        lab.execute("ALTER TABLE users DROP COLUMN email")
        lab.execute("SELECT pg_switch_wal()")
        target = ("db", "restore", "before drop of users.email", "--side")
        until(
            lambda: lab.backout(*target, "--dry-run").code == 0, what="the WAL is received", timeout_s=30, every_s=0.2
        )
        done = lab.backout(*target, "--json")
        assert sorted(path.name for path in loot.iterdir()) == []
        assert done.code == 0, done.err + done.out
        listed = lab.backout("db", "restore", "--list", "--json")
        assert (listed.code, sorted(path.name for path in loot.iterdir())) == (0, [])
    finally:
        for side in lab.backout("db", "restore", "--list", "--json").json["sides"]:
            lab.backout("db", "restore", "--drop-side", side["name"])
        lab.backout("db", "wal", "stop")
