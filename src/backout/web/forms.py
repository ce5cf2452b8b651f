"""What people send: logging in and out, requests, what is asked of a run, and what is said of an incident."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from backout.errors import Refused, UsageError
from backout.escaping import fold_blanks, make_harmless
from backout.model.action_request import Act, Requester
from backout.model.incident import record
from backout.model.incident.incident import RunState
from backout.model.login import Permission
from backout.runbook.incident.case import add_remark
from backout.runbook.serve.action_requests import make_request
from backout.runbook.serve.logins import SESSION_S
from backout.web.pages import check_rights
from backout.web.return_path import forget_asked, keep_asked, keep_path, read_asked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from backout.model.action_request import ActionRequest
    from backout.model.incident.incident import Run
    from backout.model.login import Login
    from backout.web.pages import Pages
    from backout.web.sessions import Sessions, Tries
    from backout.wiring.serve import Site

MOST_WHY: Final = 500
MOST_TEXT: Final = 4000
MOST_TARGET: Final = 128
MOST_KEY: Final = 64
_MOST_FIELDS: Final = 30
REMARKS: Final = {"note": record.NOTED, "ack": record.ACKNOWLEDGED, "resolve": record.RESOLVED}
ASKS: Final = {
    "approve": Permission.APPROVER,
    "pause": Permission.OPERATOR,
    "abort": Permission.OPERATOR,
}
"""What is asked of a run in the journal itself, and what it needs; the other requests are a worker's to do."""


class Forms:
    """What is sent by a page."""

    def __init__(self, site: Site, sessions: Sessions, pages: Pages, tries: Tries) -> None:
        self._site, self._sessions, self._pages, self._tries = site, sessions, pages, tries

    async def show_login(self, request: Request) -> Response:
        """Show the form that a one-time URL leads to: nothing is used up until it is sent.

        Without such a URL it is kept which page was asked for: the URL that is made meanwhile knows nothing of it.
        """
        offer, why = request.query_params.get("offer", "")[:200], ""
        if offer and not await run_in_threadpool(self._site.logins.is_offered, offer):
            offer, why = "", "There is no such login, or it is too old."
        asked = keep_path(request.query_params.get("next", "/"))
        if asked == "/":
            return self._show(request, offer=offer, why=why)
        answer = self._show(request, offer=offer, next=asked, why=why)
        if not offer:
            keep_asked(answer, self._sessions, asked)
        return answer

    def _show(self, request: Request, status: int = 200, **found: str) -> Response:
        """Show the page of the login, which leads on to the page that was asked for."""
        origin = f"{'https' if self._sessions.secure else 'http'}://{request.headers.get('host', '')}"
        shown = {"offer": "", "next": read_asked(request, self._sessions), "origin": origin, **found}
        return self._pages.render("login", None, shown, status)

    async def login(self, request: Request) -> Response:
        """Begin a session, by the secret of a one-time URL."""
        peer = request.client.host if request.client is not None else ""
        if not self._tries.may(peer):
            return self._show(request, 429, why="Too many attempts: wait a minute.")
        form = await _read_form(request)
        try:
            secret, _login = await run_in_threadpool(self._site.logins.use_offer, form.get("offer", ""))
        except Refused as error:
            return self._show(request, 403, why=f"{error.what}.")
        answer = RedirectResponse(keep_path(form.get("next", "/")), 303)
        forget_asked(request, answer, self._sessions)
        answer.set_cookie(
            self._sessions.cookie,
            secret,
            max_age=int(SESSION_S),
            httponly=True,
            samesite="lax",
            secure=self._sessions.secure,
        )
        return answer

    async def logout(self, request: Request) -> Response:
        """End the session."""
        login = await self._pages.find_login(request)
        if login.via == "url":
            await run_in_threadpool(self._site.logins.end, login)
        answer = RedirectResponse("/login", 303)
        # With the attributes that it was set with: a browser takes no other answer for a cookie named `__Host-`.
        answer.delete_cookie(self._sessions.cookie, secure=self._sessions.secure, httponly=True, samesite="lax")
        return answer

    async def make_request(self, request: Request) -> Response:
        """Record a request for the worker, and show it."""
        name = request.path_params["environment"]
        login = await self._find(request, name, Permission.OPERATOR)
        form = await _read_form(request)
        made = await run_in_threadpool(record_request, self._site, login, name, form)
        return RedirectResponse(f"/env/{name}/requests/{made.id}", 303)

    async def ask(self, request: Request) -> Response:
        """Ask something of a run: in the journal where nothing else is needed, of the worker otherwise."""
        name, run = request.path_params["environment"], request.path_params["run"]
        login = await self._find(request, name, Permission.OPERATOR)
        form = await _read_form(request)
        what = form.get("what", "")
        if what in ("resume", "undo"):
            made = await run_in_threadpool(
                record_request, self._site, login, name, {**form, "act": what, "target": run}
            )
            return RedirectResponse(f"/env/{name}/requests/{made.id}", 303)
        goes_on = what == "approve" and "go_on" in form
        if goes_on:
            check_confirmed(self._site, name, form)  # before anything is approved
        await run_in_threadpool(self._ask_once, login, name, run, form)
        if goes_on:
            resume = {**form, "act": Act.RESUME, "target": run}
            made = await run_in_threadpool(record_request, self._site, login, name, resume)
            return RedirectResponse(f"/env/{name}/requests/{made.id}", 303)
        return RedirectResponse(f"/env/{name}/run/{run}", 303)

    def _ask_once(self, login: Login, environment: str, run: str, form: Mapping[str, str]) -> None:
        """Ask, unless the run is what is asked for already: a form that was sent twice asks once."""
        found = self._site.journal.find(run)
        if found is None or found.id != run or not is_asked_already(found, form.get("what", "")):
            ask_of_run(self._site, login, environment, run, form)

    async def add_remark(self, request: Request) -> Response:
        """Write a note, an acknowledgement or a resolution into an incident."""
        name, incident = request.path_params["environment"], request.path_params["incident"]
        login = await self._find(request, name, Permission.OPERATOR)
        form = await _read_form(request)
        await run_in_threadpool(write_remark, self._site, login, name, incident, form)
        at = "#notes" if form.get("kind") == "note" else ""
        return RedirectResponse(keep_path(form.get("next") or f"/env/{name}/incident/{incident}") + at, 303)

    async def _find(self, request: Request, environment: str, needed: Permission) -> Login:
        login = await self._pages.find_login(request)
        self._pages.check(login, needed, environment)
        return login


def record_request(site: Site, login: Login, environment: str, form: Mapping[str, str]) -> ActionRequest:
    """Record a request that a login may make.

    Raises:
        Refused: its environment is protected, and its name was not typed; or a second person would have to approve.
        UsageError: it is none, or lacks its reason.
    """
    from backout.wiring.worker_requests import check_target_text

    site.choose(environment)
    try:
        act = Act(form.get("act", ""))
    except ValueError:
        raise UsageError(f"that cannot be asked for; {', '.join(Act)} can", where="act") from None
    why, target = site.mask(_read_why(form, required=act.changes)), _read_line(form, "target")
    check_target_text(act, target)
    if act in (Act.RESUME, Act.UNDO) and site.find_run(environment, target) is None:
        raise UsageError(f"there is no run {target!r}", where=environment)
    if act.changes:
        check_confirmed(site, environment, form)
    if act in (Act.ROLLBACK, Act.UNDO):
        check_second_person(site, login, environment)
    key = _read_line(form, "key") or secrets.token_hex(8)
    if len(key) > MOST_KEY:
        raise UsageError(f"a key has at most {MOST_KEY} characters", where="key")
    return make_request(
        site.journal,
        environment,
        act,
        key=json.dumps([login.via, login.name, key]),  # no name and key of one login are those of another
        by=Requester(login.name, login.person),
        target=target,
        why=why,
        actor=make_actor(site, login),
    )


def check_confirmed(site: Site, environment: str, form: Mapping[str, str]) -> None:
    """Raise Refused where an environment is protected, and its name was not typed."""
    if site.choose(environment).protected and form.get("confirm", "").strip() != environment:
        raise Refused(f"type {environment} to confirm: it is protected", where="confirm")


def ask_of_run(site: Site, login: Login, environment: str, run: str, form: Mapping[str, str]) -> None:
    """Ask something of a run that the journal alone decides.

    Raises:
        HTTPException (403): the login may not.
        Refused: the run is not in the state for it, or its plan is not the one that was shown.
        UsageError: there is no such run, or that cannot be asked.
    """
    what = form.get("what", "")
    needed = ASKS.get(what)
    if needed is None:
        raise UsageError(f"that cannot be asked of a run; {', '.join(ASKS)} can", where="what")
    check_rights(login, needed, environment)
    found = site.find_run(environment, run)
    if found is None:
        raise UsageError(f"there is no run {run!r}", where=environment)
    why = site.mask(_read_why(form, required=True))
    if what == "approve" and form.get("plan_hash", "") != found.plan.hash:
        raise Refused("the plan is not the one that you were shown: look at it again", where=run)
    journal = site.open_journal(environment)
    journal.ask(found.id, what, actor=make_actor(site, login), reason=why, on_behalf_of=login.person)


def is_asked_already(run: Run, what: str) -> bool:
    """Whether a run is approved, pauses or was given up already."""
    if what == "approve":
        return run.approval is not None and run.approval.hash == run.plan.hash
    return run.pause is not None if what == "pause" else what == "abort" and run.state is RunState.ABORTED


def check_second_person(site: Site, login: Login, environment: str) -> None:
    """Raise Refused where a second person has to approve, and nobody vouches for who asks: the login is no person's."""
    if site.needs_second_person(environment):
        site.open_journal(environment).check_asker(environment, login.person)


def write_remark(site: Site, login: Login, environment: str, incident: str, form: Mapping[str, str]) -> None:
    """Write what a person says of an incident. Raises UsageError: there is none, or nothing is said."""
    kind = REMARKS.get(form.get("kind", ""))
    if kind is None:
        raise UsageError(f"that cannot be written; {', '.join(REMARKS)} can", where="kind")
    text = _read_text(form, "text")
    if kind == record.NOTED and not text:
        raise UsageError("a note needs a text", where="text")
    if len(text) > MOST_TEXT:
        raise UsageError(f"a text has at most {MOST_TEXT} characters", where="text")
    found = next((each for each in site.incidents.list_incidents(environment) if each.id == incident), None)
    if found is None:
        raise UsageError(f"there is no incident {incident!r}", where=environment)
    key = form.get("key", "").strip()[:MOST_KEY]
    records = site.open_records(environment, make_actor(site, login))
    add_remark(records, found, kind, site.mask(text), key=key and f"{login.name}:{key}")


def make_actor(site: Site, login: Login) -> str:
    """Return who acts, as the journal's events name it: the login, and where it came in."""
    return f"{login.name} (by {site.actor})"


def _read_why(form: Mapping[str, str], *, required: bool) -> str:
    why = _read_line(form, "why")
    if required and not why:
        raise UsageError("say why: it is recorded", where="why")
    if len(why) > MOST_WHY:
        raise UsageError(f"a reason has at most {MOST_WHY} characters", where="why")
    return why


def _read_line(form: Mapping[str, str], name: str) -> str:
    """Return a text on one line, see `_read_text`."""
    return fold_blanks(_read_text(form, name))


def _read_text(form: Mapping[str, str], name: str) -> str:
    """Return a text with `?` for what a terminal would obey: it becomes a word of a command, which takes no NUL."""
    return make_harmless(form.get(name, "").replace("\r\n", "\n").strip())


async def _read_form(request: Request) -> Mapping[str, str]:
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise HTTPException(415, "send a form: application/x-www-form-urlencoded")
    try:
        text = (await request.body()).decode()
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict"))
    except ValueError:
        raise HTTPException(400, "that is no form") from None
