"""A rescue by a superuser writes rows of an owner who attacks: his code runs as himself, beside the live one too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hostile_database import canary, trap
from kept import template
from recovery_lab import Lab, opened

from backout.errors import Refused
from backout.runbook.recovery.restore import plan_rescue, plan_undo
from backout.runbook.recovery.restoring import foresee

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLES = """
CREATE DOMAIN public.word AS text CHECK (public.guarded(VALUE));
CREATE TABLE public.checked (id int PRIMARY KEY, note text CHECK (public.guarded(note)), gone text);
CREATE TABLE public.made (id int PRIMARY KEY, note text, more text GENERATED ALWAYS AS (public.sly(note)) STORED);
CREATE TABLE public.domained (id public.word PRIMARY KEY, note public.word);
CREATE TABLE public.indexed (id int PRIMARY KEY, note text);
CREATE INDEX ON public.indexed ((public.sly(note))) WHERE public.guarded('x'::text);
CREATE INDEX ON public.indexed ((public.sly('x')));
CREATE STATISTICS public.counted ON (public.sly('x')), note FROM public.indexed;
CREATE TABLE public.triggered (id int PRIMARY KEY, note text);
CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE ON public.triggered DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION public.on_row();
CREATE TRIGGER soon BEFORE INSERT OR UPDATE ON public.triggered FOR EACH ROW EXECUTE FUNCTION public.on_row();
CREATE TABLE public.dropped (id int PRIMARY KEY, note public.word CHECK (public.guarded(note)));
CREATE INDEX ON public.dropped ((public.sly(note)));
CREATE TABLE public.forced (id int PRIMARY KEY, note text);
ALTER TABLE public.forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY all_of_it ON public.forced USING (public.guarded(note));
CREATE VIEW public.shown AS SELECT id, gone FROM public.checked;
"""
NAMES = ("checked", "made", "domained", "indexed", "triggered", "dropped", "forced")
ROWS = "INSERT INTO public.{} (id, note) SELECT g, 'good' FROM generate_series(1, 3) g"
DAMAGE = """
UPDATE public.checked SET note = 'bad'; UPDATE public.made SET note = 'bad'; UPDATE public.domained SET note = 'bad';
UPDATE public.indexed SET note = 'bad'; UPDATE public.triggered SET note = 'bad'; UPDATE public.forced SET note = 'bad';
DELETE FROM public.indexed WHERE id = '1'; INSERT INTO public.checked (id, note) VALUES (99, 'bad');
DROP TABLE public.dropped; ALTER TABLE public.checked DROP COLUMN gone CASCADE;
"""
STATE = """
SELECT (SELECT string_agg(note, ',' ORDER BY id) FROM public.checked),
  (SELECT string_agg(note || more, ',' ORDER BY id) FROM public.made),
  (SELECT string_agg(note, ',' ORDER BY id) FROM public.domained),
  (SELECT string_agg(note, ',' ORDER BY id) FROM public.indexed),
  (SELECT string_agg(note, ',' ORDER BY id) FROM public.triggered)
"""


class Attacked:
    """A lab whose tables belong to `app`, which was damaged in one transaction."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.pwned = canary()
        with lab.connect() as connection:
            connection.execute("CREATE ROLE app LOGIN; GRANT CREATE ON SCHEMA public TO app")
        with self.as_app() as connection:
            connection.execute(trap(self.pwned).encode())
            connection.execute(TABLES.encode())
            for name in NAMES:
                connection.execute(ROWS.format(name).encode())
        lab.base("attacked")
        with self.as_app() as connection, connection.transaction():
            row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            connection.execute(DAMAGE.encode())
        assert row is not None
        self.xid = str(row[0])
        lab.archived()
        self.forget()

    def as_app(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.lab.dsn.replace("user=postgres", "user=app"), autocommit=True)

    def state(self) -> list[tuple[Any, ...]]:
        with self.as_app() as connection:
            return connection.execute(STATE.encode()).fetchall()

    def forget(self) -> None:
        self.pwned.unlink(missing_ok=True)
        with self.lab.connect() as connection:
            connection.execute("ALTER ROLE app NOSUPERUSER")

    def owned(self) -> list[str]:
        """Return what the attacker has won, and what a rescue has left behind."""
        query = "SELECT rolname::text FROM pg_roles WHERE rolsuper AND rolname <> 'postgres' OR rolname ~ '^backout_'"
        return [name for (name,) in self.lab.rows(query)] + (["a program ran"] if self.pwned.exists() else [])


@pytest.fixture(scope="module")
def attacked_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    with opened(tmp_path_factory.mktemp("hostile"), template()) as lab:
        made = Attacked(lab)
        yield made
        made.pwned.unlink(missing_ok=True)


@pytest.fixture
def attacked(attacked_once: Attacked) -> Attacked:
    """Begin with nothing won, also where the test before ended in its middle."""
    attacked_once.forget()
    return attacked_once


@pytest.mark.long
def test_the_owners_code_stays_the_owners(attacked: Attacked) -> None:
    """Foreseen, done and undone: no program runs, nobody is superuser, what comes back is the owner's."""
    lab = attacked.lab
    tools = lab.tools()
    plan = plan_rescue(tools, attacked.xid, conflicts="live", skip=(), queues=False)
    report = foresee(tools, plan)
    assert attacked.owned() == []
    left = {each.table: each.left for each in report.tables if each.left}
    assert set(left) == {"public.forced"}
    (told,) = (each for each in report.left_out if each.what == "table public.forced")
    assert 'ALTER TABLE "public"."forced" NO FORCE ROW LEVEL SECURITY' in told.sql
    damaged = attacked.state()
    attacked.forget()
    lab.run(plan_rescue(tools, attacked.xid, conflicts="live", skip=(), queues=False), tools)
    assert attacked.owned() == []
    owners = lab.rows(
        "SELECT relname::text, relowner::regrole::text FROM pg_class WHERE relname IN ('dropped', 'shown')"
    )
    assert sorted(owners) == [("dropped", "app"), ("shown", "app")]
    attacked.forget()
    assert attacked.state() == [("good,good,good", "goodgood,goodgood,goodgood", *["good,good,good"] * 3)]
    with attacked.as_app() as connection:
        assert connection.execute("SELECT count(*) FROM public.dropped").fetchall() == [(3,)]
    tools = lab.tools()
    lab.run(plan_undo(tools), tools)
    assert attacked.owned() == []
    assert attacked.state() == damaged


def test_a_superusers_table_runs_nobody_elses_code(attacked: Attacked) -> None:
    """His own session would run it, so the table is left alone, with the function that it would call."""
    lab = attacked.lab
    with lab.connect() as connection:
        connection.execute("CREATE TABLE public.ours (id int PRIMARY KEY, note text CHECK (public.guarded(note)))")
        connection.execute("ALTER TABLE public.ours DISABLE TRIGGER ALL")
        connection.execute("INSERT INTO public.ours VALUES (1, 'good')")
    lab.base("ours")
    with lab.connect() as connection, connection.transaction():
        row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
        connection.execute("UPDATE public.ours SET note = 'bad'")
    lab.archived()
    attacked.forget()
    assert row is not None
    tools = lab.tools()
    report = foresee(tools, plan_rescue(tools, str(row[0]), conflicts="live", skip=(), queues=False))
    assert attacked.owned() == []
    (left,) = (each.left for each in report.tables if each.table == "public.ours")
    assert "function" in left
    assert "guarded(anyelement)" in left


@pytest.mark.long
def test_the_second_check_notes_nothing_of_a_superusers_table_that_runs_anothers_code(attacked: Attacked) -> None:
    """Planning a query evaluates what stands in an index, as the role that asks: such a table is not read."""
    lab = attacked.lab
    function = "CREATE OR REPLACE FUNCTION public.turns(v text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS"
    with attacked.as_app() as connection:
        connection.execute(f"{function} $$ BEGIN RETURN v; END $$".encode())
    with lab.connect() as connection:
        connection.execute("CREATE TABLE public.planned (id int PRIMARY KEY, note text)")
        connection.execute("CREATE INDEX ON public.planned ((public.turns('x')))")
        connection.execute("INSERT INTO public.planned VALUES (1, 'good')")
    lab.base("planned")
    with lab.connect() as connection, connection.transaction():
        row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
        connection.execute("UPDATE public.planned SET note = 'bad'")
    with attacked.as_app() as connection:  # behind the damage, so that the app is a superuser in no copy
        connection.execute(f"{function} $$ BEGIN PERFORM public.trap(); RETURN v; END $$".encode())
    lab.archived()
    attacked.forget()
    assert row is not None
    tools = lab.tools()
    run = lab.run(plan_rescue(tools, str(row[0]), conflicts="live", skip=(), queues=False), tools)
    assert attacked.owned() == []
    told: Any = lab.journal.result(run.id, "db_compare")
    (reason,) = (each["reason"] for each in told["not_compared"] if each["table"] == "public.planned")
    assert "turns" in reason


def test_where_no_other_role_is_let_in_nothing_is_written(attacked: Attacked) -> None:
    """A superuser's session is no substitute."""
    lab = attacked.lab
    hba = lab.data / "pg_hba.conf"
    before = hba.read_text()
    hba.write_text("local all postgres trust\nlocal replication all trust\n")
    lab.rows("SELECT pg_reload_conf()")
    try:
        tools = lab.tools()
        with pytest.raises(Refused, match="rows of app are never written as a superuser") as refused:
            foresee(tools, plan_rescue(tools, attacked.xid, conflicts="live", skip=(), queues=False))
        assert "admin_url_env" in " ".join(refused.value.options)
        assert attacked.owned() == []
    finally:
        hba.write_text(before)
        lab.rows("SELECT pg_reload_conf()")
