"""Postgres' messages as they pass the TLS proxy: the start of a session, and the bytes after it."""

from __future__ import annotations

import contextlib
import selectors
import ssl
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket

SSL_REQUEST, _GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102


_SASL: Final = 10


_PLUS: Final = b"SCRAM-SHA-256-PLUS"


_CHUNK: Final = 64 * 1024


_MOST_WAITING: Final = 1024 * 1024


_LEAST_STARTUP: Final = 8


_MOST_STARTUP: Final = 10_000  # Postgres' own limit


_LENGTH_BYTES: Final = 4


_MOST_MESSAGE: Final = 1024 * 1024


def _read_exactly(sock: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        if not chunk:
            raise ConnectionResetError("closed in the middle of a message")
        data += chunk
    return bytes(data)


def read_startup(client: socket.socket) -> bytes:
    """Return the client's startup message (or cancel request); offers of encryption are declined: it is on us.

    Raises:
        ConnectionResetError: it sends something else, or closes the connection.
    """
    while True:
        head = _read_exactly(client, 4)
        length = struct.unpack("!i", head)[0]
        if not _LEAST_STARTUP <= length <= _MOST_STARTUP:
            raise ConnectionResetError("not a startup message")
        message = head + _read_exactly(client, length - 4)
        if struct.unpack_from("!i", message, 4)[0] not in (SSL_REQUEST, _GSS_REQUEST):
            return message
        client.sendall(b"N")


def pass_startup_answer(server: ssl.SSLSocket, client: socket.socket) -> None:
    """Pass the server's first answer on, the offer of channel binding taken out of it.

    Raises:
        ConnectionResetError: it sends something else, or closes the connection.
    """
    kind = b"v"
    while kind == b"v":  # NegotiateProtocolVersion comes before
        head = _read_exactly(server, 5)
        kind, length = head[:1], struct.unpack("!i", head[1:])[0]
        if not _LENGTH_BYTES <= length <= _MOST_MESSAGE:
            raise ConnectionResetError("not a message of Postgres")
        client.sendall(_drop_binding(head + _read_exactly(server, length - 4)))


def _drop_binding(message: bytes) -> bytes:
    r"""Return a message; of an offer of login methods, only those without channel binding.

    >>> _drop_binding(b"R" + struct.pack("!ii", 42, 10) + b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")[9:]
    b'SCRAM-SHA-256\x00\x00'
    """
    if message[:1] != b"R" or struct.unpack_from("!i", message, 5)[0] != _SASL:
        return message
    kept = [name for name in message[9:].split(b"\0") if name and name != _PLUS]
    if not kept:
        return make_error_response("the server insists on channel binding, which needs programs with TLS of their own")
    body = b"".join(name + b"\0" for name in kept) + b"\0"
    return b"R" + struct.pack("!ii", 8 + len(body), _SASL) + body


def make_error_response(text: str) -> bytes:
    """Return an ErrorResponse, so that the program shows the text."""
    fields = b"SFATAL\0VFATAL\0C08006\0M" + text.encode() + b"\0\0"
    return b"E" + struct.pack("!i", 4 + len(fields)) + fields


def relay(client: socket.socket, server: ssl.SSLSocket) -> None:
    """Carry bytes both ways until one side ends; neither side waits for the other one to be read."""
    client.setblocking(False)
    server.setblocking(False)
    up, down = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ)
        selector.register(server, selectors.EVENT_READ)
        while True:
            # TLS may hold bytes already that the selector does not see.
            held = server.pending() > 0 and len(down) < _MOST_WAITING
            woken = {key.fileobj for key, _ in selector.select(0 if held else None)}
            ways = ((client, server, up), (server, client, down))
            for source, other, waiting in ways:
                if source in woken or (held and source is server):
                    ended = _fill(source, waiting)
                    if ended:
                        _drain(other, waiting)
                        return
            for _, other, waiting in ways:
                _send(other, waiting)
            for source, _, waiting in ways:
                wanted = selectors.EVENT_READ if len(waiting) < _MOST_WAITING else 0
                wanted |= selectors.EVENT_WRITE if (down if source is client else up) else 0
                selector.modify(source, wanted)


def _fill(source: socket.socket, waiting: bytearray) -> bool:
    """Read what there is, up to the most that may wait; return whether the source has ended."""
    while len(waiting) < _MOST_WAITING:
        chunk = _receive(source)
        if chunk is None:
            return False
        if not chunk:
            return True
        waiting += chunk
    return False


def _send(sock: socket.socket, data: bytearray) -> None:
    while data:
        try:
            del data[: sock.send(memoryview(data)[:_CHUNK].tobytes())]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return


def _receive(sock: socket.socket) -> bytes | None:
    """Return bytes, b"" at the end, None when there are none yet."""
    try:
        return sock.recv(_CHUNK)
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return None
    except (ssl.SSLEOFError, ConnectionResetError):
        return b""


def _drain(sock: socket.socket, data: bytearray) -> None:
    sock.settimeout(5.0)
    if data:
        sock.sendall(data)
    if isinstance(sock, ssl.SSLSocket):
        with contextlib.suppress(OSError, ValueError):
            sock.unwrap()
