"""Records of WAL as Postgres writes them, and segments that hold them."""

from __future__ import annotations

import struct

PAGE, SEGMENT = 8192, 1 << 20


def crc32c(data: bytes) -> int:
    """The checksum of a record, bit by bit as it is defined."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def record(wal_level: int) -> bytes:
    """XLOG_PARAMETER_CHANGE, with its checksum."""
    data = b"\xff\x1c" + struct.pack("<6i4B", 100, 8, 10, 0, 64, wal_level, 0, 1, 0, 0)
    head = struct.pack("<IIQBBH", 54, 0, 0x3000028, 0x60, 0, 0)
    return head + struct.pack("<I", crc32c(data + head)) + data


def commit(at: float, *, info: int = 0x80, before: bytes = b"", more: int = 40) -> bytes:
    """XLOG_XACT_COMMIT of a transaction, or another record of rmgr Transaction."""
    body = struct.pack("<q", int((at - 946_684_800) * 1e6)) + bytes(range(more))
    mark = b"\xff" + bytes((len(body),)) if len(body) < 256 else b"\xfe" + struct.pack("<I", len(body))
    data = before + mark + body
    head = struct.pack("<IIQBBH", 24 + len(data), 755, 0x3000028, info, 1, 0)
    return head + struct.pack("<I", crc32c(data + head)) + data


def segment(*placed: tuple[int, bytes]) -> bytes:
    """A segment with records at these places of what its pages hold."""
    stream = bytearray(SEGMENT // PAGE * (PAGE - 24) - 16)
    for at, content in placed:
        stream[at : at + len(content)] = content
    made, rest = bytearray(40) + stream[: PAGE - 40], stream[PAGE - 40 :]
    while rest:
        made += bytearray(24) + rest[: PAGE - 24]
        rest = rest[PAGE - 24 :]
    return bytes(made)
