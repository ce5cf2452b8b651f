"""The record of a backup: one short JSON object, written last; a backup without one does not exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from backout.decoding import Undecodable, decode_json
from backout.errors import AuthError
from backout.model.recovery import BackupKind, BaseBackup
from backout.providers.archive.sealing import damaged

if TYPE_CHECKING:
    from backout.providers.archive.sealing import Key

FORMAT: Final = 1


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a base backup is, before it is stored.

    Args:
        wal: the segments that it brings along, so that it becomes consistent without an archive.
        boot: the machine's start that it was taken in: files that were not synced are gone after the next one.
    """

    id: str
    kind: BackupKind
    parent: str | None
    began_at: float
    ended_at: float
    begin_lsn: int
    end_lsn: int
    timeline: int
    system_identifier: str
    server_version: int
    segment_bytes: int
    size_bytes: int
    wal: tuple[str, ...] = ()
    boot: str = ""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A backup that is complete; `index` is the SHA-256 of its index as kept, `signature` is there with a key."""

    format: int
    facts: Facts
    stored_bytes: int
    index: str
    key: str = ""
    verified_at: float | None = None
    signature: str = ""

    def as_backup(self) -> BaseBackup:
        """Return the noun."""
        facts = self.facts
        return BaseBackup(
            id=facts.id,
            kind=facts.kind,
            parent=facts.parent,
            began_at=facts.began_at,
            ended_at=facts.ended_at,
            begin_lsn=facts.begin_lsn,
            end_lsn=facts.end_lsn,
            timeline=facts.timeline,
            system_identifier=facts.system_identifier,
            server_version=facts.server_version,
            size_bytes=facts.size_bytes,
            stored_bytes=self.stored_bytes,
            encrypted=bool(self.key),
            verified_at=self.verified_at,
        )


def encode(record: Record, key: Key | None) -> bytes:
    """Return a record as it is kept, signed where there is a key."""
    plain = msgspec.structs.replace(record, signature="")
    signature = key.sign(msgspec.json.encode(plain)) if key else ""
    return msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(plain, signature=signature)))


def decode(content: bytes, where: str) -> Record:
    """Return a record. Raises BackoutError when it is damaged, or of a form that this version does not know."""
    try:
        record = decode_json(content, Record, what="the record of this backup")
    except Undecodable as error:
        raise damaged(where, f"the record of this backup cannot be read: {error.what}") from None
    if record.format != FORMAT:
        raise damaged(where, f"this backup has form {record.format}, and this version of backout knows {FORMAT}")
    return record


def check_key(record: Record, key: Key | None, where: str) -> None:
    """Raise AuthError unless this is the key that the backup was encrypted with, BackoutError when it was changed."""
    if not record.key:
        return
    hint = "set database.backup.key_env or key_file to the key it was made with"
    if key is None:
        raise AuthError("the backup is encrypted, and there is no key", where=where, hint=hint)
    if key.fingerprint != record.key:
        raise AuthError(
            f"the backup was encrypted with key {record.key}, not {key.fingerprint}", where=where, hint=hint
        )
    if key.sign(msgspec.json.encode(msgspec.structs.replace(record, signature=""))) != record.signature:
        raise damaged(where, "the record of this backup was changed after it was written")
