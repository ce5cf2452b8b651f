"""SeaweedFS in one process, as its documentation starts it (`weed server -s3`), on loopback.

The twin's own store is the same program, with TLS between its parts: there a call takes the server twice the CPU, and
a comparison of clients compares mostly that.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sysconfig
import time
from pathlib import Path

from backout.errors import BackoutError
from backout.providers.child import find_free_ports, tie_to_parent
from backout.providers.clock import SystemClock
from backout.providers.retry import Retry
from backout.providers.s3.client import S3Client
from backout.providers.s3.sigv4 import S3Credentials
from backout.providers.s3.transport import S3Settings

_WITHIN_S = 60.0


class SeaweedFS:
    """A store with its data under `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._child: subprocess.Popen[bytes] | None = None
        self.credentials_file = directory / "credentials.json"

    async def start(self) -> None:
        """Start it and return when an object can be written. Raises BackoutError: it did not come up."""
        self._start()

    def _start(self) -> None:
        directory, names = self._directory, ("master", "volume", "filer", "s3")
        (directory / "data").mkdir(parents=True)
        ports = find_free_ports(2 * len(names), ())
        key, secret = f"BENCH{secrets.token_hex(6).upper()}", secrets.token_hex(20)
        access = {"accessKey": key, "secretKey": secret}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "bench", "credentials": [access], "actions": actions}
        (directory / "s3.json").write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
        program = Path(sysconfig.get_path("scripts")) / "weed"
        argv = [
            str(program), "-logtostderr=true", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3",
            f"-dir={directory / 'data'}", f"-s3.config={directory / 's3.json'}", "-s3.port.iceberg=0",
            "-s3.port.lance=0", "-master.telemetry=false", "-master.volumeSizeLimitMB=256", "-volume.max=200",
            *(f"-{name}.port={ports[place]}" for place, name in enumerate(names)),
            *(f"-{name}.port.grpc={ports[place]}" for place, name in enumerate(names, len(names))),
        ]  # fmt: skip
        with (directory / "log").open("wb") as log:
            self._child = subprocess.Popen(
                tie_to_parent(argv, signal.SIGKILL), stdout=log, stderr=log, cwd=directory, start_new_session=True
            )
        endpoint = f"http://127.0.0.1:{ports[3]}"
        found = {"access_key_id": key, "secret_access_key": secret, "endpoint": endpoint, "region": "us-east-1"}
        self.credentials_file.write_text(json.dumps(found), encoding="utf-8")
        self._wait_until_written(S3Settings(endpoint, S3Credentials(key, secret), retry=Retry(attempts=1)))

    def read_cpu_s(self) -> float:
        """Return the processor time that it took so far, in seconds."""
        if self._child is None:
            return 0.0
        told = Path(f"/proc/{self._child.pid}/stat").read_text(encoding="utf-8")
        fields = told.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def stop(self) -> None:
        """Stop it."""
        if self._child is not None:
            self._child.terminate()
            try:
                self._child.wait(10.0)
            except subprocess.TimeoutExpired:
                self._child.kill()

    def _wait_until_written(self, settings: S3Settings) -> None:
        begun = time.monotonic()
        with S3Client(settings, SystemClock()) as client:
            while True:
                try:
                    if not client.list_buckets():
                        client.create_bucket("begun")
                    client.put("begun", "k", b"x")
                except BackoutError:
                    if time.monotonic() - begun > _WITHIN_S:
                        raise
                    time.sleep(0.2)
                else:
                    return
