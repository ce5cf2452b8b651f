"""Releases on this host: immutable folders, each with its code, what is known of it, and its environment.

    releases/ID/app/           the code, as it was pushed
    releases/ID/release.json   commit, tag, message, times, address, fingerprints of the environment
    releases/ID/environment    NAME=VALUE, for the owner alone
    releases/ID/alone/         the slots that make it live at 100 %, for whoever has to do it by hand

A release is copied beside its place and moved there whole, so that one which was interrupted is none.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from backout.decoding import Undecodable, decode_json
from backout.errors import BackoutError, ProviderRejected, UsageError
from backout.model.secrets import SecretValues
from backout.model.value import Value
from backout.private import write_new, write_over
from backout.providers.caddy.addresses import accepts
from backout.providers.caddy.slots import write_slots

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from backout.model.release import ReleaseNote

_RECORD, _APP, _ENVIRONMENT = "release.json", "app", "environment"
ALONE: Final = "alone"
_INCOMING: Final = ".incoming-"
_KEY, _TAG = ".fingerprints.key", ".tag"
_PIECE: Final = 1 << 20
_NOT_FOUND: Final = 404
_ID_DIGITS, _FINGERPRINT_DIGITS = 16, 16


class Release(Value, frozen=True, omit_defaults=True):
    """What is known of a release.

    Args:
        number: of the releases of this folder, from 1.
        created_at: Unix seconds.
        code_hash: SHA-256 of its code: names, contents, and what may be run.
        address: where its process listens: "127.0.0.1:PORT" or "unix/" and a path.
        fingerprints: keyed ones of the values of its environment, by name.
        source: "push" or "secret": what made it.
    """

    id: str
    number: int
    created_at: float
    code_hash: str
    address: str
    git_sha: str = ""
    tag: str = ""
    message: str = ""
    author: str = ""
    source: str = "push"
    fingerprints: dict[str, str] = msgspec.field(default_factory=dict)


class ReleaseFolder:
    """The releases in a folder.

    Args:
        ports: the first and the last port that a release may listen on.
    """

    def __init__(self, folder: Path, ports: tuple[int, int]) -> None:
        self.folder = folder
        self._ports = ports
        self._known: Sequence[Release] = ()
        self._read_at = 0

    def list(self) -> tuple[Release, ...]:
        """Return the releases, newest first; what is none of ours is left out.

        Raises:
            ProviderRejected: as `check_there`.
            BackoutError: it cannot be read.
        """
        self.check_there()
        try:
            names = [each.name for each in os.scandir(self.folder) if not each.name.startswith(".")]
        except OSError as error:
            raise BackoutError(f"the releases cannot be listed: {error.strerror}", where=str(self.folder)) from error
        found = (self._read(name) for name in names if (self.folder / name / _RECORD).is_file())
        return tuple(sorted(found, key=lambda each: -each.number))

    def name(self, address: str, at: float) -> str:
        """Return the release that listened at an address at a time (Unix seconds); where none is known, the address.

        What was removed since is not known any more. The folder is read again when a release came or went.
        """
        try:
            changed = self.folder.stat().st_mtime_ns
            if changed != self._read_at:
                self._known, self._read_at = self.list(), changed
        except (OSError, BackoutError):
            return address
        return next((each.id for each in self._known if each.address == address and each.created_at <= at), address)

    def check_there(self) -> None:
        """Raise ProviderRejected (status 404) where it is no folder of releases: nothing was ever pushed."""
        if self.find_tag() is None:
            what = "there is no folder of releases"
            raise ProviderRejected(what, status=_NOT_FOUND, where=str(self.folder), hint="backout release push DIR")

    def get(self, release: str) -> Release:
        """Return one. Raises ProviderRejected (status 404): there is none of that id; BackoutError: it is damaged."""
        if not release.isalnum() or not (self.folder / release / _RECORD).is_file():
            raise ProviderRejected("there is no release of that id", status=_NOT_FOUND, where=release)
        return self._read(release)

    def get_code(self, release: str) -> Path:
        """Return the folder of a release's code."""
        return self.folder / release / _APP

    def read_environment(self, release: str) -> SecretValues:
        """Return the environment of a release. Raises BackoutError: it cannot be read."""
        path = self.folder / release / _ENVIRONMENT
        try:
            lines = path.read_text(encoding="utf-8").split("\0")
        except (OSError, UnicodeDecodeError) as error:
            raise BackoutError("the environment of the release cannot be read", where=str(path)) from error
        pairs = (line.partition("=") for line in lines if line)
        return SecretValues({name: value for name, _, value in pairs})

    def push(
        self,
        folder: Path,
        note: ReleaseNote,
        environment: SecretValues,
        now: float,
        *,
        author: str = "",
        source: str = "push",
    ) -> Release:
        """Copy a folder as a new release and return it; the caller holds the ledger's lock.

        Args:
            now: Unix seconds.
            source: what makes it.

        Raises:
            UsageError: it is no folder, is empty, or holds what cannot be copied (a device, a link that leads outside).
            BackoutError: it cannot be written, or changed while it was copied.
        """
        if not folder.is_dir():
            raise UsageError("there is no such folder", where=str(folder))
        code_hash = hash_code(folder)
        known = self.list()
        number = max((each.number for each in known), default=0) + 1
        name = hashlib.sha256(f"{code_hash} {number} {now} {os.urandom(8).hex()}".encode()).hexdigest()[:_ID_DIGITS]
        incoming = self.folder / f"{_INCOMING}{name}"
        try:
            incoming.mkdir(mode=0o755)
            shutil.copytree(folder, incoming / _APP, symlinks=True)
            if hash_code(incoming / _APP) != code_hash:
                raise BackoutError("the folder changed while it was copied; nothing was pushed", where=str(folder))
            address = f"127.0.0.1:{self._choose_port(known)}"
            release = Release(
                id=name,
                number=number,
                created_at=now,
                code_hash=code_hash,
                address=address,
                git_sha=note.git_sha,
                tag=note.tag,
                message=note.message,
                author=author,
                source=source,
                fingerprints=self._fingerprint(environment),
            )
            lines = "".join(f"{name}={environment.reveal(name)}\0" for name in environment.names)
            write_new(incoming / _ENVIRONMENT, lines.encode())
            write_new(incoming / _RECORD, msgspec.json.format(msgspec.json.encode(release)) + b"\n")
            write_slots(incoming / ALONE, f"{name}-by-hand", {address: 100.0})
            incoming.rename(self.folder / name)
            _sync(self.folder)
        except OSError as error:
            raise BackoutError(
                f"the release cannot be written: {error.strerror or error}", where=str(error.filename or self.folder)
            ) from error
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
        return release

    def prepare(self) -> None:
        """Make the folder, with an id of its own, where it is not there yet. Raises BackoutError."""
        try:
            self.folder.mkdir(mode=0o755, exist_ok=True)  # Caddy, and the application, may be other users
            if self.find_tag() is None:
                write_over(self.folder / _TAG, f"{os.urandom(16).hex()}\n".encode())
        except OSError as error:
            what = f"the folder of releases cannot be made: {error.strerror}"
            raise BackoutError(what, where=str(self.folder)) from error

    def is_changed(self, release: Release) -> bool:
        """Whether its code is not what was pushed any more. Raises UsageError as `hash_code`."""
        return hash_code(self.get_code(release.id)) != release.code_hash

    def remove(self, release: str) -> None:
        """Remove a release that is stopped; where it is interrupted, it is none any more. Raises BackoutError."""
        gone = self.folder / f"{_INCOMING}{release}"
        try:
            (self.folder / release).rename(gone)
            shutil.rmtree(gone)
        except OSError as error:
            what = f"the release cannot be removed: {error.strerror}"
            raise BackoutError(what, where=str(self.folder / release)) from error

    def find_tag(self) -> str | None:
        """Return the id that the folder got with its first release, None where there is none yet."""
        try:
            return (self.folder / _TAG).read_text(encoding="ascii").strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    def _read(self, name: str) -> Release:
        path = self.folder / name / _RECORD
        try:
            return decode_json(path.read_bytes(), Release, what="the release's record", where=str(path))
        except (OSError, Undecodable) as error:
            raise BackoutError(f"what is known of the release cannot be read: {error}", where=str(path)) from error

    def _choose_port(self, known: tuple[Release, ...]) -> int:
        first, last = self._ports
        taken = {each.address for each in known}
        newest = max((each.number for each in known), default=0)
        after = newest % (last - first + 1)  # so that none is soon used again
        ports = [*range(first + after, last + 1), *range(first, first + after)]
        free = (each for each in ports if f"127.0.0.1:{each}" not in taken)
        port: int | None = next((each for each in free if not accepts(f"127.0.0.1:{each}")), None)
        if port is None:
            raise BackoutError(
                f"each port of {first} to {last} is taken", where=str(self.folder), hint="backout release prune"
            )
        return port

    def _fingerprint(self, environment: SecretValues) -> dict[str, str]:
        """Return fingerprints under a key of this folder: they tell whether a value changed, and not which it is."""
        if not environment.names:
            return {}
        path = self.folder / _KEY
        if not path.exists():
            write_new(path, os.urandom(32))
        key = path.read_bytes()
        return {
            name: hmac.new(key, f"{name}\0{environment.reveal(name)}".encode(), "sha256").hexdigest()[
                :_FINGERPRINT_DIGITS
            ]
            for name in environment.names
        }


def hash_code(folder: Path) -> str:
    """Return the SHA-256 of a folder: names, contents, links, and which files may be run.

    Raises:
        UsageError: it is empty, cannot be read, or holds what no release can: a device, a link that leads outside.
    """
    total = hashlib.sha256()
    count = 0
    for path, name in _walk(folder):
        count += 1
        total.update(f"{name}\0".encode("utf-8", "surrogateescape"))
        try:
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode):
                total.update(b"link\0" + os.fsencode(_check_link(folder, path)) + b"\0")
            elif stat.S_ISREG(status.st_mode):
                total.update(b"run\0" if status.st_mode & stat.S_IXUSR else b"file\0")
                total.update(_hash_file(path))
            else:
                raise UsageError("a release holds files, folders and links only", where=str(path))
        except OSError as error:
            raise UsageError(f"it cannot be read: {error.strerror}", where=str(path)) from error
    if not count:
        raise UsageError("there is nothing in it", where=str(folder))
    return total.hexdigest()


def _walk(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield everything that is no folder, with its name below the folder, in a fixed order."""
    for root, folders, files in os.walk(folder):
        folders.sort()
        links = [each for each in folders if Path(root, each).is_symlink()]
        for each in sorted((*files, *links)):
            path = Path(root, each)
            yield path, path.relative_to(folder).as_posix()


def _check_link(folder: Path, path: Path) -> str:
    to = path.readlink()
    inside = os.path.normpath(path.parent / to)
    if to.is_absolute() or not Path(inside).is_relative_to(os.path.normpath(folder)):
        raise UsageError("the link leads out of the folder, and would not be part of the release", where=str(path))
    return str(to)


def _hash_file(path: Path) -> bytes:
    made = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            made.update(piece)
    return made.digest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def compare_environments(one: Mapping[str, str], other: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names whose values differ, by their fingerprints, sorted.

    >>> compare_environments({"A": "1", "B": "2"}, {"A": "1", "B": "3", "C": "4"})
    ('B', 'C')
    """
    return tuple(sorted(name for name in {*one, *other} if one.get(name) != other.get(name)))
