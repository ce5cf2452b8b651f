"""A way to a server that can be cut as networks are: nothing is refused, nothing is answered, nothing arrives."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class CutProxy:
    """Forwards connections to a port of this machine, until it is cut."""

    target: int
    port: int = 0
    _is_cut: threading.Event = field(default_factory=threading.Event)
    _drops: threading.Event = field(default_factory=threading.Event)

    def cut(self) -> None:
        """Let what is sent from now on get nowhere; connections stay open, and new ones are accepted."""
        self._is_cut.set()

    def drop(self) -> None:
        """Close what is open, and every new connection at once."""
        self._drops.set()

    def heal(self) -> None:
        """Forward new connections again; what was open before stays lost."""
        self._is_cut.clear()
        self._drops.clear()

    def serve(self, client: socket.socket) -> None:
        """Forward one connection until it ends or is cut."""
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.target)) as server:
            ways = {client: server, server: client}
            with selectors.DefaultSelector() as ready:
                for side in ways:
                    ready.register(side, selectors.EVENT_READ)
                while not self._is_cut.is_set():
                    if self._drops.is_set():
                        return
                    for key, _ in ready.select(0.05):
                        assert isinstance(key.fileobj, socket.socket)
                        data = key.fileobj.recv(65536)
                        if not data:
                            return
                        if not self._is_cut.is_set():
                            ways[key.fileobj].sendall(data)
                client.settimeout(None)
                while client.recv(65536):  # held open, and silent
                    pass


@contextlib.contextmanager
def cut_proxy(target: int) -> Iterator[CutProxy]:
    """Run one in front of a port of this machine."""
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = CutProxy(target, listener.getsockname()[1])

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client = listener.accept()[0]
                threading.Thread(target=proxy.serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield proxy
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
