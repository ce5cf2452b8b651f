"""A session that works holds locks: server and client notice within a minute that the other one's machine is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kept import template

from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer
from backout.providers.postgres.server.session import open_working

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("keepalives_idle", "keepalives_interval", "keepalives_count")


def test_both_ends_notice_that_the_other_machine_is_gone(tmp_path: Path) -> None:
    """The server by its own settings, whatever the database's are, as it says itself; the client by libpq's."""
    server = PostgresServer(tmp_path / "data", find_binaries(), settings={"fsync": "off"})
    server.create(cache_directory=template())
    try:
        port = server.start(password="here").port
        with open_working(f"postgresql://postgres:here@127.0.0.1:{port}/postgres") as session:
            found = [session.execute(f"SHOW tcp_{name}".encode()).fetchone() for name in NAMES]
            assert found == [("30",), ("10",), ("3",)]
            given = session.info.get_parameters()
            assert [given[name] for name in NAMES] == ["30", "10", "3"]
    finally:
        server.stop(mode="immediate")
