"""Websockets and long answers behind a real Caddy: a switch cuts none of them, and they count as what they are."""

from __future__ import annotations

import base64
import json
import os
import socket
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from caddy_lab import caddy_host

from backout.model.guard.signals import Counts, find_bucket
from backout.model.release import ReleaseNote
from backout.model.secrets import SecretValues
from backout.providers.caddy.access_log import FIELDS
from backout.providers.caddy.processes import OwnProcesses
from backout.providers.clock import SystemClock
from backout.providers.logs.growing import GrowingFile
from backout.providers.logs.traffic import Log, LogTraffic
from backout.runbook.probing.verify import drop_earlier

from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from caddy_lab import CaddyHost

_STREAMS = """import base64, hashlib, os, socketserver, time
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while line := self.rfile.readline().decode():
            heads = {}
            while (head := self.rfile.readline().decode().strip()):
                name, _, value = head.partition(":")
                heads[name.lower()] = value.strip()
            path = line.split()[1]
            if "sec-websocket-key" in heads:
                key = hashlib.sha1((heads["sec-websocket-key"] + GUID).encode()).digest()
                self.send("101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
                          "Sec-WebSocket-Accept: " + base64.b64encode(key).decode())
                return self.talk()
            time.sleep(5 if path == "/silent" else 0)
            pieces = 20 if path == "/long" else 1
            self.send("200 OK", f"Content-Length: {16 * pieces}")
            for _ in range(pieces):
                self.wfile.write(os.environ["RELEASE"].encode())
                time.sleep(0.1 if pieces > 1 else 0)
    def send(self, status, *heads):
        self.wfile.write(("\\r\\n".join([f"HTTP/1.1 {status}", *heads]) + "\\r\\n\\r\\n").encode())
    def talk(self):
        while (head := self.rfile.read(2)) and head[0] & 15 != 8:
            mask, text = self.rfile.read(4), self.rfile.read(head[1] & 127)
            said = bytes(each ^ mask[number % 4] for number, each in enumerate(text))
            answer = said + b" " + os.environ["RELEASE"].encode()
            self.wfile.write(bytes([0x81, len(answer)]) + answer)
class Server(socketserver.ThreadingTCPServer):
    daemon_threads = allow_reuse_address = True
Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
"""Answers with its release; /long over two seconds, /silent after five; a websocket echoes what it is sent, and it."""


class Websocket:
    """A connection of a visitor."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._socket = socket.create_connection((address.hostname or "", address.port or 0), 30)
        key = base64.b64encode(os.urandom(16)).decode()
        head = f"GET /talk HTTP/1.1\r\nHost: {address.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self._socket.sendall(f"{head}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
        self._file = self._socket.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        while self._file.readline().strip():
            pass

    def ask(self, text: str) -> str:
        """Send a text of less than 126 bytes, and return the answer."""
        mask = os.urandom(4)
        hidden = bytes(each ^ mask[number % 4] for number, each in enumerate(text.encode()))
        self._socket.sendall(bytes([0x81, 0x80 | len(hidden)]) + mask + hidden)
        head = self._file.read(2)
        return self._file.read(head[1]).decode()

    def close(self) -> None:
        """Say that it ends, and end it."""
        self._socket.sendall(bytes([0x88, 0x80, 0, 0, 0, 0]))
        self._file.close()
        self._socket.close()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaddyHost]:
    """Return a host whose applications have websockets and long answers."""
    with caddy_host(tmp_path_factory.mktemp("streams")) as made:
        made.processes = OwnProcesses(made.releases, f"{sys.executable} -S -E streams.py")
        yield made


def push(host: CaddyHost, folder: Path) -> str:
    """Push a release, and make it live."""
    (folder / "streams.py").write_text(_STREAMS)
    with host.ledger.lock():
        made = host.releases.push(folder, ReleaseNote(), SecretValues({}), SystemClock().now())
    host.made.append(made)
    deployments = host.deployments
    deployments.history()
    deployments.activate(made.id, message="live")
    return str(made.id)


def read_lines(host: CaddyHost) -> list[dict[str, Any]]:
    """Return the lines of the access log."""
    path = host.folder / "access.log"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_websocket_goes_on_over_a_switch_and_is_no_slow_answer(host: CaddyHost, tmp_path: Path) -> None:
    """It stays with the release that it began with; its line comes at its end, and counts as no request."""
    traffic = LogTraffic([Log(GrowingFile(host.folder / "access.log"), host.releases.name)], FIELDS)
    first = push(host, tmp_path)
    before = sum(row.requests for row in traffic.read(0, int(time.time()) + 10).counts)
    talk = Websocket(host.url)
    assert (talk.status, talk.ask("one")) == (101, f"one {first}")
    second = push(host, tmp_path)
    assert talk.ask("two") == f"two {first}"
    new = Websocket(host.url)
    assert new.ask("three") == f"three {second}"
    for each in (talk, new):
        each.close()
    with urllib.request.urlopen(f"{host.url}/plain", timeout=30) as answer:
        assert answer.read().decode() == second
    until(lambda: [line["status"] for line in read_lines(host)].count(101) >= 2, 20, "the lines of both")
    until(lambda: any(line["request"]["uri"] == "/plain" for line in read_lines(host)), 20, "that of the request")
    page = traffic.read(0, int(time.time()) + 10)
    assert not page.unreadable
    assert sum(row.requests for row in page.counts) - before == 1  # the websockets are no requests


def test_a_long_answer_that_began_before_the_switch_comes_whole(host: CaddyHost, tmp_path: Path) -> None:
    """From the release that it began with; the criteria do not take it for a request that still reaches that one."""
    first = push(host, tmp_path)
    address = urlsplit(host.url)
    with socket.create_connection((address.hostname or "", address.port or 0), 30) as visitor:
        visitor.sendall(f"GET /long HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n\r\n".encode())
        begun = visitor.recv(64)
        push(host, tmp_path)
        answer = begun + b"".join(iter(lambda: visitor.recv(65536), b""))
    assert answer.partition(b"\r\n\r\n")[2] == first.encode() * 20


def test_who_gives_up_a_request_that_hangs_is_counted_with_how_long_he_waited(host: CaddyHost, tmp_path: Path) -> None:
    """What is in flight has no line; whoever leaves has one, of the release that did not answer."""
    release = push(host, tmp_path)
    address = urlsplit(host.url)
    place = (address.hostname or "", address.port or 0)
    with socket.create_connection(place, 30) as visitor:
        visitor.sendall(f"GET /silent HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
        time.sleep(1.2)
        assert "/silent" not in [_get_path(line) for line in read_lines(host)]
    until(lambda: [_get_path(line) for line in read_lines(host)].count("/silent") == 1, 20, "its line")
    traffic = LogTraffic([Log(GrowingFile(host.folder / "access.log"), host.releases.name)], FIELDS)
    rows = [row for row in traffic.read(0, int(time.time()) + 10).counts if row.version == release]
    assert (sum(row.canceled for row in rows), sum(row.requests for row in rows)) == (1, 0)
    (waits,) = rows[0].left.values()
    assert find_bucket(1100.0) <= min(waits) <= find_bucket(3000.0)


def _get_path(line: dict[str, object]) -> object:
    request = line["request"]
    return request["uri"] if isinstance(request, dict) else None


def test_an_answer_that_began_before_the_switch_is_no_request_behind_it() -> None:
    """As its latency says for sure; one that may have begun behind it counts."""
    row = Counts("old", 110, requests=3, errors=0, latency={find_bucket(30_000.0): 1, find_bucket(50.0): 2})
    other = Counts("new", 110, requests=1, errors=0, latency={find_bucket(30_000.0): 1})
    assert [each.requests for each in drop_earlier([row, other], "old", 100.0)] == [2, 1]
    assert [each.requests for each in drop_earlier([row], "old", 60.0)] == [3]
    assert drop_earlier([row], None, 100.0) == [row]
