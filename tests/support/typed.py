"""The program as a process, typed hundreds of times: forked off one process that has loaded all of it.

What happens from `backout.__main__.main` on is what happens in a shell: its own file descriptors, environment, folder,
limits and end. Being root helps nothing where a test says so, and no test needs it.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import functools
import gc
import json
import os
import resource
import selectors
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Ended:
    """How one call of the program ended."""

    code: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        """What was shown on both streams; raises UnicodeDecodeError for raw bytes."""
        return (self.out + self.err).decode()

    @property
    def json(self) -> dict[str, Any]:
        """The one line on stdout."""
        lines = self.out.decode().splitlines()
        assert len(lines) == 1, self
        found: dict[str, Any] = json.loads(lines[0])
        return found


class Typist:
    """Types commands, several at once when it is asked from several threads; `close` ends its process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.address = folder, str(folder / "typist.socket")
        self._process = subprocess.Popen([sys.executable, str(Path(__file__)), self.address])
        until(lambda: Path(self.address).exists(), PATIENCE_S, "the typist has read the program", every_s=0.01)

    def type(
        self,
        folder: Path,
        *arguments: str,
        variables: Mapping[str, str] | None = None,
        stdin: str | None = None,
        stdout: str = "",
        stderr: str = "",
        within: Mapping[str, Any] | None = None,
    ) -> Ended:
        """Run one command in `folder`.

        Args:
            variables: the whole environment.
            stdin: what is piped into it, at most as much as a pipe holds; None: /dev/null.
            stdout, stderr: a file to write to, "-" for a closed descriptor, "" for what is returned.
            within: how the process is hindered, see `hinder`.
        """
        order = {
            "folder": str(folder), "arguments": arguments, "variables": dict(variables or {}), "stdin": stdin,
            "stdout": stdout, "stderr": stderr, "within": dict(within or {}),
        }  # fmt: skip
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(self.address)
            line.sendall(json.dumps(order).encode() + b"\n")
            with line.makefile("rb") as answer:
                found = json.loads(answer.read())
        return Ended(found["code"], bytes.fromhex(found["out"]), bytes.fromhex(found["err"]))

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(PATIENCE_S)


class StartedModule:
    """What a `subprocess.Popen` with three pipes offers to those who read its answer.

    Args:
        line: over which its pid was told; it is closed when the process has ended.
        pipes: our ends of its stdin, stdout and stderr.
    """

    def __init__(self, line: socket.socket, pipes: tuple[int, int, int]) -> None:
        self._line, self._pid = line, os.pidfd_open(int(line.recv(32)))
        self.stdin = os.fdopen(pipes[0], "wb")
        self.stdout, self.stderr = (os.fdopen(pipe, "rb") for pipe in pipes[1:])

    def kill(self) -> None:
        """Kill it, if it has not ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Return when it has ended."""
        for pipe in (self.stdin, self.stdout, self.stderr):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self._line.recv(1)
        self._line.close()
        os.close(self._pid)


def start_module(address: str, module: str, variables: Mapping[str, str]) -> StartedModule:
    """Have the typist at this address run `main()` of a module of ours in a process of its own.

    Args:
        variables: its whole environment.
    """
    given, taken, told = os.pipe(), os.pipe(), os.pipe()
    theirs = (given[0], taken[1], told[1])
    line = socket.socket(socket.AF_UNIX)
    line.connect(address)
    order = {"module": module, "folder": str(Path.cwd()), "variables": dict(variables)}
    socket.send_fds(line, [json.dumps(order).encode() + b"\n"], theirs)
    for pipe in theirs:
        os.close(pipe)
    return StartedModule(line, (given[1], taken[0], told[0]))


@functools.cache
def shared_typist() -> Typist:
    """Return the typist of this worker, made for whoever comes first; `end_shared_typist` ends it."""
    return Typist(Path(tempfile.mkdtemp(prefix="typist-")))


def end_shared_typist() -> None:
    """End it, where anybody has needed it."""
    if shared_typist.cache_info().currsize:
        shared_typist().close()
        shutil.rmtree(shared_typist().folder)
        shared_typist.cache_clear()


def share_second_checks(find_address: Callable[[], str]) -> None:
    """Have the processes of second checks forked off a typist: to load what they need is most of what they cost."""
    from backout.providers.child_environment import make_bare_environment  # noqa: PLC0415 - loaded before
    from backout.providers.postgres.comparison import comparer  # noqa: PLC0415 - same

    def start_process() -> StartedModule:
        return start_module(find_address(), comparer.PROCESS, make_bare_environment())

    comparer.start_process = start_process  # type: ignore[assignment]


# --- in the process that is forked ------------------------------------------------------------------------------------

_NEW_NAMESPACES = 0x10000000 | 0x00020000  # CLONE_NEWUSER, CLONE_NEWNS
_READ_ONLY, _REMOUNT, _BIND = 1, 32, 4096
_OVERRIDES = (1 << 1) | (1 << 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Capabilities(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def hinder(within: Mapping[str, Any]) -> None:
    """Hinder this process.

    `obeys`: root passes over no permission. `longest`: no file grows beyond so many bytes. `read_only`: a folder as on
    a file system that is mounted read-only. `full`: [a folder, bytes]: on a file system of this size, with its files.
    `seconds`: it is ended by SIGALRM when it takes longer. `patient`: seconds for which it waits for a diagnosis.
    `asks_for_s`: seconds for which guard asks an API that is down.

    Raises:
        OSError: the system allows nobody to mount.
    """
    signal.alarm(within.get("seconds", 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if "read_only" in within or "full" in within:
        _own_mounts(libc)
    if folder := within.get("read_only"):
        _mount(libc, folder, folder, _BIND)
        _mount(libc, folder, folder, _BIND | _REMOUNT | _READ_ONLY)
    if found := within.get("full"):
        _fill(libc, Path(found[0]), int(found[1]))
    if within.get("obeys"):
        header, sets = _Header(0x20080522, 0), (_Capabilities * 2)()
        libc.capget(ctypes.byref(header), sets)
        sets[0].effective &= ~_OVERRIDES
        sets[0].permitted &= ~_OVERRIDES
        libc.capset(ctypes.byref(header), sets)
    if "patient" in within:
        from backout.runbook.incident import diagnose  # noqa: PLC0415 - loaded before

        diagnose.PATIENCE_S = within["patient"]  # type: ignore[misc]
    if "asks_for_s" in within:
        from backout.runbook.guard import conclude  # noqa: PLC0415 - loaded before

        conclude.PATIENCE_S = within["asks_for_s"]  # type: ignore[misc]
    if "longest" in within:
        resource.setrlimit(resource.RLIMIT_FSIZE, (within["longest"], within["longest"]))


def _own_mounts(libc: ctypes.CDLL) -> None:
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_NEW_NAMESPACES) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        Path(f"/proc/self/{name}").write_text(text, encoding="ascii")


def _mount(libc: ctypes.CDLL, source: str, target: str, flags: int, data: str = "") -> None:
    if libc.mount(source.encode(), target.encode(), b"tmpfs", flags, data.encode()) != 0:
        raise OSError(ctypes.get_errno(), f"mount {target}")


def _fill(libc: ctypes.CDLL, folder: Path, size: int) -> None:
    """Put the files of a folder on a file system of this size, and fill up what is left of it."""
    kept = {path.name: (path.read_bytes(), path.stat().st_mode) for path in folder.iterdir() if path.is_file()}
    _mount(libc, "tmpfs", str(folder), 0, f"size={size},mode=700")
    for name, (content, mode) in kept.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(mode & 0o777)
    with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 4096)


def _answer(order: dict[str, Any]) -> dict[str, Any]:
    """Do one order in a child, and return what came of it."""
    pipes = [os.pipe() for _ in range(2)]
    child = os.fork()
    if child == 0:
        try:
            _become(order, pipes)
        except SystemExit as ended:
            os._exit(int(ended.code or 0))
        except BaseException as error:  # noqa: BLE001 - it is told to the test
            os.write(2, f"Traceback, or the test cannot do this here: {type(error).__name__}: {error}".encode())
        os._exit(97)
    for _, writer in pipes:
        os.close(writer)
    texts = _drained([reader for reader, _ in pipes])
    _, status = os.waitpid(child, 0)
    return {"code": os.waitstatus_to_exitcode(status), "out": texts[0].hex(), "err": texts[1].hex()}


def _drained(readers: list[int]) -> list[bytes]:
    texts = dict.fromkeys(readers, b"")
    with selectors.DefaultSelector() as selector:
        for reader in readers:
            selector.register(reader, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                part = os.read(key.fd, 65536)
                texts[key.fd] += part
                if not part:
                    selector.unregister(key.fd)
                    os.close(key.fd)
    return list(texts.values())


def _open_input(text: str | None) -> int:
    if text is None:
        return os.open(os.devnull, os.O_RDONLY)
    reader, writer = os.pipe()
    os.write(writer, text.encode())
    os.close(writer)
    return reader


def _become(order: dict[str, Any], pipes: list[tuple[int, int]]) -> None:
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["variables"])
    hinder(order["within"])
    leads = {0: _open_input(order["stdin"])}
    for number, (_, writer) in enumerate(pipes, start=1):
        name = order[("stdout", "stderr")[number - 1]]
        leads[number] = writer if not name else -1 if name == "-" else os.open(name, os.O_WRONLY)
    for number, lead in leads.items():
        os.dup2(lead, number) if lead >= 0 else os.close(number)
    os.closerange(3, 64)
    # As the interpreter does when it starts.
    sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115
    for number, name in ((1, "stdout"), (2, "stderr")):
        try:
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
        except OSError:
            setattr(sys, name, None)
    with contextlib.suppress(OSError, RuntimeError):
        faulthandler.enable(sys.stderr)  # type: ignore[arg-type] # without one it raises
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["backout", *order["arguments"]]
    from backout.__main__ import main  # noqa: PLC0415 - loaded before

    main()


def _become_module(order: dict[str, Any], line: socket.socket, pipes: list[int]) -> NoReturn:
    """Run a module in this process, which was forked for it; the line stays open until it ends."""
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["variables"])
    for number, pipe in enumerate(pipes):
        os.dup2(pipe, number)
        os.close(pipe)
    sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115
    sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
    line.sendall(str(os.getpid()).encode())
    code = 0
    try:
        sys.modules[order["module"]].main()
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class _Turn(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        """Answer one order, in a process of its own."""
        text, pipes, _, _ = socket.recv_fds(self.request, 1 << 16, 3)
        while not text.endswith(b"\n"):
            text += self.request.recv(1 << 16)
        order = json.loads(text)
        if "module" in order:
            _become_module(order, self.request, pipes)
        self.request.sendall(json.dumps(_answer(order)).encode())


class _Office(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    max_children = 100


def _serve(address: str) -> None:
    """Answer orders until it is ended."""
    import importlib  # noqa: PLC0415 - of this process alone
    import pkgutil  # noqa: PLC0415 - same

    import backout  # noqa: PLC0415 - same

    # What a command loads when it is typed is most of its processor time.
    for module in pkgutil.walk_packages(backout.__path__, "backout."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    share_second_checks(lambda: address)
    gc.freeze()  # its children look through none of it
    with _Office(f"{address}.new", _Turn) as office:
        Path(f"{address}.new").rename(address)  # a socket has its name before anybody listens at it
        office.serve_forever(poll_interval=0.05)


if __name__ == "__main__":
    _serve(sys.argv[1])
