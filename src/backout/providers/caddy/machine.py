"""A host of releases: this one, or any other that can do what `agent` does there."""

from __future__ import annotations

import contextlib
import errno
import time
from abc import ABC, abstractmethod
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from backout.errors import UsageError
from backout.model.clock import TOLERANCE_S
from backout.providers.caddy import agent, memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

LOCAL = "localhost"
_LOCK_S, _COMMAND_S, _LOOK_EVERY_S = 60.0, 60.0, 0.02


class Machine(ABC):
    """A host; whatever is asked of it may raise OSError, and ProviderUnavailable where it is not reached.

    Args:
        name: as the configuration calls it.
    """

    def __init__(self, name: str = LOCAL) -> None:
        self.name = name

    @abstractmethod
    def _do(self, deed: str, /, **arguments: object) -> Any:  # as JSON values; each method below says which
        """Do something there. Raises OSError, agent.Odd, ProviderUnavailable."""

    @abstractmethod
    def put(self, folder: Path, to: PurePath) -> None:
        """Copy a folder of this machine to the host."""

    def describe(self, path: PurePath) -> str:
        """Return how a path of this host is named to a person."""
        return str(path)

    def read(self, path: PurePath) -> bytes:
        """Return what a file holds."""
        return _to_bytes(self._do("read", path=str(path)))

    def look_below(self, folder: PurePath, name: str, most: int = 0) -> list[tuple[str, float, bytes | None]]:
        """Return the entries of a folder, sorted: name, age in seconds, and the first bytes of a file in it.

        Args:
            name: of the file; the bytes are None where there is none, b"" where it cannot be read.
        """
        found = self._do("look_below", folder=str(folder), name=name, most=most)
        return [(str(each), float(age), None if held is None else _to_bytes(held)) for each, age, held in found]

    def read_files(self, folder: PurePath, names: Sequence[str]) -> list[bytes]:
        """Return the contents of these files of a folder."""
        return [_to_bytes(each) for each in self._do("read_files", folder=str(folder), names=list(names))]

    def tell_change(self, path: PurePath) -> int:
        """Return when a folder was changed last: a number that is another one after each change."""
        return int(self._do("tell_change", path=str(path)))

    def tell_link(self, path: PurePath) -> float:
        """Return when a link was made, Unix seconds: by this machine's clock where that one's is another."""
        at, now = (float(each) for each in self._do("tell_link", path=str(path)))
        ahead_s = now - time.time()
        return at if abs(ahead_s) < TOLERANCE_S else round(at - ahead_s)

    def append(self, path: PurePath, line: bytes) -> None:
        """Append a line, durable when this returns; a torn one before it is ended."""
        self._do("append", path=str(path), line=line.decode("latin-1"))

    def write_new(self, path: PurePath, content: bytes, mode: int = 0o600) -> None:
        """Write a file that is not there yet, durable when this returns."""
        self._do("write_new", path=str(path), content=content.decode("latin-1"), mode=mode)

    def make_folder(self, path: PurePath, mode: int = 0o755, *, there: bool = False) -> None:
        """Make a folder; `there`: it may be there already."""
        self._do("make_folder", path=str(path), mode=mode, there=there)

    def write_slots(self, folder: PurePath, shown: str, deployment: str, slots: Sequence[str]) -> None:
        """Write slots into a new folder, and a file `shown` with the id of their deployment."""
        self._do("write_slots", folder=str(folder), shown=shown, deployment=deployment, slots=list(slots))

    def replace_link(self, link: PurePath, to: str, beside: PurePath) -> None:
        """Have a link lead elsewhere, in one step; `beside`: a name that is not there yet."""
        self._do("replace_link", link=str(link), to=to, beside=str(beside))

    def forget_slots(self, folder: PurePath, live: PurePath, kept: int) -> None:
        """Remove all but the newest slots; what the link `live` leads to stays."""
        self._do("forget_slots", folder=str(folder), live=str(live), kept=kept)

    def move(self, path: PurePath, to: PurePath) -> None:
        """Rename a file or folder, durable when this returns."""
        self._do("move", path=str(path), to=str(to))

    def remove(self, path: PurePath) -> None:
        """Remove a folder with all that is in it; none is fine."""
        self._do("remove", path=str(path))

    def copy(self, folder: PurePath, to: PurePath) -> None:
        """Copy a folder of the host."""
        self._do("copy", folder=str(folder), to=str(to))

    def hash_code(self, folder: PurePath) -> str:
        """Return the SHA-256 of a folder.

        Raises:
            UsageError: it is empty, cannot be read, or holds what no release can: a device, a link that leads outside.
        """
        try:
            return str(self._do("hash_code", folder=str(folder)))
        except agent.Odd as error:
            path, why = error.args
            raise UsageError(str(why), where=self.describe(PurePath(str(path)))) from None
        except OSError as error:
            where = self.describe(PurePath(str(error.filename or folder)))
            raise UsageError(f"it cannot be read: {error.strerror}", where=where) from error

    @contextlib.contextmanager
    def hold(self, path: PurePath) -> Iterator[None]:
        """Hold a file's lock. Raises TimeoutError: somebody else holds it for a minute."""
        deadline = time.monotonic() + _LOCK_S
        while (held := self._do("lock", path=str(path))) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, "somebody else holds its lock", str(path))
            time.sleep(_LOOK_EVERY_S)
        try:
            yield
        finally:
            with contextlib.suppress(Exception):  # a connection that is gone holds nothing
                self._do("release_lock", held=held)

    def ask(self, socket: PurePath) -> tuple[int, str]:
        """Return the status and the body of an answer to a GET on a Unix socket."""
        status, body = self._do("ask", path=str(socket))
        return int(status), str(body)

    def fetch(
        self, address: str, method: str, target: str, headers: Mapping[str, str], within_s: float, most: int
    ) -> tuple[int, dict[str, str], bytes]:
        """Return the status, the headers in lower case, and the first bytes of the body of an answer at "HOST:PORT"."""
        status, found, body = self._do(
            "fetch",
            address=address,
            method=method,
            target=target,
            headers=dict(headers),
            within_s=within_s,
            most=most,
        )
        return int(status), dict(found), _to_bytes(body)

    def open_file(self, path: PurePath) -> tuple[str, tuple[int, int]]:
        """Open a file for reading: a name for that, and its device and inode."""
        name, device, inode = self._do("open_file", path=str(path))
        return str(name), (int(device), int(inode))

    def find_identity(self, path: PurePath) -> tuple[int, int] | None:
        """Return the device and inode of a file, None where there is none."""
        found = self._do("find_identity", path=str(path))
        return None if found is None else (int(found[0]), int(found[1]))

    def measure(self, opened: str) -> int | None:
        """Return how long an opened file is, None: it was opened on a connection that is gone."""
        found = self._do("measure", opened=opened)
        return None if found is None else int(found)

    def read_part(self, opened: str, at: int, most: int) -> bytes | None:
        """Return some bytes of an opened file; None as `measure`."""
        found = self._do("read_part", opened=opened, at=at, most=most)
        return None if found is None else _to_bytes(found)

    def close_file(self, opened: str) -> None:
        """Let go of an opened file; finalizers call it, so nothing is waited for here."""
        self._do("close_file", opened=opened)

    def accepts(self, address: str) -> bool:
        """Whether something accepts connections at an address ("HOST:PORT", or "unix/" and a path)."""
        return bool(self._do("accepts", address=address))

    def await_accepting(self, address: str, within_s: float) -> bool:
        """Wait until something accepts connections there, and return whether it does."""
        deadline = time.monotonic() + within_s
        while not self.accepts(address):
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_EVERY_S)
        return True

    def run(self, words: Sequence[str]) -> int:
        """Run a command there, with the environment that its user has, and return its exit code."""
        code, _ = self._do("run", words=list(words), within_s=_COMMAND_S, reads=False)
        return int(code)

    def run_and_read(self, words: Sequence[str]) -> tuple[int, str]:
        """Run a command as `run`, and return its exit code and the beginning of what it prints."""
        code, said = self._do("run", words=list(words), within_s=_COMMAND_S, reads=True)
        return int(code), str(said)

    def measure_memory(self, address: str) -> int | None:
        """Return the bytes of memory that the processes have which listen at "HOST:PORT"; None: not measured."""
        port = address.rpartition(":")[2]
        said = self._tell_memory(port).strip()
        return int(said) if said.isascii() and said.isdigit() else None

    def _tell_memory(self, port: str) -> str:
        code, said = self.run_and_read(["python3", "-I", "-c", Path(memory.__file__).read_text(encoding="utf-8"), port])
        return said if code == 0 else ""


class LocalMachine(Machine):
    """This host."""

    def _do(self, deed: str, /, **arguments: object) -> Any:
        done: Callable[..., object] = agent.DEEDS[deed]
        return done(**arguments)

    def put(self, folder: Path, to: PurePath) -> None:
        """Copy a folder."""
        self.copy(folder, to)

    def _tell_memory(self, port: str) -> str:
        return memory.measure_memory(int(port)) if port.isdigit() else ""


def _to_bytes(text: object) -> bytes:
    return str(text).encode("latin-1")
