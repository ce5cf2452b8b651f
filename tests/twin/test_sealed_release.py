"""A release of a trial has no network: it reaches the parts that are named, and is reached; nothing else of either."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from backout.providers.child import find_free_ports, is_running
from backout.providers.child_environment import make_bare_environment
from backout.twin.hosts.sealed import find_obstacle, make_sealed_command

from polling import PATIENCE_S, until
from scripted_server import answer, scripted_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APPLICATION = """import http.server, json, os, urllib.request
def ask(host, port):
    try:
        return urllib.request.urlopen(f"http://{host}:{port}/", timeout=5).read().decode()
    except OSError as error:
        return f"error: {error}"
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked = {name: ask("127.0.0.1", int(os.environ[name])) for name in ("PART", "OTHER")}
        asked |= {"outside": ask("192.0.2.1", 80), "name": ask("example.com", 80), "pid": os.getpid()}
        body = json.dumps(asked).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""

if obstacle := find_obstacle():
    pytest.skip(f"no network can be denied here: {obstacle}", allow_module_level=True)


@contextlib.contextmanager
def sealed(part: int, other: int) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run the application without a network; return the process that leads to it, and its port."""
    (port,) = find_free_ports(1)
    given = {"PORT": str(port), "PART": str(part), "OTHER": str(other)}
    words = (sys.executable, "-c", APPLICATION)
    with subprocess.Popen(make_sealed_command((part,), words), env=make_bare_environment(given)) as process:
        try:
            until(lambda: reached(port), PATIENCE_S, "it answers")
            yield process, port
        finally:
            process.kill()


def ask(port: int) -> dict[str, Any]:
    """Return what the application says that it reached."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE_S) as found:
        said: dict[str, Any] = json.loads(found.read())
    return said


def reached(port: int) -> bool:
    with contextlib.suppress(OSError):
        return bool(ask(port))
    return False


def test_it_reaches_what_is_named_and_nothing_else() -> None:
    """Neither another port of this host, nor an address, nor a name; and it ends when it is told to."""
    with scripted_server() as part, scripted_server() as other:
        for server in (part, other):
            server.will(answer(b"well"))
        ports = [int(server.url.rpartition(":")[2]) for server in (part, other)]
        with sealed(*ports) as (process, port):
            said = ask(port)
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_S)
        assert said["PART"] == "well"
        assert all(said[name].startswith("error: ") for name in ("OTHER", "outside", "name")), said
        assert not other.asked
        assert not is_running(said["pid"])


def test_it_ends_with_what_leads_to_it() -> None:
    """Also after kill -9, which nobody can hand on."""
    with scripted_server() as part:
        part.will(answer(b"well"))
        number = int(part.url.rpartition(":")[2])
        with sealed(number, number) as (process, port):
            pid = int(ask(port)["pid"])
            process.kill()
            until(lambda: not is_running(pid), PATIENCE_S, "the application ends")


def test_where_it_cannot_be_done_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program that does it may be missing, or the kernel may say no to it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_obstacle() == "there is no program `unshare`"
    refusing = tmp_path / "unshare"
    refusing.write_text("#!/bin/sh\necho unshare failed: Operation not permitted >&2\nexit 1\n")
    refusing.chmod(0o755)
    assert find_obstacle() == "unshare failed: Operation not permitted"
    assert os.environ["PATH"] == str(tmp_path)
