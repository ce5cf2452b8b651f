"""A proxy before an S3 store that refuses some of the calls: too busy now and then, or without a permission."""

from __future__ import annotations

import http.client
import sys
import threading
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Refusal = Callable[[str, str], tuple[int, str] | None]
    """(method, path) -> the status and the word of a refusal, None where the call goes through."""

_HOP = frozenset({"connection", "transfer-encoding", "keep-alive"})


@contextmanager
def open_proxy(endpoint: str, refuse: Refusal) -> Iterator[str]:
    """Run the proxy for a while and yield its own endpoint; signatures hold, since the Host header is passed on."""
    target = urlsplit(endpoint).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            refused = refuse(self.command, self.path)
            if refused is not None:
                status, word = refused
                text = f"<Error><Code>{word}</Code><Message>as the test has it</Message></Error>".encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(text)
                return
            with closing(http.client.HTTPConnection(target, timeout=60)) as connection:
                connection.request(self.command, self.path, body, dict(self.headers.items()))
                found = connection.getresponse()
                data = found.read()
            self.send_response(found.status)
            for name, value in found.getheaders():
                if name.lower() not in _HOP | {"content-length", "date", "server"}:
                    self.send_header(name, value)
            length = found.getheader("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer  # noqa: N815 - the names of http.server

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of http.server
            return

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exception(), ConnectionError):
                super().handle_error(request, client_address)  # else the client was killed

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
