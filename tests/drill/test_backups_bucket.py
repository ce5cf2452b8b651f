"""Backups and WAL in a bucket of a real S3 server: the machine that took them is lost as well."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import psycopg
import pytest
from backup_lab import running_lab
from small_cluster import SEGMENT

from backout.config import load
from backout.config.environment import Environment
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer
from backout.providers.s3.client import S3Client
from backout.wiring.db import backups as wired

from polling import until
from twin_services import running_services

if TYPE_CHECKING:
    from pathlib import Path

    from backout.config import Config

pytestmark = pytest.mark.rotating("drills", 5)

KEY = "0f" * 32


def config_of(folder: Path, variables: dict[str, str]) -> Config:
    return load(Environment(variables), start=folder)


@pytest.mark.long
def test_everything_comes_back_from_the_bucket_alone(quick_path: Path, tmp_path: Path) -> None:  # noqa: PLR0915 one story
    """Full and incremental, encrypted, with WAL up to seconds ago, although server and receiver are gone for good."""
    limit = {"max_slot_wal_keep_size": "64MB"}
    with running_services(quick_path / "s3") as running, running_lab(quick_path / "pg", tmp_path, limit) as lab:
        access = running.services.s3_credentials_file
        store = f'{{ bucket = "kept", endpoint = "{running.services.s3_endpoint}", credentials_file = "{access}" }}'
        settings = f'wal = "stream"\nkey_env = "BACKUP_KEY"\nstore = {store}'
        lab.configure(settings, {"PATH": os.environ["PATH"], "BACKUP_KEY": KEY})
        missing = lab.backout("db", "backup")
        assert missing.code in {1, 5}
        assert "kept" in missing.err
        bucket = wired.make_store(config_of(lab.folder, lab.variables))
        client = bucket._client  # type: ignore[attr-defined] # the same access key makes the bucket
        assert isinstance(client, S3Client)
        client.create_bucket("kept")
        lab.execute("CREATE TABLE t (n bigint)")
        assert lab.backout("db", "wal", "start").code == 0
        try:
            assert lab.backout("db", "backup").code == 0
            lab.execute("INSERT INTO t SELECT generate_series(1, 1000)")
            taken = lab.backout("db", "backup", "--json")
            assert taken.code == 0, taken.err
            lab.execute("INSERT INTO t SELECT generate_series(1001, 1500)")
            assert lab.backout("db", "backups", "verify").code == 0
            config = config_of(lab.folder, lab.variables)
            archive = wired.make_repository(config).archive(str(lab.value(_SYSTEM)))
            lsn = lab.value("SELECT (pg_current_wal_lsn() - '0/0')::bigint")
            newest = str(lab.value("SELECT pg_walfile_name(pg_current_wal_lsn())"))
            assert isinstance(lsn, int)

            def sent() -> bool:
                kept = [archive.read_kept(key.rpartition("/")[2]) for key, _ in bucket.keys(archive.prefix)
                        if key.endswith((newest, f"{newest}.partial"))]  # fmt: skip
                return any(content and len(content) > lsn % SEGMENT - 64 for content in kept)

            until(sent, timeout_s=30.0, what="what was received is in the bucket")
        finally:
            lab.backout("db", "wal", "stop")
        lab.server.stop()
        shutil.rmtree(lab.folder / ".backout")
        repository = wired.make_repository(config_of(lab.folder, lab.variables))
        data, wal = quick_path / "out", quick_path / "wal"
        data.mkdir()
        wal.mkdir()
        backup = taken.json["backup"]
        assert isinstance(backup, dict)
        assert [each.id for each in repository.backups()][-1] == backup["id"]
        repository.unpack(str(backup["id"]), data, lambda *_: None)
        repository.fetch_wal([segment.name for segment in repository.wal()], wal)
        (data / "recovery.signal").touch()
        server = PostgresServer(data, find_binaries(), settings={"restore_command": f'cp "{wal}/%f" "%p"'})
        status = server.start()
        try:
            with psycopg.connect(status.socket_dsn) as connection:
                until(
                    lambda: connection.execute("SELECT NOT pg_is_in_recovery()").fetchone() == (True,), what="it is up"
                )
                assert connection.execute("SELECT count(*) FROM t").fetchone() == (1500,)
        finally:
            server.stop(mode="immediate")


_SYSTEM = "SELECT system_identifier::text FROM pg_control_system()"
