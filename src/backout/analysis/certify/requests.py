"""The requests of a trial: read from a file of JSON lines, and filled in before each is sent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from backout.decoding import Undecodable, decode_json
from backout.errors import UsageError
from backout.model.database.certificate import TrialRequest
from backout.model.guard.routes import METHODS, make_template

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

COUNTER: Final = "n"
_HOLE: Final = re.compile(r"\{\{(\w+)\}\}")
_BY: Final = ("", "old", "new")


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    method: str
    path: str
    body: object = None
    headers: dict[str, str] = {}
    save: dict[str, str] = {}
    by: str = ""


def parse_requests(text: str, where: str) -> tuple[TrialRequest, ...]:
    """Return the requests of a file: one JSON object a line, `#` begins a comment line.

    Args:
        where: the file's name, for errors.

    Raises:
        UsageError: a line is not a request; the line is named.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            found.append(_parse_line(line, f"{where}:{number}", number))
    if not found:
        raise UsageError("it holds no request", where=where, hint='such as {"method": "GET", "path": "/api/orders"}')
    return tuple(found)


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
    """Return the route of a request.

    >>> name_route(TrialRequest("GET", "/api/orders/{{order}}"))
    'GET /api/orders/{id}'
    """
    return make_template(request.method, _HOLE.sub("1", request.path))


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
