"""Problems by RFC 9457: what every answer of the API is that is no success, whoever makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.responses import PlainTextResponse, Response

from backout.report.records import encode

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT: Final = "/api/v1"
PROBLEM: Final = "application/problem+json"
TITLES: Final = {
    401: "not logged in",
    403: "the login may not do that",
    404: "there is no such thing",
    405: "that cannot be done here",
    500: "a mistake in backout itself",
}


def is_of_api(path: str) -> bool:
    """Whether a path is one of the API, so that even its mistakes are problems."""
    return path == ROOT or path.startswith(f"{ROOT}/")


def make_problem(
    status: int, title: str, detail: str = "", hint: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    """Return a problem; `hint` is what to do next."""
    values: dict[str, object] = {"type": "about:blank", "title": title, "status": status}
    if detail:
        values["detail"] = detail
    if hint:
        values["hint"] = hint
    sent = dict(headers or {})
    if status == 401:
        sent["WWW-Authenticate"] = "Bearer"
    return Response(encode(values), status, sent, PROBLEM)


def make_refusal(status: int, why: str, *, api: bool) -> Response:
    """Return the answer to a request of which nothing was read."""
    return make_problem(status, why) if api else PlainTextResponse(f"{why}\n", status)
