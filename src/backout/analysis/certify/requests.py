"""The requests of a trial: read from a file, written by hand or recorded, and filled in before each is sent.

Recorded are events as `wrangler tail --format json` prints them, or as Logpush has them. They have no bodies.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from backout.decoding import Undecodable, decode_json
from backout.errors import UsageError
from backout.model.database.certificate import TrialRequest
from backout.model.guard.routes import METHODS, make_template

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

COUNTER: Final = "n"
_HOLE: Final = re.compile(r"\{\{(\w+)\}\}")
_BY: Final = ("", "old", "new")
_REFUSED: Final = 400
_OF_A_ROUTE: Final = 5
"""So many paths of a route are taken from what was recorded."""
_WITHOUT_BODY: Final = ("GET", "HEAD", "OPTIONS")
_NOT_RECORDED: Final = "body_that_was_not_recorded"
"""A name that nothing saves, so that the request is known and never sent."""


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    method: str
    path: str
    body: object = None
    headers: dict[str, str] = {}
    save: dict[str, str] = {}
    by: str = ""


class _Asked(msgspec.Struct):
    method: str = ""
    url: str = ""


class _Answer(msgspec.Struct):
    status: int = 0


class _Inner(msgspec.Struct):
    request: _Asked = msgspec.field(default_factory=_Asked)
    response: _Answer | None = None


class _LogpushAsked(msgspec.Struct, rename={"method": "Method", "url": "URL"}):
    method: str = ""
    url: str = ""


class _LogpushAnswer(msgspec.Struct, rename={"status": "Status"}):
    status: int = 0


class _LogpushInner(msgspec.Struct, rename={"request": "Request", "response": "Response"}):
    request: _LogpushAsked = msgspec.field(default_factory=_LogpushAsked)
    response: _LogpushAnswer | None = None


class _Event(msgspec.Struct, rename={"logpush": "Event"}):
    event: _Inner | None = None
    logpush: _LogpushInner | None = None


class _Named(msgspec.Struct, rename={"logpush": "Event"}):
    """What an event is known by, whatever it holds: one that was for no request has null there."""

    event: object = msgspec.UNSET
    logpush: object = msgspec.UNSET


def parse_requests(text: str, where: str) -> tuple[TrialRequest, ...]:
    """Return the requests of a file: one JSON object a line, `#` begins a comment line.

    An event of a Worker in place of a request is the request that it was for; each path once, of a route the first few.
    What has a body is known, but cannot be sent: it was not recorded.

    Args:
        where: the file's name, for errors.

    Raises:
        UsageError: a line is not a request; the line is named.
    """
    found: list[TrialRequest] = []
    recorded: dict[str, set[str]] = {}
    for number, part in _split(text):
        event = _read_event(part)
        if event is None:
            found.append(_parse_line(part, f"{where}:{number}", number))
        elif (request := _make_request(event, number)) is not None:
            paths = recorded.setdefault(name_route(request), set())
            if request.path not in paths and len(paths) < _OF_A_ROUTE:
                paths.add(request.path)
                found.append(request)
    if not found:
        raise UsageError("it holds no request", where=where, hint='such as {"method": "GET", "path": "/api/orders"}')
    return tuple(found)


def _split(text: str) -> Iterator[tuple[int, str]]:
    """Yield each object with the number of its first line: on a line of its own, or from a `{` to a `}` alone."""
    begun, lines = 0, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        if begun:
            lines.append(line)
            if line == "}":
                yield begun, "\n".join(lines)
                begun = 0
        elif line == "{":
            begun, lines = number, [line]
        elif line.strip() and not line.lstrip().startswith("#"):
            yield number, line
    if begun:
        yield begun, "\n".join(lines)


def _read_event(part: str) -> _Inner | _LogpushInner | None:
    """Return an event of a Worker, None where it is none; one that is not as events are tells of no request."""
    try:
        named = decode_json(part, _Named)
    except Undecodable:
        return None
    if named.event is msgspec.UNSET and named.logpush is msgspec.UNSET:
        return None
    try:
        read = decode_json(part, _Event)
    except Undecodable:
        return _Inner()
    return read.event or read.logpush or _Inner()


def _make_request(event: _Inner | _LogpushInner, number: int) -> TrialRequest | None:
    """Return the request of an event; None where it had none, or one that was refused: it tells of no route."""
    try:
        address, method = urlsplit(event.request.url), event.request.method.upper()
    except ValueError:  # such as a host with one bracket
        return None
    path = (address.path or "/") + (f"?{address.query}" if address.query else "")
    is_refused = event.response is not None and event.response.status >= _REFUSED
    if is_refused or method not in METHODS or not address.netloc:
        return None
    if not path.isprintable() or " " in path or _HOLE.search(path):
        return None
    body = None if method in _WITHOUT_BODY else f"{{{{{_NOT_RECORDED}}}}}"
    return TrialRequest(method, path, body, line=number)


def _parse_line(line: str, where: str, number: int) -> TrialRequest:
    hint = "its keys: method, path, body, headers, save, by (old or new)"
    try:
        read = decode_json(line, _Line, what="the line")
    except Undecodable as error:
        raise UsageError(error.what, where=where, hint=hint) from None
    method = read.method.upper()
    if method not in METHODS or not read.path.startswith("/") or not read.path.isprintable() or " " in read.path:
        raise UsageError("a request has a method of HTTP, and a path that begins with /", where=where, hint=hint)
    if read.by not in _BY:
        raise UsageError(f"by is old or new, not {read.by!r}", where=where, hint=hint)
    if any(not word.isprintable() for pair in read.headers.items() for word in pair):
        raise UsageError("a header holds a character that no header has", where=where, hint=hint)
    return TrialRequest(method, read.path, read.body, read.headers, read.save, read.by, number)


def make_requests(routes: Iterable[str]) -> tuple[TrialRequest, ...]:
    """Return a GET for each route without a parameter, of names such as `GET /api/models`, each once.

    >>> [request.path for request in make_requests(["GET /a", "/a", "GET /b/{id}", "POST /c", "GET /d/*"])]
    ['/a']
    """
    paths: dict[str, None] = {}
    for route in routes:
        method, _, path = route.rpartition(" ")
        if method in {"", "GET"} and path.startswith("/") and not set("{}*:") & set(path):
            paths.setdefault(path)
    return tuple(TrialRequest("GET", path) for path in paths)


def name_route(request: TrialRequest) -> str:
    """Return the route of a request, whatever is asked for in the query.

    >>> name_route(TrialRequest("GET", "/api/orders/{{order}}?full=1"))
    'GET /api/orders/{id}'
    """
    return make_template(request.method, _HOLE.sub("1", request.path.partition("?")[0]))


def fill(request: TrialRequest, saved: Mapping[str, object], number: int) -> TrialRequest | None:
    """Return the request as it is sent; None if a value that it needs was not saved yet.

    Args:
        saved: by name.
        number: stands in for `{{n}}`.
    """
    values = {**saved, COUNTER: number}
    text = msgspec.json.encode([request.path, request.body, request.headers]).decode()
    if any(name not in values for name in _HOLE.findall(text)):
        return None
    headers = {name: str(_fill_text(value, values)) for name, value in request.headers.items()}
    return replace(
        request,
        path=_HOLE.sub(lambda hole: str(values[hole[1]]), request.path),
        body=_fill_value(request.body, values),
        headers=headers,
    )


def find_saved(request: TrialRequest, body: object) -> dict[str, object]:
    """Return the values of an answer that the request says to save; those that are not there are left out.

    >>> find_saved(TrialRequest("POST", "/", save={"order": "order.id"}), {"order": {"id": 4}})
    {'order': 4}
    """
    found: dict[str, object] = {}
    for name, place in request.save.items():
        value = body
        for part in place.split("."):
            if isinstance(value, dict):
                value = value.get(part)
            elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
                value = value[int(part)]
            else:
                value = None
        if isinstance(value, str | int | float):
            found[name] = value
    return found


def _fill_value(value: object, values: Mapping[str, object]) -> object:
    if isinstance(value, str):
        return _fill_text(value, values)
    if isinstance(value, dict):
        return {key: _fill_value(inner, values) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill_value(inner, values) for inner in value]
    return value


def _fill_text(text: str, values: Mapping[str, object]) -> object:
    """Return a text with its holes filled; one that is nothing but a hole becomes the value itself, a number too."""
    whole = _HOLE.fullmatch(text)
    return values[whole[1]] if whole else _HOLE.sub(lambda hole: str(values[hole[1]]), text)
