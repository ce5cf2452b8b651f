"""Port Schema on D1: a local server that answers as Cloudflare documents, a real SQLite behind it."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

import pytest

from backout.errors import AuthError, ProviderRejected, ProviderUnavailable
from backout.model.database.schema import AppliedMigration
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.d1 import D1History
from backout.providers.memory import WorldClock

from scripted_server import Asked, answer, hang, scripted_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripted_server import ScriptedServer

DATABASE = "6a1e6c1e-7a0c-4c3f-9d5e-0f2c5b1a9d77"
WRANGLERS_TABLE = """CREATE TABLE IF NOT EXISTS "d1_migrations"(
		id         INTEGER PRIMARY KEY AUTOINCREMENT,
		name       TEXT UNIQUE,
		applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL
);"""


def enveloped(result: object) -> dict[str, object]:
    return {"errors": [], "messages": [], "success": True, "result": result}


def refused(code: int, message: str) -> dict[str, object]:
    return {"errors": [{"code": code, "message": message}], "messages": [], "success": False, "result": []}


class Database:
    """Answers the query API out of SQLite, as documented: rows as objects, an error of SQLite as 400 with code 7500."""

    def __init__(self, server: ScriptedServer) -> None:
        self.sqlite = sqlite3.connect(":memory:", check_same_thread=False)
        self.server = server

    def sql(self, asked: Asked) -> str:
        return str(json.loads(asked.body)["sql"])

    def answers(self, *queries: str) -> None:
        """Answer these queries, in this order, as the database stands now."""
        steps = []
        for query in queries:
            try:
                cursor = self.sqlite.execute(query)
            except sqlite3.OperationalError as error:
                steps.append(answer(refused(7500, f"{error}: SQLITE_ERROR"), status=400))
                continue
            names = [column[0] for column in cursor.description]
            rows = [dict(zip(names, row, strict=True)) for row in cursor]
            meta = {"duration": 0.2, "rows_read": len(rows), "rows_written": 0, "changes": 0, "changed_db": False}
            steps.append(answer(enveloped([{"results": rows, "success": True, "meta": meta}])))
        self.server.will(*steps)


ROWS = "SELECT name, applied_at FROM d1_migrations ORDER BY id"
TABLES = "SELECT name, '' AS applied_at FROM sqlite_master WHERE type = 'table' AND name = 'd1_migrations'"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as found:
        yield found


@pytest.fixture
def database(server: ScriptedServer) -> Iterator[Database]:
    made = Database(server)
    yield made
    made.sqlite.close()


@pytest.fixture
def history(server: ScriptedServer) -> D1History:
    client = ApiClient(f"{server.url}/client/v4", lambda: "the-token")
    return D1History(client, "acc", DATABASE, clock=WorldClock(99.0))


def test_the_rows_come_in_the_order_in_which_they_were_applied(database: Database, history: D1History) -> None:
    """Names are the files' own, times are UTC; the request is the documented one."""
    database.sqlite.execute(WRANGLERS_TABLE)
    database.sqlite.executemany(
        "INSERT INTO d1_migrations (name, applied_at) VALUES (?, ?)",
        [("0002_b.sql", "2026-11-24 10:00:00"), ("0001_a.sql", "2026-11-24 10:00:01")],
    )
    database.answers(ROWS)
    state = history.read()
    assert state.applied == (
        AppliedMigration("0002_b.sql", 1795514400.0, 1795514400.0),
        AppliedMigration("0001_a.sql", 1795514401.0, 1795514401.0),
    )
    assert (state.read_at, state.head) == (99.0, "0001_a.sql")
    (asked,) = database.server.asked
    assert (asked.method, asked.target) == ("POST", f"/client/v4/accounts/acc/d1/database/{DATABASE}/query")
    assert json.loads(asked.body) == {"sql": ROWS}
    assert asked.headers["authorization"] == "Bearer the-token"


def test_a_database_that_was_never_migrated_has_an_empty_history(database: Database, history: D1History) -> None:
    """The table is not there: that is asked, not guessed from the text of an error."""
    database.answers(ROWS, TABLES)
    assert history.read().applied == ()
    assert [database.sql(asked) for asked in database.server.asked] == [ROWS, TABLES]


def test_another_error_of_a_table_that_is_there_is_not_an_empty_history(database: Database, history: D1History) -> None:
    """Somebody's own table of that name: what the API said comes back."""
    database.sqlite.execute("CREATE TABLE d1_migrations (id INTEGER, applied_at TEXT)")
    database.answers(ROWS, TABLES)
    with pytest.raises(ProviderRejected, match="no such column: name"):
        history.read()


def test_no_such_database(server: ScriptedServer, history: D1History) -> None:
    """Both questions are refused."""
    server.will(answer(refused(7404, "The database acc/x could not be found"), status=404))
    with pytest.raises(ProviderRejected, match="could not be found"):
        history.read()


def test_a_token_without_the_permission_is_named(server: ScriptedServer, history: D1History) -> None:
    """D1 Read is what it lacks."""
    server.will(answer(refused(10000, "Authentication error"), status=403))
    with pytest.raises(AuthError, match="D1 Read"):
        history.read()


@pytest.mark.parametrize(
    "body",
    [
        enveloped([]),
        enveloped([{"success": True}]),
        enveloped([{"results": [], "success": False}]),
        enveloped([{"results": [{"name": "1", "applied_at": "yesterday"}], "success": True}]),
        enveloped({"results": []}),
        b"<html>",
    ],
    ids=["no result", "no rows", "failed", "no time", "no list", "no JSON"],
)
def test_an_answer_that_is_none_is_no_empty_history(server: ScriptedServer, body: object, history: D1History) -> None:
    """What cannot be understood is unmeasured."""
    server.will(answer(body))
    with pytest.raises(ProviderUnavailable):
        history.read()


def test_a_server_that_says_nothing(server: ScriptedServer) -> None:
    """The time limit of the client holds here as well."""
    server.will(hang())
    clock = WorldClock(1000.0)
    client = ApiClient(f"{server.url}/client/v4", lambda: "t", clock=clock, until=1001.0)
    with pytest.raises(ProviderUnavailable):
        D1History(client, "acc", DATABASE).read()
