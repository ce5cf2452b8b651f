"""A real `backout serve` on a free port of loopback, with a journal that tells of a night, and a client for it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from journal import toy

from backout.config import Environment, load
from backout.errors import BackoutError, DecisionNeeded
from backout.model.action_request import Act, Requester
from backout.model.incident import record
from backout.model.login import Permission
from backout.model.plan import Plan, PlanKind, Step
from backout.model.steps.rollback import ActivateStep
from backout.providers.child import tie_to_parent
from backout.providers.clock import SystemClock
from backout.runbook.incident.case import add_remark, open_incident
from backout.runbook.serve.action_requests import make_request
from backout.runbook.serve.overviews import save_status
from backout.wiring.serve import Site

from polling import PATIENCE_S
from streamed import await_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from backout.journal.stored import StoredJournal
    from backout.model.plan import Json
    from backout.ports import AnyAction, StepContext
    from backout.runbook.serve.logins import Logins

STAGING, PRODUCTION = "staging", "production"
SETTINGS: Final = """
[app]
name = "shop"
[journal]
{journal}
[environments.staging]
protected = false
platform = {{ provider = "cloudflare", script = "shop-staging" }}
[environments.production]
protected = true
platform = {{ provider = "cloudflare", script = "shop" }}
approvals = {{ required_for = ["rollback"], expires = "1h" }}
"""
JOURNAL_URL: Final = "BACKOUT_TEST_JOURNAL"
"""The variable that names a journal on a server."""


SERVE: Final = (sys.executable, "-m", "backout", "serve", "--listen", "127.0.0.1:0", "--json")


@dataclass
class Answer:
    """What the server answered; `headers` in lower case, the last of each name."""

    status: int
    headers: dict[str, str]
    body: bytes
    cookies: list[str]

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Night:
    """What the journal tells: ids of runs, incidents and requests, by environment."""

    runs: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    incidents: dict[str, str] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)


@dataclass
class Lab:
    """A folder with a configuration and its journal, and the server on it.

    Args:
        variables: of the server, beside what every program needs.
    """

    folder: Path
    variables: dict[str, str]
    site: Site
    night: Night = field(default_factory=Night)
    url: str = ""
    login_url: str = ""
    process: subprocess.Popen[str] | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def journal(self) -> StoredJournal:
        return self.site.journal

    @property
    def logins(self) -> Logins:
        return self.site.logins

    @property
    def port(self) -> int:
        found = urlsplit(self.url).port
        assert found is not None
        return found

    @property
    def said(self) -> str:
        """What the server has written on stderr."""
        return (self.folder / "serve.log").read_text()

    def tell(
        self,
        environment: str,
        *,
        title: str = "checkout fails",
        note: str = "we look",
        why: str = "",
        version: str = "v-0",
    ) -> None:
        """Write a night into the journal of an environment: a run, an incident with a note, a request, a status."""
        run = self.journal.submit(make_plan(environment, version, why), actor="toy", reason=why or "it was bad")
        self.journal.drive(run, make_actions(self.folder), actor="toy")
        records = self.site.open_records(environment, "bob@host")
        self.night.runs[environment] = run
        found = self.journal.find(run)
        assert found is not None
        self.night.hashes[environment] = found.plan.hash
        self.night.incidents[environment] = open_incident(records, title, None)
        (incident,) = (each for each in records.list_records() if each.id == self.night.incidents[environment])
        add_remark(records, incident, record.NOTED, note)
        made = make_request(
            self.journal, environment, Act.PLAN, key="toy", by=Requester("bob"), why=why, actor="bob (by the lab)"
        )
        self.night.requests[environment] = made.id
        status = {"live_version": version, "troubles": [title]}
        save_status(self.journal, environment, status, time.time())

    def start_run(self, environment: str, plan: Plan | None = None) -> str:
        """Submit a rollback, and drive it where nobody has to approve it before; return its id."""
        journal = self.site.open_journal(environment)
        run = journal.submit(plan or make_plan(environment), actor="toy", reason="it was bad")
        with contextlib.suppress(DecisionNeeded):
            journal.drive(run, make_actions(self.folder), actor="toy")
        return run

    def end_run(self, run: str) -> None:
        """Give up a run that is not over."""
        found = self.journal.find(run)
        if found is not None and not found.state.is_over:
            self.journal.ask(run, "abort", actor="toy", reason="the test is over")

    def issue(self, role: Permission, *environments: str, name: str = "", lasts_s: float = 3600.0) -> str:
        """Return a token."""
        return self.logins.issue(name or f"a {role}", role, environments, lasts_s)[0]

    def serve(self, *words: str, variables: Mapping[str, str] | None = None) -> None:
        """Start the server, and wait until it listens."""
        with (self.folder / "serve.log").open("a") as log:
            self.process = subprocess.Popen(
                tie_to_parent((*SERVE, *words), signal.SIGKILL),
                cwd=self.folder, env={**_keep_few(), **self.variables, **(variables or {})},
                stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        try:
            told = json.loads(await_line(self.process, '"login_url"'))
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.said}") from None
        self.url, self.login_url = told["url"], told["login_url"]

    def stop(self) -> int:
        """End the server by SIGTERM; return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return code

    def ask(
        self,
        method: str,
        path: str,
        *,
        token: str = "",
        body: object = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request by HTTP, and return the answer; no redirect is followed.

        Args:
            body: JSON; bytes are sent as they are, chunked where they come from an iterator.
        """  # fmt: skip
        sent = {"Host": f"127.0.0.1:{self.port}"}
        data: Any = body
        if token:
            sent["Authorization"] = f"Bearer {token}"
        if form is not None:
            data = _encode(form)
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        elif isinstance(body, dict | list):
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, data, {**sent, **(headers or {})})
            return read_answer(connection)
        finally:
            connection.close()

    @contextlib.contextmanager
    def listen(self, path: str, *, token: str, headers: Mapping[str, str] | None = None) -> Iterator[Listener]:
        """Follow a stream."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            sent = {"Authorization": f"Bearer {token}", **(headers or {})}
            connection.request("GET", path, headers=sent)
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            yield Listener(answer)
        finally:
            connection.close()


@dataclass
class Listener:
    """An event stream that is read."""

    answer: http.client.HTTPResponse

    def read(self) -> dict[str, str] | None:
        """Return the fields of the next message, `data` joined by line ends; None: the stream has ended."""
        fields: dict[str, str] = {}
        while True:
            raw = self.answer.readline()
            if not raw:
                return None
            line = raw.decode().rstrip("\n")
            if line:
                name, _, value = line.partition(":")
                value = value.removeprefix(" ")
                fields[name] = f"{fields[name]}\n{value}" if name in fields else value
            elif "data" in fields:
                return fields
            else:
                fields = {}  # a comment, or how soon to come back


class Switch(toy.Probed):
    """Makes a version live, and answers as the platform does."""

    def do(self, args: dict[str, Json], context: StepContext) -> Json:
        super().do(args, context)
        return {"deployment": "d-1", "version": args["version"], "at": time.time()}


def make_actions(folder: Path) -> dict[str, AnyAction]:
    """Return what the plans here are driven with."""
    switch = Switch(toy.World(folder))
    return {"activate": switch, "look": toy.Look(), "db_rescue": switch}


def make_plan(environment: str, version: str = "v-0", why: str = "") -> Plan:
    """Return the plan of a rollback that makes a version live, and looks at it."""
    steps = (
        Step.of(
            f"Make {version} live",
            ActivateStep(version=version, leaving="v-1", expected="d-0", message=why),
            f"wrangler versions deploy {version}",
        ),
        Step("look", f"Look at {version}"),
    )
    notes, left = (f"nearer: {version} {why}",), (f"not covered: {why}",)
    return Plan(PlanKind.ROLLBACK, environment, f"Back to {version}: {why}", steps, notes=notes, not_covered=left)


def read_answer(connection: http.client.HTTPConnection) -> Answer:
    """Return the answer that waits on a connection; of a stream nothing is read."""
    found = connection.getresponse()
    headers = {name.lower(): value for name, value in found.getheaders()}
    body = b"" if headers.get("content-type", "").startswith("text/event-stream") else found.read()
    return Answer(found.status, headers, body, found.headers.get_all("set-cookie") or [])


def _encode(form: Mapping[str, str]) -> bytes:
    from urllib.parse import urlencode  # noqa: PLC0415 - beside its only use

    return urlencode(form).encode()


def _keep_few() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}


def make_lab(
    folder: Path,
    *,
    journal_url: str = "",
    more: str = "",
    edits: Mapping[str, str] | None = None,
    told: Sequence[str] = (STAGING, PRODUCTION),
) -> Lab:
    """Return a lab whose server is not started yet.

    Args:
        journal_url: of a journal on a server; "": a file.
        more: sections of the configuration.
        edits: texts of the configuration, each with what takes its place.
        told: environments with a night in the journal.
    """
    journal = f'url_env = "{JOURNAL_URL}"' if journal_url else f'path = "{folder}/journal/journal.db"'
    settings = SETTINGS.format(journal=journal) + more
    for text, instead in (edits or {}).items():
        assert text in settings
        settings = settings.replace(text, instead)
    (folder / "backout.toml").write_text(settings)
    variables = {JOURNAL_URL: journal_url} if journal_url else {}
    config = load(Environment({**_keep_few(), **variables}), start=folder, no_commands=True)
    lab = Lab(folder, variables, Site(config))
    for each in told:
        lab.tell(each)
    return lab


@contextlib.contextmanager
def open_lab(folder: Path, *words: str, variables: Mapping[str, str] | None = None, **how: Any) -> Iterator[Lab]:
    """Lend a lab with its server, which is started with these variables, too."""
    lab = make_lab(folder, **how)
    try:
        lab.serve(*words, variables=variables)
        yield lab
    finally:
        if lab.process is not None:
            lab.process.kill()
            lab.process.wait()
            assert lab.process.stdout is not None
            lab.process.stdout.close()
        with contextlib.suppress(BackoutError):
            lab.site.close()


__all__ = ["JOURNAL_URL", "PRODUCTION", "STAGING", "Answer", "Lab", "Listener", "Permission", "SystemClock", "open_lab"]
