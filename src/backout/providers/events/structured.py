"""One line of a structured log (pino, winston, bunyan, structlog, python-json-logger, a log of requests).

Source: the default names of these libraries' fields; pino's and bunyan's levels are numbers (40 warn, 50 error).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from backout.model.incident.events import Invocation, Origin, Said
from backout.model.outcomes import OK
from backout.providers.events.times import parse_seconds
from backout.providers.events.worker import format_logged, format_thrown, parse_status

if TYPE_CHECKING:
    from collections.abc import Mapping

    Fields = Mapping[str, object]

_LEVEL: Final = ("level", "levelname", "severity", "lvl", "loglevel", "log.level", "level_name", "status_level")
_TIME: Final = ("time", "timestamp", "ts", "@timestamp", "asctime", "datetime", "date", "at", "eventTime")
_MESSAGE: Final = ("msg", "message", "event", "text", "log", "body")
_THROWN: Final = ("err", "error", "exception", "exc", "cause")
_TRACE: Final = ("exc_info", "exc_text", "exception", "stack_trace", "traceback", "stack", "stack_info", "error.stack")
_STATUS: Final = ("status", "statusCode", "status_code", "http.status_code", "httpStatus")
_STATUS_IN: Final = ("res", "response", "http", "httpRequest")
_VERSION: Final = ("version", "scriptVersion", "version_id", "release", "deployment")
_SOURCE: Final = ("service", "name", "logger", "logger_name", "script", "app")
_ERRORS: Final = frozenset(
    {"error", "err", "fatal", "critical", "crit", "panic", "alert", "emerg", "emergency", "severe"}
)
_WARNINGS: Final = frozenset({"warn", "warning"})
_PINO_WARN, _PINO_ERROR = 40, 50
_SYSLOG_ERROR, _SYSLOG_WARNING = 3, 4
_MOST: Final = 20_000
_STATUS_TEXT: Final = re.compile(r"[1-5][0-9]{2}")


def parse_entry(found: Fields) -> Invocation:
    """Return what one entry says; an object that is no entry of a log says nothing."""
    origin = _parse_origin(_get_first(found, _LEVEL))
    message = format_logged(_get_first(found, _MESSAGE))
    trace = _format_trace(found)
    said: tuple[Said, ...] = ()
    if trace:
        text = trace if message in trace else f"{message}\n{trace}"
        said = (Said(Origin.EXCEPTION if origin is not Origin.WARNING else origin, text[:_MOST]),)
    elif origin is not None:
        text = message or msgspec.json.encode(found).decode()
        said = (Said(origin, text[:_MOST]),)
    status = _parse_status(found)
    version, outcome = _get_first(found, _VERSION), found.get("outcome")
    identity = version.get("id") if isinstance(version, dict) else version
    source = _get_first(found, _SOURCE)
    return Invocation(
        version=identity if isinstance(identity, str) else "",
        at=parse_seconds(_get_first(found, _TIME)),
        outcome=outcome if isinstance(outcome, str) and outcome else OK,
        status=status,
        said=_make_said(said, status),
        source=source if isinstance(source, str) else "",
        failed=status is None and bool(said) and said[0].origin is not Origin.WARNING,
    )


def _make_said(said: tuple[Said, ...], status: int | None) -> tuple[Said, ...]:
    """Return what is said; an exception in an entry that tells an answer below 500 was caught, so it was logged."""
    if status is None or status >= 500:
        return said
    return tuple(Said(Origin.ERROR, one.text) if one.origin is Origin.EXCEPTION else one for one in said)


def _parse_origin(level: object) -> Origin | None:
    if isinstance(level, bool):
        return None
    if isinstance(level, int | float):
        if level >= _PINO_ERROR or 0 <= level <= _SYSLOG_ERROR:
            return Origin.ERROR
        return Origin.WARNING if level >= _PINO_WARN or level == _SYSLOG_WARNING else None
    word = str(level).lower().strip("[] ")
    return Origin.ERROR if word in _ERRORS else Origin.WARNING if word in _WARNINGS else None


def _format_trace(found: Fields) -> str:
    """Return the exception of an entry as its language prints it, "" without one."""
    for name in _THROWN:
        thrown = found.get(name)
        if isinstance(thrown, list) and thrown and isinstance(thrown[-1], dict):  # structlog's dictionaries
            thrown = thrown[-1]
        if isinstance(thrown, dict):
            kind = thrown.get("name") or thrown.get("type") or thrown.get("exc_type") or thrown.get("kind")
            message = thrown.get("message") or thrown.get("msg") or thrown.get("exc_value")
            stack = thrown.get("stack") or thrown.get("stacktrace") or thrown.get("stack_trace")
            if kind or message or stack:
                return format_thrown(kind, message, stack)
    for name in _TRACE:
        trace = found.get(name)
        if isinstance(trace, list):
            trace = "\n".join(str(part) for part in trace)
        if isinstance(trace, str) and trace.strip():
            return trace
    error = found.get("error")
    return error if isinstance(error, str) and error.strip() else ""


def _parse_status(found: Fields) -> int | None:
    values = [found.get(name) for name in _STATUS]
    for name in _STATUS_IN:
        inner = found.get(name)
        if isinstance(inner, dict):
            values += [inner.get(inner_name) for inner_name in _STATUS]
    for value in values:
        number = int(value) if isinstance(value, str) and _STATUS_TEXT.fullmatch(value) else value
        if (status := parse_status(number)) is not None:
            return status
    return None


def _get_first(found: Fields, names: tuple[str, ...]) -> object:
    return next((found[name] for name in names if found.get(name) is not None), None)
