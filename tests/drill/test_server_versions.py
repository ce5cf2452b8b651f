"""The versions of the table in docs/backups.md: each way on a real server of each that is installed here."""

from __future__ import annotations

import os
import re
import signal
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from backup_lab import PASSWORD, TOML, Lab
from psycopg import conninfo, pq

from backout.model.database.wal import parse_lsn
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer

from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDERS = [
    *sorted(path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")),
    *(Path(each) for each in os.environ.get("BACKOUT_POSTGRES", "").split(":") if each),
]
TABLE = Path(__file__).parents[2] / "docs" / "backups.md"
RESTART = "SELECT restart_lsn FROM pg_replication_slots"
ROW = re.compile(r"^\| (\d+) \|", re.MULTILINE)


@pytest.fixture(params=FOLDERS or [None], ids=lambda path: "none" if path is None else path.parent.name)
def lab(request: pytest.FixtureRequest, quick_path: Path) -> Iterator[Lab]:
    """Run a server of the version with its own programs, and set them."""
    if request.param is None:
        pytest.skip("needs postgresql, a package of Debian")
    settings = {"fsync": "off", "max_slot_wal_keep_size": "64MB"}
    server = PostgresServer(quick_path / "data", find_binaries(request.param), settings=settings)
    server.create()
    status = server.start(password=PASSWORD)
    lab = Lab(quick_path, server, status, {"PATH": os.environ["PATH"]})
    lab.variables["DATABASE_URL"] = lab.dsn
    configure(lab, request.param)
    try:
        yield lab
    finally:
        lab.backout("db", "wal", "stop")
        server.stop(mode="immediate")


def configure(lab: Lab, binaries: Path | None) -> None:
    named = f'\nbinaries = "{binaries}"' if binaries is not None else ""
    text = TOML.format(backup='wal = "stream"').replace('provider = "postgres"', 'provider = "postgres"' + named)
    (lab.folder / "backout.toml").write_text(text, encoding="utf-8")


def test_the_table_has_each_version_once() -> None:
    """In order, whatever is installed here."""
    rows = ROW.findall(TABLE.read_text(encoding="utf-8"))
    assert rows == sorted(set(rows))
    assert rows


@pytest.mark.long
def test_every_way_works_on_this_version(lab: Lab) -> None:
    """Backup, WAL, side instance, rescue and dump; `db check` says so, and with other programs why not."""
    version = str(lab.value("SHOW server_version")).partition(".")[0]
    assert version in ROW.findall(TABLE.read_text(encoding="utf-8")), "the table says nothing of this version"
    lab.execute("CREATE TABLE t AS SELECT generate_series(1, 100) AS n")
    for words in (("wal", "start"), ("backup",), ("dump",)):
        done = lab.backout("db", *words)
        assert done.code == 0, done.err
    lab.execute("DROP TABLE t", "SELECT pg_switch_wal()", "CREATE TABLE u ()")
    until(lambda: lab.backout("db", "wal", "status").code == 0, what="it is protected")
    checked = lab.backout("db", "check", "--json")
    ready = {way["name"] for way in checked.json["ways"] if way["readiness"] == "ready"}  # type: ignore[attr-defined]
    assert ready >= {"own backups", "dumps"}
    rescued = lab.backout("db", "restore", "before drop of t", "--yes")
    assert rescued.code == 0, rescued.err
    assert lab.value("SELECT count(*) FROM t") == 100
    if version != find_binaries().version().partition(".")[0]:
        configure(lab, None)
        refused = lab.backout("db", "backup")
        assert (refused.code, f"the server is version {version}" in refused.err) == (3, True), refused.err
        said = lab.backout("db", "check").out
        assert f"the server is {version}" in " ".join(said.split())


@pytest.mark.long
def test_a_lost_slot_that_names_a_position_again_is_replaced(lab: Lab) -> None:
    """Until Postgres 17 a lost slot takes a late message of its receiver, and names WAL that is gone from then on."""
    assert lab.backout("db", "wal", "start").code == 0
    slot, position = str(lab.value("SELECT slot_name FROM pg_replication_slots")), lab.value(RESTART)
    os.kill(int((lab.archive / "receiver.lock").read_text(encoding="ascii")), signal.SIGKILL)
    until(lambda: lab.value("SELECT active_pid FROM pg_replication_slots") is None, what="the receiver is gone")
    while lab.value(RESTART) is not None:
        lab.execute("CREATE TABLE t AS SELECT repeat('x', 1000) FROM generate_series(1, 12000)", "DROP TABLE t")
        lab.execute("CHECKPOINT")
    confirm(lab, slot, parse_lsn(str(position)))
    started = lab.backout("db", "wal", "start")
    assert started.code == 0, started.err
    until(
        lambda: lab.value("SELECT wal_status FROM pg_replication_slots") == "reserved", what="the slot is another one"
    )


def confirm(lab: Lab, slot: str, position: int) -> None:
    """Tell the server, as a receiver does, that everything before a position was received; from 18 on it refuses."""
    connection = pq.PGconn.connect(conninfo.make_conninfo(lab.dsn, replication="true").encode())
    try:
        here = lab.value("SELECT pg_current_wal_flush_lsn()")
        begun = connection.exec_(f"START_REPLICATION SLOT {slot} PHYSICAL {here}".encode())
        if begun.status != pq.ExecStatus.COPY_BOTH:
            assert b"can no longer access replication slot" in begun.error_message
            return
        connection.put_copy_data(b"r" + struct.pack(">QQQqB", position, position, 0, 0, 0))
        connection.flush()
        until(lambda: lab.value(RESTART) is not None, what="the position is taken")
    finally:
        connection.finish()
