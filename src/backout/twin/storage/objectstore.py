"""The twin's object store: SeaweedFS with its S3 gateway, on loopback, without telemetry.

Only the S3 API is open, and asks for a signature. Everything else (HTTP and gRPC of master, volume server and filer,
gRPC of the gateway) accepts only the certificate that the parts share, which is recreated at each start.

Its parts run as separate processes, each started once the one it needs answers: in one process they wait fixed
seconds for each other, and writes fail until a heartbeat five seconds later.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import secrets
import shutil
import signal
import subprocess
import sysconfig
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import astuple

from backout.errors import BackoutError, UsageError
from backout.extras import describe_install
from backout.model.value import Value
from backout.providers.child import find_free_ports, tie_to_parent
from backout.providers.child_environment import make_sealed_environment
from backout.twin.storage import keys

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

REGION = "us-east-1"
_POLL_S = 0.02
_GRACE_S = 0.5
_ATTEMPTS = 3
_PORT_TAKEN = "address already in use"
_BUCKET_ACTIONS = ("Read", "Write", "List", "Tagging")
_ALL_ACTIONS = ("Admin", *_BUCKET_ACTIONS)


class Ports(Value, frozen=True):
    """The TCP ports of the store, all on 127.0.0.1: HTTP and gRPC of each part."""

    master: int
    master_grpc: int
    volume: int
    volume_grpc: int
    filer: int
    filer_grpc: int
    s3: int
    s3_grpc: int


@dataclass(frozen=True, slots=True)
class S3Access:
    """The settings of an S3 client; the credentials file holds exactly these as JSON."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    endpoint: str
    region: str = REGION


class ObjectStore:
    """SeaweedFS with its data under `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._passport: ssl.SSLContext | None = None
        self.ports: Ports | None = None

    @property
    def credentials_file(self) -> Path:
        """JSON of S3Access, readable by the owner alone."""
        return self._directory / "credentials.json"

    @property
    def pids(self) -> dict[str, int]:
        """The processes, by the part they run."""
        return {f"objectstore-{name}": child.pid for name, child in self._children.items()}

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped."""
        return bool(self._children)

    async def start(self, wanted_ports: Sequence[int] = (), *, timeout_s: float = 20.0) -> S3Access:
        """Start it and return when an object can be written.

        Raises:
            UsageError: SeaweedFS is not installed.
            BackoutError: it did not come up; the end of its log is quoted.
        """
        program = _find_program()
        self._end_leftovers()
        for name in ("master", "volume", "filer", "run"):
            (self._directory / name).mkdir(parents=True, exist_ok=True)
        self._passport = keys.write(self._directory / "run")
        deadline = time.monotonic() + timeout_s
        wanted = tuple(wanted_ports) if self.ports is None else astuple(self.ports)
        if len(wanted) == len(Ports.__struct_fields__):
            _remove_sockets(Ports(*wanted))  # of a killed one
        for attempt in range(_ATTEMPTS):
            self.ports = Ports(*find_free_ports(8, wanted))
            access = self._access()
            try:
                await self._bring_up(program, self.ports, deadline)
            except BackoutError as error:
                await self.stop()
                if _PORT_TAKEN not in error.what or attempt == _ATTEMPTS - 1:
                    raise
                wanted = ()  # another process took them: try others
            except BaseException:
                await self.stop()
                raise
            else:
                break
        return access

    async def stop(self) -> None:
        """Stop it: SIGTERM, and SIGKILL after half a second, since an idle part would wait ten for its peers.

        Every answered write has reached the kernel by then, so nothing is lost.
        """
        for child in self._children.values():
            with contextlib.suppress(ProcessLookupError):
                child.terminate()
        deadline = time.monotonic() + _GRACE_S
        for child in self._children.values():
            await _end_child(child, deadline)
        self._children.clear()
        if self.ports is not None:
            _remove_sockets(self.ports)

    async def _bring_up(self, program: str, ports: Ports, deadline: float) -> None:
        master = f"127.0.0.1:{ports.master}.{ports.master_grpc}"
        here = ("-ip=127.0.0.1", "-ip.bind=127.0.0.1")
        directory = self._directory
        self._spawn(
            program, "master", *here, f"-port={ports.master}", f"-port.grpc={ports.master_grpc}",
            f"-mdir={directory / 'master'}", "-telemetry=false", "-volumeSizeLimitMB=256",
            "-electionTimeout=100ms", "-heartbeatInterval=30ms",
        )  # fmt: skip
        await self._until("master", ports.master, "/cluster/status", deadline, lambda body: b'"IsLeader":true' in body)
        self._spawn(
            program, "volume", *here, f"-port={ports.volume}", f"-port.grpc={ports.volume_grpc}",
            f"-dir={directory / 'volume'}", f"-mserver={master}", "-max=2000", "-preStopSeconds=0",
            "-minFreeSpace=100MiB",
        )  # fmt: skip
        self._spawn(
            program, "filer", *here, f"-port={ports.filer}", f"-port.grpc={ports.filer_grpc}", f"-master={master}",
            f"-defaultStoreDir={directory / 'filer'}", "-localSocket=filer.sock",
        )  # fmt: skip
        await self._until("filer", ports.filer, "/healthz", deadline)
        self._spawn_gateway(program, ports)
        await self._until("volume", ports.volume, "/healthz", deadline)
        await self._until("master", ports.master, "/dir/status", deadline, lambda body: b"127.0.0.1:" in body)
        await self._until("s3", ports.s3, "/healthz", deadline)

    async def stop_gateway(self) -> None:
        """Stop the S3 API alone: to a client the store is down, and `start_gateway` takes a tenth of a second."""
        gateway = self._children.pop("s3", None)
        if gateway is not None:
            await _end_child(gateway, time.monotonic())

    async def start_gateway(self, allowed: Sequence[str] | None = None, *, timeout_s: float = 10.0) -> None:
        """Start the S3 API again; with `allowed`, the one access key may use these buckets only."""
        await self.stop_gateway()
        self._write_identity(self.read_access(), allowed)
        self._spawn_gateway(_find_program(), self._ports())
        await self._until("s3", self._ports().s3, "/healthz", time.monotonic() + timeout_s)

    def _spawn_gateway(self, program: str, ports: Ports) -> None:
        self._spawn(
            program, "s3", "-ip.bind=127.0.0.1", f"-port={ports.s3}", f"-port.grpc={ports.s3_grpc}",
            f"-filer=127.0.0.1:{ports.filer}.{ports.filer_grpc}", f"-config={self._directory / 's3.json'}",
            "-localSocket=s3.sock", "-port.iceberg=0", "-port.lance=0", "-iam=false",
            "-autoCreateBucket=false", f"-allowedOrigins={keys.NO_ORIGIN}",
        )  # fmt: skip

    def _spawn(self, program: str, part: str, *arguments: str) -> None:
        argv = (program, "-logtostderr=true", part, *arguments)
        with (self._directory / f"{part}.log").open("wb") as log:  # of this run alone: it talks a lot
            # SIGKILL at the parent's death: a part that lingers would hold the store's lock against the next start.
            self._children[part] = subprocess.Popen(
                tie_to_parent(argv, signal.SIGKILL),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory / "run",
                start_new_session=True,
                env=make_sealed_environment({"HOME": str(self._directory / "run"), "PATH": os.defpath}),
            )
        pids = {name: child.pid for name, child in self._children.items()}
        (self._directory / "pids.json").write_text(json.dumps(pids), encoding="ascii")

    async def _until(
        self, part: str, port: int, path: str, deadline: float, good: Callable[[bytes], bool] = lambda _: True
    ) -> None:
        while True:
            status, body = await _get(port, path, None if part == "s3" else self._passport)
            if status == 200 and good(body):
                return
            stopped = self._children[part].poll() is not None
            if stopped or time.monotonic() > deadline:
                said = (self._directory / f"{part}.log").read_text(encoding="utf-8", errors="replace")[-1500:]
                what = "stopped" if stopped else "did not answer in time"
                raise BackoutError(f"the object store's {part} {what}: {said.strip()}", where=str(self._directory))
            await asyncio.sleep(_POLL_S)

    def _access(self) -> S3Access:
        """Return the access, with the keys of the first start, written to the files of client and server."""
        known = self.read_access()
        access = S3Access(known.access_key_id, known.secret_access_key, f"http://127.0.0.1:{self._ports().s3}")
        _write_private(self.credentials_file, dataclasses.asdict(access))
        self._write_identity(access, None)
        return access

    def read_access(self) -> S3Access:
        """Return the settings of a client; before the first start, with keys that nobody has."""
        try:
            return S3Access(**json.loads(self.credentials_file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return S3Access(f"TWIN{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30), "")

    def _write_identity(self, access: S3Access, allowed: Sequence[str] | None) -> None:
        names = _ALL_ACTIONS if allowed is None else _BUCKET_ACTIONS
        actions = [f"{name}:{bucket}" for name in names for bucket in allowed] if allowed is not None else list(names)
        identity = {
            "name": "twin",
            "credentials": [{"accessKey": access.access_key_id, "secretKey": access.secret_access_key}],
            "actions": actions,
        }
        _write_private(self._directory / "s3.json", {"identities": [identity]})

    def _ports(self) -> Ports:
        if self.ports is None:
            raise UsageError("the object store was not started", where=str(self._directory))
        return self.ports

    def _end_leftovers(self) -> None:
        """End the processes of an earlier run whose parent was killed where the kernel could not do it for us."""
        with contextlib.suppress(OSError, ValueError):
            for pid in json.loads((self._directory / "pids.json").read_text(encoding="ascii")).values():
                command = Path(f"/proc/{int(pid)}/cmdline")
                with contextlib.suppress(OSError):
                    if str(self._directory).encode() in command.read_bytes():
                        os.kill(int(pid), signal.SIGKILL)


def _remove_sockets(ports: Ports) -> None:
    """Remove the sockets that it leaves in /tmp under names it does not let us choose."""
    numbers = {
        "master": ports.master_grpc,
        "volume": ports.volume_grpc,
        "filer": ports.filer_grpc,
        "s3": ports.s3_grpc,
    }
    for part, number in numbers.items():
        Path(f"/tmp/seaweedfs-{part}-grpc-{number}.sock").unlink(missing_ok=True)  # noqa: S108 - its own choice


async def _end_child(child: subprocess.Popen[bytes], deadline: float) -> None:
    while child.poll() is None and time.monotonic() < deadline:  # noqa: ASYNC110 - its end is no event
        await asyncio.sleep(_POLL_S)
    child.kill()  # does nothing where it has ended
    await asyncio.to_thread(child.wait)


def _find_program() -> str:
    beside = Path(sysconfig.get_path("scripts")) / "weed"
    program = str(beside) if beside.is_file() else shutil.which("weed")
    if program is None:
        raise UsageError("SeaweedFS is not installed", hint=describe_install("twin"))
    return program


def _write_private(path: Path, content: object) -> None:
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(content, file)
    temporary.replace(path)


async def _get(port: int, path: str, passport: ssl.SSLContext | None) -> tuple[int, bytes]:
    """Ask a part of the store whether it is there: (0, b"") if it does not answer."""
    try:
        async with asyncio.timeout(1.0):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=passport)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            finally:
                writer.close()
        return int(head.split(b" ", 2)[1]), body
    except (OSError, TimeoutError, ValueError, IndexError):
        return 0, b""
