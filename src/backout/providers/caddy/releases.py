"""Releases on a host: immutable folders, each with its code, what is known of it, and its environment.

    releases/ID/app/           the code, as it was pushed
    releases/ID/release.json   commit, tag, message, times, address, fingerprints of the environment
    releases/ID/environment    NAME=VALUE, for the owner alone
    releases/ID/unit.env       the same with PORT and RELEASE, as a unit of systemd reads it (EnvironmentFile=)
    releases/ID/alone/         the slots that make it live at 100 %, for whoever has to do it by hand

A release is copied beside its place and moved there whole, so that one which was interrupted is none.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from backout.decoding import Undecodable, decode_json
from backout.errors import BackoutError, ProviderRejected, UsageError
from backout.escaping import shorten
from backout.model.release import MAINTENANCE, Release, count_next
from backout.providers.caddy.machine import LocalMachine
from backout.providers.caddy.others import MOST_BYTES, REVISION, describe_others
from backout.providers.caddy.route import MAINTENANCE_SOCKET, SHOWN, name_slot, share_slots
from backout.providers.caddy.variables import (
    format_environment,
    format_unit_environment,
    make_fingerprints,
    parse_environment,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backout.model.release import OtherRelease, ReleaseNote
    from backout.model.secrets import SecretValues
    from backout.providers.caddy.machine import Machine

_RECORD, _ENVIRONMENT, _WHOLE = "release.json", "environment", -1
APP: Final = "app"
UNIT_ENVIRONMENT: Final = "unit.env"
ALONE: Final = "alone"
BY_HAND_SUFFIX: Final = "-by-hand"
"""Behind the id of a release: the id of the deployment that it is when its own slots are made live by a person."""
_INCOMING: Final = ".incoming-"
_KEY, _TAG = ".fingerprints.key", ".tag"
_SENT_WITHIN_S: Final = 86_400.0
"""No push sends its code for longer than a day."""
_NOT_FOUND: Final = 404
_ID_DIGITS: Final = 16
_ID: Final = re.compile(f"[0-9a-f]{{{_ID_DIGITS}}}")
_LEFTOVER: Final = re.compile(re.escape(_INCOMING) + _ID.pattern)


class ReleaseFolder:
    """The releases in a folder of a host.

    Args:
        folder: an absolute path on that host.
        ports: the first and the last port that a release may listen on.
    """

    def __init__(self, folder: Path, ports: tuple[int, int], machine: Machine | None = None) -> None:
        self.folder = folder
        self.machine = machine or LocalMachine()
        self._ports = ports
        self._known: Sequence[Release] = ()
        self._read_at = 0

    @property
    def maintenance(self) -> str:
        """The address at which Caddy itself answers 503."""
        return f"unix/{self.folder / MAINTENANCE_SOCKET}"

    def list(self) -> tuple[Release, ...]:
        """Return the releases, newest first, those with a damaged record last; what is none of ours is left out.

        Raises:
            ProviderRejected: as `check_there`.
            BackoutError: it cannot be read.
        """
        self.check_there()
        return tuple(sorted(self._read(), key=lambda each: -each.number))

    def list_newest(self) -> tuple[Release, ...]:
        """Return the newest release, and those with a damaged record of which nobody knows that they are older.

        Raises:
            BackoutError: as `list`.
        """
        known = self.list()
        newest = next((each for each in known if not each.damage), None)
        since = 0.0 if newest is None else self._tell_made(newest.id)
        return tuple(each for each in known if each is newest or (each.damage and not 0 < each.created_at < since))

    def list_others(self) -> tuple[OtherRelease, ...]:
        """Return what another tool put beside the releases, newest first. Raises BackoutError: it cannot be read."""
        with self._explain("the releases cannot be read"):
            try:
                found = self.machine.look_below(self.folder, REVISION, MOST_BYTES)
            except FileNotFoundError:
                return ()
        theirs = {name: each for name, _, each in found if name[0] != "." and not _ID.fullmatch(name)}
        return describe_others({name: each for name, each in theirs.items() if each is not None}, self.machine.name)

    def name(self, address: str, at: float) -> str:
        """Return the release that listened at an address at a time (Unix seconds); where none is known, the address.

        What was removed since is not known any more. The folder is read again when a release came or went.
        """
        try:
            changed = self.machine.tell_change(self.folder)
            if changed != self._read_at:
                self._known, self._read_at = self.list(), changed
        except (OSError, BackoutError):
            return address
        found = (each.id for each in self._known if each.logged_as == address and each.created_at <= at)
        return next(found, address)

    def check_there(self) -> None:
        """Raise ProviderRejected (status 404) where it is no folder of releases: nothing was ever pushed."""
        if self.find_tag() is None:
            what, where = "there is no folder of releases", self.machine.describe(self.folder)
            raise ProviderRejected(what, status=_NOT_FOUND, where=where, hint="backout release push DIR")

    def get(self, release: str, *, damaged: bool = False) -> Release:
        """Return one.

        Args:
            damaged: also one whose record cannot be read.

        Raises:
            ProviderRejected: there is none of that id (status 404).
            BackoutError: it cannot be read.
        """
        with self._explain("the release cannot be read"):
            is_there = _ID.fullmatch(release) and self.machine.find_identity(self.folder / release) is not None
        if not is_there:
            raise ProviderRejected("there is no release of that id", status=_NOT_FOUND, where=release)
        content = b""
        with contextlib.suppress(OSError):
            content = self.machine.read(self.folder / release / _RECORD)
        found = self._parse(release, content)
        if found.damage and not damaged:
            raise BackoutError(found.damage, hint="restore its release.json, or choose another release")
        return found

    def get_code(self, release: str) -> Path:
        """Return the folder of a release's code."""
        return self.folder / release / APP

    def read_environment(self, release: str) -> SecretValues:
        """Return the environment of a release. Raises BackoutError: it cannot be read."""
        path = self.folder / release / _ENVIRONMENT
        try:
            return parse_environment(self.machine.read(path))
        except (OSError, UnicodeDecodeError) as error:
            where = self.machine.describe(path)
            raise BackoutError("the environment of the release cannot be read", where=where) from error

    def push(
        self,
        code: Path | Release,
        note: ReleaseNote,
        environment: SecretValues,
        now: float,
        *,
        author: str = "",
        source: str = "push",
    ) -> Release:
        """Copy a folder as a new release and return it; the caller holds the ledger's lock. Raises as its two parts."""
        code_hash, release = hash_code(code) if isinstance(code, Path) else code.code_hash, draw_id()
        self.send(code, release, code_hash)
        try:
            return self.make(release, code_hash, note, environment, now, author=author, source=source)
        except BaseException:
            self.drop(release)
            raise

    def send(self, code: Path | Release, release: str, code_hash: str) -> None:
        """Copy the code of a new release, which is none yet; no lock is needed for that, however long it takes.

        Args:
            code: a folder on this machine, or a release on that host whose code is to run again.
            release: the id that it is going to have.

        Raises:
            UsageError: it is no folder, is empty, or holds what cannot be copied (a device, a link that leads outside).
            BackoutError: it cannot be written, or changed while it was copied.
        """
        incoming = self.folder / f"{_INCOMING}{release}"
        with self._explain("the release cannot be written"):
            self.machine.make_folder(incoming)
            try:
                if isinstance(code, Path):
                    self.machine.put(code, incoming / APP)
                else:
                    self.machine.copy(self.get_code(code.id), incoming / APP)
                self._check_copied(incoming / APP, code_hash)
            except BaseException:
                self.drop(release)
                raise

    def make(
        self,
        release: str,
        code_hash: str,
        note: ReleaseNote,
        environment: SecretValues,
        now: float,
        *,
        author: str = "",
        source: str = "push",
        number: int | None = None,
    ) -> Release:
        """Make what was sent a release, and return it; the caller holds the ledger's lock.

        Args:
            now: Unix seconds.
            source: what makes it.
            number: its number; None: the next one here.

        Raises:
            BackoutError: it cannot be written.
        """
        known = self.list()
        made = Release(
            id=release,
            number=number or count_next(known),
            created_at=now,
            code_hash=code_hash,
            address=self.maintenance if source == MAINTENANCE else f"127.0.0.1:{self._choose_port(known)}",
            git_sha=note.git_sha,
            tag=note.tag,
            message=note.message,
            author=author,
            source=source,
            fingerprints=self._fingerprint(environment),
        )
        incoming = self.folder / f"{_INCOMING}{release}"
        with self._explain("the release cannot be written"):
            self._describe(made, environment, incoming)
            self.machine.move(incoming, self.folder / release)
        return made

    def drop(self, release: str) -> None:
        """Remove what was sent or made of a release that is to be none, as far as that can be done."""
        with contextlib.suppress(OSError, BackoutError):
            self.machine.remove(self.folder / f"{_INCOMING}{release}")
            self.remove(release)

    def _check_copied(self, copied: Path, code_hash: str) -> None:
        if self.machine.hash_code(copied) != code_hash:
            where = self.machine.describe(copied)
            raise BackoutError("the folder changed while it was copied; nothing was pushed", where=where)

    def _describe(self, release: Release, environment: SecretValues, place: Path) -> None:
        """Write what is known of a release into its folder."""
        self.machine.write_new(place / _ENVIRONMENT, format_environment(environment).encode())
        self.machine.write_new(place / UNIT_ENVIRONMENT, format_unit_environment(release, environment).encode())
        self.machine.write_new(place / _RECORD, msgspec.json.format(msgspec.json.encode(release)) + b"\n")
        self.machine.write_slots(
            place / ALONE, SHOWN, f"{release.id}{BY_HAND_SUFFIX}", share_slots({release.address: 100.0})
        )

    def prepare(self, tag: str = "") -> None:
        """Make the folder, with an id, where it is not there yet. Raises BackoutError.

        Args:
            tag: the id; "": one of its own.
        """
        with self._explain("the folder of releases cannot be made"):
            self.machine.make_folder(self.folder, there=True)  # Caddy, and the application, may be other users
            if self.find_tag() is not None:
                return
            with contextlib.suppress(FileExistsError):
                self.machine.write_new(self.folder / _TAG, f"{tag or os.urandom(16).hex()}\n".encode())

    def is_changed(self, release: Release) -> bool:
        """Whether its code is not what was pushed any more. Raises UsageError as `hash_code`."""
        return self.machine.hash_code(self.get_code(release.id)) != release.code_hash

    def remove(self, release: str) -> None:
        """Remove a release that is stopped; where it is interrupted, it is none any more. Raises BackoutError."""
        gone = self.folder / f"{_INCOMING}{release}"
        with self._explain("the release cannot be removed"):
            self.machine.move(self.folder / release, gone)
            self.machine.remove(gone)

    def list_leftovers(self) -> tuple[str, ...]:
        """Return the folders of pushes and removals that were killed; the caller holds the ledger's lock.

        Variables are written under that lock, so where they are nobody is at work; code is sent without it.

        Raises:
            BackoutError: they cannot be read.
        """
        with self._explain("the releases cannot be read"):
            found = self.machine.look_below(self.folder, _ENVIRONMENT)
        mine = [each for each in found if _LEFTOVER.fullmatch(each[0])]
        return tuple(name for name, age_s, held in mine if held is not None or age_s > _SENT_WITHIN_S)

    def clear(self, leftovers: Sequence[str]) -> None:
        """Remove such folders, as far as that can be done; no lock is needed for that. Raises BackoutError."""
        with self._explain("what was left cannot be removed"):
            for each in leftovers:
                self.machine.remove(self.folder / each)

    def find_tag(self) -> str | None:
        """Return the id that the folder got with its first release, None where there is none yet."""
        try:
            return self.machine.read(self.folder / _TAG).decode("ascii").strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    def _read(self) -> Iterator[Release]:
        with self._explain("the releases cannot be read"):
            found = self.machine.look_below(self.folder, _RECORD, _WHOLE)
        for name, _, content in found:
            if _ID.fullmatch(name):  # else another tool's, whatever it calls the files in it
                yield self._parse(name, content or b"")

    def _parse(self, name: str, content: bytes) -> Release:
        where = self.machine.describe(self.folder / name / _RECORD)
        try:
            found = decode_json(content, Release, what="the text")
            why = "" if found.id == name else f"it is the record of release {shorten(found.id)}"
        except Undecodable as error:
            why = error.what if content else "it is empty, missing, or not for this user"
        return self._describe_damaged(name, f"its record cannot be read: {why} ({where})") if why else found

    def _describe_damaged(self, name: str, why: str) -> Release:
        """Return what is still known of a release with a damaged record: where it listens, and which variables it has.

        So what is live is named, its port is not given away, and a value that changed with it is not overlooked.
        """
        address, fingerprints = "", dict[str, str]()
        with contextlib.suppress(OSError, UnicodeDecodeError):
            address = self.machine.read(self.folder / name / ALONE / name_slot(0)).decode("ascii").strip()
        with contextlib.suppress(OSError, UnicodeDecodeError):
            environment = parse_environment(self.machine.read(self.folder / name / _ENVIRONMENT))
            fingerprints = make_fingerprints(environment, self.machine.read(self.folder / _KEY))
        source = MAINTENANCE if address == self.maintenance else "push"
        return Release(
            name, 0, self._tell_made(name), "", address, source=source, fingerprints=fingerprints, damage=why
        )

    def _tell_made(self, release: str) -> float:
        """Return when a release was made, by its host's clock, in Unix seconds; 0 where that is not known."""
        with contextlib.suppress(OSError):
            return self.machine.tell_change(self.folder / release / _ENVIRONMENT) / 1e9
        return 0.0

    def _choose_port(self, known: tuple[Release, ...]) -> int:
        first, last = self._ports
        taken = {each.address for each in known}
        newest = max((each.number for each in known), default=0)
        after = newest % (last - first + 1)  # so that none is soon used again
        ports = [*range(first + after, last + 1), *range(first, first + after)]
        free = (each for each in ports if f"127.0.0.1:{each}" not in taken)
        port: int | None = next((each for each in free if not self.machine.accepts(f"127.0.0.1:{each}")), None)
        if port is None:
            where = self.machine.describe(self.folder)
            raise BackoutError(f"each port of {first} to {last} is taken", where=where, hint="backout release prune")
        return port

    def _fingerprint(self, environment: SecretValues) -> dict[str, str]:
        """Return fingerprints under a key of this folder: they tell whether a value changed, and not which it is."""
        if not environment.names:
            return {}
        path = self.folder / _KEY
        with self._explain("the key of the fingerprints cannot be written"):
            with contextlib.suppress(FileExistsError):
                self.machine.write_new(path, os.urandom(32))
            key = self.machine.read(path)
        return make_fingerprints(environment, key)

    @contextlib.contextmanager
    def _explain(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = self.machine.describe(Path(str(error.filename or self.folder)))
            raise BackoutError(f"{what}: {error.strerror or error}", where=where) from error


def draw_id() -> str:
    """Return the id of a new release."""
    return os.urandom(_ID_DIGITS // 2).hex()


def hash_code(folder: Path) -> str:
    """Return the SHA-256 of a folder of this machine. Raises UsageError: there is none, and as `Machine.hash_code`."""
    if not folder.is_dir():
        raise UsageError("there is no such folder", where=str(folder))
    return LocalMachine().hash_code(folder)
