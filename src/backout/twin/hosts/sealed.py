"""A release in a trial: it runs without a network, and reaches the twin's parts alone. Its words are PARTS RUN.

The release gets a network namespace of its own (Linux, `unshare`), which needs no root where the kernel lets users make
one. PARTS are ports at 127.0.0.1, with commas: for each there is a socket in a folder, this process hands on what comes
there, and inside the same module listens at the port and leads to the socket. In the same way what comes to the
release's own PORT is led inside. What it does not keep out: Unix sockets in the host's file system.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from backout.providers.child_environment import make_bare_environment, make_module_command, make_team_environment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Dial = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

MODULE: Final = "backout.twin.hosts.sealed"
_INSIDE: Final = "--inside"
_OWN_NETWORK: Final = ("unshare", "--user", "--map-root-user", "--net", "--")
_SET_FLAGS, _UP = 0x8914, 0x1
"""SIOCSIFFLAGS and IFF_UP of linux/sockios.h and linux/if.h."""
_TRIED_WITHIN_S, _LOOK_EVERY_S = 10.0, 0.02
_CHUNK: Final = 64 * 1024


def find_obstacle() -> str:
    """Return why no process can be run without a network here, "" where it can."""
    if shutil.which(_OWN_NETWORK[0]) is None:
        return "there is no program `unshare`"
    try:
        tried = subprocess.run(
            (*_OWN_NETWORK, "true"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TRIED_WITHIN_S,
            check=False,
            env=make_bare_environment(),
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"`unshare` cannot be run: {error}"
    return tried.stderr.strip()[-200:] or "`unshare` fails" if tried.returncode else ""


def make_sealed_command(parts: Sequence[int], words: Sequence[str]) -> tuple[str, ...]:
    """Return the command line that runs words so; the ports of the parts are at 127.0.0.1."""
    return make_module_command(MODULE, ",".join(map(str, parts)), *words)


async def run_outside(port: int, parts: Sequence[int], words: Sequence[str]) -> int:
    """Run the words without a network, hand on what comes, and return their exit code."""
    with tempfile.TemporaryDirectory(prefix="backout-sealed-") as made:
        folder = Path(made)
        for part in parts:
            await asyncio.start_unix_server(_lead_to(_dial_port(part)), folder / str(part))
        inside = make_module_command(MODULE, _INSIDE, made, str(port), ",".join(map(str, parts)), *words)
        process = await asyncio.create_subprocess_exec(
            *_OWN_NETWORK, *inside, stdin=asyncio.subprocess.PIPE, env=make_team_environment()
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _end, process)
        waiting = asyncio.create_task(process.wait())
        while not (folder / "own").exists() and not waiting.done():
            await asyncio.wait((waiting,), timeout=_LOOK_EVERY_S)
        if not waiting.done():
            await asyncio.start_server(_lead_to(_dial_socket(folder / "own")), "127.0.0.1", port)
        return await waiting


async def run_inside(folder: Path, port: int, parts: Sequence[int], words: Sequence[str]) -> int:
    """Run the words beside what leads out to the parts, and return their exit code; they end with what started this."""
    _raise_loopback()
    for part in parts:
        await asyncio.start_server(_lead_to(_dial_socket(folder / str(part))), "127.0.0.1", part)
    process = await asyncio.create_subprocess_exec(
        *words, stdin=asyncio.subprocess.DEVNULL, env=make_team_environment()
    )
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, _end, process)
    loop.add_reader(
        sys.stdin.fileno(), _stop_at_once, process
    )  # nobody writes there: it is the end of what started this
    waiting = asyncio.create_task(process.wait())
    while not waiting.done():
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            break
        await asyncio.wait((waiting,), timeout=_LOOK_EVERY_S)
    await asyncio.start_unix_server(_lead_to(_dial_port(port)), folder / "own")
    return await waiting


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sH14x", b"lo", _UP))


def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()


def _stop_at_once(process: asyncio.subprocess.Process) -> None:
    asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
    with contextlib.suppress(ProcessLookupError):
        process.kill()


def _dial_port(port: int) -> Dial:
    return lambda: asyncio.open_connection("127.0.0.1", port)


def _dial_socket(path: Path) -> Dial:
    return lambda: asyncio.open_unix_connection(path)


def _lead_to(dial: Dial) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """Return what hands a connection on to another one, in both directions."""

    async def hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await dial()
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(_pump(reader, back), _pump(there, writer))
        for each in (writer, back):
            each.close()

    return hand_on


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hand on what comes, then that no more does; a connection that breaks ends the other one."""
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except (OSError, RuntimeError):
        writer.transport.abort()


def _read_ports(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in text.split(",") if each)


def main(words: Sequence[str]) -> int:
    """Run the words as one of the two sides."""
    if words[0] == _INSIDE:
        folder, port, parts = Path(words[1]), int(words[2]), _read_ports(words[3])
        return asyncio.run(run_inside(folder, port, parts, words[4:]))
    return asyncio.run(run_outside(int(os.environ["PORT"]), _read_ports(words[0]), words[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
