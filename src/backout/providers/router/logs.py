"""Port Logs on a router that keeps the newest tail events: the exceptions and error lines of one version, counted."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import msgspec

from backout.providers.router.client import QUICK, RouterClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backout.ports import Clock
    from backout.providers.retry import Retry

_MAX_EVENTS: Final = 1000
_MAX_TEXT: Final = 300
_FINE: Final = frozenset({"ok", "canceled"})


class _Exception(msgspec.Struct):
    name: str = ""
    message: object = ""


class _Log(msgspec.Struct):
    level: str = ""
    message: object = ""


class _ScriptVersion(msgspec.Struct):
    id: str = ""


class _Event(msgspec.Struct):
    at: float = 0.0
    outcome: str = "ok"
    scriptVersion: _ScriptVersion | None = None  # noqa: N815 - the event's own name
    exceptions: tuple[_Exception, ...] | None = ()
    logs: tuple[_Log, ...] | None = ()

    def texts(self) -> Iterator[str]:
        """Yield what went wrong here; an event that failed without a word gives its outcome."""
        found = [f"{error.name}: {_said(error.message)}" for error in self.exceptions or ()]
        found += [_said(log.message) for log in self.logs or () if log.level == "error"]
        if not found and self.outcome not in _FINE:
            found = [f"outcome {self.outcome}"]
        yield from (_line(text) for text in found)


class _Page(msgspec.Struct):
    events: tuple[_Event, ...] = ()


class RouterLogs:
    """Port Logs of one script behind a router; arguments as `RouterTraffic`."""

    def __init__(
        self,
        url: str,
        script: str,
        token: Callable[[], str] | None = None,
        *,
        clock: Clock | None = None,
        retry: Retry = QUICK,
    ) -> None:
        self._client = RouterClient(url, token, clock=clock, retry=retry)
        self._script = script

    def errors(self, version: str, since: float) -> tuple[tuple[str, int], ...]:
        """Return (text, how often) among the newest thousand events, most frequent first, equal ones by text."""
        query = {"script": self._script, "since": f"{since:.6f}", "limit": str(_MAX_EVENTS)}
        page = self._client.get("events", query, _Page)
        ours = [event for event in page.events if event.scriptVersion and event.scriptVersion.id == version]
        counted = Counter(text for event in ours if event.at >= since for text in event.texts())
        return tuple(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def _said(message: object) -> str:
    """Return a log message as one text: console.log's arguments come as a list."""
    if isinstance(message, str):
        return message
    if isinstance(message, list):
        return " ".join(_said(part) for part in message)
    return msgspec.json.encode(message).decode()


def _line(text: str) -> str:
    first = text.strip().splitlines()[0] if text.strip() else ""
    return "".join(c if c.isprintable() else " " for c in first)[:_MAX_TEXT]
