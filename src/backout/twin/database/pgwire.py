"""The Postgres wire protocol, version 3, as far as a proxy needs it: cutting a stream into messages, and making them.

Source: PostgreSQL 18 documentation, "Frontend/Backend Protocol", message formats.
"""

from __future__ import annotations

import functools
import struct
from typing import TYPE_CHECKING

from backout.model.value import Value

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import TypeVar

    T = TypeVar("T")

SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
LONGEST_MESSAGE_BYTES = 256 * 1024 * 1024
_LONGEST_STARTUP_BYTES = 10_000
IDLE = b"I"


class ProtocolError(Exception):
    """The other side does not speak this protocol."""


class Message(Value, frozen=True):
    """One message: its type byte, its payload, and both as they came."""

    type: bytes
    payload: bytes

    @property
    def raw(self) -> bytes:
        """The message as it travels."""
        return make_message(self.type, self.payload)


class Splitter:
    """Cuts a stream into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield the messages that are complete with this data.

        Raises:
            ProtocolError: a length that no message has.
        """
        self._buffer += data
        at = 0
        while len(self._buffer) - at >= 5:
            (length,) = struct.unpack_from("!I", self._buffer, at + 1)
            if not 4 <= length <= LONGEST_MESSAGE_BYTES:
                raise ProtocolError(f"a message of {length} bytes")
            end = at + 1 + length
            if len(self._buffer) < end:
                break
            yield Message(bytes(self._buffer[at : at + 1]), bytes(self._buffer[at + 5 : end]))
            at = end
        del self._buffer[:at]


class Parse(Value, frozen=True):
    """Prepare a statement: name (b"" is the unnamed one), SQL, the types of its parameters as oids."""

    name: bytes
    sql: bytes
    oids: tuple[int, ...]


class Bind(Value, frozen=True):
    """Bind parameters (None is NULL) of a statement to a portal; formats are 0 text, 1 binary."""

    portal: bytes
    statement: bytes
    formats: tuple[int, ...]
    values: tuple[bytes | None, ...]
    result_formats: tuple[int, ...]


async def read_message(reader: asyncio.StreamReader) -> Message:
    """Return the next message of a client. Raises IncompleteReadError at the end, ProtocolError for nonsense."""
    head = await reader.readexactly(5)
    (length,) = struct.unpack_from("!I", head, 1)
    if not 4 <= length <= LONGEST_MESSAGE_BYTES:
        raise ProtocolError(f"a message of {length} bytes")
    return Message(head[:1], await reader.readexactly(length - 4))


async def read_startup(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return (code, rest) of a client's first message, which has no type.

    Raises:
        ProtocolError: it has an impossible length.
    """
    (length,) = struct.unpack("!I", await reader.readexactly(4))
    if not 8 <= length <= _LONGEST_STARTUP_BYTES:
        raise ProtocolError(f"a first message of {length} bytes")
    body = await reader.readexactly(length - 4)
    return struct.unpack_from("!I", body)[0], body[4:]


def parse_parameters(body: bytes) -> dict[str, str]:
    """Return the pairs of a startup message."""
    words = body.rstrip(b"\0").split(b"\0")
    texts = [word.decode("utf-8", "replace") for word in words]
    return dict(zip(texts[::2], texts[1::2], strict=False))


def _strict(parse: Callable[[bytes], T]) -> Callable[[bytes], T]:
    """Make a ProtocolError of whatever a malformed payload runs into."""

    @functools.wraps(parse)
    def parse_or_refuse(payload: bytes) -> T:
        try:
            return parse(payload)
        except (ValueError, struct.error) as error:
            raise ProtocolError(f"{parse.__name__}: {error}") from error

    return parse_or_refuse


@_strict
def parse_parse(payload: bytes) -> Parse:
    """Return a Parse message."""
    name, sql, rest = payload.split(b"\0", 2)
    (count,) = struct.unpack_from("!H", rest)
    return Parse(name, sql, struct.unpack_from(f"!{count}I", rest, 2))


@_strict
def parse_bind(payload: bytes) -> Bind:
    """Return a Bind message."""
    portal, statement, rest = payload.split(b"\0", 2)
    formats, at = _read_shorts(rest, 0)
    (count,) = struct.unpack_from("!H", rest, at)
    at += 2
    values: list[bytes | None] = []
    for _ in range(count):
        (length,) = struct.unpack_from("!i", rest, at)
        at += 4
        values.append(None if length < 0 else rest[at : at + length])
        at += max(length, 0)
    return Bind(portal, statement, formats, tuple(values), _read_shorts(rest, at)[0])


@_strict
def parse_execute(payload: bytes) -> tuple[bytes, int]:
    """Return (portal, most rows; 0 is all) of an Execute message."""
    portal, rest = payload.split(b"\0", 1)
    return portal, struct.unpack("!I", rest)[0]


def _read_shorts(data: bytes, at: int) -> tuple[tuple[int, ...], int]:
    (count,) = struct.unpack_from("!H", data, at)
    return struct.unpack_from(f"!{count}H", data, at + 2), at + 2 + 2 * count


def make_message(kind: bytes, payload: bytes = b"") -> bytes:
    """Return a message of any type."""
    return kind + struct.pack("!I", len(payload) + 4) + payload


SYNC = make_message(b"S")
TERMINATE = make_message(b"X")
AUTHENTICATION_OK = make_message(b"R", struct.pack("!I", 0))
ASK_PASSWORD = make_message(b"R", struct.pack("!I", 3))
PARSE_COMPLETE = make_message(b"1")
BIND_COMPLETE = make_message(b"2")
CLOSE_COMPLETE = make_message(b"3")
READY = make_message(b"Z", IDLE)
NEGOTIATE_3_0 = make_message(b"v", struct.pack("!II", 0, 0))


def make_startup(parameters: Mapping[str, str]) -> bytes:
    """Return a client's first message."""
    pairs = b"".join(f"{name}\0{value}\0".encode() for name, value in parameters.items())
    body = struct.pack("!I", 3 << 16) + pairs + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def cancel(pid: int, secret: bytes) -> bytes:
    """Return a cancel request, sent on a connection of its own."""
    body = struct.pack("!II", CANCEL_REQUEST, pid) + secret
    return struct.pack("!I", len(body) + 4) + body


def parse_message(statement: Parse) -> bytes:
    """Return a Parse message."""
    count = len(statement.oids)
    oids = struct.pack(f"!H{count}I", count, *statement.oids)
    return make_message(b"P", statement.name + b"\0" + statement.sql + b"\0" + oids)


def bind_message(bind: Bind) -> bytes:
    """Return a Bind message."""
    values = b"".join(
        struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value for value in bind.values
    )
    payload = (
        bind.portal + b"\0" + bind.statement + b"\0" + _pack_shorts(bind.formats)
        + struct.pack("!H", len(bind.values)) + values + _pack_shorts(bind.result_formats)
    )  # fmt: skip
    return make_message(b"B", payload)


def _pack_shorts(numbers: Sequence[int]) -> bytes:
    return struct.pack(f"!H{len(numbers)}H", len(numbers), *numbers)


def describe_portal(portal: bytes = b"") -> bytes:
    """Return a Describe message for a portal."""
    return make_message(b"D", b"P" + portal + b"\0")


def execute(portal: bytes = b"") -> bytes:
    """Return an Execute message for all rows."""
    return make_message(b"E", portal + b"\0" + struct.pack("!I", 0))


def close_statement(name: bytes) -> bytes:
    """Return a Close message for a prepared statement."""
    return make_message(b"C", b"S" + name + b"\0")


def make_parameter_status(name: str, value: str) -> bytes:
    """Return what a server tells about itself."""
    return make_message(b"S", f"{name}\0{value}\0".encode())


def make_error(severity: str, code: str, text: str) -> bytes:
    """Return an ErrorResponse."""
    fields = (("S", severity), ("V", severity), ("C", code), ("M", text))
    return make_message(b"E", b"".join(f"{kind}{value}\0".encode() for kind, value in fields) + b"\0")
