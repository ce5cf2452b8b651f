"""An environment on a host behind a real Caddy, driven by commands: pushes, watches, visitors."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from caddy_lab import caddy_host
from cli_shell import Answer, backout

from backout.config import Environment, load
from backout.model.release import ReleaseNote
from backout.model.secrets import SecretValues
from backout.wiring.toolbox import make_toolbox

from drillbook import ENV, PROGRAM
from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from caddy_lab import CaddyHost

    from backout.runbook.toolbox import Toolbox

APPLICATION: Final = """import http.server, itertools, json, os, pathlib
code, counted = pathlib.Path("code.txt").read_text(), itertools.count()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        release, health = "f" * 16 if "mistaken" in code else os.environ["RELEASE"], self.path == "/health"
        is_ill = "sick" in code if health else "bad" in code and next(counted) % 2
        status = (503 if health else 500) if is_ill else 200
        services = {"api": {"status": "healthy"}}
        body = json.dumps({"status": "healthy", "version": release, "services": services}).encode()
        head = f"HTTP/1.1 {status} -\\r\\nContent-Type: application/json\\r\\nX-Release: {release}\\r\\n"
        self.wfile.write(head.encode() + f"Content-Length: {len(body)}\\r\\n\\r\\n".encode() + body)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
"""It says which release it is unless the code is "mistaken"; its health is well unless it is "sick"; each second other
answer fails where it is "bad"."""
_CONFIG: Final = """[app]
name = "shop"
[environments.production]
protected = false
criteria = {{ watch = "{watch}", latency = {{ p99_at_most = 1000.0 }} }}
health = {{ url = "{url}/health" }}
traffic = {{ provider = "caddy" }}
{more}
[environments.production.platform]
provider = "caddy"
[environments.production.platform.caddy]
releases = "releases"
access_log = "access.log"
ports = [{first}, {last}]
run = "{python} -S -E server.py"
[environments.production.guard]
mode = "act"
"""


@dataclass
class CaddyShop:
    """The environment `production` of a folder.

    Attributes:
        apart: whether commands are run as programs of their own, as a person does.
    """

    host: CaddyHost
    apart: bool = False

    def run(self, *words: str, code: int | None = 0) -> Answer:
        """Run a command in this environment; it has to end with that code, None: with any."""
        words = (*words, "-e", "production", "--no-input")
        answer = run_program(self.host.folder, *words) if self.apart else backout(self.host.folder, *words)
        assert code in (None, answer.code), f"{words} ended with {answer.code}\n{answer.out}\n{answer.err}"
        return answer

    def tools(self) -> Toolbox:
        """Return the tools of the environment, in this process."""
        path = self.host.folder / "backout.toml"
        return make_toolbox(load(Environment({}), start=path.parent, path=path, environment="production"))

    def push_without_secrets(self, code: str) -> str:
        """Push a release with an empty environment, live as by somebody else's program; return its id."""
        with self.host.ledger.lock():
            made = self.host.releases.push(self.build(code), ReleaseNote(), SecretValues({}), time.time())
        self.tools().deployments.activate(made.id, message="pushed", force=True)
        return made.id

    def build(self, code: str) -> Path:
        """Build the application with this code, and return the folder that is pushed."""
        folder = self.host.folder / "build"
        folder.mkdir(exist_ok=True)
        (folder / "server.py").write_text(APPLICATION)
        (folder / "code.txt").write_text(code)
        return folder

    def push(self, code: str, *more: str, ends: int = 0) -> Answer:
        """Push a release with this code."""
        return self.run("release", "push", str(self.build(code)), "--json", *more, code=ends)

    def visited(self) -> contextlib.AbstractContextManager[list[tuple[int, str]]]:
        """Have visitors; yields what each got so far: the status, and the release."""
        return visits(self.host.url)


@contextlib.contextmanager
def visits(url: str) -> Iterator[list[tuple[int, str]]]:
    """Have visitors of an application; yields what each got so far: the status, and the release."""
    answers: list[tuple[int, str]] = []
    ended = threading.Event()

    def visit() -> None:
        while not ended.wait(0.02):
            try:
                with urllib.request.urlopen(f"{url}/page", timeout=60) as answer:
                    answers.append((answer.status, answer.headers["X-Release"]))
            except urllib.error.HTTPError as error:
                answers.append((error.code, error.headers["X-Release"]))

    visitors = [threading.Thread(target=visit) for _ in range(2)]
    for each in visitors:
        each.start()
    try:
        yield answers
    finally:
        ended.set()
        for each in visitors:
            each.join()


def run_program(folder: Path, *words: str) -> Answer:
    """Run the installed program in a folder to its end."""
    done = subprocess.run(
        [str(PROGRAM), *words], cwd=folder, env=ENV, capture_output=True, text=True, check=False, timeout=900
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def wait_for_visits(answers: list[tuple[int, str]], count: int) -> None:
    """Wait until there are so many answers."""
    until(lambda: len(answers) >= count, 60, f"{count} visits")


def get_last(answer: Answer) -> dict[str, object]:
    """Return the last line of a stream of JSON lines."""
    value = json.loads(answer.out.splitlines()[-1])
    assert isinstance(value, dict)
    return value


@contextlib.contextmanager
def caddy_home(folder: Path, more: str = "", *, watch: str = "3m", apart: bool = False) -> Iterator[CaddyShop]:
    """Run Caddy and an environment without any release.

    Args:
        more: further lines of the environment.
        watch: how long its watches last.
        apart: as of `CaddyShop`.
    """
    with caddy_host(folder) as host:
        first, last = host.ports
        where = {"url": host.url, "first": first, "last": last, "python": sys.executable}
        text = _CONFIG.format(**where, more=more, watch=watch)
        (folder / "backout.toml").write_text(text)
        try:
            yield CaddyShop(host, apart)
        finally:
            host.made[:] = host.releases.list()
