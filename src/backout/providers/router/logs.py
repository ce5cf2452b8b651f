"""Port Logs on a router that keeps the newest tail events: what threw, failed or logged, of every version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from backout.model.incident.events import Invocation, LogPage, Origin, Said
from backout.providers.events.tally import EventTally
from backout.providers.router.client import QUICK, RouterClient

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.ports import Clock
    from backout.providers.events.tally import KeyOf
    from backout.providers.retry import Retry

_MAX_EVENTS: Final = 1000
_LEVELS: Final = {"error": Origin.ERROR, "warn": Origin.WARNING}


class _Exception(msgspec.Struct):
    name: str = ""
    message: object = ""
    stack: str | None = None


class _Log(msgspec.Struct):
    level: str = ""
    message: object = ""


class _ScriptVersion(msgspec.Struct):
    id: str = ""


class _Response(msgspec.Struct):
    status: int | None = None


class _Inner(msgspec.Struct):
    response: _Response | None = None


class _Event(msgspec.Struct):
    at: float = 0.0
    outcome: str = "ok"
    scriptVersion: _ScriptVersion | None = None  # noqa: N815 - the event's own name
    exceptions: tuple[_Exception, ...] | None = ()
    logs: tuple[_Log, ...] | None = ()
    event: _Inner | None = None

    def invocation(self) -> Invocation:
        """Return it as the model has it: exceptions first, then what was logged as an error or a warning."""
        said = [Said(Origin.EXCEPTION, _format_exception(error)) for error in self.exceptions or ()]
        said += [
            Said(_LEVELS[log.level], _format_message(log.message)) for log in self.logs or () if log.level in _LEVELS
        ]
        return Invocation(
            version=self.scriptVersion.id if self.scriptVersion else "",
            at=self.at,
            outcome=self.outcome,
            status=self.event.response.status if self.event and self.event.response else None,
            said=tuple(said),
        )


class _Page(msgspec.Struct):
    events: tuple[_Event, ...] = ()


class RouterLogs:
    """Port Logs of one script behind a router; `key_of` as `EventTally`, the other arguments as `RouterTraffic`."""

    def __init__(
        self,
        url: str,
        script: str,
        token: Callable[[], str] | None = None,
        *,
        key_of: KeyOf,
        clock: Clock | None = None,
        retry: Retry = QUICK,
    ) -> None:
        self._client = RouterClient(url, token, clock=clock, retry=retry)
        self._script = script
        self._key_of = key_of

    def read(self, since: float, until: float) -> LogPage:
        """Return the newest thousand events between these times that threw, failed or logged."""
        query = {"script": self._script, "since": f"{since:.6f}", "limit": str(_MAX_EVENTS)}
        page = self._client.get("events", query, _Page)
        tally = EventTally(self._key_of)
        for event in page.events:
            if since <= event.at <= until:
                tally.add(event.invocation(), lambda: "the router")
        is_full = len(page.events) >= _MAX_EVENTS
        return LogPage(tally.result(), since=page.events[0].at if is_full else None)


def _format_message(message: object) -> str:
    """Return a log message as one text: console.log's arguments come as a list."""
    if isinstance(message, str):
        return message
    if isinstance(message, list):
        return " ".join(_format_message(part) for part in message)
    return msgspec.json.encode(message).decode()


def _format_exception(error: _Exception) -> str:
    """Return an exception as it is written: class, message, stack; a stack usually begins with both."""
    head = f"{error.name}: {_format_message(error.message)}" if error.name else _format_message(error.message)
    stack = error.stack or ""
    return stack if stack.startswith(head[:80]) else f"{head}\n{stack}".rstrip()
