"""Port DeadMan over HTTP: one GET in a thread of its own, at most five seconds; a failure is reported once.

The URL is the secret of most such services, so no text ever quotes it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from backout import __version__
from backout.errors import BackoutError
from backout.providers.exchange import Connection, ExchangeError, Limits, Origin

if TYPE_CHECKING:
    from collections.abc import Callable

WITHIN_S: Final = 5.0
_GOOD: Final = range(200, 400)


class HttpDeadMan:
    """Port DeadMan.

    Args:
        url: returns the URL; asked at each ping, never shown.
        say: tells a person, in one sentence.
    """

    def __init__(self, url: Callable[[], str], say: Callable[[str], None]) -> None:
        self._url = url
        self._say = say
        self._pinging: threading.Thread | None = None
        self._failed = False

    def ping(self) -> None:
        """Ask the URL in the background; one that is still being asked is not asked again."""
        if self._pinging is not None and self._pinging.is_alive():
            return
        self._pinging = threading.Thread(target=self._ask, name="backout-dead-man", daemon=True)
        self._pinging.start()

    def join(self, within_s: float) -> None:
        """Wait at most that long for a ping that is under way."""
        if self._pinging is not None:
            self._pinging.join(within_s)

    def _ask(self) -> None:
        trouble = self._trouble()
        if trouble and not self._failed:
            self._say(f"the dead-man URL does not take the ping ({trouble}); guard goes on, but unwatched")
        if self._failed and not trouble:
            self._say("the dead-man URL takes the pings again")
        self._failed = bool(trouble)

    def _trouble(self) -> str:
        try:
            url = self._url()
            parts = urlsplit(url)
            connection = Connection(Origin.of(url), Limits(WITHIN_S, WITHIN_S, WITHIN_S, 64 * 1024))
        except BackoutError as error:
            return error.what
        except ValueError:
            return "it is not an https URL"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            answer = connection.exchange("GET", target, headers={"User-Agent": f"backout/{__version__}"})
        except ExchangeError as error:
            return str(error.failure)
        finally:
            connection.close()
        return "" if answer.status in _GOOD else f"it answers {answer.status}"
