"""No value is handed out twice: sequences of a cluster that comes are past all that the one that went had given."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from kept import template
from recovery_lab import Lab, opened

from backout.decoding import decode_values
from backout.model.database.sequences import Carried
from backout.providers.postgres.restore.sequences import PostgresSequences, read_place
from backout.providers.postgres.server.own_server import CommandedServer
from backout.report.database.sequences import format_sequences
from backout.runbook.recovery.restore import plan_swap, plan_undo, release

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

MADE = """
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY, n int);
CREATE TABLE items (id serial);
CREATE SEQUENCE quiet; CREATE SEQUENCE down INCREMENT -1 MAXVALUE -1 START -1 MINVALUE -1000;
CREATE SEQUENCE cached CACHE 50; CREATE SEQUENCE tens INCREMENT 10 START 5;
CREATE SEQUENCE around MAXVALUE 7 CYCLE; CREATE SEQUENCE small AS smallint; CREATE UNLOGGED SEQUENCE light;
CREATE SEQUENCE again; CREATE SEQUENCE killed;
CREATE SEQUENCE sunk INCREMENT -1 MAXVALUE -1 START -1 MINVALUE -1000; CREATE SEQUENCE dropped; CREATE SEQUENCE remade;
CREATE SCHEMA "Größe X"; CREATE SEQUENCE "Größe X"."my seq"
"""
DRAWN = """
INSERT INTO orders (n) SELECT generate_series(1, 40); INSERT INTO items SELECT FROM generate_series(1, 40);
SELECT nextval('"Größe X"."my seq"'), nextval('down'), nextval('tens'), nextval('light'), nextval('again'),
  nextval('dropped'), nextval('remade') FROM generate_series(1, 40);
SELECT nextval('around') FROM generate_series(1, 10)
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("sequences"), template(), templates=True) as made:
        with made.connect() as connection:
            connection.execute("CREATE DATABASE crm")
        for name in ("postgres", "crm"):
            within(made, name, MADE)
            within(made, name, DRAWN)
        made.base("one")
        yield made


def within(lab: Lab, database: str, statements: str) -> list[tuple[Any, ...]]:
    """Run statements in a database, and return the rows of the last one."""
    with psycopg.connect(lab.dsn.replace("dbname=postgres", f"dbname={database}"), autocommit=True) as connection:
        cursor = connection.execute(statements.encode())
        while cursor.nextset():
            pass
        return cursor.fetchall() if cursor.description else []


def follow(lab: Lab) -> None:
    assert lab.receiver is not None
    lab.receiver.wait(timeout=PATIENCE_S)
    lab.receive()


def drawn(lab: Lab, database: str, sequence: str) -> int:
    return int(within(lab, database, f"SELECT nextval('{sequence}')")[0][0])


def test_a_file_that_is_no_sequences_tells_nothing(lab: Lab) -> None:
    """A table's file, one that is not there, and a path that leads elsewhere."""
    table = str(lab.rows("SELECT pg_relation_filepath('orders')")[0][0])
    within(lab, "postgres", "CHECKPOINT")
    assert read_place(lab.data, table) is None
    assert read_place(lab.data, "base/1/999999") is None
    assert read_place(lab.data, "../../etc/passwd") is None
    path = str(lab.rows("SELECT pg_relation_filepath('orders_id_seq')")[0][0])
    place = read_place(lab.data, path)
    assert place is not None
    assert place.value >= 40


@pytest.mark.long
def test_a_swap_and_its_undo_hand_out_nothing_twice(lab: Lab) -> None:
    """Each kind, in each database; what was made anew or dropped since is named; read back by another session."""
    position = lab.reached()
    for name in ("postgres", "crm"):
        within(lab, name, DRAWN)
        within(lab, name, "DROP SEQUENCE dropped; ALTER SEQUENCE again RESTART; DROP SEQUENCE remade")
        within(lab, name, "CREATE SEQUENCE remade START 500; SELECT nextval('remade'); CREATE SEQUENCE later")
        within(lab, name, "SELECT nextval('small'), nextval('later')")
    cached = drawn(lab, "postgres", "cached")  # and 49 more are the session's
    assert cached == 1
    last = {
        name: dict(
            within(
                lab,
                name,
                "SELECT 'orders', last_value FROM orders_id_seq UNION ALL SELECT 'tens', last_value FROM tens "
                "UNION ALL SELECT 'around', last_value FROM around UNION ALL SELECT 'light', last_value FROM light",
            )
        )
        for name in ("postgres", "crm")
    }
    tools = lab.tools(receiver="lab")
    run = lab.run(plan_swap(tools, position), tools)
    told: Any = tools.runs.result(run.id, "db_sequences")
    assert told["stopped_cleanly"] is True
    advanced = {(each["database"], each["sequence"]) for each in told["advanced"]}
    for name in ("postgres", "crm"):
        assert {(name, "public.orders_id_seq"), (name, "public.around"), (name, '"Größe X"."my seq"')} <= advanced
        assert (name, "public.quiet") not in advanced
        left = {each["sequence"]: each["reason"] for each in told["left"] if each["database"] == name}
        assert "dropped since" in left["public.dropped"]
        assert "restarted or recreated" in left["public.again"]
        assert set(left) == {"public.dropped", "public.again", "public.remade"}
        assert drawn(lab, name, "orders_id_seq") == last[name]["orders"] + 1 == 81
        assert drawn(lab, name, "items_id_seq") == 81
        assert drawn(lab, name, "tens") == last[name]["tens"] + 10
        assert drawn(lab, name, "down") == -81
        assert drawn(lab, name, "light") == last[name]["light"] + 1  # a crash before begins it again
        assert drawn(lab, name, '"Größe X"."my seq"') == 81
        assert drawn(lab, name, "remade") == 501
        assert drawn(lab, name, "small") == 2
        assert drawn(lab, name, "around") == last[name]["around"] % 7 + 1
        assert drawn(lab, name, "quiet") == 1
    assert drawn(lab, "postgres", "cached") == 51
    within(lab, "postgres", DRAWN)
    lab.run(plan_undo(tools), tools)
    follow(lab)
    assert drawn(lab, "postgres", "orders_id_seq") == 122
    assert drawn(lab, "postgres", "down") == -122
    assert drawn(lab, "crm", "orders_id_seq") == 82
    assert drawn(lab, "crm", "quiet") == 2
    release(tools)


@pytest.mark.rotating("restores", 3)
@pytest.mark.long
def test_advancing_again_changes_nothing_and_a_crash_is_named(lab: Lab) -> None:
    """Idempotent after a kill; of a server that crashed the files do not tell the last values, and that is said."""
    within(lab, "postgres", "SELECT nextval('killed') FROM generate_series(1, 5)")
    position = lab.reached()
    within(lab, "postgres", "SELECT nextval('killed') FROM generate_series(1, 50)")
    tools = lab.tools(receiver="lab")
    lab.run(plan_swap(tools, position), tools)
    plan = plan_undo(tools)
    kept, known = plan.step("db_exchange").args["incoming"], tools.live.sequences()
    lab.server.stop()
    carrier = PostgresSequences(lab.binaries, lab.root / "restore")
    names = lab.data, lab.data.with_name(str(kept).rpartition("/")[2]), "postgres", known, lambda *_: None
    try:
        carrier.carry(*names)  # type: ignore[arg-type]
        again = carrier.carry(*names)  # type: ignore[arg-type]
        assert again.advanced == ()
        assert again.stopped_cleanly
        assert not carrier.settle(lab.data), "it was stopped cleanly"
        control = lab.data / "global" / "pg_control"
        content = control.read_bytes()
        control.write_bytes(content[:16] + b"\x06\x00\x00\x00" + content[20:])  # in production, as after a crash
        (lab.data / "standby.signal").touch()  # what must not come up as a primary is let be
        assert not carrier.settle(lab.data)
        assert not carrier.carry(*names).stopped_cleanly  # type: ignore[arg-type]
        (lab.data / "standby.signal").unlink()
        control.write_bytes(content)
    finally:
        lab.server.start()
    lab.run(plan_undo(tools), tools)
    follow(lab)
    release(tools)


@pytest.mark.rotating("restores", 3)
@pytest.mark.long
def test_a_server_that_crashed_on_the_way_tells_what_it_had_handed_out(lab: Lab) -> None:
    """Its files are behind its WAL: it replays that on its own before they are read, and nothing is given out twice."""
    within(lab, "postgres", "SELECT nextval('killed'), nextval('sunk')")
    position = lab.reached()
    within(lab, "postgres", "CHECKPOINT")
    within(lab, "postgres", "SELECT nextval('killed'), nextval('sunk') FROM generate_series(1, 500)")
    last = lab.rows("SELECT k.last_value, d.last_value FROM killed AS k, sunk AS d")[0]
    start, stop = (shlex.join(each) for each in lab.commands)
    crashing = CommandedServer(lab.data, start, stop.replace("-m fast", "-m immediate"))
    tools = lab.tools(receiver="lab", server=crashing)
    run = lab.run(plan_swap(tools, position), tools)
    told: Any = tools.runs.result(run.id, "db_sequences")
    assert (told["replayed"], told["stopped_cleanly"]) == (True, True)
    assert "replayed its WAL" in " ".join(format_sequences(decode_values(told, Carried)))
    follow(lab)
    killed, down = drawn(lab, "postgres", "killed"), drawn(lab, "postgres", "sunk")
    assert (last[0] < killed <= last[0] + 33, last[1] > down >= last[1] - 33) == (True, True)
    lab.run(plan_undo(tools), tools)
    follow(lab)
    assert drawn(lab, "postgres", "killed") > killed, "the undo comes back to a directory that had crashed"
    release(tools)
