"""Old events in a file of their own; the rule: a file is good only when its chain, its sum and its signature are.

It holds the journal from its first event to one behind which no run is open: JSON lines, an event each as it is stored,
and a manifest as the last one, signed with the key of the marks. Whoever writes the journal's history anew cannot write
that, so the manifest's head is a witness of all that is before it. Nothing is removed from the journal.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import IO, TYPE_CHECKING, Any, Final

import msgspec

from backout.decoding import Undecodable, decode_json
from backout.errors import Refused
from backout.journal.chain import WrittenRow, check
from backout.journal.history import OVER
from backout.model.value import Value
from backout.private import open_unlinked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from backout.model.incident.incident import Event

SCHEMA: Final = "backout.journal-archive/1"
_SIGNED: Final = b"backout journal archive 1\0"
_ROW: Any = WrittenRow
_MOST: Final = 64 << 20
"""Bytes of a line."""


class Manifest(Value, frozen=True):
    """The last line of an archive.

    Args:
        journal: the hash of the first event, which tells journals apart.
        events: how many there are; the number of the last one.
        head: its hash.
        sha256: of all lines before.
        hmac: over all of the above.
    """

    schema: str
    journal: str
    events: int
    head: str
    sha256: str
    hmac: str = ""


def find_end(events: Iterable[Event], before: float) -> int:
    """Return the number of the last event before a time (Unix seconds) behind which no run is open, 0 for none."""
    end, open_runs = 0, set[str]()
    for event in events:
        if event.at >= before:
            break
        if event.kind == "run.submitted":
            open_runs.add(event.run)
        elif event.kind in OVER:
            open_runs.discard(event.run)
        if not open_runs:
            end = event.seq
    return end


def write_archive(path: Path, rows: Iterable[Sequence[Any]], end: int, key: bytes) -> None:
    """Write the events up to a number into a new file, which only its owner can read, durable when this returns.

    Args:
        rows: as stored, in order.

    Raises:
        OSError: it is there already, or cannot be written.
    """
    digest, first, last = hashlib.sha256(), "", ""
    with open(path, "xb", opener=open_unlinked) as file:
        for row in rows:
            if row[0] > end:
                break
            first, last = first or row[9], row[9]
            line = msgspec.json.encode([*row, None][:11]) + b"\n"
            digest.update(line)
            file.write(line)
        manifest = Manifest(SCHEMA, first, end, last, digest.hexdigest())
        signed = msgspec.structs.replace(manifest, hmac=_sign(manifest, key))
        file.write(msgspec.json.encode(signed) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_archive(path: Path, keys: Sequence[bytes]) -> Manifest:
    """Return the manifest of an archive, once all of the file was found to be as it was written.

    Args:
        keys: each is accepted.

    Raises:
        Refused: it is damaged, or none of the keys signed it.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        try:
            manifest, sha256 = _read_end(file)
            file.seek(0)
            rows = (decode_json(line, _ROW) for line in _read_lines(file, manifest.events))
            found = check(rows, (manifest.events, manifest.head))
        except Undecodable as error:
            raise _refuse(path, "is damaged") from error
    if not found.is_whole or not hmac.compare_digest(manifest.sha256, sha256):
        raise _refuse(path, f"is damaged: {found.why or 'its sum is another one'}")
    if not any(hmac.compare_digest(manifest.hmac, _sign(manifest, key)) for key in keys):
        raise _refuse(path, "is not signed with a key that this machine has")
    return manifest


def _read_end(file: IO[bytes]) -> tuple[Manifest, str]:
    """Return the last line, and the sum of those before it. Raises Undecodable: it is no manifest."""
    digest, last = hashlib.sha256(), b""
    while line := file.readline(_MOST):
        digest.update(last)
        last = line
    manifest = decode_json(last, Manifest)
    if manifest.schema != SCHEMA or manifest.events < 1:
        raise Undecodable("the last line is no manifest")
    return manifest, digest.hexdigest()


def _read_lines(file: IO[bytes], count: int) -> Iterator[bytes]:
    return (file.readline(_MOST) for _ in range(count))


def _sign(manifest: Manifest, key: bytes) -> str:
    told = msgspec.json.encode(msgspec.structs.replace(manifest, hmac=""))
    return hmac.new(key, _SIGNED + told, hashlib.sha256).hexdigest()


def _refuse(path: Path, what: str) -> Refused:
    return Refused(f"the archive {what}", where=str(path), hint="take another copy of it, or the key that signed it")
