"""Who may what: each route of the application, each method, as everybody there is; and that refused means unchanged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from journal import toy
from starlette.applications import Starlette
from starlette.routing import Route
from web_lab import PRODUCTION, STAGING, Lab, Permission, make_lab, open_lab

from backout.errors import UsageError
from backout.model.action_request import Act, Requester
from backout.runbook.serve.action_requests import make_request
from backout.web.app import make_app
from backout.web.security import Guarded
from backout.wiring.worker_requests import check_target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHO = ("nobody", "viewer", "operator", "approver", "elsewhere")
"""`elsewhere` approves plans in staging alone; everything is asked of production."""


class Row(NamedTuple):
    """A route: what it answers to each of `WHO`, by status; `form` or `body` is what is sent there."""

    method: str
    path: str
    statuses: tuple[int, int, int, int, int]
    form: dict[str, str] | None = None
    body: dict[str, str] | None = None


READ = (303, 200, 200, 200, 404)
"""A page of one environment: whoever is not logged in is led to where one does that."""
READ_ALL = (303, 200, 200, 200, 200)
WRITTEN = (401, 403, 303, 303, 404)
API_READ = (401, 200, 200, 200, 404)
API_READ_ALL = (401, 200, 200, 200, 200)
OPEN = (200, 200, 200, 200, 200)
_ENV, _API = "/env/{environment}", "/api/v1/environments/{environment}"
_PAUSE = {"what": "pause", "why": "look first"}
_APPROVE = {"what": "approve", "why": "it is right", "plan_hash": "HASH"}
_PLAN = {"act": "plan"}
_ROLLBACK = {"act": "rollback", "why": "it fails", "confirm": PRODUCTION}
_NOTE = {"kind": "note", "text": "we look"}

ROWS = (
    Row("GET", "/", READ_ALL),
    Row("GET", "/login", OPEN),
    Row("POST", "/login", (403, 403, 403, 403, 403), form={"offer": "bko_none"}),
    Row("POST", "/logout", (401, 303, 303, 303, 303), form={}),
    Row("GET", _ENV, READ),
    Row("GET", f"{_ENV}/hold", (303, 403, 200, 200, 404)),
    Row("POST", f"{_ENV}/requests", WRITTEN, form=_PLAN),
    Row("POST", f"{_ENV}/requests", WRITTEN, form=_ROLLBACK),
    Row("GET", f"{_ENV}/requests/{{number}}", READ),
    Row("GET", f"{_ENV}/run/{{run}}", READ),
    Row("GET", f"{_ENV}/run/{{run}}/picture.svg", (303, 404, 404, 404, 404)),  # of this run nothing was counted
    Row("POST", f"{_ENV}/run/{{run}}/ask", WRITTEN, form=_PAUSE),
    Row("POST", f"{_ENV}/run/{{run}}/ask", (401, 403, 403, 303, 404), form=_APPROVE),
    Row("POST", f"{_ENV}/run/{{run}}/ask", WRITTEN, form={"what": "abort", "why": "not now"}),
    Row("POST", f"{_ENV}/run/{{run}}/ask", WRITTEN, form={"what": "resume", "why": "go on", "confirm": PRODUCTION}),
    Row("GET", f"{_ENV}/incident/{{incident}}", READ),
    Row("POST", f"{_ENV}/incident/{{incident}}/remarks", WRITTEN, form=_NOTE),
    Row("GET", "/stream/{place:path}", READ),
    Row("GET", "/api/v1/openapi.json", API_READ_ALL),
    Row("GET", "/api/v1/environments", API_READ_ALL),
    Row("GET", "/api/v1/events", API_READ_ALL),
    Row("GET", _API, API_READ),
    Row("GET", f"{_API}/runs", API_READ),
    Row("GET", f"{_API}/runs/{{run}}", API_READ),
    Row("GET", f"{_API}/runs/{{run}}/series", API_READ),
    Row("POST", f"{_API}/runs/{{run}}/ask", (401, 403, 200, 200, 404), body=_PAUSE),
    Row("POST", f"{_API}/runs/{{run}}/ask", (401, 403, 403, 200, 404), body=_APPROVE),
    Row("GET", f"{_API}/incidents", API_READ),
    Row("GET", f"{_API}/incidents/{{incident}}", API_READ),
    Row("POST", f"{_API}/incidents/{{incident}}/remarks", (401, 403, 201, 201, 404), body=_NOTE),
    Row("GET", f"{_API}/requests", API_READ),
    Row("POST", f"{_API}/requests", (401, 403, 202, 202, 404), body=_PLAN),
    Row("POST", f"{_API}/requests", (401, 403, 202, 202, 404), body=_ROLLBACK),
    Row("GET", f"{_API}/requests/{{number}}", API_READ),
    Row("GET", "/healthz", OPEN),
    Row("GET", "/static/backout.css", OPEN),
)
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@dataclass
class Walk:
    """A lab, and a token for each of `WHO`."""

    lab: Lab
    tokens: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tokens = {"nobody": "", "elsewhere": self.lab.issue(Permission.APPROVER, STAGING)}
        self.tokens |= {str(role): self.lab.issue(role) for role in Permission}

    def go(self, row: Row, who: str) -> tuple[int, str]:
        """Ask for a route of production; return the status, and the kinds of what was recorded for it."""
        night = self.lab.night
        run = self.lab.start_run(PRODUCTION) if row.path.endswith("/ask") else night.runs[PRODUCTION]
        found = self.lab.journal.find(run)
        assert found is not None
        path = row.path.replace("{place:path}", f"run/{PRODUCTION}/{run}").format(
            environment=PRODUCTION, run=run, incident=night.incidents[PRODUCTION], number=night.requests[PRODUCTION]
        )
        sent: dict[str, Any] = {}
        for name, values in (("form", row.form), ("body", row.body)):
            if values is not None:
                sent[name] = {key: found.plan.hash if value == "HASH" else value for key, value in values.items()}
        before = self.lab.journal.find_newest()
        status = self.lab.ask(row.method, path, token=self.tokens[who], **sent).status
        recorded = " ".join(event.kind for event in self.lab.journal.events(after=before))
        if row.path.endswith("/ask"):
            self.lab.end_run(run)
        return status, recorded


@pytest.fixture
def walk(engine: str, tmp_path: Path) -> Iterator[Walk]:
    with open_lab(tmp_path, journal_url=toy.url_of(tmp_path) if engine == "postgres" else "") as made:
        yield Walk(made)


def test_each_route_as_everybody(walk: Walk) -> None:
    """Whoever may not, is refused, and the journal stays as it was; a page that is read changes nothing either."""
    wrong = []
    for row in ROWS:
        for who, expected in zip(WHO, row.statuses, strict=True):
            status, recorded = walk.go(row, who)
            if status != expected:
                wrong.append(f"{row.method} {row.path} {row.form or row.body or ''} as {who}: {status}")
            is_allowed = row.method == "POST" and row.path not in ("/login", "/logout") and expected < 400
            if bool(recorded) != is_allowed:
                wrong.append(
                    f"{row.method} {row.path} {row.form or row.body or ''} as {who} recorded {recorded or '-'}"
                )
    assert wrong == []
    assert "Traceback" not in walk.lab.said


def routes_of(lab: Lab) -> set[tuple[str, str]]:
    """Return the routes of the real application, HEAD beside GET left out; a mount by a file below it."""
    guarded = make_app(lab.site, {"127.0.0.1"})
    assert isinstance(guarded, Guarded)
    assert isinstance(guarded._app, Starlette)
    found = set()
    for each in guarded._app.routes:
        if isinstance(each, Route):
            found |= {(method, each.path) for method in each.methods or () if method != "HEAD"}
        else:
            found.add(("GET", f"{each.path}/backout.css"))  # type: ignore[attr-defined]
    return found


def test_the_table_knows_every_route(tmp_path: Path) -> None:
    lab = make_lab(tmp_path, told=())
    try:
        assert routes_of(lab) == {(row.method, row.path) for row in ROWS}
    finally:
        lab.site.close()


def test_no_route_takes_another_method(lab: Lab) -> None:
    """What is read by GET is changed by nothing: 405 for everything that the table does not have."""
    known: dict[str, set[str]] = {}
    for row in ROWS:
        known.setdefault(row.path, set()).add(row.method)
    walk, before, wrong = Walk(lab), lab.journal.find_newest(), []
    for path, methods in known.items():
        for method in set(METHODS) - methods:
            status = lab.ask(method, _fill(lab, path), token=walk.tokens["approver"], form={}).status
            if status != 405:
                wrong.append(f"{method} {path}: {status}")
    assert wrong == []
    assert [event.kind for event in lab.journal.events(after=before)] == []


def _fill(lab: Lab, path: str) -> str:
    night = lab.night
    return path.replace("{place:path}", "environments").format(
        environment=PRODUCTION,
        run=night.runs[PRODUCTION],
        incident=night.incidents[PRODUCTION],
        number=night.requests[PRODUCTION],
    )


def test_what_is_elsewhere_is_not_there(lab: Lab) -> None:
    """A login of one environment reads nothing of another, in no list and no error, as if it were not there."""
    token = lab.issue(Permission.APPROVER, STAGING)
    night = lab.night
    secrets = (night.runs[PRODUCTION], night.incidents[PRODUCTION], PRODUCTION)
    paths = [
        *("/", "/stream/nothing", "/api/v1/environments", "/env/staging", f"/env/staging/run/{night.runs[STAGING]}"),
        *("/env/staging/run/r", "/env/staging/run/rollback-", "/env/staging/run/rollback-/picture.svg"),
        *("/api/v1/environments/staging/runs/rollback-", "/api/v1/environments/staging/runs"),
        f"/env/staging/requests/{night.requests[PRODUCTION]}",
        f"/api/v1/environments/staging/requests/{night.requests[PRODUCTION]}",
        *("/api/v1/environments/staging/incidents", "/api/v1/environments/staging/requests"),
    ]
    for path in paths:
        answer = lab.ask("GET", path, token=token)
        assert [each for each in secrets if each in answer.text] == [], path
    hidden, missing = (lab.ask("GET", f"/api/v1/environments/{name}", token=token) for name in (PRODUCTION, "none"))
    assert (hidden.status, hidden.body) == (missing.status, missing.body)
    hidden, missing = (lab.ask("GET", f"/env/{name}", token=token) for name in (PRODUCTION, "none"))
    assert (hidden.status, hidden.body) == (missing.status, missing.body)


@pytest.mark.parametrize("act", ["resume", "undo"])
def test_a_run_of_another_environment_cannot_be_asked_for(lab: Lab, act: str) -> None:
    """The command of a worker goes by the run alone: whoever acts in staging would act in production by it."""
    token = lab.issue(Permission.OPERATOR, STAGING)
    run = lab.night.runs[PRODUCTION]
    before = lab.journal.find_newest()
    for target in (run, run[:-1]):
        sent = {"act": act, "target": target, "why": "go on"}
        assert lab.ask("POST", "/api/v1/environments/staging/requests", token=token, body=sent).status == 422
        assert lab.ask("POST", "/env/staging/requests", token=token, form=sent).status == 404
        form = {"what": act, "why": "go on"}
        assert lab.ask("POST", f"/env/staging/run/{target}/ask", token=token, form=form).status == 404
    assert lab.journal.find_newest() == before
    sent = {"act": act, "target": lab.night.runs[STAGING], "why": "go on"}
    assert lab.ask("POST", "/api/v1/environments/staging/requests", token=token, body=sent).status == 202


def test_the_worker_refuses_such_a_run_as_well(lab: Lab) -> None:
    """Whatever wrote the request: a worker does not take the word of who can write into the journal."""
    made = make_request(
        lab.journal,
        PRODUCTION,
        Act.RESUME,
        key="forged",
        by=Requester("eve"),
        target=lab.night.runs[STAGING],
        actor="eve",
    )
    with pytest.raises(UsageError, match="no run"):
        check_target(lab.journal, made)


def test_the_plan_that_is_approved_is_the_one_that_was_shown(lab: Lab) -> None:
    """Another hash is refused, and so is a run that waits for nothing."""
    token, over = lab.issue(Permission.APPROVER), lab.night.runs[PRODUCTION]
    waits, before = lab.start_run(PRODUCTION), lab.journal.find_newest()
    for run, plan_hash in ((over, lab.night.hashes[PRODUCTION]), (waits, "0" * 64), (waits, "")):
        sent = {"what": "approve", "why": "it is right", "plan_hash": plan_hash}
        answer = lab.ask("POST", f"/api/v1/environments/production/runs/{run}/ask", token=token, body=sent)
        assert answer.status == 409, answer.text
    assert lab.journal.find_newest() == before
    lab.end_run(waits)
