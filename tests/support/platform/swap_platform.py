"""A platform that compares before it changes anything, and records everything that it was asked for.

One request a connection, one line of JSON each way. A request may ask for time before and after the change: what is
under way when its sender is stopped, killed or cut off arrives all the same.
"""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from journal.team_history import Change

if TYPE_CHECKING:
    from collections.abc import Iterator

SILENT_S = 2.0
"""How long a caller waits for an answer."""


@dataclass
class SwapPlatform:
    """Registers of numbers by environment and name; each value of one is made by a run."""

    changes: list[Change] = field(default_factory=list)
    port: int = 0
    _makers: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def read_registers(self) -> dict[tuple[str, str], int]:
        """Return the value of each register that was ever changed."""
        with self._mutex:
            return {key: len(makers) for key, makers in self._makers.items()}

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Return the value of a register and who made the one that is asked about, after a change if one is wanted."""
        time.sleep(asked.get("before_s", 0.0))
        key = (asked["environment"], asked["register"])
        with self._mutex:
            makers = self._makers.setdefault(key, [])
            accepted = False
            if asked["what"] == "swap":
                accepted = len(makers) == asked["expected"]
                said = {name: asked[name] for name in ("expected", "wanted", "run", "worker", "fence")}
                self.changes.append(Change(*key, **said, accepted=accepted))
                if accepted:
                    makers.append(asked["run"])
            wanted = asked.get("wanted", 0)
            maker = makers[wanted - 1] if 0 < wanted <= len(makers) else ""
            told = {"value": len(makers), "maker": maker, "accepted": accepted}
        time.sleep(asked.get("after_s", 0.0))
        return told


def ask_platform(port: int, **asked: Any) -> dict[str, Any]:
    """Ask the platform. Raises OSError when there is no answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=SILENT_S) as connection:
        connection.sendall(json.dumps(asked).encode() + b"\n")
        with connection.makefile("rb") as answers:
            line = answers.readline()
    if not line.endswith(b"\n"):
        raise ConnectionError("the platform did not answer")
    told: dict[str, Any] = json.loads(line)
    return told


@contextlib.contextmanager
def swap_platform() -> Iterator[SwapPlatform]:
    """Run one."""
    platform = SwapPlatform()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            line = self.rfile.readline()
            if line.endswith(b"\n"):
                answer = platform.answer(json.loads(line))
                with contextlib.suppress(OSError):
                    self.wfile.write(json.dumps(answer).encode() + b"\n")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *_: object) -> None:
            """Say nothing of callers that were killed."""

    with Server(("127.0.0.1", 0), Handler) as server:
        platform.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield platform
        finally:
            server.shutdown()
