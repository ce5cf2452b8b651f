"""Who is told, in tests: a verifier of webhooks written from the specification, and a mail server on loopback."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import email
import email.policy
import hashlib
import ssl
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import EmailMessage
    from pathlib import Path

    from aiosmtpd.smtp import Envelope, Session

    from scripted_server import Asked

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""Of the specification's published example."""


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    """RFC 2104 from its definition, beside the library that the sender uses."""
    key = (hashlib.sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in key) + data).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in key) + inner).digest()


def verified(headers: dict[str, str], body: bytes, secret: str = SECRET, *, now: float | None = None) -> bool:
    """Verify as a receiver that follows the specification does; `now`: refuse what is older than five minutes."""
    stamp = int(headers["webhook-timestamp"])
    if now is not None and abs(now - stamp) > 300:
        return False
    signed = headers["webhook-id"].encode() + b"." + headers["webhook-timestamp"].encode() + b"." + body
    wanted = hmac_sha256(base64.b64decode(secret.removeprefix("whsec_")), signed)
    given = (each.partition(",") for each in headers["webhook-signature"].split(" "))
    return any(version == "v1" and base64.b64decode(value) == wanted for version, _, value in given)


def verified_now(asked: Asked, secret: str = SECRET) -> bool:
    """Verify a request that came just now."""
    return verified(asked.headers, asked.body, secret, now=time.time())


@dataclass
class Mailbox:
    """A mail server and what it took; `refuse` maps a command ("MAIL", "RCPT", "DATA") to the answer it gives."""

    host: str = "127.0.0.1"
    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    receivers: list[list[str]] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
    refuse: dict[str, str] = field(default_factory=dict)

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's names
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        envelope.mail_from = address
        return self.refuse.get("MAIL", "250 OK")

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        answer = self.refuse.get(f"RCPT {address}", self.refuse.get("RCPT", "250 OK"))
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        if "DATA" in self.refuse:
            return self.refuse["DATA"]
        self.mails.append(email.message_from_bytes(envelope.original_content or b"", policy=email.policy.default))
        self.receivers.append(list(envelope.rcpt_tos))
        return "250 OK"

    def authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, mechanism: str, data: LoginPassword
    ) -> AuthResult:
        """Take note of who logs in; only "mailer" with "pass-canary-word" may."""
        if not isinstance(data, LoginPassword):
            return AuthResult(success=False, handled=False)
        login = (data.login.decode(), data.password.decode())
        self.logins.append(login)
        return AuthResult(success=login == ("mailer", "pass-canary-word"), handled=False)


@contextlib.contextmanager
def mailbox(tls: ssl.SSLContext | None = None, *, at_once: bool = False, auth: bool = False) -> Iterator[Mailbox]:
    """Serve mail on a loopback port until the block ends; `tls`: offered by STARTTLS, or from the start (`at_once`)."""
    box, loop = Mailbox(), asyncio.new_event_loop()
    starttls = None if at_once else tls

    def session() -> SMTP:
        return SMTP(
            box,
            hostname="mail.invalid",
            tls_context=starttls,
            authenticator=box.authenticate,
            auth_required=auth and starttls is not None,  # else it warns that passwords go in the clear
            auth_require_tls=starttls is not None,
            loop=loop,
        )

    listening = loop.create_server(session, box.host, 0, ssl=tls if at_once else None)
    server = loop.run_until_complete(listening)
    box.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield box
    finally:
        asyncio.run_coroutine_threadsafe(_stop(server), loop).result(PATIENCE_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_S)
        loop.close()


async def _stop(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def certificate(folder: Path, name: str = "localhost") -> tuple[ssl.SSLContext, Path]:
    """Return a server's context with a fresh certificate for `name`, and the file that a client trusts it by."""
    key, file = folder / f"{name}.key", folder / f"{name}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    subprocess.run([*command, "-keyout", key, "-out", file], check=True, capture_output=True, timeout=PATIENCE_S)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    return context, file
