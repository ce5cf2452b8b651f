"""Port Fingerprints: HMAC-SHA256 with a key that lies beside the journal, for its owner alone.

A fingerprint is `KEY-DIGITS`: four digits that name the key, then the first 16 of the HMAC. Without the key no value
can be tried against it; after the loss of a key, old fingerprints cannot be compared with new ones, and say so.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError
from backout.private import make_private_folder

if TYPE_CHECKING:
    from pathlib import Path

KEY_BYTES: Final = 32
_KEY_DIGITS, _DIGITS = 4, 16


class KeyedFingerprints:
    """Port Fingerprints.

    Args:
        path: the file of the key, made when it is first needed.
        scope: fingerprints of different scopes (environments) differ for the same value.
    """

    def __init__(self, path: Path, scope: str) -> None:
        self._path = path
        self._scope = scope
        self._key: bytes | None = None

    def of(self, name: str, value: str) -> str:
        """Return the fingerprint.

        Raises:
            BackoutError: the key cannot be read or made, is damaged, or others may read it.
        """
        if self._key is None:
            self._key = self._read() or self._make()
        parts = (self._scope, name, value)
        message = b"".join(len(part.encode()).to_bytes(8, "big") + part.encode() for part in parts)
        digest = hmac.new(self._key, message, hashlib.sha256).hexdigest()
        return f"{hashlib.sha256(self._key).hexdigest()[:_KEY_DIGITS]}-{digest[:_DIGITS]}"

    def _read(self) -> bytes | None:
        try:
            with self._path.open("rb") as file:
                shared = stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077
                key = file.read(KEY_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BackoutError(
                f"the key of the fingerprints cannot be read: {error.strerror}", where=str(self._path)
            ) from error
        if shared:
            raise BackoutError(
                "others may read the key of the fingerprints", where=str(self._path), hint=f"chmod 600 {self._path}"
            )
        if len(key) != KEY_BYTES:
            raise BackoutError(
                "the key of the fingerprints is damaged",
                where=str(self._path),
                hint=f"delete {self._path}; values that were set before can then no longer be compared",
            )
        return key

    def _make(self) -> bytes:
        """Make the key; of two processes that do, the second takes the first one's."""
        temporary = self._path.with_name(f"{self._path.name}.{secrets.token_hex(8)}")
        try:
            make_private_folder(self._path.parent)
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(temporary, self._path)
        except OSError as error:
            what = f"the key of the fingerprints cannot be made: {error.strerror}"
            raise BackoutError(what, where=str(self._path), hint="make the folder writable") from error
        finally:
            temporary.unlink(missing_ok=True)
        made = self._read()
        if made is None:
            raise BackoutError("the key of the fingerprints vanished", where=str(self._path))
        return made
