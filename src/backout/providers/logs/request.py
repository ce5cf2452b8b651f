"""Parses one line of a request log: the request, or why it cannot be counted."""

from __future__ import annotations

import contextlib
import re
from typing import Final

import msgspec

from backout.decoding import UNDECODABLE, Undecodable, parse_moment
from backout.model.outcomes import OK, has_failed, is_canceled
from backout.model.value import Value

_MS, _US, _NS = 1e11, 1e14, 1e17
"""A number of seconds is below these until the year 5138; one of milliseconds above the first since 1973."""
_OK_STATUS: Final = 200
_SWITCHED: Final = 101
"""A connection that was no longer HTTP, as a websocket: its line comes at its end, and its duration is no answer's."""
_STATUSES: Final = range(100, 1000)
_STATUS: Final = re.compile(r"[0-9]{3}")
_MOST_TIME, _MOST_MS, _MOST_BYTES, _MOST_DIGITS = 1e20, 1e12, 2**53, 16


class Fields(Value, frozen=True):
    """The log's field names; a dot leads into an inner object ("http.status"), unless the name itself contains it.

    Args:
        time: Unix seconds, milli-, micro- or nanoseconds, or RFC 3339.
        latency: of the whole request; `latency_ms` is how many milliseconds its unit is.
        route: its path, or the application's name of its route.
        method: of the request.
        bytes: how long the answer's body was.
        probes: a line that has one of them is of a request of backout's own.
    """

    time: str = "ts"
    version: str = "version"
    status: str = "status"
    outcome: str = "outcome"
    latency: str = "latency_ms"
    latency_ms: float = 1.0
    route: str = "route"
    method: str = "method"
    bytes: str = "bytes"
    content_type: str = "content_type"
    probes: tuple[str, ...] = ()


class Unreadable(Exception):
    """A line that may be about a request but cannot be counted; the text says why and never quotes the line."""


class Logged(Value, frozen=True):
    """The content of a line: the time, and the answer.

    `is_request` False: a line about something else. status None: the log does not tell it. method and
    content_type "", size None: same.
    """

    at: float
    is_request: bool = False
    version: str = ""
    status: int | None = None
    outcome: str = OK
    latency_ms: float | None = None
    route: str = ""
    method: str = ""
    size: int | None = None
    content_type: str = ""

    @property
    def canceled(self) -> bool:
        """Whether the client went away."""
        return is_canceled(self.outcome, self.status)

    @property
    def is_page(self) -> bool:
        """Whether it is an answer to GET whose length counts."""
        return self.status == _OK_STATUS and self.method.upper() == "GET"

    @property
    def failed(self) -> bool:
        """Whether it counts as an error."""
        return has_failed(self.outcome, self.status)


def parse_logged(line: bytes, fields: Fields) -> Logged:
    """Return what a line says.

    Raises:
        Unreadable: it is no JSON object, or it lacks what a request needs.

    >>> parse_logged(b'{"ts": 1800000000123, "version": "a", "status": 503, "latency_ms": 7}', Fields()).failed
    True
    """
    try:
        found = msgspec.json.decode(line)
    except UNDECODABLE:
        raise Unreadable("no JSON") from None
    if not isinstance(found, dict):
        raise Unreadable("no JSON object")
    status, outcome = _get_field(found, fields.status), _get_field(found, fields.outcome)
    at = _parse_time(_get_field(found, fields.time), fields.time)
    if (status is None and outcome is None) or _is_own(found, fields):
        return Logged(at)
    version = _get_field(found, fields.version)
    if not isinstance(version, str) or not version:
        raise Unreadable(f"no text in the field {fields.version!r}")
    if outcome is not None and not isinstance(outcome, str):
        raise Unreadable(f"no text in the field {fields.outcome!r}")
    named = (fields.latency, fields.route, fields.method, fields.content_type)
    latency, route, method, kind = (_get_field(found, name) for name in named)
    code = None if status is None else _parse_status(status, fields.status)
    if code == _SWITCHED:
        return Logged(at)
    return Logged(
        at=at,
        is_request=True,
        version=version,
        status=code,
        outcome=outcome or OK,
        latency_ms=None if latency is None else _parse_number(latency, fields.latency) * fields.latency_ms,
        route=route if isinstance(route, str) else "",
        method=method if isinstance(method, str) else "",
        size=_parse_size(_get_field(found, fields.bytes)),
        content_type=_parse_type(kind),
    )


def _is_own(found: dict[str, object], fields: Fields) -> bool:
    return any(_get_field(found, name) is not None for name in fields.probes)


def _get_field(found: dict[str, object], name: str) -> object:
    if name in found:
        return found[name]
    value: object = found
    for part in name.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value


def _parse_type(value: object) -> str:
    """Return a content type, also of a header as Caddy logs it: a list of its lines."""
    if isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, str) else ""


def _parse_size(value: object) -> int | None:
    """Return the number of bytes, None where it is unknown: "-" as servers write it, or anything else."""
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value[:_MOST_DIGITS])
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MOST_BYTES:
        return None
    return int(value)


def _parse_status(value: object, name: str) -> int:
    number = int(value) if isinstance(value, str) and _STATUS.fullmatch(value) else value
    if isinstance(number, bool) or not isinstance(number, int) or number not in _STATUSES:
        raise Unreadable(f"no HTTP status in the field {name!r}")
    return number


def _parse_number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MOST_MS:
        raise Unreadable(f"no duration in the field {name!r}")
    return float(value)


def _parse_time(value: object, name: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST_TIME:
        scale = 1e9 if value > _NS else 1e6 if value > _US else 1e3 if value > _MS else 1.0
        if value / scale < _MS:
            return value / scale
    if isinstance(value, str):
        with contextlib.suppress(Undecodable):
            return parse_moment(value)
    raise Unreadable(f"no time in the field {name!r}")
