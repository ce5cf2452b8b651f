"""The pages that are read: who may see which, and what a mistake looks like."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, RedirectResponse, Response

from backout.errors import BackoutError, UsageError
from backout.model.action_request import Act
from backout.model.login import Permission
from backout.report.incident.picture import draw
from backout.web import content
from backout.web.problems import TITLES, is_of_api, make_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jinja2 import Environment
    from starlette.requests import Request

    from backout.model.login import Login
    from backout.web.sessions import Sessions
    from backout.wiring.serve import Site

STATUSES = {"Refused": 409, "Busy": 409, "UsageError": 404, "JournalUnavailable": 503}
"""The status of an answer by the error's name; 502 for any other."""


NOT_READ: Final = "the journal cannot be read now"
_MOST_DIGITS: Final = 16
_LOG: Final = logging.getLogger(__name__)


class Pages:
    """What is shown.

    Attributes:
        handlers: of errors, for the application.
    """

    def __init__(self, site: Site, sessions: Sessions, templates: Environment) -> None:
        self._site, self._sessions, self._templates = site, sessions, templates
        self.handlers: dict[Any, Callable[..., Any]] = {
            HTTPException: self._show_refused,
            BackoutError: self._show_error,
            ClientDisconnect: self._say_nothing,
            Exception: self._show_mistake,
        }

    async def environments(self, request: Request) -> Response:
        """Show every environment that a login may see."""
        return await self._answer(request, "environments", lambda login: content.show_environments(self._site, login))

    async def environment(self, request: Request) -> Response:
        """Show one environment."""
        name = request.path_params["environment"]
        return await self._answer(
            request, "environment", lambda login: content.show_environment(self._site, login, name), name
        )

    async def hold(self, request: Request) -> Response:
        """Show the forms that hold an environment and lift a hold."""
        name = request.path_params["environment"]
        return await self._answer(
            request,
            "hold",
            lambda login: content.show_environment(self._site, login, name),
            name,
            needed=Permission.OPERATOR,
        )

    async def request(self, request: Request) -> Response:
        """Show what becomes of a request."""
        name, number = request.path_params["environment"], parse_number(request.path_params["number"])

        def show(login: Login) -> content.Content:
            if number is None:
                raise UsageError("there is no such request", where=name)
            return content.show_request(self._site, login, name, number)

        return await self._answer(request, "request", show, name)

    async def run(self, request: Request) -> Response:
        """Show a run, and the incident that it belongs to."""
        name, run = request.path_params["environment"], request.path_params["run"]
        return await self._answer(
            request, "incident", lambda login: content.show_run(self._site, login, name, run), name
        )

    async def incident(self, request: Request) -> Response:
        """Show an incident."""
        name, incident = request.path_params["environment"], request.path_params["incident"]
        return await self._answer(
            request, "incident", lambda login: content.show_incident(self._site, login, name, incident), name
        )

    async def picture(self, request: Request) -> Response:
        """Answer with the picture of a run's incident: failed requests and slow answers by version."""
        name, run = request.path_params["environment"], request.path_params["run"]
        login = await self.find_login(request)
        self.check(login, Permission.VIEWER, name)

        def read() -> str:
            from backout.runbook.incident.report import find_record, read_incident, read_picture

            if self._site.find_run(name, run) is None:
                raise UsageError(f"there is no run {run!r}", where=name)
            records = self._site.open_records(name, login.name)
            found = find_record(records, run)
            shown = read_picture(records, found, read_incident(records, found))
            if shown is None:
                raise UsageError("no counts of this time are kept", where=run)
            return draw(shown)

        return Response(await run_in_threadpool(read), media_type="image/svg+xml")

    async def find_login(self, request: Request) -> Login:
        """Return who asks.

        Raises:
            HTTPException: 401: nobody who is known; 503: the journal is away. Where it is, strangers are not told.
        """
        try:
            login = await run_in_threadpool(self._sessions.find, request)
        except BackoutError as error:
            _LOG.warning("nobody can be let in: %s", error)
            raise HTTPException(503, NOT_READ) from error
        if login is None:
            raise HTTPException(401)
        return login

    def check(self, login: Login, needed: Permission, environment: str) -> None:
        """Raise HTTPException where there is no such environment for a login (404), or it may not do that (403)."""
        check_rights(login, needed, environment)
        if environment not in self._site.environments:
            raise HTTPException(404)

    async def _answer(
        self,
        request: Request,
        template: str,
        read: Callable[[Login], content.Content],
        environment: str | None = None,
        *,
        needed: Permission = Permission.VIEWER,
    ) -> Response:
        login = await self.find_login(request)
        if environment is not None:
            self.check(login, needed, environment)
        found = await run_in_threadpool(read, login)
        return self.render(template, login, {**found, "path": request.url.path})

    def render(self, template: str, login: Login | None, found: Mapping[str, object], status: int = 200) -> Response:
        """Return a page."""
        page = self._templates.get_template(f"{template}.html").render(
            {"login": login, "path": "", "acts": Act, "permissions": Permission, **found}
        )
        return HTMLResponse(page, status)

    def render_part(self, template: str, login: Login, found: Mapping[str, object]) -> str:
        """Return the part of a page that is kept up to date."""
        return self._templates.get_template(f"live/{template}.html").render(
            {"login": login, "acts": Act, "permissions": Permission, "draw_key": _draw_none, **found}
        )

    async def _show_refused(self, request: Request, error: HTTPException) -> Response:
        if is_of_api(request.url.path):
            title = TITLES.get(error.status_code, str(error.detail))
            return make_problem(error.status_code, title, headers=error.headers)
        if error.status_code == 401 and request.method == "GET":
            return RedirectResponse(f"/login?next={quote(request.url.path)}", 303)
        words = {
            401: "You are not logged in.",
            403: "Your login may not do that.",
            404: "There is no such page.",
            405: "That cannot be done here.",
        }
        why = words.get(error.status_code, str(error.detail))
        answer = self._render_error(why, error.status_code, lost_login=error.status_code == 401)
        answer.headers.update(error.headers or {})
        return answer

    async def _show_mistake(self, request: Request, _error: Exception) -> Response:
        """Say that it is not whoever asks; the server's own log has the rest."""
        if is_of_api(request.url.path):
            return make_problem(500, TITLES[500])
        return self._render_error("This is a mistake in backout itself.", 500)

    def _render_error(
        self,
        why: str,
        status: int,
        login: Login | None = None,
        *,
        hint: str = "",
        environment: str = "",
        lost_login: bool = False,
    ) -> Response:
        """Return the page of an error; `environment`: whose page the link back leads to, "" for none."""
        found = {"why": why, "hint": hint, "environment": environment, "lost_login": lost_login}
        return self.render("error", login, found, status)

    async def _say_nothing(self, _request: Request, _error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # nobody is there to read it

    async def _show_error(self, request: Request, error: BackoutError) -> Response:
        status, login = STATUSES.get(type(error).__name__, 502), None
        with suppress(BackoutError):
            login = await run_in_threadpool(self._sessions.find, request)
        way_back = request.path_params.get("environment", "")  # which the login sees, or this were no such error
        return self._render_error(str(error), status, login, hint=error.hint or "", environment=way_back)


def _draw_none() -> str:
    """Return no key: what is drawn for many is the same for all; a script sends each form once there."""
    return ""


def parse_number(text: str) -> int | None:
    """Return the number that a part of an address is, None: it is none; one of 5,000 digits is no number."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < _MOST_DIGITS else None


def check_rights(login: Login, needed: Permission, environment: str) -> None:
    """Raise HTTPException where a login does not see an environment (404), or may not do that there (403)."""
    if not login.sees(environment):
        raise HTTPException(404)
    if not login.may(needed, environment):
        raise HTTPException(403)
