"""What is done on a host of releases: with its files, its sockets, its programs; here, or where ssh leads.

OpenSSH hands the text of this module to the Python of the host, which reads it from its standard input: nothing of it
stays there. So it needs Python 3.7 and the standard library alone, and what comes and goes is JSON: a line each, and
bytes as text in Latin-1. Every function may raise OSError.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import io
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import time
from typing import IO, Callable

_PIECE = 1 << 20
_CONNECT_S = 1.0
_ASK_S = 5.0
_ANSWER = 1000
LEASE_S = 600
"""How long a lock is held for somebody who asks nothing any more, as behind a network that went away."""


class Odd(Exception):
    """What no release can hold: (path, why)."""


def read(path: str, most: int = -1) -> str:
    """Return what a file holds; `most`: its first bytes."""
    with open(path, "rb") as file:
        return file.read(most).decode("latin-1")


def look_below(folder: str, name: str, most: int) -> list[tuple[str, float, str | None]]:
    """Return each entry of a folder, its age in seconds, and the first bytes of file `name` in it (None: no file)."""
    found = []
    for each in os.scandir(folder):
        path, held = os.path.join(each.path, name), None
        with contextlib.suppress(OSError):
            held = "" if os.path.lexists(path) else None
            held = read(path, most) if os.path.isfile(path) else held
        with contextlib.suppress(FileNotFoundError):  # it went meanwhile
            text = each.name.encode("utf-8", "backslashreplace").decode()
            found.append((text, time.time() - each.stat(follow_symlinks=False).st_mtime, held))
    return sorted(found)


def read_files(folder: str, names: list[str]) -> list[str]:
    """Return the contents of these files of a folder."""
    return [read(os.path.join(folder, name)) for name in names]


def tell_change(path: str) -> int:
    """Return when a folder was changed last, in nanoseconds."""
    return os.stat(path).st_mtime_ns


def tell_link(path: str) -> list[float]:
    """Return when a link was made, and the time now."""
    return [os.lstat(path).st_mtime, time.time()]


def append(path: str, line: str) -> None:
    """Append a line, durable when this returns; a torn one is ended first. Raises OSError: not all was written."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        whole = (b"\n" if torn else b"") + line.encode("latin-1")
        if os.write(descriptor, whole) != len(whole):
            raise OSError(28, os.strerror(28), path)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_new(path: str, content: str, mode: int) -> None:
    """Write a file that is not there yet, durable when this returns."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content.encode("latin-1"))
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())


def make_folder(path: str, mode: int, there: bool) -> None:
    """Make a folder; `there`: it may be there already."""
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        if not there or not os.path.isdir(path):
            raise


def write_slots(folder: str, shown: str, deployment: str, slots: list[str]) -> None:
    """Write slots, an address each, into a new folder, and beside them a file `shown` with their deployment's id."""
    make_folder(os.path.dirname(folder), 0o755, True)  # Caddy may be another user
    os.mkdir(folder, 0o755)
    write_new(os.path.join(folder, shown), deployment, 0o644)
    first: dict[str, str] = {}
    for number, address in enumerate(slots):
        path = os.path.join(folder, "%03d" % number)
        if address in first:
            os.link(first[address], path)
        else:
            write_new(path, address, 0o644)
            first[address] = path
    sync(folder)


def replace_link(link: str, to: str, beside: str) -> None:
    """Have a link lead elsewhere: one rename, of a link that is made beside it first."""
    os.symlink(to, beside)
    os.rename(beside, link)
    sync(os.path.dirname(link))


def forget_slots(folder: str, live: str, kept: int) -> None:
    """Remove the slots of deployments that are long past; what is live stays."""
    at = os.path.realpath(live)
    laid = sorted((os.path.join(folder, name) for name in os.listdir(folder)), key=lambda each: os.stat(each).st_mtime)
    for each in laid[:-kept]:
        if os.path.realpath(each) != at:
            shutil.rmtree(each)


def move(path: str, to: str) -> None:
    """Rename a file or folder."""
    os.rename(path, to)
    sync(os.path.dirname(to))


def remove(path: str) -> None:
    """Remove a folder with all that is in it; none is fine."""
    shutil.rmtree(path, ignore_errors=True)


def sync(folder: str) -> None:
    """Have what was done in a folder be durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copy(folder: str, to: str) -> None:
    """Copy a folder of this host. Raises OSError: a file of it cannot be copied; the first one is named."""
    try:
        shutil.copytree(folder, to, symlinks=True)
    except shutil.Error as error:  # it has a line for each file, and no number
        path, _, why = error.args[0][0]
        raise OSError(5, str(why), str(path)) from None


def unpack(to: str, size: int) -> None:
    """Write a folder out of an archive of so many bytes, which comes on the standard input."""
    left = _Left(sys.stdin.buffer, size)
    try:
        os.mkdir(to, 0o755)
        with tarfile.open(fileobj=left, mode="r|") as archive:
            if hasattr(tarfile, "fully_trusted_filter"):  # it comes from backout itself, and is compared afterwards
                archive.extraction_filter = tarfile.fully_trusted_filter
            archive.extractall(to)
    finally:
        while left.read(_PIECE):
            pass


class _Left(io.RawIOBase):
    """So many bytes of a stream."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self._size = stream, size

    def read(self, most: int = -1) -> bytes:
        piece = self._stream.read(self._size if most < 0 else min(most, self._size))
        self._size -= len(piece)
        return piece


def hash_code(folder: str) -> str:
    """Return the SHA-256 of a folder: names, contents, links, and which files may be run. Raises Odd."""
    total = hashlib.sha256()
    count = 0
    for root, folders, files in os.walk(folder):
        folders.sort()
        links = [each for each in folders if os.path.islink(os.path.join(root, each))]
        for each in sorted([*files, *links]):
            path = os.path.join(root, each)
            count += 1
            total.update(os.fsencode(os.path.relpath(path, folder)) + b"\0")
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                total.update(b"link\0" + os.fsencode(_check_link(folder, path)) + b"\0")
            elif stat.S_ISREG(mode):
                total.update(b"run\0" if mode & stat.S_IXUSR else b"file\0")
                total.update(_hash_file(path))
            else:
                raise Odd(path, "a release holds files, folders and links only")
    if not count:
        raise Odd(folder, "there is nothing in it")
    return total.hexdigest()


def _check_link(folder: str, path: str) -> str:
    to = os.readlink(path)
    inside = os.path.normpath(os.path.join(os.path.dirname(os.path.relpath(path, folder)), to))
    if os.path.isabs(to) or inside.split(os.sep)[0] == os.pardir:  # also where it comes back by the folder's own name
        raise Odd(path, "the link leads out of the folder, and would not be part of the release")
    return to


def _hash_file(path: str) -> bytes:
    made = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(_PIECE), b""):
            made.update(piece)
    return made.digest()


_OPENED: dict[str, int] = {}


def open_file(path: str) -> tuple[str, int, int]:
    """Open a file for reading, and return a name for that, and its device and inode."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    name, found = os.urandom(8).hex(), os.fstat(descriptor)
    _OPENED[name] = descriptor
    return name, found.st_dev, found.st_ino


def find_identity(path: str) -> tuple[int, int] | None:
    """Return the device and inode of a file, None where there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def measure(opened: str) -> int | None:
    """Return how long an opened file is, None: it was opened on a connection that is gone."""
    return os.fstat(_OPENED[opened]).st_size if opened in _OPENED else None


def read_part(opened: str, at: int, most: int) -> str | None:
    """Return some bytes of an opened file; None as `measure`."""
    return os.pread(_OPENED[opened], most, at).decode("latin-1") if opened in _OPENED else None


def close_file(opened: str) -> None:
    """Let go of an opened file."""
    if opened in _OPENED:
        os.close(_OPENED.pop(opened))


_LOCKS: dict[str, int] = {}


def lock(path: str) -> str | None:
    """Hold a file's lock, and return a name for that, None where somebody else holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    name = os.urandom(8).hex()
    _LOCKS[name] = descriptor
    return name


def release_lock(held: str) -> None:
    """Let go of a lock; one that is not held is fine."""
    if held in _LOCKS:
        os.close(_LOCKS.pop(held))


def _dial(path: str, within_s: float) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(within_s)
    try:
        made.connect(path)
    except BaseException:
        made.close()
        raise
    return made


def ask(path: str) -> tuple[int, str]:
    """Return the status and the body of a GET on a Unix socket. Raises ConnectionAbortedError: it is no HTTP."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = _dial(path, _ASK_S)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        return answer.status, answer.read(_ANSWER).decode("latin-1")
    except http.client.HTTPException as error:
        raise ConnectionAbortedError(103, str(error) or type(error).__name__, path) from None
    finally:
        connection.close()


def fetch(
    address: str, method: str, target: str, headers: dict[str, str], within_s: float, most: int
) -> tuple[int, dict[str, str], str]:
    """Return status, headers in lower case, and the body's first bytes. Raises ConnectionAbortedError, TimeoutError."""
    connection = http.client.HTTPConnection(address, timeout=within_s)
    try:
        connection.request(method, target, headers=headers)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in reversed(answer.getheaders())}
        return answer.status, found, answer.read(most).decode("latin-1")
    except http.client.HTTPException as error:
        raise ConnectionAbortedError(103, str(error) or type(error).__name__, address) from None
    except socket.timeout:  # noqa: UP041 - Python 3.7 has another name for it
        raise TimeoutError(110, "no answer in time", address) from None
    finally:
        connection.close()


def accepts(address: str) -> bool:
    """Whether something accepts connections at an address: "HOST:PORT", or "unix/" and a path."""
    try:
        if address.startswith("unix/"):
            _dial(address[len("unix/") :], _CONNECT_S).close()
        else:
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), _CONNECT_S).close()
    except (OSError, ValueError):
        return False
    return True


def run(words: list[str], within_s: float, reads: bool) -> tuple[int, str]:
    """Run a command, and return its exit code, and where it is read the beginning of what it prints.

    Raises TimeoutError: it does not end.
    """
    try:
        ended = subprocess.run(  # what it starts stays
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if reads else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=within_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(110, "it does not end", words[0]) from None
    return ended.returncode, (ended.stdout or b"")[:_ANSWER].decode("latin-1")


DEEDS: dict[str, Callable[..., object]] = {
    each.__name__: each
    for each in (
        *(read, look_below, read_files, tell_change, tell_link, append, write_new, make_folder, write_slots),
        *(replace_link, forget_slots, move, remove, copy, unpack, hash_code, lock, release_lock, ask, fetch),
        *(accepts, run, open_file, find_identity, measure, read_part, close_file),
    )
}


def serve() -> None:
    """Do what comes on the standard input, until it ends, or until nothing comes for too long while a lock is held."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a program prints is no answer
    out.write(b'{"ready":true}\n')
    out.flush()
    for line in iter(sys.stdin.buffer.readline, b""):
        signal.alarm(LEASE_S if _LOCKS else 0)
        asked = json.loads(line.decode())
        try:
            answer: dict[str, object] = {"done": DEEDS[asked["do"]](**asked["with"])}
        except Odd as error:
            answer = {"odd": list(error.args)}
        except OSError as error:
            answer = {"failed": [error.errno or 5, error.strerror or str(error), error.filename or ""]}
        signal.alarm(LEASE_S if _LOCKS else 0)
        out.write(json.dumps(answer).encode() + b"\n")
        out.flush()


if __name__ == "__main__":
    serve()
