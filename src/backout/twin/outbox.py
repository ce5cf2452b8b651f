"""The twin's outbox: captures email by SMTP and by an HTTP API of Resend's shape, one JSON file a message.

Nothing is ever sent on. The fault "email down" makes SMTP answer 421 and HTTP 503.

Access: an application sends by HTTP with any key of its own, as it does to its provider; reading captured mail, and
SMTP, need the twin's token. A page in a browser has no access, whatever name it uses for this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import hmac
import json
import time
import uuid
from typing import TYPE_CHECKING

from aiohttp import web
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from backout.providers.child import find_free_ports
from backout.twin.access import get_bearer, require_loopback
from backout.twin.faults import FaultKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from email.message import EmailMessage
    from pathlib import Path

    from aiosmtpd.smtp import Envelope, Session

    from backout.twin.faults import Faults

_LONGEST_BYTES = 10_000_000
_DOWN = "421 4.3.2 the email service is down"


class Outbox:
    """Both servers on loopback.

    Args:
        directory: where the messages go, oldest name first.
        faults: asked before each message.
        token: what reading and SMTP need; without one neither is possible.
        now: Unix seconds.
    """

    def __init__(
        self, directory: Path, faults: Faults, *, token: str = "", now: Callable[[], float] = time.time
    ) -> None:
        self.directory = directory
        self._faults = faults
        self._token = token
        self._now = now
        self._runner: web.AppRunner | None = None
        self._smtp: asyncio.Server | None = None
        self.http_port = 0
        self.smtp_port = 0

    @property
    def http_url(self) -> str:
        """The base URL for an application's email API."""
        return f"http://127.0.0.1:{self.http_port}"

    async def start(self, wanted_ports: Sequence[int] = ()) -> None:
        """Listen, on the wanted ports (HTTP, SMTP) where they are free."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.http_port, self.smtp_port = find_free_ports(2, wanted_ports)
        app = web.Application(client_max_size=_LONGEST_BYTES, middlewares=[require_loopback])
        app.add_routes(
            [
                web.post("/emails", self._post),
                web.post("/send", self._post),
                web.get("/emails", self._list),
                web.get("/emails/{id}", self._show),
                web.get("/health", self._health),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.http_port).start()
        loop = asyncio.get_running_loop()
        self._smtp = await loop.create_server(self._smtp_session, "127.0.0.1", self.smtp_port)

    async def stop(self) -> None:
        """Close both servers; nothing happens where they do not run."""
        if self._smtp is not None:
            self._smtp.close()
            self._smtp = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def messages(self) -> tuple[dict[str, object], ...]:
        """Return the captured messages, oldest first."""
        return tuple(json.loads(path.read_bytes()) for path in sorted(self.directory.glob("*.json")))

    def store(self, message: dict[str, object]) -> str:
        """Write one message to disk and return its id; it appears complete or not at all."""
        name = str(uuid.uuid4())
        at = self._now()
        path = self.directory / f"{int(at * 1e6):017d}-{name}.json"
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps({"id": name, "at": at, **message}, indent=2), encoding="utf-8")
        temporary.replace(path)
        return name

    def is_right(self, token: str) -> bool:
        """Whether this is the twin's token."""
        return bool(self._token) and hmac.compare_digest(token.encode(), self._token.encode())

    @property
    def is_down(self) -> bool:
        """Whether the fault is on."""
        return bool(self._faults.active(FaultKind.SERVICE_DOWN, "email"))

    # --- HTTP --------------------------------------------------------------------------------------------------

    async def _post(self, request: web.Request) -> web.Response:
        if self.is_down:
            return _make_problem(503, "service_unavailable", "the email service is down")
        if not get_bearer(request):
            return _make_problem(401, "missing_api_key", "Missing API key in the authorization header")
        try:
            body = json.loads(await request.read())
        except ValueError:
            return _make_problem(400, "validation_error", "the body is not JSON")
        if not isinstance(body, dict):
            return _make_problem(400, "validation_error", "the body is not an object")
        missing = [name for name in ("from", "to", "subject") if not body.get(name)]
        if missing:
            return _make_problem(422, "missing_required_field", f"Missing `{missing[0]}` field.")
        return web.json_response({"id": self.store({"via": "http", **body})})

    async def _list(self, request: web.Request) -> web.Response:
        if not self.is_right(get_bearer(request)):
            return _refuse_reader()
        return web.json_response({"data": self.messages()})

    async def _show(self, request: web.Request) -> web.Response:
        if not self.is_right(get_bearer(request)):
            return _refuse_reader()
        for message in self.messages():
            if message["id"] == request.match_info["id"]:
                return web.json_response(message)
        return _make_problem(404, "not_found", "Email not found")

    async def _health(self, _request: web.Request) -> web.Response:
        if self.is_down:
            return _make_problem(503, "service_unavailable", "the email service is down")
        return web.json_response({"status": "ok"})

    # --- SMTP --------------------------------------------------------------------------------------------------

    def _smtp_session(self) -> asyncio.Protocol:
        return SMTP(
            _Handler(self),
            hostname="outbox.twin.invalid",
            ident="outbox",
            data_size_limit=_LONGEST_BYTES,
            enable_SMTPUTF8=True,
            authenticator=self._authenticate,
            auth_require_tls=False,  # it never leaves this machine
            loop=asyncio.get_running_loop(),
        )

    def _authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, login: object
    ) -> AuthResult:
        right = isinstance(login, LoginPassword) and self.is_right(login.password.decode(errors="replace"))
        return AuthResult(success=right, handled=False)


class _Handler:
    """The handler that aiosmtpd calls; it prescribes the names of the methods."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    async def handle_HELO(self, _server: SMTP, session: Session, _envelope: Envelope, hostname: str) -> str:  # noqa: N802
        session.host_name = hostname
        return _DOWN if self._outbox.is_down else "250 outbox.twin.invalid"

    async def handle_EHLO(  # noqa: N802
        self, _server: SMTP, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [_DOWN] if self._outbox.is_down else responses

    async def handle_MAIL(  # noqa: N802
        self, _server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self._outbox.is_down:
            return _DOWN
        if not session.authenticated:
            return "530 5.7.0 log in with any name and the twin's token (api_token_file)"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self._outbox.is_down:
            return _DOWN
        content = envelope.original_content or b""
        parsed = email.message_from_bytes(content, policy=email.policy.default)
        identity = self._outbox.store(
            {
                "via": "smtp",
                "from": envelope.mail_from,
                "to": list(envelope.rcpt_tos),
                "subject": str(parsed.get("Subject", "")),
                "text": _get_body(parsed, "plain"),
                "html": _get_body(parsed, "html"),
                "raw": content.decode("utf-8", "replace"),
            }
        )
        return f"250 OK {identity}"


def _get_body(message: EmailMessage, kind: str) -> str | None:
    part = message.get_body(preferencelist=(kind,))
    if part is not None:
        with contextlib.suppress(LookupError, UnicodeError):
            return str(part.get_content())
    return None


def _refuse_reader() -> web.Response:
    return _make_problem(401, "missing_api_key", "reading the outbox needs the twin's token (api_token_file)")


def _make_problem(status: int, name: str, message: str) -> web.Response:
    return web.json_response({"statusCode": status, "name": name, "message": message}, status=status)
