"""`/api/v1`: what the pages use, as JSON: the envelopes of `--json`, problems by RFC 9457, events by their numbers."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from backout.decoding import Undecodable, decode_json
from backout.errors import BackoutError
from backout.model.login import Permission
from backout.report.event_records import make_event_record, make_plan_record, make_run_record
from backout.report.incident.case import make_record as make_incident_record
from backout.report.records import encode, make_envelope
from backout.report.times import format_time
from backout.runbook.incident.case import read_case
from backout.runbook.recovery.previews import make_preview_record, read_preview
from backout.runbook.serve.action_requests import describe_state, find_request, list_requests
from backout.web.forms import ask_of_run, record_request, write_remark
from backout.web.openapi import make_document
from backout.web.pages import parse_number
from backout.web.problems import ROOT, TITLES, make_problem
from backout.web.series import read_series
from backout.web.stream import ALIVE_EVERY_S, MOST_CLIENTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from starlette.requests import Request

    from backout.model.action_request import ActionRequest
    from backout.model.incident.incident import Run
    from backout.model.login import Login
    from backout.runbook.serve.overviews import EnvironmentView
    from backout.web.pages import Pages
    from backout.web.stream import Stream
    from backout.wiring.serve import Site

JSON: Final = "application/json"
STATUSES: Final = {"Refused": 409, "Busy": 409, "DecisionNeeded": 409, "UsageError": 422, "JournalUnavailable": 503}
_CHECK_AGAIN_S: Final = 1.0
"""How often it is looked whether a login still counts: a revoked one may count that long."""
_LOG: Final = logging.getLogger(__name__)


class ApiError(Exception):
    """An answer that is a problem."""

    def __init__(self, status: int, title: str, detail: str = "", hint: str = "") -> None:
        super().__init__(title)
        self.status, self.title, self.detail, self.hint = status, title, detail, hint


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """What is sent: for a request, for what is asked of a run, or for a remark."""

    act: str = ""
    target: str = ""
    what: str = ""
    why: str = ""
    confirm: str = ""
    plan_hash: str = ""
    kind: str = ""
    text: str = ""


class Api:
    """The routes of the API.

    Attributes:
        routes: for the application.
    """

    def __init__(self, site: Site, pages: Pages, stream: Stream) -> None:
        self._site, self._pages, self._stream = site, pages, stream
        one = f"{ROOT}/environments/{{environment}}"
        get, post = ["GET"], ["POST"]
        self.routes = [
            Route(f"{ROOT}/openapi.json", self._wrap(self._document), methods=get),
            Route(f"{ROOT}/environments", self._wrap(self._environments), methods=get),
            Route(f"{ROOT}/events", self._wrap(self._events), methods=get),
            Route(one, self._wrap(self._environment), methods=get),
            Route(f"{one}/runs", self._wrap(self._runs), methods=get),
            Route(f"{one}/runs/{{run}}", self._wrap(self._run), methods=get),
            Route(f"{one}/runs/{{run}}/series", self._wrap(self._series), methods=get),
            Route(f"{one}/runs/{{run}}/ask", self._wrap(self._ask, Permission.OPERATOR), methods=post),
            Route(f"{one}/incidents", self._wrap(self._incidents), methods=get),
            Route(f"{one}/incidents/{{incident}}", self._wrap(self._incident), methods=get),
            Route(f"{one}/incidents/{{incident}}/remarks", self._wrap(self._remark, Permission.OPERATOR), methods=post),
            Route(f"{one}/requests", self._wrap(self._requests), methods=get),
            Route(f"{one}/requests", self._wrap(self._make_request, Permission.OPERATOR), methods=post),
            Route(f"{one}/requests/{{number}}", self._wrap(self._request), methods=get),
        ]

    def _wrap(
        self,
        answer: Callable[[Request, Login], Awaitable[Response]],
        needed: Permission = Permission.VIEWER,
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return the endpoint of a handler: who asks is found first, and every error is a problem."""

        async def handle(request: Request) -> Response:
            try:
                login = await self._pages.find_login(request)
                environment = request.path_params.get("environment")
                if environment is not None:
                    self._pages.check(login, needed, environment)
                return await answer(request, login)
            except ApiError as error:
                return make_problem(error.status, error.title, error.detail, error.hint)
            except HTTPException as error:
                hint = "Authorization: Bearer bko_..." if error.status_code == 401 else ""
                return make_problem(error.status_code, TITLES.get(error.status_code, str(error.detail)), hint=hint)
            except BackoutError as error:
                status = STATUSES.get(type(error).__name__, 502)
                return make_problem(status, error.what, str(error.where or ""), error.hint or "")

        return handle

    async def _document(self, _request: Request, _login: Login) -> Response:
        return make_json(make_document())

    async def _environments(self, _request: Request, login: Login) -> Response:
        names = login.choose(self._site.environments)
        views = await run_in_threadpool(self._site.read_views, names)
        return make_json(make_envelope("environments", {"environments": [self._make_view(each) for each in views]}))

    async def _environment(self, request: Request, _login: Login) -> Response:
        (view,) = await run_in_threadpool(self._site.read_views, (request.path_params["environment"],))
        return make_json(make_envelope("environment", self._make_view(view)))

    def _make_view(self, view: EnvironmentView) -> dict[str, object]:
        status = view.status
        return {
            "environment": view.name,
            "protected": view.protected,
            "worker": view.worker or None,
            "read_at": None if status is None else format_time(status.read_at),
            "stale": view.is_stale(self._site.clock.now()),
            "status": None if status is None else dict(status.record),
            "run": None if view.run is None else make_run_record(view.run),
            "incident": None if view.incident is None else view.incident.id,
        }

    async def _runs(self, request: Request, _login: Login) -> Response:
        found = await run_in_threadpool(self._site.journal.runs, request.path_params["environment"])
        return make_json(make_envelope("runs", {"runs": [make_run_record(run) for run in found]}))

    async def _run(self, request: Request, _login: Login) -> Response:
        def read() -> dict[str, object]:
            run = self._find_run(request)
            events = [make_event_record(event) for event in self._site.journal.events(run=run.id)]
            preview = make_preview_record(read_preview(self._site.journal, run))
            return make_run_record(run) | {"plan": make_plan_record(run.plan), "events": events, "preview": preview}

        return make_json(make_envelope("run", await run_in_threadpool(read)))

    async def _series(self, request: Request, _login: Login) -> Response:
        def read() -> dict[str, object]:
            return read_series(self._site, self._find_run(request))

        return make_json(make_envelope("series", await run_in_threadpool(read)))

    def _find_run(self, request: Request) -> Run:
        found = self._site.find_run(request.path_params["environment"], request.path_params["run"])
        if found is None:
            raise ApiError(404, "there is no such run")
        return found

    async def _ask(self, request: Request, login: Login) -> Response:
        body = await _read_body(request)

        def ask() -> dict[str, object]:
            run = self._find_run(request)
            ask_of_run(self._site, login, request.path_params["environment"], run.id, _make_form(body))
            return make_run_record(self._find_run(request))

        return make_json(make_envelope("run", await run_in_threadpool(ask)))

    async def _incidents(self, request: Request, login: Login) -> Response:
        name = request.path_params["environment"]

        def read() -> list[dict[str, object]]:
            records = self._site.open_records(name, login.name)
            return [make_incident_record(read_case(records, each)) for each in records.list_records()]

        return make_json(make_envelope("incidents", {"incidents": await run_in_threadpool(read)}))

    async def _incident(self, request: Request, login: Login) -> Response:
        return make_json(make_envelope("incident", await run_in_threadpool(self._read_incident, request, login)))

    def _read_incident(self, request: Request, login: Login) -> dict[str, object]:
        name, wanted = request.path_params["environment"], request.path_params["incident"]
        found = next((each for each in self._site.incidents.list_incidents(name) if each.id == wanted), None)
        if found is None:
            raise ApiError(404, "there is no such incident")
        return make_incident_record(read_case(self._site.open_records(name, login.name), found))

    async def _remark(self, request: Request, login: Login) -> Response:
        body = await _read_body(request)
        name, incident = request.path_params["environment"], request.path_params["incident"]
        before = await run_in_threadpool(self._read_incident, request, login)
        del before  # there is such an incident
        await run_in_threadpool(write_remark, self._site, login, name, incident, _make_form(body))
        found = await run_in_threadpool(self._read_incident, request, login)
        return make_json(make_envelope("incident", found), 201)

    async def _requests(self, request: Request, _login: Login) -> Response:
        found = await run_in_threadpool(list_requests, self._site.journal, request.path_params["environment"])
        return make_json(make_envelope("requests", {"requests": [self._make_request_record(each) for each in found]}))

    async def _request(self, request: Request, _login: Login) -> Response:
        number = parse_number(request.path_params["number"])
        name = request.path_params["environment"]
        found = None if number is None else await run_in_threadpool(find_request, self._site.journal, name, number)
        if found is None:
            raise ApiError(404, "there is no such request")
        return make_json(make_envelope("request", self._make_request_record(found)))

    async def _make_request(self, request: Request, login: Login) -> Response:
        body = await _read_body(request)
        form = {**_make_form(body), "key": request.headers.get("idempotency-key", "")}
        made = await run_in_threadpool(record_request, self._site, login, request.path_params["environment"], form)
        return make_json(make_envelope("request", self._make_request_record(made)), 202)

    def _make_request_record(self, found: ActionRequest) -> dict[str, object]:
        return {
            "id": found.id,
            "environment": found.environment,
            "act": found.act,
            "target": found.target or None,
            "why": found.why,
            "by": found.by,
            "at": format_time(found.at),
            "expires_at": format_time(found.expires_at),
            "state": describe_state(found, self._site.clock.now()),
            "worker": found.taken_by or None,
            "ended_at": None if found.ended_at is None else format_time(found.ended_at),
            "exit_code": found.exit_code,
            "answer": dict(found.answer) or None,
        }

    async def _events(self, request: Request, login: Login) -> Response:
        """Answer with the journal's events of the environments that a login sees, from `Last-Event-ID` on."""
        last = request.headers.get("last-event-id", "")
        number = parse_number(last)
        if last and number is None:
            raise ApiError(400, "Last-Event-ID is the number of an event")
        if self._stream.clients >= MOST_CLIENTS:
            raise HTTPException(503, "too many streams are open")
        after = await run_in_threadpool(self._site.journal.find_newest) if number is None else number
        return StreamingResponse(self._send_events(request, login, after), media_type="text/event-stream")

    async def _send_events(self, request: Request, login: Login, after: int) -> AsyncIterator[bytes]:
        self._stream.clients += 1
        try:
            yield b"retry: 2000\n\n"
            async for message in self._follow(request, login, after):
                yield message
        except BackoutError as error:  # whoever listens comes back, with the number of the last event
            _LOG.warning("a stream of events ends: %s", error)
        finally:
            self._stream.clients -= 1

    async def _follow(self, request: Request, login: Login, after: int) -> AsyncIterator[bytes]:
        sent_at = checked_at = time.monotonic()
        async for message in self._stream.tail.follow(login, after):
            now = time.monotonic()
            if now - checked_at >= _CHECK_AGAIN_S:
                checked_at = now
                if not await self._stream.counts_still(request):
                    return
            if message is not None or now - sent_at >= ALIVE_EVERY_S:
                sent_at = now
                yield message or b": alive\n\n"


def make_json(values: Mapping[str, object], status: int = 200) -> Response:
    """Return an answer in JSON."""
    return Response(encode(values), status, media_type=JSON)


async def _read_body(request: Request) -> Body:
    """Return what was sent. Raises ApiError: it is not as it has to be."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != JSON:
        raise ApiError(415, "send application/json")
    try:
        return decode_json(await request.body(), Body, what="the body")
    except Undecodable as error:
        raise ApiError(422, error.what) from None


def _make_form(body: Body) -> dict[str, str]:
    values: dict[str, Any] = msgspec.to_builtins(body)
    return {name: str(value) for name, value in values.items()}
