"""The manifests of a history's bucket: written whole, signed, and read only where the signature holds.

A manifest is a gzipped text of JSON lines: a first one with the part of the bucket that it covers, one for each object
in the order of the keys' bytes, and a last one with the digest of all before it, signed with HMAC-SHA256 where there is
a key. Those that were written before 2026-12 have no first line, and do not say what they cover.
"""

from __future__ import annotations

import gzip
import hashlib
import hmac
import re
import tempfile
import zlib
from contextlib import contextmanager
from itertools import chain
from typing import IO, TYPE_CHECKING, Final

import msgspec

from backout.decoding import Undecodable, decode_json, parse_moment
from backout.errors import ProviderRejected, Refused
from backout.model.clock import to_utc
from backout.model.objects.manifests import ManifestEntry, ManifestName
from backout.model.value import Value
from backout.providers.s3.exchanges import MISSING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from backout.providers.s3.answers import Listed
    from backout.providers.s3.client import S3Client

_FOLDER: Final = "manifests/"
_STAMP: Final = "%Y%m%dT%H%M%SZ"
_NAME: Final = re.compile(r"(\d{8}T\d{6}Z)-(\d+)-(\d+)-(\d+)-(\d+)\.jsonl\.gz")
_SPOOLED_BYTES: Final = 8 * 1024 * 1024
_LONGEST_LINE: Final = 64 * 1024
_HEAD: Final = b'{"prefix":'
_SEAL: Final = b'{"sha256":'


class _Head(msgspec.Struct, frozen=True):
    """The first line of a manifest."""

    prefix: str


class Manifest(Value, frozen=True):
    """A manifest that was found to be as it was written.

    Args:
        prefix: it is of the objects below it; None: it does not say.
        entries: to be read once, while it is open.
    """

    prefix: str | None
    entries: Iterator[ManifestEntry]


class _Seal(msgspec.Struct, frozen=True):
    """The last line of a manifest; `hmac` is "" where it is not signed."""

    sha256: str
    hmac: str = ""


class Manifests:
    """The manifests of one bucket's history.

    Args:
        root: the key below which all of the history lies, with a slash at its end.
        keys: the first one signs manifests, and each is accepted; without any, none is signed, and none asked for.
    """

    def __init__(self, client: S3Client, bucket: str, root: str, *keys: bytes) -> None:
        self._client = client
        self._bucket = bucket
        self._folder = root + _FOLDER
        self._keys = keys

    def list_names(self) -> tuple[ManifestName, ...]:
        """Return the manifests, oldest first. Raises ProviderRejected: there is no such bucket."""
        found = []
        for each in self._list_objects():
            match = _NAME.fullmatch(each.key.removeprefix(self._folder))
            if match is not None:
                at = parse_moment(match[1])
                numbers = [int(number) for number in match.groups()[1:]]
                found.append(
                    ManifestName(
                        name=match[1],
                        at=at,
                        objects=numbers[0],
                        size_bytes=numbers[1],
                        changed=numbers[2],
                        deleted=numbers[3],
                    )
                )
        return tuple(sorted(found, key=lambda each: each.at))

    def _list_objects(self) -> tuple[Listed, ...]:
        try:
            return tuple(self._client.list_objects(self._bucket, self._folder))
        except ProviderRejected as refused:
            if refused.status != MISSING:
                raise
            what = f"there is no bucket {self._bucket!r} for the history at this endpoint"
            hint = "make it, or correct storage.history"
            raise ProviderRejected(what, status=refused.status, where=refused.where, hint=hint) from refused

    def write(self, name: ManifestName, entries: Iterable[ManifestEntry], *, prefix: str) -> None:
        """Store a manifest whole, of the objects below a prefix."""
        digest, head = hashlib.sha256(), _Head(prefix)
        with tempfile.SpooledTemporaryFile(max_size=_SPOOLED_BYTES) as spool:
            with gzip.GzipFile(fileobj=spool, mode="wb", compresslevel=5, mtime=0) as packed:
                for each in chain([head], entries):
                    line = msgspec.json.encode(each) + b"\n"
                    digest.update(line)
                    packed.write(line)
                signature = self._sign(name, digest.digest(), self._keys[0]) if self._keys else ""
                packed.write(msgspec.json.encode(_Seal(digest.hexdigest(), signature)) + b"\n")
            spool.seek(0)
            self._client.put(self._bucket, self._locate(name), spool)

    def read(self, name: ManifestName) -> Iterator[ManifestEntry]:
        """Yield the objects of a manifest; raises as `open`."""
        with self.open(name) as manifest:
            yield from manifest.entries

    @contextmanager
    def open(self, name: ManifestName) -> Iterator[Manifest]:
        """Return a manifest, once all of it was found to be as it was written.

        Raises:
            Refused: it is damaged, is not signed, or another key signed it.
        """
        with tempfile.SpooledTemporaryFile(max_size=_SPOOLED_BYTES) as spool:
            with self._client.get(self._bucket, self._locate(name)) as body:
                for chunk in body:
                    spool.write(chunk)
            self._check(name, spool)
            first = next(_read_lines(spool))
            prefix = decode_json(first, _Head).prefix if first.startswith(_HEAD) else None
            lines = (line for line in _read_lines(spool) if not line.startswith((_HEAD, _SEAL)))
            yield Manifest(prefix, (decode_json(line, ManifestEntry) for line in lines))

    def delete(self, names: Iterable[ManifestName]) -> None:
        """Remove manifests."""
        self._client.delete_many(self._bucket, [(self._locate(each), None) for each in names])

    def _check(self, name: ManifestName, spool: IO[bytes]) -> None:
        digest, last = hashlib.sha256(), b""
        try:
            for line in _read_lines(spool):
                digest.update(last)
                last = line
            seal = decode_json(last, _Seal)
        except (OSError, EOFError, zlib.error, Undecodable):
            raise self._refuse(name, "is damaged") from None
        if not hmac.compare_digest(seal.sha256, digest.hexdigest()):
            raise self._refuse(name, "is damaged")
        signed = [hmac.compare_digest(seal.hmac, self._sign(name, digest.digest(), key)) for key in self._keys]
        if signed and not any(signed):
            raise self._refuse(name, "is signed with another key" if seal.hmac else "is not signed")

    def _refuse(self, name: ManifestName, what: str) -> Refused:
        return Refused(
            f"the manifest {name.name} of the history {what}",
            where=f"{self._bucket}/{self._locate(name)}",
            options=("Choose a moment of another manifest: backout objects history.",),
        )

    def _sign(self, name: ManifestName, digest: bytes, key: bytes) -> str:
        """Return the signature of a manifest: of its name, too, so that no other one can take its place."""
        return hmac.new(key, self._locate(name).encode() + b"\0" + digest, hashlib.sha256).hexdigest()

    def _locate(self, name: ManifestName) -> str:
        counts = f"{name.objects}-{name.size_bytes}-{name.changed}-{name.deleted}"
        return f"{self._folder}{name.name}-{counts}.jsonl.gz"


def make_stamp(at: float) -> str:
    """Return the name of a manifest whose listing began then.

    >>> make_stamp(1_795_564_800.9)
    '20261125T000000Z'
    """
    return to_utc(at).strftime(_STAMP)


def _read_lines(spool: IO[bytes]) -> Iterator[bytes]:
    spool.seek(0)
    with gzip.GzipFile(fileobj=spool, mode="rb") as packed:
        while line := packed.readline(_LONGEST_LINE):
            yield line
