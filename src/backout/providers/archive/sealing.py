"""The storage format: an object of compressed blocks in order, sealed when there is a key.

An object is `bout`, a version byte, a byte that says whether it is sealed, 32 bytes of salt when it is; then blocks.
A block is its length (4 bytes, big-endian), 1 when it is the last one and else 0, and that many bytes: a zstd frame
with its checksum, encrypted when sealed. So an object that was not sealed can be read by hand with zstd.

Sealed is AES-256-GCM with a key for each object, HKDF-SHA256 of the key, the salt and the object's name. The nonce is
the block's number, the additional data says whether it is the last one: a block that is damaged, missing, repeated, in
another place or another object, and an object that was cut off, are all found (the construction STREAM: Hoang,
Reyhanitabar, Rogaway, Vizár 2015, "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance").
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import struct
from typing import TYPE_CHECKING, Final

from backout.errors import AuthError, BackoutError, UsageError
from backout.extras import describe_install

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

MAGIC: Final = b"bout\x01"
_PLAIN, _SEALED = b"\x00", b"\x01"
_SALT_BYTES: Final = 32
KEY_BYTES: Final = 32
_BLOCK: Final = struct.Struct(">IB")
_LARGEST_BLOCK_BYTES: Final = 64 * 1024 * 1024
HINT: Final = describe_install("database")


class Damaged(Exception):
    """The content is not what was stored; the text says how, without the object's name."""


class Key:
    """The key that backups are encrypted with; `fingerprint` distinguishes keys and reveals nothing."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.fingerprint = hmac.digest(secret, b"backout key fingerprint", "sha256").hex()[:16]

    @classmethod
    def parse(cls, text: str) -> Key:
        """Return a key from 64 hexadecimal digits or base64 of 32 bytes. Raises AuthError."""
        text = text.strip()
        try:
            secret = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else base64.b64decode(text, validate=True)
        except (ValueError, binascii.Error):
            secret = b""
        if len(secret) != KEY_BYTES:
            raise AuthError("the key of the backups is not 32 bytes in base64", hint="openssl rand -base64 32")
        return cls(secret)

    def __repr__(self) -> str:
        return f"Key({self.fingerprint})"

    def of_object(self, name: str, salt: bytes) -> bytes:
        """Return the key of one object: HKDF-SHA256 (RFC 5869), one block of output."""
        extracted = hmac.digest(salt, self._secret, "sha256")
        return hmac.digest(extracted, b"backout object " + name.encode() + b"\x01", "sha256")

    def sign(self, content: bytes) -> str:
        """Return an authentication code for what is kept readable, such as records."""
        return hmac.digest(hmac.digest(self._secret, b"backout records", "sha256"), content, "sha256").hex()


class Sealer:
    """Writes one object, block by block; `seal` may be called from several threads, `frame` orders what it returns."""

    def __init__(self, name: str, key: Key | None) -> None:
        salt = os.urandom(_SALT_BYTES) if key else b""
        self._cipher = _make_cipher(key.of_object(name, salt)) if key else None
        self.head = MAGIC + (_SEALED if key else _PLAIN) + salt

    def seal(self, number: int, frame: bytes, *, last: bool) -> bytes:
        """Return the bytes of one block, its head included."""
        if self._cipher is not None:
            frame = self._cipher(number, frame, last, seal=True)
        return _BLOCK.pack(len(frame), last) + frame


def open_frames(name: str, data: bytes, key: Key | None) -> Iterator[bytes]:
    """Yield the frames of an object in their order.

    Raises:
        Damaged: it is not what was kept.
        AuthError: it is sealed and there is no key.
    """
    head = len(MAGIC) + 1
    if data[: len(MAGIC)] != MAGIC or data[len(MAGIC) : head] not in {_PLAIN, _SEALED}:
        raise Damaged("it does not start like an object of a backup")
    cipher = None
    if data[len(MAGIC) : head] == _SEALED:
        if key is None:
            raise AuthError("it is encrypted, and there is no key", where=name, hint="set database.backup.key_env")
        cipher = _make_cipher(key.of_object(name, data[head : head + _SALT_BYTES]))
        head += _SALT_BYTES
    elif key is not None:
        raise Damaged("it is not encrypted, although there is a key")
    view, at, number, last = memoryview(data), head, 0, 0
    while not last:
        if at + _BLOCK.size > len(data):
            raise Damaged(f"it is cut off after {number} blocks")
        length, last = _BLOCK.unpack_from(data, at)
        at += _BLOCK.size
        if length > _LARGEST_BLOCK_BYTES or last > 1 or at + length > len(data):
            raise Damaged(f"it is cut off or damaged in block {number}")
        frame = bytes(view[at : at + length])
        yield frame if cipher is None else cipher(number, frame, bool(last), seal=False)
        at, number = at + length, number + 1
    if at != len(data):
        raise Damaged("there is something after its end")


def is_sealed(data: bytes) -> bool:
    """Whether an object is marked as sealed."""
    return data[len(MAGIC) : len(MAGIC) + 1] == _SEALED


def pack(name: str, content: bytes, key: Key | None, *, level: int = 3, block_bytes: int = 4 << 20) -> bytes:
    """Return a whole object of some content."""
    sealer, compress = Sealer(name, key), make_compressor(level)
    pieces = [content[at : at + block_bytes] for at in range(0, len(content), block_bytes)] or [b""]
    blocks = (sealer.seal(n, compress(piece), last=n == len(pieces) - 1) for n, piece in enumerate(pieces))
    return sealer.head + b"".join(blocks)


def unpack(name: str, data: bytes, key: Key | None) -> bytes:
    """Return the content of a whole object. Raises BackoutError that names it, AuthError."""
    expand = make_expander()
    try:
        return b"".join(expand(frame) for frame in open_frames(name, data, key))
    except Damaged as error:
        raise make_damaged_error(name, str(error)) from None


def make_damaged_error(name: str, how: str) -> BackoutError:
    """Return the error that names a damaged or missing object."""
    return BackoutError(
        f"{how}", where=name, hint="restore from another backup (backout db backups), and take a new one"
    )


def compute_digest(content: bytes) -> bytes:
    """Return 16 bytes that tell a file's contents apart."""
    return hashlib.blake2b(content, digest_size=16).digest()


def make_compressor(level: int) -> Callable[[bytes], bytes]:
    """Return a function that compresses into one frame with its checksum; one for each thread. Raises UsageError."""
    zstandard = _load_zstandard()
    compress: Callable[[bytes], bytes] = zstandard.ZstdCompressor(level=level, write_checksum=True).compress
    return compress


def make_expander() -> Callable[[bytes], bytes]:
    """Return the function that undoes `make_compressor`; one for each thread. It raises Damaged."""
    zstandard = _load_zstandard()
    decompressor = zstandard.ZstdDecompressor()

    def expand(frame: bytes) -> bytes:
        try:
            size = zstandard.frame_content_size(frame)
            if size > _LARGEST_BLOCK_BYTES:
                raise Damaged("a block claims an impossible size")
            return bytes(decompressor.decompress(frame)) if size else b""
        except zstandard.ZstdError as error:
            raise Damaged(f"it cannot be decompressed: {error}") from None

    return expand


def _load_zstandard() -> ModuleType:
    try:
        import zstandard
    except ImportError:
        raise UsageError("backups need the package zstandard", hint=HINT) from None
    found: ModuleType = zstandard
    return found


def _make_cipher(key: bytes) -> Callable[..., bytes]:
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise UsageError("encrypted backups need the package cryptography", hint=HINT) from None
    gcm = AESGCM(key)

    def apply(number: int, data: bytes, last: bool, *, seal: bool) -> bytes:
        nonce, beside = number.to_bytes(12, "big"), b"last" if last else b"more"
        if seal:
            return gcm.encrypt(nonce, data, beside)
        try:
            return gcm.decrypt(nonce, data, beside)
        except InvalidTag:
            raise Damaged(f"block {number} was not sealed with this key, or is damaged") from None

    return apply
