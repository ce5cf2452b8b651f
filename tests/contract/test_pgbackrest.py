"""Port Backups on a real pgBackRest repository of a real server: listed, verified, restored to an exact LSN."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
import pytest
from kept import template
from small_cluster import SEGMENT, shrink_segments

from backout.analysis.recovery.capability import find_window
from backout.errors import BackoutError, UsageError
from backout.model.database.recovery import RecoveryTarget, TargetKind
from backout.model.database.wal import parse_lsn
from backout.providers.child import find_unprivileged_prefix
from backout.providers.pgbackrest.repository import PgBackRest
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer

from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    shutil.which("pgbackrest") is None, reason="no pgBackRest: apt-get install pgbackrest (.ci/run does)"
)


@dataclass(frozen=True)
class Stanza:
    """A server with its repository: a table of one row, an LSN, and a second row that came after it."""

    folder: Path
    config: Path
    lsn: int

    @property
    def repository(self) -> PgBackRest:
        return PgBackRest("main", self.config)


@pytest.fixture(scope="module")
def stanza(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stanza]:
    folder = tmp_path_factory.mktemp("pgbackrest")
    config = folder / "pgbackrest.conf"
    archive = f"pgbackrest --config={config} --stanza=main archive-push %p"
    server = PostgresServer(
        folder / "data", find_binaries(), settings={"archive_mode": "on", "archive_command": archive}
    )
    server.create(cache_directory=template())
    shrink_segments(folder / "data", find_binaries())  # 1 MB: nothing may assume the usual 16
    status = server.start()
    for name in ("repo", "log", "lock", "spool"):
        (folder / name).mkdir()
    config.write_text(
        f"[global]\nrepo1-path={folder}/repo\nrepo1-retention-full=9\nlog-path={folder}/log\nlock-path={folder}/lock\n"
        f"spool-path={folder}/spool\nlog-level-file=off\nstart-fast=y\n[main]\npg1-path={folder}/data\n"
        f"pg1-socket-path={status.socket_directory}\npg1-port={status.port}\npg1-user=postgres\n"
    )
    for command in (("stanza-create",), ("backup", "--type=full"), ("backup", "--type=incr")):
        argv = (*find_unprivileged_prefix(), "pgbackrest", f"--config={config}", "--stanza=main", *command)
        subprocess.run(argv, check=True, capture_output=True, timeout=PATIENCE_S)
    with psycopg.connect(status.socket_dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS i")
        (lsn,) = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone() or ("",)
        connection.execute("INSERT INTO t VALUES (2)")
        connection.execute("SELECT pg_switch_wal()")
    made = Stanza(folder, config, parse_lsn(str(lsn)))
    until(lambda: any(s.end_lsn > made.lsn for s in made.repository.wal()), what="the segment is archived")
    yield made
    server.stop(mode="immediate")


def test_backups_and_wal_are_listed(stanza: Stanza) -> None:
    """An incremental one names what it builds on; the WAL has no gap."""
    full, incremental = stanza.repository.backups()
    assert (full.kind, full.parent) == ("full", None)
    assert (incremental.kind, incremental.parent) == ("incremental", full.id)
    assert full.begin_lsn < full.end_lsn <= incremental.begin_lsn
    assert full.size_bytes > full.stored_bytes > 0
    assert full.server_version // 10_000 == 18
    assert full.system_identifier.isdecimal()
    segments = stanza.repository.wal()
    assert [one.end_lsn for one in segments[:-1]] == [one.begin_lsn for one in segments[1:]]
    assert find_window(stanza.repository.backups()).copies == 2


def test_a_side_stops_exactly_before_the_target_and_does_not_archive(stanza: Stanza, tmp_path: Path) -> None:
    """It pauses there; the repository it came from is left alone."""
    stanza.repository.restore(RecoveryTarget(TargetKind.LSN, "", stanza.lsn, 1), tmp_path / "side")
    side = PostgresServer(tmp_path / "side", find_binaries())
    try:
        with psycopg.connect(side.start().socket_dsn, autocommit=True) as connection:
            until(
                lambda: connection.execute("SELECT pg_get_wal_replay_pause_state() = 'paused'").fetchone() == (True,),
                what="the side pauses at its target",
            )
            assert connection.execute("SELECT i FROM t").fetchall() == [(1,)]
            assert connection.execute("SHOW archive_mode").fetchone() == ("off",)
    finally:
        side.stop(mode="immediate")


@pytest.mark.long
def test_a_data_directory_is_laid_out_for_our_own_replay(stanza: Stanza, tmp_path: Path) -> None:
    """No recovery settings of pgBackRest's in it; segments come along by name, with their whole content."""
    repository, heard = stanza.repository, list[tuple[int, int]]()
    newest = repository.backups()[-1]
    repository.unpack(newest.id, tmp_path / "data", lambda done, of: heard.append((done, of)))
    assert (tmp_path / "data" / "backup_label").is_file()
    assert not (tmp_path / "data" / "recovery.signal").exists()
    assert heard[-1] == (newest.size_bytes, newest.size_bytes)
    (tmp_path / "wal").mkdir()
    names = [one.name for one in repository.wal()[-2:]]
    repository.fetch_wal(names, tmp_path / "wal")
    assert {path.name: path.stat().st_size for path in (tmp_path / "wal").iterdir()} == dict.fromkeys(names, SEGMENT)
    with pytest.raises(BackoutError, match="no WAL segment 0000000100000000000000FF"):
        repository.fetch_wal(["0000000100000000000000FF"], tmp_path / "wal")


@pytest.mark.long
def test_a_damaged_repository_is_found(stanza: Stanza, tmp_path: Path) -> None:
    """Verify reads everything."""
    stanza.repository.verify()
    shutil.copytree(stanza.folder / "repo", tmp_path / "repo")
    config = tmp_path / "pgbackrest.conf"
    config.write_text(stanza.config.read_text().replace(f"{stanza.folder}/repo", f"{tmp_path}/repo"))
    victim = max((tmp_path / "repo" / "archive").rglob("*-*.*"), key=lambda path: path.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 0xFF
    victim.write_bytes(content)
    with pytest.raises(BackoutError, match=r"errors|failed"):
        PgBackRest("main", config).verify()


def test_bad_input_is_told_apart(stanza: Stanza, tmp_path: Path) -> None:
    """No such stanza, backup, configuration or program; an existing directory is not overwritten."""
    with pytest.raises(UsageError, match="'other'"):
        PgBackRest("other", stanza.config).backups()
    with pytest.raises(BackoutError, match="nosuch"):
        stanza.repository.unpack("nosuch", tmp_path / "data", lambda *_: None)
    with pytest.raises(BackoutError, match="failed"):
        PgBackRest("main", tmp_path / "none.conf").backups()
    with pytest.raises(UsageError, match="not installed") as caught:
        PgBackRest("main", program="no-such-pgbackrest").backups()
    assert "apt-get install pgbackrest" in (caught.value.hint or "")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("kept")
    with pytest.raises(BackoutError, match="failed"):
        stanza.repository.unpack(stanza.repository.backups()[0].id, tmp_path / "full", lambda *_: None)
    assert (tmp_path / "full" / "mine").read_text() == "kept"
