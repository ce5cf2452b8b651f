"""Answers to synthetic requests compared with the team's expectations; pure.

A reason quotes the expectation, which stands in the configuration, and never the answer's own text: that may come from
anywhere, and reasons are written where the whole team reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.decoding import Undecodable, decode_json
from backout.model.guard.answers import AnswerClass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.model.guard.fetched import Fetched
    from backout.model.guard.policy import SyntheticCheck

_ANY_ORIGIN = "*"
_ALWAYS_ALLOWED = frozenset(("GET", "HEAD", "POST"))
"""The methods that a preflight need not name (Fetch standard, "CORS-safelisted method")."""


def find_unmet(check: SyntheticCheck, answer: Fetched) -> str:
    """Return the first part of an expectation that an answer does not meet, in words, or "" when it meets all.

    Without any, an answer below 500 is enough, as of a path that is only named; with credentials it must not be 401
    or 403.
    """
    return next(_list_unmet(check, answer), "")


def _list_unmet(check: SyntheticCheck, answer: Fetched) -> Iterator[str]:
    if answer.status is None:
        yield "no answer in time"
        return
    if answer.loops:
        yield f"{answer.status}, a redirect that leads round and round"
    yield from _check_status(check, answer.status, is_denied=answer.kind is AnswerClass.DENIED)
    if check.word and check.word not in answer.body:
        yield f"without the word {check.word!r}"
    for name, wanted in check.headers.items():
        yield from _check_header(answer, name, wanted)
    if check.json:
        yield from _check_json(answer, check)
    if check.redirect and answer.location != check.redirect:
        yield f"no redirect to {check.redirect}"
    if check.origin and answer.headers.get("access-control-allow-origin") not in (check.origin, _ANY_ORIGIN):
        yield f"origin {check.origin} is not allowed (CORS)"
    if check.preflight:
        yield from _check_preflight(check, answer)


def _check_preflight(check: SyntheticCheck, answer: Fetched) -> Iterator[str]:
    """Yield why a browser would not send the request that it asked for (Fetch standard, "CORS-preflight fetch")."""
    if not answer.status or not 200 <= answer.status < 300:
        yield f"{answer.status} to the preflight of {check.preflight}"
    allowed = {word.strip() for word in answer.headers.get("access-control-allow-methods", "").split(",")}
    if check.preflight not in _ALWAYS_ALLOWED and not allowed & {check.preflight, "*"}:
        yield f"{check.preflight} is not allowed from {check.origin} (CORS)"


def _check_status(check: SyntheticCheck, status: int, *, is_denied: bool) -> Iterator[str]:
    if check.statuses and status not in check.statuses:
        yield f"{status} in place of {' or '.join(map(str, check.statuses))}"
    elif not check.statuses and status >= 500:
        yield f"{status}"
    elif not check.statuses and check.credentials and is_denied:
        yield f"{status}, although credentials were sent"


def _check_header(answer: Fetched, name: str, wanted: str) -> Iterator[str]:
    found = answer.headers.get(name.lower())
    if found is None:
        yield f"without the header {name}"
    elif wanted and found != wanted:
        yield f"the header {name} is not {wanted!r}"


def _check_json(answer: Fetched, check: SyntheticCheck) -> Iterator[str]:
    try:
        body = decode_json(answer.body.encode())
    except Undecodable:
        yield "no JSON"
        return
    for path, wanted in check.json.items():
        found = _get_at(body, path)
        if found is _MISSING:
            yield f"without the JSON field {path}"
        elif found != wanted or isinstance(found, bool) is not isinstance(wanted, bool):
            yield f"the JSON field {path} is not {wanted!r}"


_MISSING = object()


def _get_at(body: object, path: str) -> object:
    """Return what a dotted path leads to: names of fields, and numbers of entries.

    >>> _get_at({"items": [{"id": 7}]}, "items.0.id")
    7
    """
    for part in path.split("."):
        if isinstance(body, dict) and part in body:
            body = body[part]
        elif isinstance(body, list) and part.isdecimal() and int(part) < len(body):
            body = body[int(part)]
        else:
            return _MISSING
    return body
