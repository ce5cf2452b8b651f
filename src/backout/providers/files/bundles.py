"""Port BundleStore on a folder, for its owner alone: blobs named by their SHA-256, one small manifest for each version.

A file is whole or absent, and everything is verified when it is read. The newest versions are kept, older ones and the
blobs that only they needed are deleted. Nothing in it is a secret's value, but code and plain variables are in it, to
the byte; messages and tags written about the version are masked.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from backout.decoding import Undecodable, decode_json
from backout.errors import BackoutError
from backout.model.bundle import Bundle, BundleModule
from backout.model.version import Version
from backout.private import make_private_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

KEEP: Final = 200
_ID: Final = re.compile(r"^[0-9A-Za-z][0-9A-Za-z_-]{0,63}$")
_STRAY_S: Final = 3600.0
"""Blobs and temporary files younger than this may belong to a bundle that another process is just writing."""


class _Stored(msgspec.Struct, frozen=True):
    name: str
    content_type: str
    sha256: str


class _Manifest(msgspec.Struct, frozen=True):
    """One version: the noun, and where its metadata and modules are."""

    version: Version
    metadata: str
    modules: tuple[_Stored, ...]


class FileBundleStore:
    """Port BundleStore.

    Args:
        directory: made when the first bundle is kept.
        application: a folder in it, so that several Workers share one.
        newest: how many versions are kept.
        masked: returns a text without the secrets in it.
    """

    def __init__(
        self, directory: Path, application: str, *, newest: int = KEEP, masked: Callable[[str], str] = str
    ) -> None:
        self._directory = directory
        self._manifests = directory / "versions" / re.sub(r"[^0-9A-Za-z_-]", "_", application)
        self._blobs = directory / "blobs"
        self._newest = newest
        self._masked = masked

    def keep(self, bundle: Bundle) -> None:
        """Keep a bundle, its manifest last; then delete what is beyond the newest.

        Raises:
            BackoutError: the folder cannot be written.
        """
        path = self._manifest(bundle.version.id)
        try:
            if path.exists():
                return
            for folder in (self._directory, self._manifests.parent, self._manifests, self._blobs):
                make_private_folder(folder)
            stored = tuple(_Stored(m.name, m.content_type, self._put(m.content)) for m in bundle.modules)
            version = bundle.version
            said = replace(version, message=self._masked(version.message), tag=self._masked(version.tag))
            manifest = _Manifest(said, self._put(bundle.metadata), stored)
            _write(path, msgspec.json.encode(manifest))
            self._prune()
        except OSError as error:
            what = f"the code of version {bundle.version.id} cannot be kept: {error.strerror or type(error).__name__}"
            raise BackoutError(what, where=str(self._directory), hint="make the folder writable") from error

    def find(self, version: str) -> Bundle | None:
        """Return the kept bundle of a version, each part verified; None when it is not kept.

        Raises:
            BackoutError: a part is damaged or missing.
        """
        manifest = self._read(self._manifest(version))
        if manifest is None:
            return None
        modules = tuple(BundleModule(m.name, m.content_type, self._get(m.sha256, version)) for m in manifest.modules)
        return Bundle(manifest.version, self._get(manifest.metadata, version), modules)

    def has(self, version: str) -> bool:
        """Whether the bundle of a version is kept."""
        return os.path.exists(self._manifest(version))  # noqa: PTH110 never raises

    def list_versions(self, *, apart_from: Collection[str] = ()) -> tuple[Version, ...]:
        """Return the versions whose bundles are kept, newest first; the files of those named are not opened."""
        found = (self._read(path) for path in self._paths() if path.stem not in apart_from)
        versions = (manifest.version for manifest in found if manifest is not None)
        return tuple(sorted(versions, key=lambda version: (-version.number, -version.created_at)))

    def _manifest(self, version: str) -> Path:
        if not _ID.match(version):
            raise BackoutError(f"{version!r} is not a version id", where=str(self._directory))
        return self._manifests / f"{version}.json"

    def _paths(self) -> list[Path]:
        return list(self._manifests.glob("*.json"))

    def _read(self, path: Path) -> _Manifest | None:
        try:
            sealed = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BackoutError(f"it cannot be read: {error.strerror}", where=str(path)) from error
        digest, _, body = sealed.partition(b"\n")
        damaged = BackoutError("the kept code is damaged", where=str(path), hint=f"delete {path}")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            raise damaged
        try:
            return decode_json(body, _Manifest)
        except Undecodable as error:
            raise damaged from error

    def _put(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        path = self._blob(digest)
        try:
            os.utime(path)  # young again: no other process takes it for a stray
        except FileNotFoundError:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            _write(path, content, sealed=False)
        return digest

    def _get(self, digest: str, version: str) -> bytes:
        path = self._blob(digest)
        try:
            content = path.read_bytes()
        except OSError as error:
            what = f"the kept code of version {version} is not complete: {error.strerror}"
            raise BackoutError(what, where=str(path)) from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise BackoutError(f"the kept code of version {version} is damaged", where=str(path))
        return content

    def _blob(self, digest: str) -> Path:
        return self._blobs / digest[:2] / digest

    def _prune(self) -> None:
        """Delete the manifests beyond the newest, and blobs that none needs any more."""
        every = sorted(self._paths(), key=lambda path: path.stat().st_mtime, reverse=True)
        if len(every) <= self._newest:
            return
        for path in every[self._newest :]:
            path.unlink(missing_ok=True)
        needed = set(self._list_needed())
        before = time.time() - _STRAY_S
        for path in self._blobs.glob("*/*"):
            with contextlib.suppress(FileNotFoundError):
                if path.name not in needed and path.stat().st_mtime < before:
                    path.unlink()

    def _list_needed(self) -> Iterator[str]:
        """Yield the digests that any application's manifests name."""
        for path in self._manifests.parent.glob("*/*.json"):
            manifest = self._read(path)
            if manifest is not None:
                yield manifest.metadata
                yield from (module.sha256 for module in manifest.modules)


def _write(path: Path, content: bytes, *, sealed: bool = True) -> None:
    """Write a file that is whole or absent, for its owner alone; a sealed one has its own SHA-256 in front."""
    temporary = path.with_name(f".{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            if sealed:
                file.write(hashlib.sha256(content).hexdigest().encode() + b"\n")
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
