"""A rescue behind Hyperdrive: the rows are back in the database, and the Worker is still answered with the old ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg
import pytest
from branch_lab import managed
from kept import template

from backout.decoding import parse_moment
from backout.twin.database.hyperdrive import HyperdriveProxy
from backout.twin.database.querycache import Policy

from twin_services import Loop

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.rotating("restores", 5)

CACHE_S = 75.0
READ = "SELECT status FROM orders WHERE id = 1"


@pytest.mark.long
def test_a_look_through_the_worker_shows_rows_from_before_and_the_report_says_until_when(tmp_path: Path) -> None:
    """The twin's Hyperdrive before the database; without the binding nothing is said of a cache."""
    with managed(tmp_path / "lab", template(), commit_times=True) as shop:
        lab, loop, clock = shop.lab, Loop(), [0.0]
        with lab.connect() as connection:
            connection.execute("CREATE TABLE orders (id int PRIMARY KEY, status text)")
            connection.execute("INSERT INTO orders SELECT n, 'sent' FROM generate_series(1, 9) n")
        lab.base("base")
        with lab.connect() as connection, connection.transaction():
            row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            connection.execute("UPDATE orders SET status = 'bad'")
        assert row is not None
        where = psycopg.conninfo.conninfo_to_dict(lab.dsn)
        socket = lab.sockets / f".s.PGSQL.{where['port']}"

        async def make() -> HyperdriveProxy:
            login = (str(where["dbname"]), str(where["user"]), "canary-of-the-proxy")
            return HyperdriveProxy(login, lambda: socket, Policy(), now=lambda: clock[0])

        proxy = loop.run(make())
        to = proxy.target

        def read() -> object:
            with psycopg.connect(
                host=to.host, port=to.port, dbname=to.database, user=to.user, password=to.password, autocommit=True
            ) as worker:
                found = worker.execute(READ).fetchone()
                return None if found is None else found[0]

        try:
            assert read() == "bad"
            dry = shop("db", "restore", str(row[0]), "--dry-run")
            assert "Hyperdrive" not in dry.out
            wrangler = {"name": "shop", "hyperdrive": [{"binding": "DB", "id": "1"}]}
            (shop.folder / "wrangler.json").write_text(json.dumps(wrangler))
            dry = shop("db", "restore", str(row[0]), "--dry-run")
            assert "Hyperdrive caches reads: for 75 s" in " ".join(dry.out.split())
            done = shop("db", "restore", str(row[0]), "--yes", "--json")
            until = done.json["stale_reads_until"]
            assert isinstance(until, str)
            assert parse_moment(until) > 0
            assert lab.rows(READ) == [("sent",)]
            assert read() == "bad"
            clock[0] += CACHE_S - 0.1
            assert read() == "bad"  # stale, and read anew behind it
            clock[0] += 0.2
            assert read() == "sent"
            told = shop("db", "restore", "--undo", "--yes")
            assert "a look through the Worker can show rows from before" in told.out
        finally:
            loop.run(proxy.stop())
            loop.close()
