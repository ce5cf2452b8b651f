"""An application that says our secrets in its health answers: no door out of the program passes them on."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from spelled import shown_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backout.ports import Deployments

    from drillbook import Drillbook, Trial

HEADER = "hdr-Canary_9*f3/x+Q7==k2_w8"
WIDTHS = (60, 80, 120)
ITS_OWN = "pool exhausted by tenant 7"
"""What the application says of itself, and nobody outside has to read."""


@dataclass
class Sick:
    """What the application answers: well to whoever asks for one version by name, else as `down` says."""

    url: str
    down: Callable[[], bool]
    services: dict[str, object] = field(default_factory=dict)


@contextlib.contextmanager
def sick_application() -> Iterator[Sick]:
    """Serve a health endpoint on loopback until the block ends."""
    app = Sick("", lambda: False)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = (self.headers.get("Cloudflare-Workers-Version-Overrides") or "").partition("=")[2].strip('"')
            down = not asked and app.down()
            ok = {"database": {"status": "ok"}, "storage": {"status": "ok"}}
            said = {"status": "down", "services": app.services} if down else {"status": "ok", "services": ok}
            body = json.dumps({**said, **({"version": asked} if asked else {})}).encode()
            self.send_response(503 if down else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its own word
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        app.url = f"http://127.0.0.1:{server.server_port}/health"
        try:
            yield app
        finally:
            server.shutdown()
            thread.join()


def babble(token: str, password: str) -> dict[str, object]:
    """Return services that say secrets in every spelling, and at the places where a text is cut."""
    small = quote(HEADER, safe="").replace("%2B", "%2b").replace("%2F", "%2f")
    return {
        "database": {"status": "down", "message": f"{ITS_OWN}: no login with {token}, PGPASSWORD={password}"},
        "storage": {"status": "down", "message": f"GET /?key={small} and {HEADER} {'x' * 120} {token}"},
        "email": {"status": "down", "message": "Basic " + base64.b64encode(f"ab:{token}".encode()).decode()},
        f"by {token[:40]}": {"status": "down", "message": token.replace("_", "\\_")},
        "cut": {"status": "down", "message": "y" * 185 + token},
    }


@dataclass
class Told:
    """A trial with the sick application, and all that the program printed, by command and width."""

    trial: Trial
    deployments: Deployments
    secrets: dict[str, str]
    printed: dict[str, str] = field(default_factory=dict)

    def run(self, *args: str, width: int = 80) -> int:
        """Run the program in a terminal of that width."""
        ended = self.trial.run(*args, variables={"COLUMNS": str(width), "HEALTH_CANARY": HEADER})
        self.printed[f"{' '.join(args)} ({width})"] = ended.out + ended.err
        return ended.code

    def kept(self) -> Iterator[tuple[str, str]]:
        """Yield (where, text) of all that was printed, written into files, or said to the provider."""
        yield from self.printed.items()
        for path in self.trial.folder.rglob("*"):
            if path.is_file() and path.name != "backout.toml":
                yield path.name, path.read_bytes().decode("latin-1")
        for deployment in self.deployments.history():
            yield "message of a deployment", deployment.message

    def traces(self) -> list[str]:
        """Return where so much of a secret stands that somebody could read on."""
        return [
            f"{name} in {where}: {run!r}"
            for where, text in self.kept()
            for name, secret in self.secrets.items()
            for spelling in (secret, secret.replace("_", "\\_"), quote(secret, safe=""), _core(secret))
            if (run := shown_of(spelling, text, least=9))
        ]


def _core(secret: str) -> str:
    """Return the base64 of a value behind three other bytes, without what the neighbours share."""
    return base64.b64encode(f"ab:{secret}".encode()).decode()[4:-4]


@pytest.fixture
def told(drillbook: Drillbook) -> Iterator[Told]:
    """Return a trial whose application is sick, and babbles, as long as the bad version is live."""
    trial = drillbook.trial()
    trial.make_live(drillbook.good)
    deployments = trial.tools().deployments
    stage = drillbook.stage.directory
    token = (stage / "twin" / "api-token").read_text().strip()
    password = (stage / "database-url").read_text().strip().partition("@")[0].rpartition(":")[2]
    with sick_application() as app:
        app.services = babble(token, password)
        app.down = lambda: deployments.history()[0].main == drillbook.bad
        health = f'health = {{ url = "{app.url}", headers_env = {{ "X-Canary" = "HEALTH_CANARY" }} }}'
        trial.replace((r"health = \{[^}]*\}", health))
        yield Told(trial, deployments, {"token": token, "password": password, "header": HEADER})


@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
def test_what_the_application_says_leaves_by_no_door(told: Told, drillbook: Drillbook) -> None:
    """Guard rolls back, reports, tells the pipeline: no run of nine characters of a secret is anywhere.

    The message of a deployment is read by everybody who may look at the account: it has nothing of what was said.
    """
    told.deployments.activate(drillbook.bad, message="pushed")
    for width in WIDTHS:
        told.run("status", width=width)
    page, outputs = (str(told.trial.folder / name) for name in ("page.md", "outputs"))
    assert told.run("guard", "--early", "--json", "--summary", page, "--outputs", outputs) == 1, told.printed
    assert told.deployments.history()[0].main == drillbook.good
    told.run("runs", "list", "--json")
    newest = json.loads(told.printed["runs list --json (80)"])["runs"][0]["run_id"]
    for command in (("runs", "show", newest), ("runs", "show", newest, "--json"), ("guard", "report")):
        told.run(*command, width=60)
    told.run("deployments", "list", width=60)
    for command in (("timeline",), ("timeline", "--json"), ("timeline", "--at", "1m")):
        told.run(*command, width=60)
    assert not [each.message for each in told.deployments.history() if ITS_OWN in each.message]
    assert ITS_OWN in " ".join(told.printed["status (120)"].split())
    assert told.traces() == []
