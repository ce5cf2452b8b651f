"""The twin's services together: up, found again after a stop and after kill -9, broken and mended by faults."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import psycopg
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError
from psycopg import sql

from backout.errors import BackoutError
from backout.providers.child import is_running
from backout.twin.faults import Fault, FaultKind

from polling import PATIENCE_S, until
from streamed import await_line
from twin_services import RunningServices, running_services

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BUCKET = "models"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServices]:
    with running_services(tmp_path_factory.mktemp("services")) as made:
        for name in (BUCKET, "other"):
            made.loop.run(made.services.create_bucket(name))
        yield made


def boto(credentials_file: Path) -> Any:
    access = json.loads(credentials_file.read_text(encoding="utf-8"))
    return boto3.client(
        "s3",
        endpoint_url=access["endpoint"],
        aws_access_key_id=access["access_key_id"],
        aws_secret_access_key=access["secret_access_key"],
        region_name=access["region"],
        config=Config(retries={"total_max_attempts": 2}),  # a kept connection may have ended with the gateway
    )


@pytest.fixture
def s3(running: RunningServices) -> Iterator[Any]:
    client = boto(running.services.s3_credentials_file)
    yield client
    client.close()


def listening_addresses(pids: set[int]) -> set[str]:
    """Return the addresses on which these processes listen, from the kernel's own table."""
    inodes: set[str] = set()
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed since it was listed
                target = str(entry.readlink())
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
    found = set()
    for table, size in (("tcp", 8), ("tcp6", 32)):
        for line in Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in inodes:
                found.add(words[1][:size])
    return found


def test_everything_listens_on_loopback_alone(running: RunningServices) -> None:
    """Not one socket of any process is open to the network."""
    pids = {*running.services.pids.values(), os.getpid()}
    assert len(pids) == 6
    assert listening_addresses(pids) == {"0100007F"}


def test_the_credentials_file_is_private_and_complete(running: RunningServices) -> None:
    """Owner only, and exactly the four keys."""
    path = running.services.s3_credentials_file
    assert path.stat().st_mode & 0o777 == 0o600
    access = json.loads(path.read_text(encoding="utf-8"))
    assert sorted(access) == ["access_key_id", "endpoint", "region", "secret_access_key"]
    assert access["endpoint"] == running.services.s3_endpoint


def test_a_bucket_of_the_twin_keeps_versions(running: RunningServices, s3: Any) -> None:
    """Which R2 itself does not."""
    assert s3.get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"
    assert BUCKET in running.loop.run(running.services.list_buckets())
    running.loop.run(running.services.create_bucket(BUCKET))


def test_a_database_that_is_down_refuses_and_comes_back_with_its_data(running: RunningServices) -> None:
    """Open sessions are cut, new ones refused; after the fault the same address answers."""
    dsn = running.services.postgres_dsn
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 1 AS one")
        running.break_(FaultKind.SERVICE_DOWN, "database")
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(dsn, connect_timeout=3)
    assert "postgres" not in running.services.pids
    running.mend()
    with psycopg.connect(dsn) as session:
        assert session.execute("SELECT one FROM kept").fetchone() == (1,)


def test_storage_that_is_down_refuses_and_comes_back_with_its_data(running: RunningServices, s3: Any) -> None:
    """The S3 address does not answer; after the fault it does, with what was there."""
    s3.put_object(Bucket=BUCKET, Key="kept", Body=b"x")
    running.break_(FaultKind.SERVICE_DOWN, "storage")
    with pytest.raises(EndpointConnectionError):
        s3.get_object(Bucket=BUCKET, Key="kept")
    running.mend()
    assert s3.get_object(Bucket=BUCKET, Key="kept")["Body"].read() == b"x"


@pytest.mark.parametrize(("target", "other_is_denied"), [(BUCKET, False), (None, True)])
def test_denied_storage_answers_403(
    running: RunningServices, s3: Any, target: str | None, other_is_denied: bool
) -> None:
    """One bucket or all of them, for reading and writing; afterwards both work."""
    for bucket in (BUCKET, "other"):
        s3.put_object(Bucket=bucket, Key="denied", Body=b"x")
    running.break_(FaultKind.STORAGE_DENIED, target)
    for attempt in (
        lambda: s3.get_object(Bucket=BUCKET, Key="denied"),
        lambda: s3.put_object(Bucket=BUCKET, Key="denied", Body=b"y"),
        lambda: s3.list_objects_v2(Bucket=BUCKET),
    ):
        with pytest.raises(ClientError) as refused:
            attempt()
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
        assert refused.value.response["Error"]["Code"] == "AccessDenied"
    if other_is_denied:
        with pytest.raises(ClientError):
            s3.get_object(Bucket="other", Key="denied")
    else:
        assert s3.get_object(Bucket="other", Key="denied")["Body"].read() == b"x"
    running.mend()
    assert s3.get_object(Bucket=BUCKET, Key="denied")["Body"].read() == b"x"


def test_a_fault_is_applied_and_ended_without_being_asked(running: RunningServices, s3: Any) -> None:
    """The services follow the registry by themselves, also when a fault's time is over."""
    running.faults.set(Fault(FaultKind.SERVICE_DOWN, target="storage"), duration_s=1.0)
    endpoint = running.services.s3_endpoint.removeprefix("http://").split(":")

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((endpoint[0], int(endpoint[1]))) == 0

    until(lambda: not answers(), what="storage is down")
    until(answers, what="storage is back")
    until(lambda: "objectstore-s3" in running.services.pids)
    s3.list_buckets()
    running.mend()


def test_a_service_that_does_not_come_back_is_tried_again(
    running: RunningServices, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what a fault stopped would stay down on a machine that was too slow once."""
    running.break_(FaultKind.SERVICE_DOWN, "storage")
    start, asked = running.services.objectstore.start_gateway, []

    async def slow(allowed: Sequence[str] | None = None) -> None:
        asked.append(allowed)
        if len(asked) == 1:
            raise BackoutError("the object store's s3 did not answer in time")
        await start(allowed)

    monkeypatch.setattr(running.services.objectstore, "start_gateway", slow)
    running.faults.clear()
    until(lambda: len(asked) == 2, what="it is tried again")
    running.mend()
    assert "objectstore-s3" in running.services.pids
    s3.list_buckets()
    assert len(asked) == 2


_DAEMON = """
import asyncio, json, sys
from pathlib import Path
from backout.twin.faults import Faults
from backout.twin.services import Services
async def main():
    directory = Path(sys.argv[1])
    services = Services(directory, Faults(directory.with_name("faults.json")))
    await services.start()
    await services.create_bucket("kept")
    told = {"dsn": services.postgres_dsn, "pids": services.pids, "credentials": str(services.s3_credentials_file)}
    print(json.dumps(told), flush=True)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(15, stopped.set)
    await stopped.wait()
    await services.stop()
asyncio.run(main())
"""


class Daemon:
    def __init__(self, directory: Path) -> None:
        argv = (sys.executable, "-c", _DAEMON, str(directory))
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        told = json.loads(await_line(self._process, ""))
        self.dsn: str = told["dsn"]
        self.pids: dict[str, int] = told["pids"]
        self.credentials = Path(told["credentials"])

    def end(self, number: signal.Signals) -> int:
        self._process.send_signal(number)
        with self._process:
            code = self._process.wait(PATIENCE_S)
        until(lambda: not any(is_running(pid) for pid in self.pids.values()), what="its processes are gone")
        return code

    def write(self, name: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as session:
            session.execute(sql.SQL("CREATE TABLE {} AS SELECT 1 AS one").format(sql.Identifier(name)))
        client = boto(self.credentials)
        client.put_object(Bucket="kept", Key=name, Body=name.encode())
        client.close()

    def has(self, name: str) -> bool:
        client = boto(self.credentials)
        try:
            stored = client.get_object(Bucket="kept", Key=name)["Body"].read() == name.encode()
        finally:
            client.close()
        with psycopg.connect(self.dsn) as session:
            row = session.execute(sql.SQL("SELECT one FROM {}").format(sql.Identifier(name))).fetchone()
        return stored and row == (1,)


@pytest.mark.long
def test_after_a_stop_and_after_kill_9_everything_is_there_again(tmp_path: Path) -> None:
    """Same addresses, same passwords, same data; no process and no socket of the dead one is left."""
    first = Daemon(tmp_path / "services")
    first.write("one")
    assert first.end(signal.SIGTERM) == 0
    second = Daemon(tmp_path / "services")
    assert second.dsn == first.dsn
    assert second.has("one")
    second.write("two")
    second.end(signal.SIGKILL)
    third = Daemon(tmp_path / "services")
    assert third.dsn == first.dsn
    assert third.has("one")
    assert third.has("two")
    for number in third.pids.values():
        os.kill(number, signal.SIGKILL)
    third.end(signal.SIGKILL)
    fourth = Daemon(tmp_path / "services")
    assert fourth.has("two")
    assert fourth.end(signal.SIGTERM) == 0
