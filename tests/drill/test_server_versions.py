"""The versions of the table in docs/backups.md: each way on a real server of each that is installed here."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from backup_lab import PASSWORD, TOML, Lab

from backout.providers.postgres.binaries import find_binaries
from backout.providers.postgres.launcher import PostgresServer

from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDERS = [
    *sorted(path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")),
    *(Path(each) for each in os.environ.get("BACKOUT_POSTGRES", "").split(":") if each),
]
TABLE = Path(__file__).parents[2] / "docs" / "backups.md"
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
