"""D1 on the twin: queries in SQLite, the binding in a real workerd, and the calls of the API."""

from __future__ import annotations

import asyncio
import json
import stat
from typing import TYPE_CHECKING, Any

import pytest

from backout.twin.control.worker import Binding
from backout.twin.database.d1 import D1Databases, D1Error, Statement
from backout.twin.faults import Fault, FaultKind, Faults

from dataplane_lab import fetch_module, lab
from twin_harness import ACCOUNT, Answer, Api, running_api

if TYPE_CHECKING:
    from pathlib import Path

DATABASE = "00000000-0000-4000-8000-000000000001"
TABLE = "CREATE TABLE parts (id INTEGER PRIMARY KEY, name TEXT UNIQUE, plan BLOB)"
USE = """
  const { DB } = env;
  const failed = (promise) => promise.then(() => "worked", (error) => error.message);
  await DB.exec("CREATE TABLE parts (id INTEGER PRIMARY KEY, name TEXT UNIQUE, plan BLOB)");
  const put = DB.prepare("INSERT INTO parts (name, plan) VALUES (?1, ?2)");
  const made = await put.bind("gear", new Uint8Array([1, 2])).run();
  const both = await DB.batch([put.bind("nut", null), DB.prepare("SELECT count(*) AS parts FROM parts")]);
  return Response.json({
    meta: [made.success, made.meta.changes, made.meta.last_row_id, made.meta.changed_db],
    batch: both.map((each) => each.results),
    first: await DB.prepare("SELECT * FROM parts WHERE name = ?").bind("gear").first(),
    raw: await DB.prepare("SELECT id, name FROM parts").raw({ columnNames: true }),
    again: await failed(DB.batch([put.bind("bolt", null), put.bind("gear", null)])),
    names: (await DB.prepare("SELECT name FROM parts").all()).results.map((each) => each.name),
    wrong: await failed(DB.prepare("SELECT * FROM nowhere").all()),
    session: (await DB.withSession("first-primary").prepare("SELECT true AS one").first()).one,
  });
"""


class Services:
    """The databases alone."""

    email_api_url = "http://127.0.0.1:9"

    def __init__(self, d1: D1Databases) -> None:
        self.d1 = d1

    def r2_gateway_address(self, bucket: str) -> str:
        raise NotImplementedError(bucket)

    def hyperdrive(self, hyperdrive_id: str) -> Any:
        raise NotImplementedError(hyperdrive_id)


def test_a_worker_asks_its_database_and_two_workers_ask_the_same(tmp_path: Path) -> None:
    """By every call that the binding has; a batch is one transaction; while the database is down each call fails."""

    async def run() -> None:
        faults = Faults(tmp_path / "d1-faults.json")
        databases = D1Databases(tmp_path / "d1", faults)
        bindings = (Binding("DB", "d1", DATABASE),)
        async with lab(tmp_path, services=Services(databases)) as it:
            await it.plane.activate("shop", ((it.version(fetch_module(USE), bindings=bindings), 100.0),))
            status, text = await it.get()
            assert status == 200, text
            assert json.loads(text) == {
                "meta": [True, 1, 1, True],
                "batch": [[], [{"parts": 2}]],
                "first": {"id": 1, "name": "gear", "plan": [1, 2]},
                "raw": [["id", "name"], [1, "gear"], [2, "nut"]],
                "again": "D1_ERROR: UNIQUE constraint failed: parts.name: SQLITE_CONSTRAINT",
                "names": ["gear", "nut"],
                "wrong": "D1_ERROR: no such table: nowhere: SQLITE_ERROR",
                "session": 1,
            }
            faults.set(Fault(FaultKind.SERVICE_DOWN, target="database"))
            body = "return new Response(await env.DB.exec('SELECT 1').catch((error) => error.message));"
            await it.plane.activate(
                "other", ((it.version(fetch_module(body), script="other", bindings=bindings), 100.0),)
            )
            assert "Network connection lost." in (await it.get(script="other"))[1]

    asyncio.run(run())


def test_a_query_stays_in_its_database_and_its_transaction(tmp_path: Path) -> None:
    """No other file, no end of the transaction, no setting of the file; what is refused has changed nothing."""

    async def run() -> None:
        databases = D1Databases(tmp_path / "d1", Faults(tmp_path / "faults.json"))
        await databases.run(DATABASE, [Statement(TABLE)])
        outside = tmp_path / "outside.sqlite"
        for sql, said in (
            (f"ATTACH '{outside}' AS other", "not authorized: SQLITE_AUTH"),
            (f"VACUUM INTO '{outside}'", "SQLITE_"),
            ("INSERT INTO parts (name) VALUES ('a'); COMMIT", "not authorized: SQLITE_AUTH"),
            ("INSERT INTO parts (name) VALUES ('b'); SAVEPOINT s", "not authorized: SQLITE_AUTH"),
            ("PRAGMA journal_mode = OFF", "not authorized: SQLITE_AUTH"),
            ("-- nothing;\n;", "No SQL statements detected."),
            (f"SELECT 1; SELECT '{'a' * 100_000}'", "statement too long: SQLITE_TOOBIG"),
            ("SELECT 1; SELECT", "incomplete input: SQLITE_ERROR"),
        ):
            with pytest.raises(D1Error) as refused:
                await databases.run(DATABASE, [Statement(sql)])
            assert said in str(refused.value)
        with pytest.raises(D1Error, match="is not the id of a database"):
            await databases.run("../other", [Statement("SELECT 1")])
        await databases.run(DATABASE, [Statement("PRAGMA case_sensitive_like = ON")])
        ((liked,),) = await databases.run(DATABASE, [Statement("SELECT 'a' LIKE 'A'")])
        assert liked.rows == ((1,),)
        ((counted,),) = await databases.run(DATABASE, [Statement("SELECT count(*) FROM parts")])
        assert (counted.columns, counted.rows) == (("count(*)",), ((0,),))
        assert not outside.exists()
        assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "d1").iterdir()} == {0o600}

    asyncio.run(run())


def test_a_query_that_does_not_end_is_ended(tmp_path: Path) -> None:
    """And the database answers again."""
    endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"

    async def run() -> None:
        databases = D1Databases(tmp_path / "d1", Faults(tmp_path / "faults.json"), longest_s=0.2)
        with pytest.raises(D1Error, match="interrupted: SQLITE_INTERRUPT"):
            await databases.run(DATABASE, [Statement(endless)])
        assert await databases.run(DATABASE, [Statement("SELECT 1")])

    asyncio.run(run())


def test_a_migration_of_several_statements_is_one_query(tmp_path: Path) -> None:
    """Semicolons in texts, remarks and triggers end no statement."""
    migration = """
      -- what was done; and to which parts
      CREATE TABLE parts (name TEXT);
      CREATE TABLE log (what TEXT);
      CREATE TRIGGER logged AFTER INSERT ON parts BEGIN INSERT INTO log VALUES ('a;b'); DELETE FROM parts; END;
      INSERT INTO parts (name) VALUES ('gear;');
      SELECT what FROM log
    """

    async def run() -> None:
        databases = D1Databases(tmp_path / "d1", Faults(tmp_path / "faults.json"))
        (results,) = await databases.run(DATABASE, [Statement(migration)])
        assert len(results) == 5
        assert results[-1].rows == (("a;b",),)

    asyncio.run(run())


def ask(api: Api, method: str, path: str = "", body: object = None) -> Answer:
    """Call the API about databases."""
    return api.call(method, f"/client/v4/accounts/{ACCOUNT}/d1/database{path}", body)


def test_wrangler_finds_makes_and_asks_databases(tmp_path: Path) -> None:
    """By id or name; a result for each statement; an id that nobody made is an empty database."""
    with running_api(tmp_path) as api:
        made = ask(api, "POST", body={"name": "notes"}).result
        assert [each["uuid"] for each in ask(api, "GET").result] == [made["uuid"]]
        assert ask(api, "GET", "?page=2&per_page=10").result == []
        assert ask(api, "GET", "/notes").result == ask(api, "GET", f"/{made['uuid']}").result == made
        assert ask(api, "GET", "/nowhere").status == 404
        assert ask(api, "POST", body={"name": "notes"}).code == 7502
        sql = "CREATE TABLE parts (id INTEGER PRIMARY KEY, name); INSERT INTO parts (name) VALUES ('gear') RETURNING *"
        for path in (f"/{made['uuid']}", f"/{DATABASE}"):
            found = ask(api, "POST", f"{path}/query", {"sql": sql}).result
            assert [each["results"] for each in found] == [[], [{"id": 1, "name": "gear"}]]
            raw = ask(api, "POST", f"{path}/raw", {"sql": "SELECT name FROM parts WHERE id = ?", "params": [1]}).result
            assert raw[0]["results"] == {"columns": ["name"], "rows": [["gear"]]}
        batch = {"batch": [{"sql": "DELETE FROM parts"}, {"sql": "SELECT * FROM nowhere"}]}
        refused = ask(api, "POST", f"/{DATABASE}/query", batch)
        assert (refused.status, refused.code) == (400, 7500)
        counted = ask(api, "POST", f"/{DATABASE}/query", {"sql": "SELECT count(*) AS n FROM parts"}).result
        assert counted[0]["results"] == [{"n": 1}]
        assert ask(api, "POST", f"/{DATABASE}/query", {"sql": 1}).status == 400
        assert ask(api, "DELETE", f"/{made['uuid']}").status == 200
        assert ask(api, "GET", "/notes").status == 404
