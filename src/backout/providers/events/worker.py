"""Converts one event of a Worker, from a tail, from Logpush or from telemetry, to an Invocation.

Source: Cloudflare, "Workers Trace Events" (Logpush fields); wrangler 4.164, what its tail command reads and prints; a
tail event's outcomes are workerd's `EventOutcome`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from backout.decoding import is_nested_too_deep, make_decoder
from backout.model.incident.events import Invocation, Origin, Said
from backout.model.outcomes import OK
from backout.providers.events.times import parse_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ERROR_LEVELS: Final = frozenset({"error", "fatal", "critical"})
WARNING_LEVELS: Final = frozenset({"warn", "warning"})
_LEVELS: Final = {"error": Origin.ERROR, "warn": Origin.WARNING}
"""The levels of console methods that show trouble, as a tail writes them."""
_ANY_LEVELS: Final = {**dict.fromkeys(ERROR_LEVELS, Origin.ERROR), **dict.fromkeys(WARNING_LEVELS, Origin.WARNING)}
MULTI_STATUS: Final = 207
"""How a batch of remote procedure calls answers of which some failed; nothing else may tell."""
_SERVER_ERROR: Final = 500
_STATUSES: Final = range(100, 600)
_NULL: Final = msgspec.Raw(b"null")
_MOST_SAID: Final = 100
"""Texts of one invocation that are looked at."""
_MOST_CHARACTERS: Final = 20_000
_OVERLOAD: Final = ("overload", "overload-stop")

_decode = msgspec.json.decode


class _Version(msgspec.Struct, gc=False):
    id: str = ""


class _Log(msgspec.Struct, gc=False):
    level: str = ""
    message: msgspec.Raw = _NULL


class _Thrown(msgspec.Struct, gc=False):
    name: object = None
    message: object = None
    stack: object = None


class _Request(msgspec.Struct, gc=False):
    url: msgspec.Raw = _NULL
    method: msgspec.Raw = _NULL


class _Response(msgspec.Struct, gc=False):
    status: int | None = None


class _Inner(msgspec.Struct, gc=False):
    request: _Request | None = None
    response: _Response | None = None
    type: str = ""


class TailEvent(msgspec.Struct, rename="camel", gc=False):
    """The parts of a tail event that are read; everything else is skipped without being built.

    `is_tail` tells whether it was one at all: any JSON object has this shape.
    """

    outcome: str | None = None
    script_version: _Version | None = None
    exceptions: list[_Thrown] | None = None
    logs: list[_Log] | None = None
    event_timestamp: float | None = None
    event: _Inner | None = None
    script_name: str | None = None
    truncated: bool = False
    response: _Response | None = None

    @property
    def is_tail(self) -> bool:
        """Whether it says what only an event of a Worker does."""
        return self.outcome is not None or self.script_version is not None

    @property
    def is_notice(self) -> bool:
        """Whether the tail speaks of itself: it left out events."""
        return self.event is not None and self.event.type in _OVERLOAD

    @property
    def at(self) -> float | None:
        """When it happened, in Unix seconds."""
        return None if self.event_timestamp is None else self.event_timestamp / 1000

    @property
    def version(self) -> str:
        """The version that ran, "" when unknown."""
        return self.script_version.id if self.script_version is not None else ""

    @property
    def is_utf8(self) -> bool:
        """Whether what it logged is; the rest was decoded with it."""
        try:
            for log in self.logs or ():
                raw = bytes(log.message)
                if not raw.isascii():
                    raw.decode()
        except UnicodeDecodeError:
            return False
        return True

    def invocation(self) -> Invocation:
        """Return it with everything that it says."""
        said = [Said(Origin.EXCEPTION, format_thrown(x.name, x.message, x.stack)) for x in self.exceptions or ()]
        for log in self.logs or ():
            origin = _LEVELS.get(log.level)
            if origin is not None and (text := format_logged(_decode_value(log.message))):
                said.append(Said(origin, text))
        inner, stamp, version = self.event, self.event_timestamp, self.script_version
        response = (inner.response if inner is not None else None) or self.response
        status = parse_status(response.status) if response is not None else None
        if status == MULTI_STATUS and inner is not None and inner.request is not None:
            said += describe_failed_batch(_decode_value(inner.request.url))
        return Invocation(
            version.id if version is not None else "",
            None if stamp is None else stamp / 1000,
            self.outcome or OK,
            status,
            tuple(said[:_MOST_SAID] if len(said) > _MOST_SAID else said),
            self.truncated,
            self.script_name or "",
        )


TAIL: Final = make_decoder(TailEvent)


def sift(events: Sequence[TailEvent], quiet: dict[str, int]) -> list[int]:
    """Count the ordinary invocations by version, and return where in the list the others are.

    Ordinary: it tells its version, was ok, threw nothing, logged nothing as a warning or worse, and left nothing out.
    """
    others = []
    for index, event in enumerate(events):
        version, outcome, inner = event.script_version, event.outcome, event.event
        if (
            version is not None
            and version.id
            and (outcome == OK or outcome is None)
            and not event.exceptions
            and not event.truncated
            and event.response is None
        ):
            if inner is not None:
                response = inner.response
                if response is not None:
                    status = response.status
                    if status is not None and (status >= _SERVER_ERROR or status == MULTI_STATUS):
                        others.append(index)
                        continue
                if inner.type in _OVERLOAD:
                    others.append(index)
                    continue
            for log in event.logs or ():
                if log.level in _LEVELS:
                    others.append(index)
                    break
            else:
                name = version.id
                quiet[name] = quiet.get(name, 0) + 1
            continue
        others.append(index)
    return others


def decode_leniently(found: Mapping[str, object]) -> Invocation | None:
    """Return the invocation from an object of another spelling or with odd types; None when it is not an event.

    Names count without their case: Logpush writes them in capitals.
    """
    event = {name.lower(): value for name, value in found.items()}
    version = _get_object(event.get("scriptversion"))
    outcome = event.get("outcome")
    if not isinstance(outcome, str) and not version and not _is_logpush(event):
        return None
    inner = _get_object(event.get("event"))
    request, response = (
        _get_object(inner.get("request")),
        _get_object(inner.get("response")) or _get_object(event.get("response")),
    )
    said = []
    for thrown in _get_objects(event.get("exceptions")):
        text = format_thrown(thrown.get("name"), thrown.get("message"), thrown.get("stack"))
        said.append(Said(Origin.EXCEPTION, text))
    for log in _get_objects(event.get("logs")):
        origin = _ANY_LEVELS.get(str(log.get("level")).lower())
        if origin is not None and (text := format_logged(log.get("message"))):
            said.append(Said(origin, text))
    at = event.get("eventtimestamp") or event.get("eventtimestampms")
    status = parse_status(response.get("status"))
    if status == MULTI_STATUS:
        said += describe_failed_batch(request.get("url"))
    name = event.get("scriptname")
    identity = version.get("id")
    return Invocation(
        version=identity if isinstance(identity, str) else "",
        at=parse_seconds(at),
        outcome=outcome if isinstance(outcome, str) and outcome else OK,
        status=status,
        said=tuple(said[:_MOST_SAID]),
        truncated=event.get("truncated") is True,
        source=name if isinstance(name, str) else "",
    )


def is_notice(found: Mapping[str, object]) -> bool:
    """Whether a tail speaks of itself: it left out events."""
    return _get_object(found.get("event")).get("type") in _OVERLOAD


def _is_logpush(event: Mapping[str, object]) -> bool:
    return "eventtimestampms" in event and "scriptname" in event


def format_thrown(name: object, message: object, stack: object) -> str:
    r"""Return an exception as an engine prints it.

    >>> format_thrown("TypeError", "no", "    at f (a.js:1:2)")
    'TypeError: no\n    at f (a.js:1:2)'
    """
    said = message if isinstance(message, str) else "" if message is None else _format_json(message)
    head = f"{name}: {said}" if isinstance(name, str) and name else said
    frames = stack if isinstance(stack, str) else ""
    if said and frames.startswith((head.partition("\n")[0], said.partition("\n")[0])):
        return frames[:_MOST_CHARACTERS]  # the stack begins with the message already
    return (f"{head}\n{frames}" if frames else head)[:_MOST_CHARACTERS]


def format_logged(message: object) -> str:
    """Return what was given to a console's method as it prints it: the parts with spaces between them.

    >>> format_logged(["failed:", {"code": 5}])
    'failed: {"code":5}'
    """
    parts = message if isinstance(message, list) else [message]
    shown = (
        part if isinstance(part, str) else "" if part is None else _format_json(part) for part in parts[:_MOST_SAID]
    )
    return " ".join(shown)[:_MOST_CHARACTERS].strip()


def parse_status(value: object) -> int | None:
    """Return an HTTP status, None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value in _STATUSES else None


def describe_failed_batch(url: object) -> Sequence[Said]:
    """Return the failure in a 207 answer to a batch of procedure calls; nothing for another 207."""
    if not isinstance(url, str) or "/trpc/" not in url:
        return ()
    procedures = url.partition("/trpc/")[2].partition("?")[0]
    return (Said(Origin.OUTCOME, f"HTTP 207: a call failed in the tRPC batch /trpc/{procedures[:200]}"),)


def _decode_value(raw: msgspec.Raw) -> object:
    """Return the value; what is no text in UTF-8 is taken for Latin-1, and what is still none as it is written."""
    written = bytes(raw)
    if is_nested_too_deep(written):
        return written.decode("latin-1")
    for text in (written, written.decode("latin-1")):
        try:
            return _decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
    return written.decode("latin-1")


def _format_json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _get_object(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        return {}
    return {str(name).lower(): inner for name, inner in value.items()}


def _get_objects(value: object) -> Sequence[Mapping[str, object]]:
    return [_get_object(one) for one in value[:_MOST_SAID] if isinstance(one, dict)] if isinstance(value, list) else ()
