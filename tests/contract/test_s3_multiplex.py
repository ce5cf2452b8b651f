"""Many S3 calls by one thread: what goes wrong with one of them, and what the others do meanwhile."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import TYPE_CHECKING

import pytest

from backout.errors import BackoutError, ProviderRejected, ProviderUnavailable
from backout.providers.clock import SystemClock
from backout.providers.objects.gate import Gate
from backout.providers.retry import CallFailed, Retry
from backout.providers.s3 import exchanges
from backout.providers.s3.client import S3Client
from backout.providers.s3.sigv4 import S3Credentials
from backout.providers.s3.transport import S3Settings

from receivers import certificate
from scripted_server import ScriptedServer, answer, hang, raw_answer, refused_url, scripted_server

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from backout.providers.s3.exchanges import Exchange

    from scripted_server import Step

COPIED = b"<CopyObjectResult><ETag>&quot;abc&quot;</ETag></CopyObjectResult>"
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
LATE = b"<Error><Code>InternalError</Code><Message>Please try again.</Message></Error>"
RETRY = Retry(attempts=3, first_wait_s=0.01)


@dataclass
class Lab:
    """A server that says what a test tells it, and a client."""

    server: ScriptedServer
    client: S3Client
    gate: Gate
    heard: list[CallFailed] = field(default_factory=list)

    def run(self, number: int) -> list[str]:
        return self.client.multiplex(self.gate).run(copy(f"k{place}") for place in range(number))


def make_client(
    endpoint: str,
    timeout_s: float = 10.0,
    hear: Callable[[CallFailed], None] = lambda _failed: None,
    retry: Retry = RETRY,
) -> S3Client:
    credentials = S3Credentials("AKID", "secret")
    return S3Client(S3Settings(endpoint, credentials, timeout_s=timeout_s, retry=retry, hear=hear), SystemClock())


def copy(key: str) -> Generator[Exchange, None, str]:
    """Copy and say which key, and the etag."""
    return key + (yield from exchanges.copy(("b", key, "v1"), "b", key)).etag


class Quiet(BaseHTTPRequestHandler):
    """Answers in two pieces, and writes no log."""

    protocol_version = "HTTP/1.1"

    def say(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:7])
        self.wfile.flush()
        self.wfile.write(body[7:])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of http.server
        return


@contextmanager
def serve(handler: type[BaseHTTPRequestHandler]) -> Iterator[ThreadingHTTPServer]:
    """Serve on loopback until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)


def locate(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


@pytest.fixture
def lab() -> Iterator[Lab]:
    heard: list[CallFailed] = []
    with scripted_server() as server, make_client(server.url, hear=heard.append) as client:
        yield Lab(server, client, Gate(first=1, most=1), heard)


def test_each_work_has_its_own_answers_in_the_works_order() -> None:
    with scripted_server() as server, make_client(server.url) as client:
        server.will(answer(COPIED))
        told: list[int] = []
        works = [copy(f"k{place}") for place in range(100)]
        made = client.multiplex(Gate(first=8, most=8)).run(works, told.append)
    assert made == [f"k{place}abc" for place in range(100)]
    assert told == list(range(1, 101))
    assert len({one.target for one in server.asked}) == len(server.asked) == 100
    assert server.connections == 8


def test_connections_stay_for_what_is_asked_next(lab: Lab) -> None:
    lab.server.will(answer(COPIED))
    assert lab.run(3) + lab.run(2) == ["k0abc", "k1abc", "k2abc", "k0abc", "k1abc"]
    assert lab.client.copy(("b", "k", None), "b", "k").etag == "abc"
    assert lab.server.connections == 1


def test_a_call_that_is_refused_for_now_is_tried_again_behind_others() -> None:
    """A 503, and an error behind a 200: the pace hears of both, and each attempt is signed anew."""
    asked: list[tuple[str, str]] = []

    class Handler(Quiet):
        def do_PUT(self) -> None:
            key = self.path[-2:]
            is_first = key not in dict(asked)
            asked.append((key, self.headers["Authorization"]))
            if is_first and key == "k0":
                self.say(503, SLOW_DOWN, Retry_After="1")
            else:
                self.say(200, LATE if is_first and key == "k1" else COPIED)

    heard: list[CallFailed] = []
    with serve(Handler) as server, make_client(locate(server), hear=heard.append) as client:
        made = client.multiplex(Gate(first=2, most=2)).run(copy(f"k{place}") for place in range(4))
    assert made == ["k0abc", "k1abc", "k2abc", "k3abc"]
    assert len(heard) == 2
    assert asked[-1][0] == "k0", "it waited for as long as the store asked for"
    assert len({signature for key, signature in asked if key == "k0"}) == 2


@pytest.mark.long
def test_a_burst_of_refusals_is_waited_for_and_waiting_for_a_turn_is_no_attempt() -> None:
    """Each of forty copies is refused twice; to make them all takes longer than one of them may."""
    asked: Counter[str] = Counter()
    unfinished: set[str] = set()
    most = [0]

    class Handler(Quiet):
        def do_PUT(self) -> None:
            asked[self.path] += 1
            unfinished.add(self.path)
            most[0] = max(most[0], len(unfinished))
            time.sleep(0.1)
            if asked[self.path] <= 2:
                self.say(503, SLOW_DOWN)
            else:
                unfinished.remove(self.path)
                self.say(200, COPIED)

    gate = Gate(first=20)
    retry = Retry(attempts=10, total_s=3.0)
    with serve(Handler) as server, make_client(locate(server), retry=retry, hear=gate.hear) as client:
        made = client.multiplex(gate).run(copy(f"k{place}") for place in range(40))
    assert made == [f"k{place}abc" for place in range(40)]
    assert set(asked.values()) == {3}
    assert most[0] <= 20, "what is to be asked again goes ahead of what was not asked yet"


def test_an_error_that_a_work_catches_is_its_own(lab: Lab) -> None:
    def look(key: str) -> Generator[Exchange, None, str]:
        try:
            return (yield from exchanges.head("b", key)).etag
        except ProviderRejected as refused:
            return f"{refused.status} {(yield from exchanges.copy(('b', key, None), 'b', key)).etag}"

    lab.server.will(raw_answer(b"HTTP/1.1 404 X\r\nContent-Length: 99\r\n\r\n", stay=True), answer(COPIED))
    assert lab.client.multiplex(lab.gate).run([look("k")]) == ["404 abc"]
    assert lab.server.connections == 1, "the answer of a HEAD has no body"


def test_after_an_error_nothing_more_is_begun(lab: Lab) -> None:
    lab.server.will(answer(COPIED), answer(b"", 403), answer(COPIED))
    with pytest.raises(BackoutError, match="S3 answered 403"):
        lab.run(10)
    assert len(lab.server.asked) == 2


def test_after_an_error_a_connection_that_was_being_made_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is slow to accept the others: each would make another change, which the run does not know of."""
    context, trusted = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    number, is_over, asked = count(), threading.Event(), list[str]()

    class Handler(Quiet):
        def setup(self) -> None:
            if next(number):
                is_over.wait(60)
            self.request = context.wrap_socket(self.request, server_side=True)
            super().setup()

        def finish(self) -> None:
            super().finish()
            self.request.close()

        def do_PUT(self) -> None:
            asked.append(self.path)
            self.say(403, b"")

    def note(key: str) -> Generator[Exchange, None, None]:
        try:
            yield from copy(key)
        finally:
            is_over.set()

    with (
        serve(Handler) as server,
        make_client(f"https://localhost:{server.server_port}", 60.0) as client,
        pytest.raises(BackoutError, match="403"),
    ):
        client.multiplex(Gate(first=8)).run([note(f"k{place}") for place in range(20)])
    assert len(asked) == 1


def test_what_is_on_its_way_is_awaited_when_another_one_fails() -> None:
    """Else nobody would know which of the changes are done."""
    entered, refused = threading.Barrier(2, timeout=60), threading.Event()

    class Handler(Quiet):
        def do_PUT(self) -> None:
            entered.wait()
            if self.path.endswith("k0"):
                self.say(403, b"")
                refused.set()
            else:
                refused.wait(60)
                time.sleep(0.2)
                self.say(200, COPIED)

    ended: list[str] = []

    def note(key: str) -> Generator[Exchange, None, None]:
        ended.append((yield from copy(key)))

    with (
        serve(Handler) as server,
        make_client(locate(server)) as client,
        pytest.raises(BackoutError, match="403"),
    ):
        client.multiplex(Gate(first=2)).run(note(f"k{place}") for place in range(5))
    assert ended == ["k1abc"]


def test_a_connection_that_the_server_closed_meanwhile_is_no_failure(lab: Lab) -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(COPIED), COPIED)
    lab.server.will(raw_answer(whole), raw_answer(whole), answer(COPIED))
    assert lab.run(4) == ["k0abc", "k1abc", "k2abc", "k3abc"]
    assert lab.heard == []


def test_a_connection_that_was_closed_is_no_failure_once() -> None:
    """A store that drops a call each time would else be asked over each connection that there is, without a wait."""
    entered, dropped = threading.Barrier(3, timeout=60), []

    class Handler(Quiet):
        def do_PUT(self) -> None:
            if self.path.endswith("bad"):
                dropped.append(self.path)
                self.close_connection = True
            else:
                entered.wait()
                self.say(200, COPIED)

    with serve(Handler) as server, make_client(locate(server), retry=Retry(attempts=1)) as client:
        client.multiplex(Gate(first=3)).run(copy(f"k{place}") for place in range(3))
        with pytest.raises(ProviderUnavailable):
            client.multiplex(Gate()).run([copy("bad")])
    assert len(dropped) == 2


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + COPIED,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n<Copy",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n<html>log</html>\n",
    ],
)
def test_half_an_answer_is_tried_again(lab: Lab, said: bytes) -> None:
    lab.server.will(raw_answer(said), answer(COPIED))
    assert lab.run(1) == ["k0abc"]
    assert len(lab.heard) == 1


def test_an_answer_may_come_in_pieces_and_end_with_the_connection(lab: Lab) -> None:
    lab.server.will(raw_answer(b"HTTP/1.1 200 OK\r\n\r\n" + COPIED), answer(COPIED))
    assert lab.run(2) == ["k0abc", "k1abc"]
    assert (lab.heard, lab.server.connections) == ([], 2)


def test_silence_has_an_end() -> None:
    with scripted_server() as server, make_client(server.url, 0.2, retry=Retry(attempts=1)) as client:
        server.will(hang())
        with pytest.raises(ProviderUnavailable, match="no whole answer came in time"):
            client.multiplex(Gate()).run([copy("k")])
    assert len(server.asked) == 1


def test_a_store_that_works_long_and_sends_a_byte_now_and_then_is_awaited() -> None:
    """As S3 does it with a copy: white space before the answer keeps the connection."""

    class Handler(Quiet):
        def do_PUT(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(7 + len(COPIED)))
            self.end_headers()
            for _ in range(7):
                time.sleep(0.5)
                self.wfile.write(b" ")
            self.wfile.write(COPIED)

    with serve(Handler) as server, make_client(locate(server), 2.0, retry=Retry(attempts=1)) as client:
        assert client.multiplex(Gate()).run([copy("k")]) == ["kabc"]


def test_nobody_there_is_said() -> None:
    with make_client(refused_url()) as client, pytest.raises(ProviderUnavailable, match="S3 did not answer"):
        client.multiplex(Gate()).run([copy("k")])


def test_under_tls_it_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a request that is longer than what a connection takes at once, and an answer in pieces."""

    class Handler(Quiet):
        def do_PUT(self) -> None:
            time.sleep(0.05)
            self.say(200, COPIED)

    context, trusted = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with serve(Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        with make_client(f"https://localhost:{server.server_port}") as client:
            works = [copy(f"{'k' * 30_000}{place}") for place in range(40)]
            made = client.multiplex(Gate(first=4, most=8)).run(works)
    assert made == [f"{'k' * 30_000}{place}abc" for place in range(40)]


@pytest.mark.parametrize(
    ("said", "wanted"),
    [pytest.param(answer(COPIED), 5, id="the next work"), pytest.param(answer(SLOW_DOWN, 503), 2, id="tried again")],
)
def test_where_no_more_calls_may_be_made_none_is_sent(lab: Lab, said: Step, wanted: int) -> None:
    lab.server.will(said)
    left = [wanted]

    def check() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise BackoutError("it is another's by now")

    lab.gate.check = check
    with pytest.raises(BackoutError, match="another's by now"):
        lab.run(40)
    assert len(lab.server.asked) == wanted
