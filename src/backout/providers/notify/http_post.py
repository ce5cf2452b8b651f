"""One POST of a notice: bounded in time, without following redirects; each status decides about another try."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from backout import __version__
from backout.providers.exchange import Answer, Connection, ExchangeError, Limits, Origin
from backout.providers.notify.channel import SendFailed
from backout.providers.retry import retry_after_s

if TYPE_CHECKING:
    from collections.abc import Mapping

LIMITS: Final = Limits(connect_s=5.0, read_s=10.0, total_s=10.0, body_bytes=64 * 1024)
_AGAIN: Final = frozenset({408, 425, 429})
_WORD: Final = re.compile(r"[a-z][a-z_]{2,60}")


class Post:
    """An address that notices are posted to; of its URL only the origin is ever shown.

    Raises:
        SendFailed: the URL cannot be used.
    """

    def __init__(self, url: str) -> None:
        try:
            self._origin = Origin.of(url)
        except ValueError as error:
            raise SendFailed(f"its URL is {error}", permanent=False, retry_after_s=300) from error
        parts = urlsplit(url)
        if parts.username is not None or not url.isascii() or not url.isprintable() or " " in url:
            raise SendFailed("its URL holds a user name, or characters that no URL has", retry_after_s=300)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def send(self, body: bytes, headers: Mapping[str, str], now: float) -> None:
        """Post JSON once.

        Raises:
            SendFailed: no answer, or one that is not 2xx.
        """
        connection = Connection(self._origin, LIMITS)
        sent = {"Content-Type": "application/json", "User-Agent": f"backout/{__version__}", **headers}
        try:
            answer = connection.exchange("POST", self._target, headers=sent, body=body)
        except ExchangeError as error:
            if error.status is not None and 200 <= error.status < 300:
                return  # it took the notice; what it had to say about that is its own affair
            raise SendFailed(f"{self._origin}: {error}") from error
        finally:
            connection.close()
        self._judge(answer, now)

    def _judge(self, answer: Answer, now: float) -> None:
        status = answer.status
        if 200 <= status < 300:
            return
        said = f"{self._origin} answered {status}{_get_word(answer.body)}"
        if 300 <= status < 400:
            raise SendFailed(f"{said}; redirects are not followed")
        permanent = 400 <= status < 500 and status not in _AGAIN
        wait_s = retry_after_s(answer.headers.get("retry-after"), now)
        raise SendFailed(said, permanent=permanent, retry_after_s=wait_s)


def _get_word(body: bytes) -> str:
    """Return the one word that Slack answers as its reason; any other body stays unread."""
    text = body[:64].decode("ascii", "replace").strip()
    return f" ({text})" if _WORD.fullmatch(text) else ""
