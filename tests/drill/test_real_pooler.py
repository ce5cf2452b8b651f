"""PgBouncer in transaction mode between backout and Postgres: nothing of ours stays in a session of the application."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import psycopg
import pytest
from backup_lab import PASSWORD, Lab, running_lab
from kept import template
from pooler import pgbouncer

from backout.errors import Refused
from backout.providers.postgres.server.session import open_working

from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="no pgbouncer: apt-get install pgbouncer")
SETTINGS = (
    "SELECT name, setting FROM pg_settings WHERE source IN ('session', 'client', 'interactive') "
    "AND name NOT LIKE 'transaction%' AND name NOT IN "
    "('application_name', 'client_encoding', 'DateStyle', 'TimeZone', 'standard_conforming_strings')"
)
ASKS = (("db", "check"), ("db", "points", "list"), ("db", "restore", "--list"), ("db", "wal", "status"), ("status",))
"""What only looks: it may answer through a pooler, and leaves nothing behind."""
SETS = (
    ("db", "restore", "{xid}", "--dry-run"),
    ("db", "restore", "{xid}", "--yes"),
    ("db", "wal", "stop"),
    ("db", "dump"),
)
"""What holds something in a session: refused, with what to set instead."""


def left_behind(url: str) -> list[object]:
    """Return what the application finds in both sessions of the server that is not its own."""
    found: list[object] = []
    with psycopg.connect(url, prepare_threshold=None) as one, psycopg.connect(url, prepare_threshold=None) as two:
        for session in (one, two):  # both hold a transaction, so they are the two sessions
            found += session.execute(SETTINGS).fetchall()
            found += session.execute("SELECT name FROM pg_prepared_statements").fetchall()
            found += session.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind = 'r'"
            ).fetchall()
            found += session.execute(
                "SELECT classid, objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
            ).fetchall()
            rows = session.execute("SELECT count(*) FROM orders").fetchone()
            assert rows is not None
    return found


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    root = tmp_path_factory.mktemp("pooled")
    with running_lab(root, template(), {"max_slot_wal_keep_size": "64MB"}) as lab:
        lab.configure('wal = "stream"', {"PATH": os.environ["PATH"]})
        lab.execute("CREATE TABLE orders (id int PRIMARY KEY, note text)")
        lab.execute("INSERT INTO orders SELECT g, 'n' FROM generate_series(1, 100) g")
        for words in (("wal", "start"), ("backup",)):
            done = lab.backout("db", *words)
            assert done.code == 0, done.err
        yield lab
        lab.variables["DATABASE_URL"] = lab.dsn
        for side in lab.backout("db", "restore", "--list", "--json").json["sides"]:  # type: ignore[attr-defined]
            lab.backout("db", "restore", "--drop-side", side["name"])
        lab.backout("db", "wal", "stop")


@pytest.mark.long
def test_a_real_pooler_is_noticed_before_anything_is_set(lab: Lab, tmp_path: Path) -> None:
    """Commands that look leave nothing; those that would set something are refused and say what to set instead."""
    with psycopg.connect(lab.dsn) as connection:
        (xid,) = connection.execute("SELECT pg_current_xact_id()::text").fetchone() or ("",)
        connection.execute("DELETE FROM orders WHERE id < 50")
    lab.execute("INSERT INTO orders VALUES (1000, 'good')", "SELECT pg_switch_wal()")
    until(lambda: lab.backout("db", "restore", xid, "--side", "--dry-run").code == 0, what="it is archived")
    with pgbouncer(lab.status.port, PASSWORD, tmp_path) as url:
        assert left_behind(url) == []
        lab.variables["DATABASE_URL"] = url
        try:
            for words in ASKS:
                lab.backout(*words)
                assert left_behind(url) == [], words
            for words in SETS:
                answer = lab.backout(*(word.format(xid=xid) for word in words))
                assert left_behind(url) == [], words
                assert answer.code == 3, (words, answer.err, answer.out)
                assert "a transaction pooler stands between" in answer.err
                assert "admin_url_env" in answer.err
            assert "a pooler" in " ".join(lab.backout("db", "check").out.split())
        finally:
            lab.variables["DATABASE_URL"] = lab.dsn
    assert lab.value("SELECT count(*) FROM orders") == 52


def test_one_with_a_single_session_of_the_server_is_refused_at_once(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Both of ours would wait for it; what is asked in a transaction of the one is not asked by the other as well."""
    with (
        running_lab(tmp_path, template()) as small,
        pgbouncer(small.status.port, PASSWORD, tmp_path, sessions=1) as url,
        pytest.raises(Refused, match="a transaction pooler stands between"),
    ):
        open_working(url).close()
