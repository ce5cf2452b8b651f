"""One workerd process for one Worker version; it never outlives the twin, secrets are only in its environment."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import platform
import shutil
import signal
import time
import tty
from pathlib import Path
from typing import TYPE_CHECKING

from backout.errors import UsageError
from backout.providers.child import tie_to_parent
from backout.providers.child_environment import ChildEnvironment, make_bare_environment
from backout.twin import npm
from backout.twin.control.worker import StartupError
from backout.twin.dataplane import capnp, capnp_objects
from backout.twin.dataplane.memory import MemoryReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.twin.control.worker import WorkerVersion

_START_TIMEOUT_S = 20.0
_POLL_S = 0.01
_TERM_GRACE_S = 5.0
_OUTPUT_LINES = 200
_LINE_LIMIT_BYTES = 1 << 20
_KEPT_CHARACTERS = 4000
_UNCOLLECTED_MB = 64
"""V8 collects what lies beside the heap each time that so much was added, so up to that much of it may be garbage."""
_ADVICE = "so does not need to be specified anymore."
_OURS = "per-isolate bootstrap compile cache failed"
"""A warning about the flag that makes V8 report memory: its cache was made without it."""
_PACKAGES = {"x86_64": "workerd-linux-64", "aarch64": "workerd-linux-arm64"}


def find_workerd(explicit: Path | None = None, *, start: Path | None = None) -> Path:
    """Return the native workerd: the explicit one, else that of node_modules above `start` or cwd, else backout's own.

    Raises:
        UsageError: there is none.
    """
    if explicit is not None:
        if explicit.is_file():
            return explicit
        raise UsageError("no workerd binary there", where=str(explicit))
    package = _PACKAGES.get(platform.machine(), "workerd-linux-64")
    for folder in (*npm.walk_upwards(start or Path.cwd(), Path.cwd()), npm.find_home()):
        candidate = folder / npm.MODULES / "@cloudflare" / package / "bin" / "workerd"
        if candidate.is_file():
            return candidate
    raise UsageError("workerd is not installed", where="backout twin", hint="backout twin up")


def ensure(start: Path, say: Callable[[str], None]) -> None:
    """Install the npm parts where no project brings a workerd. Raises as `npm.ensure`."""
    try:
        find_workerd(start=start.absolute())
    except UsageError:
        npm.ensure(say)


async def find_newest_date(binary: Path) -> str:
    """Return the newest compatibility date that the binary accepts; it is the date of its release."""
    process = await asyncio.create_subprocess_exec(
        binary, "--version", stdout=asyncio.subprocess.PIPE, env=make_bare_environment()
    )
    output, _ = await process.communicate()
    return output.decode().split()[-1]


class Workerd:
    """The process of one version, started at most once.

    Args:
        version: what runs.
        binary: workerd.
        directory: the version's own folder.
        around: its environment.
    """

    def __init__(self, version: WorkerVersion, binary: Path, directory: Path, around: capnp.Surroundings) -> None:
        self.version = version
        self.around = around
        self._binary = binary
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None
        self._output: collections.deque[str] = collections.deque(maxlen=_OUTPUT_LINES)
        self._readers: tuple[asyncio.Task[None], ...] = ()

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def output(self) -> str:
        """The last lines that the process wrote (its crash log)."""
        return "\n".join(self._output)

    async def start(self) -> int:
        """Start and wait until it answers; the time that took in milliseconds.

        Raises:
            StartupError: it ended or did not answer in time; workerd's own text.
        """
        began = time.monotonic()
        self._write()
        environment: ChildEnvironment = capnp.make_environment(self.version)
        flags = _choose_flags(self.version, self.around)
        output, theirs = os.openpty()  # V8 keeps lines that go to a pipe back until there are 4 kB of them
        try:
            tty.setraw(theirs)
            self._process = process = await asyncio.create_subprocess_exec(
                *tie_to_parent((str(self._binary), "serve", *flags, "config.capnp"), signal.SIGKILL),
                cwd=self._directory,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=theirs,
                stderr=asyncio.subprocess.PIPE,
                limit=_LINE_LIMIT_BYTES,
                start_new_session=True,  # a Ctrl-C on the terminal is ours to translate into a drain
            )
        except BaseException:
            os.close(output)
            raise
        finally:
            os.close(theirs)
        assert process.stderr is not None
        self._readers = (
            asyncio.create_task(self._read_terminal(output, process.pid)),
            asyncio.create_task(self._read(process.stderr)),
        )
        try:
            await asyncio.wait_for(self._ready(), _START_TIMEOUT_S)
        except TimeoutError:
            await self.kill()
            raise StartupError(f"no answer after {_START_TIMEOUT_S:.0f} s\n{self.output}".strip()) from None
        except BaseException:
            await self.kill()
            raise
        return max(1, round((time.monotonic() - began) * 1000))

    async def wait(self) -> int:
        """Wait for the end of the process and its output; the return code, negative for a signal."""
        if self._process is None:
            return 0
        code = await self._process.wait()
        await asyncio.gather(*self._readers)
        return code

    async def stop(self) -> None:
        """Ask it to finish what it answers right now and end; after 5 s kill it."""
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.shield(self._process.wait()), _TERM_GRACE_S)
        except TimeoutError:
            await self.kill()
        await self.wait()

    async def kill(self) -> None:
        """End it at once."""
        self.kill_now()
        await self.wait()

    def kill_now(self) -> None:
        """Send SIGKILL and return; `wait` tells when it is gone."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def clean(self) -> None:
        """Remove the folder and the sockets; the process must have ended."""
        shutil.rmtree(self._directory, ignore_errors=True)
        around = self.around
        for socket in (
            *(around.socket, around.control_socket, around.take_tail_socket),
            *(around.objects_socket, around.calls_socket),
        ):
            if socket:
                Path(socket).unlink(missing_ok=True)

    def _write(self) -> None:
        self.clean()
        self._directory.mkdir(parents=True, mode=0o700)
        for i, module in enumerate(capnp.list_runnable_modules(self.version)):
            shutil.copyfile(module.path, self._directory / capnp.name_module_file(i))
        for name in capnp.OWN_MODULES:
            shutil.copyfile(Path(__file__).with_name(name), self._directory / name)
        descriptor = os.open(self._directory / "config.capnp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(capnp.render(self.version, self.around))

    async def _ready(self) -> None:
        """Poll the tail worker's socket: workerd binds sockets after every worker was evaluated, ours included."""
        process = self._process
        assert process is not None
        while process.returncode is None:
            with contextlib.suppress(OSError, EOFError):
                await _get_ready(self.around.control_socket)
                return
            await asyncio.sleep(_POLL_S)
        await asyncio.gather(*self._readers)
        raise StartupError(_format_startup(self.output) or f"workerd ended with code {process.returncode}")

    async def _read(self, stream: asyncio.StreamReader, memory: MemoryReader | None = None) -> None:
        while True:
            try:
                raw = await stream.readline()
            except ValueError:  # a line over the limit: its beginning is lost, the rest follows
                continue
            except OSError:  # how the other side of a terminal ends
                return
            if not raw:
                return
            line = raw.decode(errors="replace").rstrip("\n")
            if memory is None or not memory.takes(line):
                if _OURS not in line:
                    self._output.append(line[:_KEPT_CHARACTERS])
            elif memory.held_kb > (capnp.HEAP_MB + _UNCOLLECTED_MB) * 1024:
                self.kill_now()

    async def _read_terminal(self, descriptor: int, pid: int) -> None:
        loop = asyncio.get_running_loop()
        stream = asyncio.StreamReader(limit=_LINE_LIMIT_BYTES)
        file = os.fdopen(descriptor, "rb", buffering=0)
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), file)
        try:
            await self._read(stream, MemoryReader(pid))
        finally:
            transport.close()


def _choose_flags(version: WorkerVersion, around: capnp.Surroundings) -> tuple[str, ...]:
    """Return what the process needs beside its configuration, see `capnp` and `capnp_objects`."""
    calls = (f"--debug-port=unix:{around.calls_socket}",) if around.calls_socket else ()
    experimental = version.takes_schedule or bool(capnp_objects.list_namespaces(version))
    return (*(("--experimental",) if experimental else ()), *calls)


def _format_startup(output: str) -> str:
    """Return workerd's text as the edge shows it: without our names of services and folders, without its advice."""
    lines = (line.removeprefix("service main: ") for line in output.splitlines() if not line.endswith(_ADVICE))
    return "\n".join(lines).replace("file:///bundle/", "").strip()


async def control(socket: str, path: str) -> None:
    """Send one request to a tail worker's own socket; OSError or EOFError when there is no answer."""
    reader, writer = await asyncio.open_unix_connection(socket)
    try:
        writer.write(f"POST {path} HTTP/1.1\r\nHost: tail\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        if not (await reader.readline()).startswith(b"HTTP/1.1 204"):
            raise EOFError(socket)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _get_ready(socket: str) -> None:
    await control(socket, "/ready")
