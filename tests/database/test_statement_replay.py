"""The statement replay on a real Postgres: what the old code sends, by log or statistics, tried after a migration."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg
import pytest
from kept import template

from backout.errors import ProviderUnavailable, UsageError
from backout.model.database.statements import Outcome, Statement, StatementProof
from backout.providers.clock import SystemClock
from backout.providers.postgres.schema.statements import StatementFile, StatementStatistics
from backout.providers.postgres.schema.trials import PostgresTrials
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer
from backout.runbook.rollback.statement_replay import prove_statements

from scripted_server import refused_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BEFORE = """
CREATE TYPE status AS ENUM ('new', 'paid');
CREATE TABLE users (id int PRIMARY KEY, email text UNIQUE, name varchar(50), note text DEFAULT '');
CREATE TABLE orders (id int PRIMARY KEY, user_id int REFERENCES users, status status NOT NULL, total numeric(10, 2),
                     tags text[], at timestamptz NOT NULL DEFAULT now());
INSERT INTO users SELECT n, 'u' || n || '@example.com', 'name ' || n, 'x' FROM generate_series(1, 20) n;
INSERT INTO orders SELECT n, n, 'new', n * 1.5, ARRAY['a'] FROM generate_series(1, 20) n;
"""
OLD_CODE = (
    "SELECT id, email FROM users WHERE email = $1",
    "INSERT INTO users (id, email, name) VALUES ($1, $2, $3) ON CONFLICT (email) DO UPDATE SET name = excluded.name",
    "UPDATE orders SET status = $1, total = total + $2 WHERE id = $3 AND at > $4",
    "SELECT o.* FROM orders o JOIN users u ON u.id = o.user_id WHERE u.name = ANY($1) AND o.tags && $2 LIMIT $3",
    "DELETE FROM orders WHERE status = 'paid'",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    running = PostgresServer(
        tmp_path_factory.mktemp("second") / "data",
        find_binaries(),
        settings={"fsync": "off", "shared_preload_libraries": "pg_stat_statements"},
    )
    running.create(cache_directory=template())
    status = running.start(password="side")
    yield f"postgresql://postgres:side@127.0.0.1:{status.port}/"
    running.stop(mode="immediate")


@pytest.fixture
def database(server: str) -> Iterator[str]:
    """A database of its own, as the old code knows it."""
    with psycopg.connect(f"{server}postgres", autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS app WITH (FORCE)")
        connection.execute("CREATE DATABASE app")
        with psycopg.connect(f"{server}app", autocommit=True) as app:
            app.execute(BEFORE)
        yield f"{server}app"
        connection.execute("DROP DATABASE app WITH (FORCE)")


class Sent:
    """Port Statements on a list."""

    def __init__(self, *statements: Statement) -> None:
        self._statements = statements

    def read(self) -> tuple[Statement, ...]:
        return self._statements


def migrate(database: str, sql: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(sql.encode())


def proof(database: str, *statements: Statement | str) -> StatementProof:
    sent = Sent(*(s if isinstance(s, Statement) else Statement(s) for s in statements))
    side = PostgresTrials(lambda: database)
    try:
        return prove_statements(sent, side, SystemClock(), head="m2")
    finally:
        side.close()


def counts(database: str) -> tuple[object, ...]:
    with psycopg.connect(database) as connection:
        row = connection.execute("SELECT (SELECT count(*) FROM users), (SELECT sum(total) FROM orders)").fetchone()
    assert row is not None
    return row


def test_without_a_change_everything_works_and_nothing_stays(database: str) -> None:
    """Each statement is executed with values out of the rows; each effect is taken back."""
    was = counts(database)
    found = proof(database, *OLD_CODE)
    assert [(t.outcome, t.why) for t in found.trials] == [(Outcome.WORKS, "")] * len(OLD_CODE)
    assert counts(database) == was


@pytest.mark.parametrize(
    ("migration", "fails", "words"),
    [
        ("ALTER TABLE users DROP COLUMN email", {0, 1}, 'column "email"'),
        ("ALTER TABLE users RENAME TO people", {1, 0, 3}, 'relation "users"'),
        ("ALTER TABLE users ALTER note SET NOT NULL, ALTER note DROP DEFAULT", {1}, "must not be null now"),
        (
            "ALTER TABLE users ADD COLUMN plan text NOT NULL DEFAULT 'x'; ALTER TABLE users ALTER plan DROP DEFAULT",
            {1},
            "must not",
        ),
        ("ALTER TABLE users ADD CHECK (name LIKE 'Mr%') NOT VALID", {1}, "a check refuses it"),
        ("ALTER TABLE users DROP CONSTRAINT users_email_key", {1}, "ON CONFLICT"),
        ("ALTER TYPE status RENAME VALUE 'paid' TO 'settled'", {4}, "invalid input value for enum"),
        ("ALTER TABLE orders ALTER tags TYPE text USING tags[1]", {3}, "operator does not exist"),
        (
            "ALTER TABLE orders DROP total, ADD total numeric GENERATED ALWAYS AS (id * 2) STORED",
            {2},
            "428C9|can only be",
        ),
        ("ALTER TABLE users ADD COLUMN phone text", set(), ""),
        ("CREATE INDEX ON orders (at)", set(), ""),
        ("ALTER TABLE orders ALTER id TYPE bigint", set(), ""),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
def test_a_statement_that_can_no_longer_run_is_found(
    database: str, migration: str, fails: set[int], words: str
) -> None:
    """What breaks, and only that; also what no plan of the statement would show (NOT NULL, CHECK)."""
    migrate(database, migration)
    found = proof(database, *OLD_CODE)
    failing = {n for n, trial in enumerate(found.trials) if trial.outcome is Outcome.FAILS}
    assert failing == fails, [(t.statement.sql, t.why) for t in found.trials]
    assert all(t.outcome is Outcome.WORKS for n, t in enumerate(found.trials) if n not in fails)
    if words:
        assert any(part in " ".join(t.why for t in found.of(Outcome.FAILS)) for part in words.split("|"))


def test_values_of_a_log_find_what_made_up_values_cannot(database: str) -> None:
    """A shorter column refuses the values that the old code really writes."""
    migrate(database, "UPDATE users SET name = left(name, 5); ALTER TABLE users ALTER name TYPE varchar(5)")
    sql = "UPDATE users SET name = $1 WHERE id = $2"
    assert proof(database, sql).trials[0].outcome is Outcome.WORKS
    known = proof(database, Statement(sql, ("a long name", "1"))).trials[0]
    assert (known.outcome, "too long now" in known.why) == (Outcome.FAILS, True)


def test_what_is_no_data_manipulation_is_not_tried(database: str) -> None:
    """DDL, settings, several statements at once, what pg_stat_statements made unreadable."""
    found = proof(database, "DROP TABLE users", "SET x.y = 1", "SELECT 1; DROP TABLE users", "SELECT INTERVAL $1")
    assert {t.outcome for t in found.trials[:3]} == {Outcome.UNTRIED}
    assert counts(database)[0] == 20


def test_what_did_not_work_before_proves_nothing(database: str) -> None:
    """A statement about a table that is long gone stays in the statistics for months."""
    now, before = PostgresTrials(lambda: database), PostgresTrials(lambda: database)
    sent = Sent(Statement("SELECT * FROM gone"), Statement("SELECT 1"))
    found = prove_statements(sent, now, SystemClock(), head="m2", before=before)
    assert [t.outcome for t in found.trials] == [Outcome.UNTRIED, Outcome.WORKS]
    assert "did not work before" in found.trials[0].why
    now.close()
    before.close()


def test_statistics_of_the_server(database: str) -> None:
    """The statements as pg_stat_statements keeps them; later ones are the new code's."""
    migrate(database, "CREATE EXTENSION pg_stat_statements; SELECT pg_stat_statements_reset()")
    with psycopg.connect(database, autocommit=True) as old:
        for number in range(3):
            old.execute("SELECT id FROM users WHERE email = %s AND id > 7", (f"u{number}@example.com",))
    statistics = StatementStatistics(lambda: database)
    read = {s.sql: s for s in statistics.read()}
    ours = next(s for sql, s in read.items() if "FROM users WHERE email" in sql)
    assert ours.calls == 3
    assert ours.since is not None
    migrate(database, "ALTER TABLE users DROP COLUMN email")
    side = PostgresTrials(lambda: database)
    found = prove_statements(statistics, side, SystemClock(), head="m2")
    assert ours.sql in {t.statement.sql for t in found.of(Outcome.FAILS)}
    nothing = prove_statements(statistics, side, SystemClock(), head="m2", until=ours.since - 3600)
    assert ours.sql not in {t.statement.sql for t in nothing.trials}
    side.close()


def test_without_the_extension_the_way_on_is_named(database: str) -> None:
    """Exit 2 and the option that takes a log instead."""
    with pytest.raises(UsageError, match="pg_stat_statements is not in this database") as raised:
        StatementStatistics(lambda: database).read()
    assert "--statements" in str(raised.value.hint)


def test_a_side_that_does_not_answer_is_no_proof() -> None:
    """Neither works nor fails: an error."""
    with pytest.raises(ProviderUnavailable):
        PostgresTrials(lambda: refused_url().replace("http", "postgresql")).run(Statement("SELECT 1"), ())


LOG = """2026-11-25 10:00:00.000 UTC [42] LOG:  statement: SELECT 1
2026-11-25 10:00:01.000 UTC [42] LOG:  execute <unnamed>: UPDATE users
\tSET name = $1
\tWHERE id = $2
2026-11-25 10:00:01.000 UTC [42] DETAIL:  Parameters: $1 = 'O''Hara, $2', $2 = NULL
2026-11-25 10:00:02.000 UTC [42] LOG:  duration: 0.213 ms  execute s1: SELECT 1
2026-11-25 10:00:02.000 UTC [42] LOG:  checkpoint starting: time
"""


def test_a_log_of_the_server(tmp_path: Path) -> None:
    """Statements over several lines, parameters with quotes in them, the same statement twice."""
    path = tmp_path / "server.log"
    path.write_text(LOG, encoding="utf-8")
    found = StatementFile(path).read()
    assert [(s.sql, s.values, s.calls) for s in found] == [
        ("SELECT 1", None, 2),
        ("UPDATE users\nSET name = $1\nWHERE id = $2", ("O'Hara, $2", None), 1),
    ]


def test_json_lines_and_plain_sql(tmp_path: Path) -> None:
    """Two more forms; a line that is none is passed over."""
    path = tmp_path / "sent.jsonl"
    path.write_text(json.dumps({"sql": "SELECT $1", "values": [7]}) + "\n{broken\n", encoding="utf-8")
    assert StatementFile(path).read() == (Statement("SELECT $1", ("7",), 1),)
    path.write_text("SELECT ';'; SELECT 2;\n", encoding="utf-8")
    assert [s.sql for s in StatementFile(path).read()] == ["SELECT ';'", "SELECT 2"]


@pytest.mark.parametrize("text", ["", "LOG:  checkpoint complete\n"], ids=["empty", "no statement"])
def test_a_file_without_statements(tmp_path: Path, text: str) -> None:
    """It is said what is expected."""
    path = tmp_path / "sent.log"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="no statement was found"):
        StatementFile(path).read()
    with pytest.raises(UsageError, match="cannot be read"):
        StatementFile(tmp_path / "gone").read()
