"""A gate between the program and the twin's API: it passes calls on, or answers some of them itself, as a test says."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from values import replace

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_KEPT = ("content-type", "ratelimit", "ratelimit-policy")


@dataclass(frozen=True)
class Answer:
    """What the gate answers itself; with `after` the call reaches the API first, and only its answer is replaced.

    `held`: nothing is answered, and the connection stays open until the gate closes.
    """

    status: int = 503
    body: bytes = b'{"success": false, "errors": [{"code": 7, "message": "scripted"}], "result": null}'
    headers: tuple[tuple[str, str], ...] = ()
    after: bool = False
    cut: bool = False
    held: bool = False
    delay_s: float = 0.0


def said(status: int, code: int, message: str, **headers: str) -> Answer:
    """Return an answer in the API's own envelope."""
    body = {"success": False, "errors": [{"code": code, "message": message}], "result": None}
    return Answer(status, json.dumps(body).encode(), tuple((k.replace("_", "-"), v) for k, v in headers.items()))


@dataclass
class Gate:
    """The rules, and what passed: (method, path, status as the client saw it).

    `before` is called with (method, path) before anything else happens to a call; `alter` is given (method, path, the
    API's own body) and returns what the client gets instead; `change` likewise, with the call's body and the API's own
    answer. `date_shift_s`: how far the Date
    header is ahead of this machine's clock.
    """

    url: str
    target: str
    passed: list[tuple[str, str, int]] = field(default_factory=list)
    rules: list[tuple[Callable[[str, str, int], bool], deque[Answer]]] = field(default_factory=list)
    before: Callable[[str, str], None] = lambda _method, _path: None
    alter: Callable[[str, str, bytes], bytes] = lambda _method, _path, body: body
    change: Callable[[str, str, bytes, Answer], Answer] = lambda _method, _path, _asked, answer: answer
    date_shift_s: float = 0.0

    def when(self, method: str, part: str, *answers: Answer, after_posts: int = 0) -> None:
        """Answer the next calls of a method whose path holds `part` so, one answer each.

        `after_posts`: only once that many POSTs went through.
        """

        def fits(asked: str, path: str, posts: int) -> bool:
            return asked == method and part in path and posts >= after_posts

        self.rules.append((fits, deque(answers)))

    def posts(self) -> int:
        """Return how many POSTs reached the API."""
        return sum(1 for method, _, status in self.passed if method == "POST" and status < 400)

    def scripted(self, method: str, path: str) -> Answer | None:
        """Return the answer that a rule has for this call, or None."""
        for fits, answers in self.rules:
            if answers and fits(method, path, self.posts()):
                return answers.popleft()
        return None


@contextlib.contextmanager
def api_gate(api_base_url: str) -> Iterator[Gate]:
    """Stand before an API on loopback until the block ends."""
    parts = urlsplit(api_base_url)
    gate = Gate("", api_base_url)
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:  # type: ignore[override]
            """Say nothing."""

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string((time.time() if timestamp is None else timestamp) + gate.date_shift_s)

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            gate.before(self.command, self.path)
            scripted = gate.scripted(self.command, self.path)
            if scripted is None or scripted.after:
                answer = self._pass_on(body)
                answer = replace(answer, body=gate.alter(self.command, self.path, answer.body))
                answer = gate.change(self.command, self.path, body, answer)
            if scripted is not None:
                answer = scripted
                ended.wait(None if scripted.held else scripted.delay_s)
                if scripted.held:
                    self.close_connection = True
                    return
            gate.passed.append((self.command, self.path, answer.status))
            self.send_response(answer.status)
            for name, value in answer.headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body) + (100 if answer.cut else 0)))
            self.end_headers()
            self.wfile.write(answer.body)
            self.close_connection = self.close_connection or answer.cut

        def _pass_on(self, body: bytes) -> Answer:
            connection = http.client.HTTPConnection(parts.netloc, timeout=PATIENCE_S)
            try:
                headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "content-length")}
                connection.request(self.command, self.path, body or None, headers)
                response = connection.getresponse()
                kept = tuple((k, v) for k, v in response.getheaders() if k.lower() in _KEPT)
                return Answer(response.status, response.read(), kept)
            finally:
                connection.close()

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - the names of http.server

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    gate.url = f"http://127.0.0.1:{server.server_address[1]}{parts.path}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield gate
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE_S)
