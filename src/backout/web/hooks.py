"""Inbound webhooks: GitHub's `deployment_status`, and Standard Webhooks; they start a watch or a diagnosis, no more.

The rule: the signature is checked over the very bytes before anything of them is read, and what is asked for is one of
two acts that change nothing, whatever the sender may do elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import TYPE_CHECKING, Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.routing import Route

from backout.decoding import Undecodable, decode_json
from backout.errors import BackoutError
from backout.model.action_request import Act, Requester
from backout.model.value import Value
from backout.runbook.serve.action_requests import make_request
from backout.web.api import make_json
from backout.web.problems import make_problem

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from backout.wiring.serve import Site

_FRESH_S: Final = 300.0
"""How old or early the timestamp of a Standard Webhook may be."""
_ACTS: Final = {"success": Act.WATCH, "failure": Act.DIAGNOSE, "error": Act.DIAGNOSE}
"""What comes of each state of a deployment of GitHub's; of all others nothing does."""
_PREFIX: Final = "whsec_"
_MOST_ID: Final = 128


class HookSecrets(Value, frozen=True):
    """The secrets of senders, "" where none is let in; bytes as they sign with them."""

    github: bytes = b""
    standard: bytes = b""


class Hooks:
    """The routes of the webhooks that are set up.

    Attributes:
        routes: for the application.
    """

    def __init__(self, site: Site, secrets: HookSecrets) -> None:
        self._site, self._secrets = site, secrets
        self.routes: list[Route] = []
        if secrets.github:
            self.routes.append(Route("/hooks/github", self._take_github, methods=["POST"]))
        if secrets.standard:
            self.routes.append(Route("/hooks/standard", self._take_standard, methods=["POST"]))

    async def _take_github(self, request: Request) -> Response:
        """Take a delivery of GitHub's.

        Source: GitHub documentation, "Validating webhook deliveries" (2026): `X-Hub-Signature-256`, HMAC of the body.
        """
        body = await request.body()
        wanted = "sha256=" + hmac.new(self._secrets.github, body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(wanted.encode(), request.headers.get("x-hub-signature-256", "").encode()):
            return make_problem(401, "the signature is not that of this body")
        kind, number = request.headers.get("x-github-event", ""), request.headers.get("x-github-delivery", "")
        if kind != "deployment_status":
            return make_json({"ignored": f"{kind or 'no event'} starts nothing"})
        found = _read_table(body)
        state = str(_get_table(found.get("deployment_status")).get("state") or "")
        environment = str(_get_table(found.get("deployment")).get("environment") or "")
        if state not in _ACTS:
            return make_json({"ignored": f"a deployment that is {state or 'nothing'} starts nothing"})
        return await self._ask(environment, _ACTS[state], f"github:{number}", "GitHub")

    async def _take_standard(self, request: Request) -> Response:
        """Take a Standard Webhook: `{"environment": NAME, "act": "watch" | "diagnose"}`, also below `data`.

        Source: the Standard Webhooks specification (2023): `webhook-id`, `webhook-timestamp`, `webhook-signature`.
        """
        body, headers = await request.body(), request.headers
        number, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        if not number or not at.isdecimal() or len(at) > 15:
            return make_problem(401, "a Standard Webhook has an id, a timestamp and a signature")
        if abs(self._site.clock.now() - int(at)) > _FRESH_S:
            return make_problem(401, "the timestamp is more than five minutes off")
        signed = hmac.new(self._secrets.standard, f"{number}.{at}.".encode() + body, hashlib.sha256).digest()
        wanted = b"v1," + base64.b64encode(signed)
        given = headers.get("webhook-signature", "").encode().split(b" ")
        if not any([hmac.compare_digest(wanted, each) for each in given]):  # noqa: C419 - each takes as long
            return make_problem(401, "the signature is not that of this body")
        found = _read_table(body)
        found = _get_table(found.get("data")) or found
        try:
            act = Act(str(found.get("act") or ""))
        except ValueError:
            act = Act.ROLLBACK
        if act not in (Act.WATCH, Act.DIAGNOSE):
            return make_problem(422, "a webhook starts a watch or a diagnosis, and nothing else")
        return await self._ask(str(found.get("environment") or ""), act, f"standard:{number}", "a webhook")

    async def _ask(self, environment: str, act: Act, key: str, by: str) -> Response:
        if environment not in self._site.environments:
            return make_json({"ignored": "no environment of backout.toml has that name"})
        try:
            made = await run_in_threadpool(
                make_request,
                self._site.journal,
                environment,
                act,
                key=key[:_MOST_ID],
                by=Requester(by),
                actor=f"{by} (by {self._site.actor})",
            )
        except BackoutError as error:
            return make_problem(503, error.what)
        return make_json({"request": made.id, "environment": environment, "act": act}, 202)


def decode_standard_secret(text: str) -> bytes:
    """Return the bytes of a secret as Standard Webhooks writes it, `whsec_` and base64. Raises ValueError."""
    if not text.startswith(_PREFIX):
        raise ValueError(f"it does not begin with {_PREFIX}")
    try:
        return base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("it is no base64") from None


def _read_table(body: bytes) -> dict[str, Any]:
    try:
        found = decode_json(body, what="the body")
    except Undecodable:
        return {}
    return found if isinstance(found, dict) else {}


def _get_table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
