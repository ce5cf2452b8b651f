"""A loopback HTTP server that answers what a test tells it to, well-formed or not, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import functools
import json
import socket
import struct
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Step = Callable[[socket.socket, threading.Event], bool]
"""Answers one request; returns whether the connection stays open. The event is set when the test ends."""


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class ScriptedServer:
    """`steps` are used up one request after the other; after the last one every request gets `last` again."""

    url: str
    steps: deque[Step] = field(default_factory=deque)
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    closed: int = 0
    last: Step | None = None

    def will(self, *steps: Step) -> ScriptedServer:
        """Set what is answered; the last step is repeated for ever."""
        self.steps.clear()
        self.steps.extend(steps[:-1])
        self.last = steps[-1]
        return self

    def next_step(self) -> Step:
        """Return the step for the next request."""
        step = self.steps.popleft() if self.steps else self.last
        assert step is not None, "a request came, and the test said nothing about it"
        return step


def answer(body: object, status: int = 200, **headers: str) -> Step:
    """Answer properly: bytes as they are, anything else as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return raw_answer(f"HTTP/1.1 {status} X\r\n{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw, stay=True)


def token_answers(server: ScriptedServer, scopes: list[str] | None) -> Step:
    """Answer as Cloudflare's API about a token that has these permissions (None: may not read them); 404 elsewhere."""
    groups = [{"name": name} for name in scopes or ()]
    told: dict[str, object] = {"id": "t1", "status": "active", "policies": [{"permission_groups": groups}]}
    nothing = {"success": False, "errors": [], "messages": [], "result": None}

    def step(connection: socket.socket, ended: threading.Event) -> bool:
        path = server.asked[-1].target
        if path.endswith("/user/tokens/verify") or (scopes is not None and path.endswith("/user/tokens/t1")):
            return answer({"success": True, "errors": [], "result": told})(connection, ended)
        return answer(nothing, 403 if "/tokens/" in path else 404)(connection, ended)

    return step


def raw_answer(data: bytes, *, stay: bool = False) -> Step:
    """Send exactly these bytes, then close unless `stay`."""

    def step(connection: socket.socket, _ended: threading.Event) -> bool:
        connection.sendall(data)
        return stay

    return step


def hang() -> Step:
    """Say nothing until the test ends."""

    def step(_connection: socket.socket, ended: threading.Event) -> bool:
        ended.wait(30)
        return False

    return step


def drip(data: bytes, every_s: float = 0.05) -> Step:
    """Send one byte at a time, for ever from the start again, until the client goes away."""

    def step(connection: socket.socket, ended: threading.Event) -> bool:
        for byte in data:
            if ended.wait(every_s):
                break
            connection.sendall(bytes([byte]))
        while not ended.wait(every_s):
            connection.sendall(b" ")
        return False

    return step


def reset() -> Step:
    """Reset the connection without an answer."""

    def step(connection: socket.socket, _ended: threading.Event) -> bool:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    return step


@functools.cache
def _take_port() -> socket.socket:
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    return taken


def refused_url() -> str:
    """Return the URL of a port on which nobody listens: this process has it, so that no other one can."""
    return f"http://127.0.0.1:{_take_port().getsockname()[1]}"


@contextlib.contextmanager
def scripted_server() -> Iterator[ScriptedServer]:
    """Serve on a loopback port until the block ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = ScriptedServer(f"http://127.0.0.1:{listener.getsockname()[1]}")
    ended = threading.Event()
    workers: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            if ended.is_set():
                connection.close()
                return
            server.connections += 1
            worker = threading.Thread(target=_serve, args=(server, connection, ended), daemon=True)
            workers.append(worker)
            worker.start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield server
    finally:
        ended.set()
        with contextlib.suppress(OSError):
            socket.create_connection(listener.getsockname()[:2], 1).close()
        acceptor.join(PATIENCE_S)
        listener.close()
        for worker in workers:
            worker.join(PATIENCE_S)


def _serve(server: ScriptedServer, connection: socket.socket, ended: threading.Event) -> None:
    with connection, contextlib.suppress(OSError, ValueError):
        connection.settimeout(0.02)  # how soon it notices that the test ended
        buffer = bytearray()
        stays = True
        while stays and (asked := _read(connection, buffer, ended)) is not None:
            server.asked.append(asked)
            stays = server.next_step()(connection, ended)
    server.closed += 1


def _read(connection: socket.socket, buffer: bytearray, ended: threading.Event) -> Asked | None:
    while b"\r\n\r\n" not in buffer:
        if not _more(connection, buffer, ended):
            return None
    head, _, rest = bytes(buffer).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0"))
    buffer[:] = rest
    while len(buffer) < length:
        if not _more(connection, buffer, ended):
            return None
    body = bytes(buffer[:length])
    del buffer[:length]
    return Asked(method, target, headers, body)


def _more(connection: socket.socket, buffer: bytearray, ended: threading.Event) -> bool:
    while not ended.is_set():
        try:
            data = connection.recv(65536)
        except TimeoutError:
            continue
        buffer += data
        return bool(data)
    return False
