"""The record of a backup: one short JSON object, written last; a backup without one does not exist.

With a key a record is signed, and with it all that tells one backup from another: its id, its cluster, its place in
time and in the WAL, what it builds on (and that one's list of files), its own list of files, and whose it is. A record
that is not signed as it should be is no backup until a person names it.
"""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from backout.decoding import Undecodable, decode_json
from backout.errors import AuthError, Refused
from backout.model.database.recovery import BackupKind, BaseBackup
from backout.model.database.wal import SEGMENT_SIZES
from backout.model.names import parse_cluster, parse_id, parse_segment
from backout.providers.archive.sealing import make_damaged_error
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from backout.providers.archive.sealing import Key

FORMAT: Final = 2
_FIRST: Final = 1
_SINCE_SECOND: Final = ("environment", "parent_index")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{16}")
KEY_HINT: Final = "set database.backup.key_env or key_file to the key it was made with"


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of a base backup, before it is stored.

    Args:
        wal: the segments that it brings along, so that it becomes consistent without an archive.
        boot: the boot of the machine in which it was taken: unsynced files are lost with the next boot.
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
    """A complete backup; it has a `signature` where there is a key.

    Args:
        index: the SHA-256 of its index as stored.
        parent_index: of what it builds on, "" where that is nothing.
        environment: whose backup it is.
    """

    format: int
    facts: Facts
    stored_bytes: int
    index: str
    key: str = ""
    verified_at: float | None = None
    signature: str = ""
    environment: str = ""
    parent_index: str = ""

    def as_backup(self, *, unsigned: bool = False) -> BaseBackup:
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
            unsigned=unsigned,
        )


def encode(record: Record, key: Key | None) -> bytes:
    """Return a record as it is kept, signed where there is a key."""
    plain = msgspec.structs.replace(record, signature="")
    signed = msgspec.structs.replace(plain, signature=key.sign(_encode_signed(plain)) if key else "")
    return msgspec.json.format(msgspec.json.encode(signed))


def decode(content: bytes, backup: str, where: str) -> Record:
    """Return the record stored for a backup.

    Raises:
        BackoutError: it is damaged, or of a form that this version does not know.
        Refused: what it names is no name, or it is the record of another backup.
    """
    try:
        record = decode_json(content, Record, what="the record of this backup")
    except Undecodable as error:
        raise make_damaged_error(where, f"the record of this backup cannot be read: {error.what}") from None
    if record.format not in {_FIRST, FORMAT}:
        raise make_damaged_error(
            where, f"this backup has form {record.format}, and this version of backout knows {FORMAT}"
        )
    try:
        _check_names(record, backup)
    except Refused as refused:
        raise Refused(f"the record of this backup is refused: {refused.what}", where=where, rule=RULE) from None
    return record


RULE: Final = SafetyRule.SIGNED_BACKUPS


def _check_names(record: Record, backup: str) -> None:
    facts = record.facts
    if parse_id(facts.id, "the id of a backup") != backup:
        raise Refused(f"it is the record of {facts.id}, but is stored as {backup}")
    if facts.parent is not None and parse_id(facts.parent, "the id of a backup") == facts.id:
        raise Refused("it builds on itself")
    if (facts.parent is None) is not (facts.kind is BackupKind.FULL):
        raise Refused(f"it is {facts.kind} and builds on {facts.parent or 'nothing'}")
    parse_cluster(facts.system_identifier)
    for name in facts.wal:
        parse_segment(name)
    check_segment_bytes(facts.segment_bytes)
    if not _DIGEST.fullmatch(record.index) or not (record.key == "" or _FINGERPRINT.fullmatch(record.key)):
        raise Refused("its digests are invalid")


def check_segment_bytes(size: int) -> int:
    """Return the size of a WAL segment as Postgres allows it. Raises Refused.

    >>> check_segment_bytes(16 << 20)
    16777216
    """
    if size not in SEGMENT_SIZES:
        raise Refused(f"{size} is not the size of a WAL segment")
    return size


def check_signature(record: Record, key: Key | None, environment: str, where: str) -> None:
    """Check that a record is signed with our key; without a key it cannot be checked.

    Raises:
        AuthError: it was made with another key.
        Refused: it is not signed, was changed since, or is another environment's; `make_unsigned_refusal` says what to
            type.
    """
    if key is None:
        return
    if not record.key or not record.signature:
        raise make_unsigned_refusal(record.facts.id, "this backup is not signed, although there is a key", where)
    if key.fingerprint != record.key:
        what = f"the backup was encrypted with key {record.key}, not {key.fingerprint}"
        raise AuthError(what, where=where, hint=KEY_HINT)
    if not hmac.compare_digest(key.sign(_encode_signed(record)), record.signature):
        raise make_unsigned_refusal(
            record.facts.id, "the record of this backup was changed after it was written", where
        )
    if record.environment and environment and record.environment != environment:
        raise make_unsigned_refusal(
            record.facts.id, f"this is a backup of {record.environment}, not of {environment}", where
        )


def make_unsigned_refusal(name: str, what: str, where: str) -> Refused:
    """Return the refusal of something that is not signed as it should be; it may be taken by its name."""
    return Refused(
        what,
        where=where,
        rule=RULE,
        hint=f"if you know where it comes from: `backout db restore TARGET --side --accept-unsigned {name}`",
        options=("Restore from another backup: `backout db backups list`.",),
    )


def require_key(record: Record, key: Key | None, where: str) -> None:
    """Raise AuthError when a backup is encrypted and there is no key."""
    if record.key and key is None:
        raise AuthError("the backup is encrypted, and there is no key", where=where, hint=KEY_HINT)


def _encode_signed(record: Record) -> bytes:
    """Return what is signed: all of a record but its signature."""
    content: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(record, signature=""))
    for name in _SINCE_SECOND if record.format == _FIRST else ():
        del content[name]
    return msgspec.json.encode(content)
