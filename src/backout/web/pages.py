"""The pages that are read: who may see which, and what a mistake looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from backout.errors import BackoutError, UsageError
from backout.model.action_request import Act
from backout.model.login import Permission
from backout.report.incident.picture import draw
from backout.runbook.incident.report import find_record, read_incident, read_picture
from backout.web import content

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jinja2 import Environment
    from starlette.requests import Request

    from backout.model.login import Login
    from backout.web.sessions import Sessions
    from backout.wiring.serve import Site

STATUSES = {"Refused": 409, "Busy": 409, "UsageError": 404, "JournalUnavailable": 503}
"""The status of an answer by the error's name; 502 for any other."""


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

    async def rollback(self, request: Request) -> Response:
        """Show the form of a rollback: where to, and why; what it would do is asked for first."""
        return await self._show_form(request, "rollback")

    async def hold(self, request: Request) -> Response:
        """Show the forms that hold an environment and lift a hold."""
        return await self._show_form(request, "hold")

    async def _show_form(self, request: Request, template: str) -> Response:
        name = request.path_params["environment"]
        return await self._answer(
            request,
            template,
            lambda login: content.show_environment(self._site, login, name),
            name,
            needed=Permission.OPERATOR,
        )

    async def request(self, request: Request) -> Response:
        """Show what becomes of a request."""
        name, number = request.path_params["environment"], request.path_params["number"]
        return await self._answer(
            request, "request", lambda login: content.show_request(self._site, login, name, number), name
        )

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
        check_rights(login, Permission.VIEWER, name)

        def read() -> str:
            records = self._site.open_records(name, login.name)
            found = find_record(records, run)
            shown = read_picture(records, found, read_incident(records, found))
            if shown is None:
                raise UsageError("no counts of this time are kept", where=run)
            return draw(shown)

        return Response(await run_in_threadpool(read), media_type="image/svg+xml")

    async def find_login(self, request: Request) -> Login:
        """Return who asks. Raises HTTPException (401): nobody who is known."""
        login = await run_in_threadpool(self._sessions.find, request)
        if login is None:
            raise HTTPException(401)
        return login

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
            check_rights(login, needed, environment)
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
        if error.status_code == 401 and request.method == "GET":
            return RedirectResponse(f"/login?next={request.url.path}", 303)
        words = {
            401: "You are not logged in.",
            403: "Your login may not do that.",
            404: "There is no such page.",
            405: "That cannot be done here.",
        }
        why = words.get(error.status_code, str(error.detail))
        return self.render("error", None, {"why": why, "hint": ""}, error.status_code)

    async def _show_error(self, _request: Request, error: BackoutError) -> Response:
        status = STATUSES.get(type(error).__name__, 502)
        return self.render("error", None, {"why": str(error), "hint": error.hint or ""}, status)


def _draw_none() -> str:
    """Return no key: what is drawn for many is the same for all; a script sends each form once there."""
    return ""


def check_rights(login: Login, needed: Permission, environment: str) -> None:
    """Raise HTTPException where a login does not see an environment (404), or may not do that there (403)."""
    if not login.sees(environment):
        raise HTTPException(404)
    if not login.may(needed, environment):
        raise HTTPException(403)
