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
    """A segment with records at these places of what its pages hold, others before and between them, zeros behind."""
    stream = bytearray(SEGMENT // PAGE * (PAGE - 24) - 16)
    begins, end = [], 0
    for at, content in sorted(placed):
        if at - end >= 24:
            stream[end : end + 20] = struct.pack("<IIQBBH", at - end, 755, 0, 0x10, 10, 0)
            begins.append(end)
        stream[at : at + len(content)] = content
        begins.append(at)
        end = at + -(-len(content) // 8) * 8
    made = bytearray()
    for page in range(SEGMENT // PAGE):
        first = page * (PAGE - 24) - 16 if page else 0
        head = 24 if page else 40
        following = next((each for each in [*begins, end] if each >= first), first)
        flags, rest = (1, following - first) if following > first else (0, 0)
        made += struct.pack("<HHIQI", 0xD110, flags, 1, page * PAGE, rest).ljust(head, b"\0")
        made += stream[first : first + PAGE - head]
    return bytes(made)
