"""The channel SMTP: one plain-text mail for each notice, all mails of a run in one thread.

The connection is made as every other one (`sockets.dial`), and a reply of the server has a limit.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import smtplib
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate
from typing import TYPE_CHECKING, Final, cast

from backout.escaping import escape_line, make_printable
from backout.model.incident.notice import PAGE
from backout.providers.notify.channel import SendFailed
from backout.providers.sockets import ExchangeError, dial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedReader

    from backout.model.incident.notice import Notice

CONNECT_S: Final = 5.0
TOTAL_S: Final = 30.0
"""Servers that make strangers wait on purpose are common; more than this is no answer."""
_LONGEST_REPLY_BYTES: Final = 64 * 1024
_GREETED: Final = 220


@dataclass(frozen=True, slots=True)
class Server:
    """How mail is submitted.

    Args:
        security: starttls, tls or none.
        trust: makes the TLS context.
        within_s: the time limit for one mail.
    """

    host: str
    port: int
    security: str = "starttls"
    user: str = ""
    password: str = field(default="", repr=False)
    trust: Callable[[], ssl.SSLContext] = ssl.create_default_context
    within_s: float = TOTAL_S


class Smtp:
    """Mails each notice from one sender to all receivers."""

    def __init__(self, server: Server, sender: str, to: tuple[str, ...]) -> None:
        self._server = server
        self._sender = sender
        self._to = to

    def send(self, notice: Notice, now: float) -> None:
        """Send it once; a server that accepted it for some receivers has it.

        Raises:
            SendFailed: no receiver has it; `permanent` when another try would fail the same way.
        """
        server = self._server
        mail = compose(notice, self._sender, self._to, now)
        try:
            with _session(server) as session:
                if server.user:
                    session.login(server.user, server.password)
                session.send_message(mail, self._sender, list(self._to))
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            raise self._make_failure("refuses every receiver", permanent=min(codes, default=0) >= 500) from error
        except smtplib.SMTPAuthenticationError as error:
            raise self._make_failure(f"does not accept the user and password ({error.smtp_code})") from error
        except smtplib.SMTPResponseException as error:
            # Only what it says about this mail is final; a refused greeting may be over tomorrow.
            about_mail = isinstance(error, smtplib.SMTPSenderRefused | smtplib.SMTPDataError)
            permanent = about_mail and error.smtp_code >= 500
            raise self._make_failure(
                f"answered {error.smtp_code} {_clean_reply(error.smtp_error)}", permanent=permanent
            ) from error
        except smtplib.SMTPNotSupportedError as error:
            raise self._make_failure(f"does not support what is set up: {error}") from error
        except ExchangeError as error:
            raise self._make_failure(f"cannot be reached: {error}") from error
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise self._make_failure(f"{_clean_reply(getattr(error, 'strerror', None) or error)}") from error

    def _make_failure(self, why: str, *, permanent: bool = False) -> SendFailed:
        return SendFailed(f"{self._server.host}:{self._server.port} {why}", permanent=permanent)


@contextlib.contextmanager
def _session(server: Server) -> Iterator[smtplib.SMTP]:
    """Yield a session that ends when the block does, or is cut off when its time is over."""
    name = os.uname().nodename
    me = name if "." in name else "[127.0.0.1]"  # asking for our full name could wait for a name server
    session = _Session(timeout=CONNECT_S, local_hostname=me)
    session._host = server.host  # type: ignore[attr-defined]  # noqa: SLF001 - TLS checks it; the constructor would connect
    cut = threading.Timer(server.within_s, _cut_off, (session,))
    cut.daemon = True
    cut.start()
    try:
        session.sock = dial(server.host, server.port, time.monotonic() + CONNECT_S, named=server.host)
        session.sock.settimeout(CONNECT_S)
        if server.security == "tls":
            session.sock = server.trust().wrap_socket(session.sock, server_hostname=server.host)
        code, said = session.getreply()
        if code != _GREETED:
            raise smtplib.SMTPConnectError(code, said)
        session.sock.settimeout(server.within_s)
        if server.security == "starttls":
            session.starttls(context=server.trust())
        yield session
        with contextlib.suppress(smtplib.SMTPException, OSError):
            session.quit()  # the mail is accepted already
    finally:
        cut.cancel()
        session.close()


class _Session(smtplib.SMTP):
    """A session whose every reply has a limit."""

    def getreply(self) -> tuple[int, bytes]:
        """Return the next reply. Raises ValueError: it is longer than any reply is."""
        if self.file is None and self.sock is not None:
            self.file = _Replies(self.sock.makefile("rb"))
        if self.file is not None:
            cast("_Replies", self.file).begin()
        return super().getreply()


class _Replies:
    """What smtplib needs of the file that it reads replies from: lines, of which one reply has only so many bytes."""

    def __init__(self, file: BufferedReader) -> None:
        self._file = file
        self._left = _LONGEST_REPLY_BYTES

    def begin(self) -> None:
        """Begin the next reply."""
        self._left = _LONGEST_REPLY_BYTES

    def readline(self, most: int) -> bytes:
        """Return the next line."""
        line = self._file.readline(most)
        self._left -= len(line)
        if self._left < 0:
            raise ValueError("sends a reply without an end")
        return line

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _cut_off(session: smtplib.SMTP) -> None:
    if session.sock is not None:
        with contextlib.suppress(OSError):
            session.sock.shutdown(socket.SHUT_RDWR)


def compose(notice: Notice, sender: str, to: tuple[str, ...], now: float) -> EmailMessage:
    """Return the mail; its Message-ID comes from the notice's key, its thread from the run."""
    domain = sender.rpartition("@")[2].strip("> ") or "localhost"
    mail = EmailMessage()
    mail["Subject"] = _format_line(f"[backout] {notice.title}")
    mail["From"] = sender
    mail["To"] = ", ".join(to)
    mail["Date"] = formatdate(now)
    mail["Message-ID"] = f"<{_compute_digest(notice.key)}@{domain}>"
    thread = notice.facts.get("guard_run_id") or notice.run
    if thread:
        mail["In-Reply-To"] = mail["References"] = f"<{_compute_digest(thread)}.run@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(_format_body(notice))
    return mail


def _format_body(notice: Notice) -> str:
    parts = [notice.text]
    facts = dict(notice.facts)
    if page := facts.pop(PAGE, ""):
        parts.append(f"What happened, and what you can do:\n  {page}")
    if notice.next:
        parts.append("What to type next:\n" + "\n".join(f"  {command}" for command in notice.next))
    rows = [("environment", notice.environment), ("run", notice.run), *facts.items()]
    parts.append("\n".join(f"{name}: {value}" for name, value in rows if value))
    return make_printable("\n\n".join(parts)) + "\n"


def _compute_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _format_line(text: str) -> str:
    return escape_line(text)[:200]


def _clean_reply(text: object) -> str:
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return "".join(c if c.isprintable() else " " for c in words)[:150].strip()
