"""The document of `/api/v1` against a real server: whatever is sent, each answer is one that the document promises."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from journal import toy
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.routing import Route
from web_lab import PRODUCTION, STAGING, Permission, make_actions, open_lab

from backout.model.action_request import Act, Requester, RequestState
from backout.model.plan import Plan, PlanKind, Step
from backout.runbook.serve.action_requests import end_request, list_requests, make_request, take_request
from backout.web.app import make_app
from backout.web.openapi import make_document
from backout.web.problems import is_of_api
from backout.web.security import Guarded

from extent import DAY, by_extent
from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from schemathesis import APIOperation, Case
    from web_lab import Answer, Lab

CHECKS: Final[list[Any]] = [
    negative_data_rejection,
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
SHORT: Final = 3
"""Cases of an operation that `make test` sends, of each kind."""
PROBLEM: Final = "application/problem+json"
DOCUMENT: Final = make_document()
OPERATIONS: Final = sorted(
    f"{method.upper()} {path}"
    for path, methods in DOCUMENT["paths"].items()  # type: ignore[attr-defined]
    for method in methods
)


@pytest.fixture(scope="module")
def schema(lab: Lab) -> Any:
    """Return the document as the server answers with it; there are runs and requests in all states to ask for."""
    answer = lab.ask("GET", "/api/v1/openapi.json", token=lab.issue(Permission.VIEWER))
    assert answer.json == DOCUMENT
    loaded = schemathesis.openapi.from_dict(answer.json)
    loaded.validate()
    loaded.config.base_url = lab.url
    for environment in (STAGING, PRODUCTION):
        plan = Plan(PlanKind.RECOVER, environment, "Look", (Step("look", "Look at it"),))  # of no deployment
        lab.journal.drive(
            lab.journal.submit(plan, actor="toy", reason="to look"), make_actions(lab.folder), actor="toy"
        )
        for state in (RequestState.DONE, RequestState.FAILED, RequestState.EXPIRED, RequestState.LOST):
            key = f"ended {state}"
            made = make_request(
                lab.journal, environment, Act.REPORT, key=key, by=Requester("bob"), actor="bob (by the lab)"
            )
            assert take_request(lab.journal, made, actor="a worker")
            end_request(lab.journal, made, state, actor="a worker", exit_code=3, answer={"ready": False})
    lab.start_run(PRODUCTION)  # waits to be approved
    return loaded


@pytest.fixture(scope="module")
def session(lab: Lab) -> Iterator[requests.Session]:
    """Lend a connection of somebody who may everything."""
    with requests.Session() as made:
        made.headers["Authorization"] = f"Bearer {lab.issue(Permission.APPROVER)}"
        made.trust_env = False
        yield made


def list_places(lab: Lab) -> list[dict[str, str]]:
    """Return what is there, by the names of the parts of addresses."""
    found = []
    for name in (STAGING, PRODUCTION):
        runs = [run.id for run in lab.journal.runs(name)]
        made = [str(each.id) for each in list_requests(lab.journal, name)]
        incident = lab.night.incidents[name]
        found += [
            {"environment": name, "run": run, "incident": incident, "number": number}
            for run, number in itertools.zip_longest(
                runs, made, fillvalue=(runs if len(runs) < len(made) else made)[-1]
            )
        ]
    return found


def send(case: Case, session: requests.Session) -> requests.Response:
    """Send a case; of a stream, which has no end, only the beginning is read."""
    case.headers["Authorization"] = str(session.headers["Authorization"])  # not one that was made up
    sent = case.as_transport_kwargs()
    sent.pop("session", None)
    answer = session.request(**sent, stream=True, timeout=PATIENCE_S, allow_redirects=False)
    if answer.headers.get("Content-Type", "").startswith("text/event-stream"):
        answer._content = next(answer.iter_content(None))
        answer.raw.close()
    assert answer.content is not None
    return answer


def try_cases(
    operation: APIOperation, lab: Lab, session: requests.Session, mode: GenerationMode, count: int
) -> set[int]:
    """Send so many cases of an operation, mostly to what is there; return the statuses of the answers.

    Raises:
        AssertionError: an answer is not as the document says.
    """
    seen = set()

    @seed(len(operation.label) if count == SHORT else DAY)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(
        case=operation.as_strategy(generation_mode=mode),
        place=st.sampled_from(list_places(lab)),
        is_there=st.sampled_from([True, True, True, False]),
    )
    def run(case: Case, place: dict[str, str], is_there: bool) -> None:
        if is_there and case.path_parameters:
            case.path_parameters.update({name: place[name] for name in case.path_parameters})
        answer = send(case, session)
        seen.add(answer.status_code)
        case.validate_response(answer, checks=CHECKS)
        if answer.status_code >= 400:
            assert answer.headers["Content-Type"] == PROBLEM
            assert answer.json()["status"] == answer.status_code

    run()
    return seen


@pytest.mark.parametrize("label", OPERATIONS)
def test_each_operation_answers_as_the_document_says(
    label: str, schema: Any, lab: Lab, session: requests.Session
) -> None:
    """Whether what is sent fits the document or not."""
    operation = schema[label.partition(" ")[2]][label.partition(" ")[0]]
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        assert try_cases(operation, lab, session, mode, SHORT)
    assert "Traceback" not in lab.said


@pytest.mark.rotating("whole documents", 3)
@pytest.mark.long
@pytest.mark.parametrize("label", OPERATIONS)
def test_each_operation_answers_so_to_much_else(label: str, schema: Any, lab: Lab, session: requests.Session) -> None:
    """Each day with others."""
    operation = schema[label.partition(" ")[2]][label.partition(" ")[0]]
    seen = set()
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        seen |= try_cases(operation, lab, session, mode, by_extent(40, 40, 400))
    assert seen & {200, 201, 202, 409}  # a run that is asked for something has to be in the state for it
    assert "Traceback" not in lab.said


def forbid_more(schema: Any) -> Any:
    """Return a schema, or a document, in which an object has the properties that are named, and no others."""
    if isinstance(schema, list):
        return [forbid_more(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: forbid_more(each) for name, each in schema.items()}
    return (
        found | {"additionalProperties": False} if schema.get("type") == "object" and "properties" in schema else found
    )


@pytest.fixture(scope="module")
def strict(schema: Any, lab: Lab) -> Any:
    """Return the document as one that names whatever an answer has."""
    del schema  # what there is to ask for is made with it
    loaded = schemathesis.openapi.from_dict(forbid_more(DOCUMENT))
    loaded.config.base_url = lab.url
    return loaded


def test_everything_that_is_read_fits_the_document(strict: Any, lab: Lab, session: requests.Session) -> None:
    """Each run, incident and request that there is."""
    read = set()
    for label in (each for each in OPERATIONS if each.startswith("GET ") and not each.endswith("/events")):
        operation = strict[label.partition(" ")[2]]["GET"]
        for place in list_places(lab):
            names = {part.strip("{}") for part in operation.path.split("/") if part.startswith("{")}
            case = operation.Case(path_parameters={name: place[name] for name in names}, headers={})
            if case.formatted_path in read:
                continue
            read.add(case.formatted_path)
            answer = send(case, session)
            assert answer.status_code == 200, (label, place, answer.text)
            case.validate_response(answer, checks=CHECKS)
    assert len(read) > 30


def test_what_is_written_is_answered_as_the_document_says(strict: Any, lab: Lab, session: requests.Session) -> None:
    """A run that is paused, a request, a note."""
    known = (run.id for run in lab.journal.runs(PRODUCTION) if not run.state.is_over)
    waits = next(known, "") or lab.start_run(PRODUCTION)  # what was tried at random before may have given it up
    one = "/api/v1/environments/{environment}"
    place = {"environment": PRODUCTION, "run": waits, "incident": lab.night.incidents[PRODUCTION]}
    for path, body, status in (
        (f"{one}/runs/{{run}}/ask", {"what": "pause", "why": "look first"}, 200),
        (f"{one}/requests", {"act": "rollback", "why": "it fails", "confirm": PRODUCTION}, 202),
        (f"{one}/incidents/{{incident}}/remarks", {"kind": "note", "text": "we look"}, 201),
    ):
        parameters = {name: value for name, value in place.items() if f"{{{name}}}" in path}
        case = strict[path]["POST"].Case(
            path_parameters=parameters, body=body, media_type="application/json", headers={}
        )
        answer = send(case, session)
        assert answer.status_code == status, answer.text
        case.validate_response(answer, checks=CHECKS)


def test_every_route_stands_in_the_document(lab: Lab) -> None:
    """With its methods; but for the document itself."""
    found = set()
    guarded = make_app(lab.site, {"127.0.0.1"})
    assert isinstance(guarded, Guarded)
    for each in guarded._app.routes:  # type: ignore[attr-defined]
        if isinstance(each, Route) and is_of_api(each.path):
            found |= {f"{method} {each.path}" for method in each.methods or () if method != "HEAD"}
    assert found == {*OPERATIONS, "GET /api/v1/openapi.json"}


NOTES: Final = f"/api/v1/environments/{PRODUCTION}/requests"
ODD_BODIES: Final = (
    b"", b"{", b"null", b"[]", b"3", b'"x"', b"\xff\xfe", b'{"act": "plan"',
    b'{"act": 3}', b'{"act": "plan", "odd": 1}',
    b'{"act": "plan", "why": null}', b'{"act": "pl\x00an"}',
    b"[" * 50_000, b'{"a":' * 10_000, b'{"act": "' + b"x" * 60_000 + b'"}',
    b'{"act": "plan", "target": "../x"}', b'{"act": "undo", "target": "\\u0000"}',  b'{"act": "resume", "target": "%"}',
    '{"act": "plan", "target": "\uff52"}'.encode(), b'{"act": "plan", "why": "' + b"y" * 501 + b'"}',
    b'{"act": "plan", "why": "\\ud800"}', b'{"act": "plan", "why": "\xed\xa0\x80"}',
)  # fmt: skip
ODD_PARTS: Final = (
    "%00", "%ff%fe", "%ed%a0%80", "a%00b", "..%2f..%2fx", "%2e%2e", "x" * 3000, "'", "%25", "%0d%0aX-Odd:1", "-1",
    "9" * 15, "9" * 16, "%D9%A1", "%C2%B2", "1e3", "rollback-", "_", "*",
)  # fmt: skip


@pytest.fixture
def engined(engine: str, tmp_path: Path) -> Iterator[Lab]:
    """Lend a server on a journal of each kind."""
    with open_lab(tmp_path, journal_url=toy.url_of(tmp_path) if engine == "postgres" else "") as made:
        yield made


def test_what_is_odd_is_a_problem(engined: Lab) -> None:
    """Bytes, parts of addresses and headers that no client makes: 4xx, as a problem, and nothing is recorded."""
    token, night = engined.issue(Permission.APPROVER), engined.night
    before, wrong = engined.journal.find_newest(), []

    def note(what: str, answer: Answer) -> None:
        if not 400 <= answer.status < 500 or answer.headers["content-type"] != PROBLEM:
            wrong.append(f"{what[:120]}: {answer.status} {answer.headers.get('content-type')}")

    for body in ODD_BODIES:
        note(
            repr(body), engined.ask("POST", NOTES, token=token, body=body, headers={"Content-Type": "application/json"})
        )
    for kind in ("", "text/plain", "application/x-www-form-urlencoded", "application/jsonp", "application/json\xe9"):
        note(kind, engined.ask("POST", NOTES, token=token, body=b'{"act": "plan"}', headers={"Content-Type": kind}))
    for part in ODD_PARTS:
        one = f"/api/v1/environments/{PRODUCTION}"
        for path in (f"/api/v1/environments/{part}", f"{one}/runs/{part}", f"{one}/runs/{part}/series"):
            note(path, engined.ask("GET", path, token=token))
        for path in (f"{one}/incidents/{part}", f"{one}/requests/{part}"):
            note(path, engined.ask("GET", path, token=token))
        sent = {"what": "abort", "why": "x"}
        note(f"ask {part}", engined.ask("POST", f"{one}/runs/{part}/ask", token=token, body=sent))
        remark = {"kind": "note", "text": "x"}
        note(f"remark {part}", engined.ask("POST", f"{one}/incidents/{part}/remarks", token=token, body=remark))
    run = f"/api/v1/environments/{PRODUCTION}/runs/{night.runs[PRODUCTION]}/ask"
    for values in (
        {"what": "approve", "why": "x", "plan_hash": "\0"},
        {"what": "pause", "why": " \0"},
        {"what": "\0", "why": "x"},
    ):
        note(str(values), engined.ask("POST", run, token=token, body=values))
    for last in ("x", "-1", "1.0", "9" * 16, "\xb2", "1 2"):
        note(f"after {last!r}", engined.ask("GET", "/api/v1/events", token=token, headers={"Last-Event-ID": last}))
    plan = {"act": "plan"}
    note("key", engined.ask("POST", NOTES, token=token, body=plan, headers={"Idempotency-Key": "k" * 65}))
    assert wrong == []
    assert [each.kind for each in engined.journal.events(after=before)] == []
    assert "Traceback" not in engined.said
