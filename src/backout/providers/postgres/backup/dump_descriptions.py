"""The descriptions of dumps: DIRECTORY/ID.json, signed where there is a key; a dump without one does not exist.

A restore is judged by its description (the rows of each table, the digest of the files), so with a key an unsigned
one is refused until a person names it. It is not signed afterwards.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any, Final

import msgspec

from backout.decoding import Undecodable, decode_json, decode_values
from backout.errors import AuthError, BackoutError, Refused
from backout.model.database.dump import Dump
from backout.model.names import parse_id
from backout.private import open_unlinked
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.providers.archive.sealing import Key

RULE: Final = SafetyRule.SIGNED_BACKUPS


class DumpDescriptions:
    """The descriptions in a folder.

    Args:
        key: returns the signing key, None: they are accepted unsigned.

    Attributes:
        accepted: the ids of unsigned dumps that a person accepts.
    """

    def __init__(self, directory: Path, key: Callable[[], Key | None]) -> None:
        self._directory = directory
        self._key = key
        self.accepted: frozenset[str] = frozenset()
        self._unsigned: set[str] = set()

    def list_dumps(self) -> tuple[Dump, ...]:
        """Return the dumps that may be used, oldest first."""
        return tuple(found for _, found, error in self._read() if found is not None and error is None)

    def list_refused(self) -> tuple[tuple[str, BackoutError], ...]:
        """Return the ids of those that may not, and why: not signed, another key, damaged."""
        return tuple((name, error) for name, _, error in self._read() if error is not None)

    def doubtful(self) -> tuple[Dump, ...]:
        """Return those of them that can be read."""
        return tuple(found for _, found, error in self._read() if found is not None and error is not None)

    def names(self) -> tuple[str, ...]:
        """Return what the files of descriptions are called, whatever is in them."""
        return tuple(path.stem for path in self._directory.glob("*.json"))

    def write(self, dump: Dump) -> None:
        """Keep a description, whole or not at all; one that was only accepted stays without a signature."""
        content: dict[str, Any] = msgspec.to_builtins(dump)
        key = None if dump.id in self._unsigned else self._key()
        if key is not None:
            content |= {"key": key.fingerprint, "signature": key.sign(_encode_signed(content))}
        building = self._directory / f"{parse_id(dump.id)}.partial"
        with open(building, "wb", opener=open_unlinked) as file:
            file.write(msgspec.json.format(msgspec.json.encode(content)))
        building.rename(self._directory / f"{parse_id(dump.id)}.json")

    def remove(self, dump: Dump) -> None:
        """Delete a description."""
        (self._directory / f"{parse_id(dump.id)}.json").unlink(missing_ok=True)

    def _read(self) -> tuple[tuple[str, Dump | None, BackoutError | None], ...]:
        key = self._key()
        return tuple((path.stem, *self._one(path, key)) for path in sorted(self._directory.glob("*.json")))

    def _one(self, path: Path, key: Key | None) -> tuple[Dump | None, BackoutError | None]:
        """Return a description, or why it may not be used, or both."""
        try:
            content = decode_json(path.read_bytes(), dict[str, Any])
            signature, fingerprint = str(content.pop("signature", "")), str(content.pop("key", ""))
            found = decode_values(content, Dump)
            _check_id(found, path.stem)
        except (OSError, Undecodable) as error:
            return None, BackoutError(f"the description of a dump cannot be read: {error}", where=str(path))
        except Refused as refused:
            what = f"the description of this dump is refused: {refused.what}"
            return None, Refused(what, where=str(path), rule=RULE)
        if key is None:
            return found, None
        if fingerprint and fingerprint != key.fingerprint:
            what = f"the dump was sealed with key {fingerprint}, not {key.fingerprint}"
            hint = "set database.backup.key_env or key_file to the key it was made with"
            return found, AuthError(what, where=str(path), hint=hint)
        if not hmac.compare_digest(key.sign(_encode_signed(content)), signature):
            if found.id in self.accepted:
                self._unsigned.add(found.id)
                return found, None
            what = (
                "the description of this dump was changed after it was written"
                if signature
                else "this dump is not signed, although there is a key"
            )
            hint = f"if you know where it comes from, take it by its name: --accept-unsigned {found.id}"
            return found, Refused(what, where=str(path), rule=RULE, hint=hint)
        return found, None


def _check_id(dump: Dump, stem: str) -> None:
    if parse_id(dump.id, "the id of a dump") != stem:
        raise Refused(f"it describes {dump.id}, but is stored as {stem}")


def _encode_signed(content: dict[str, Any]) -> bytes:
    """Return what is signed; no record of a backup begins so."""
    return b"dump\0" + msgspec.json.encode(content, order="deterministic")
