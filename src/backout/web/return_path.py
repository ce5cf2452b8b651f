"""The page that somebody asked for who was not logged in: a cookie keeps its path, and the login leads there, once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote, urlsplit

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from backout.web.sessions import Sessions

LASTS_S: Final = 15 * 60
"""So long it is kept: until somebody has gone to a machine and typed the command, and used the address in time."""
_LONGEST: Final = 1000


def keep_path(address: str) -> str:
    """Return a path of ours, "/" for anything that leads elsewhere."""
    try:
        parts = urlsplit(address)
    except ValueError:  # `//[`
        return "/"
    is_ours = (
        not parts.scheme and not parts.netloc and address.startswith("/") and not address.startswith(("//", "/\\"))
    )
    return address if is_ours else "/"


def is_page(path: str) -> bool:
    """Whether a path is one of a page that is worth leading back to: a stream or a picture is none."""
    return keep_path(path) == path and path.startswith("/env/") and not path.endswith(".svg") and len(path) <= _LONGEST


def keep_asked(answer: Response, sessions: Sessions, path: str) -> None:
    """Have a browser keep which page was asked for, where it is one."""
    if is_page(path):
        answer.set_cookie(
            sessions.asked_cookie,
            quote(path, safe=""),
            max_age=LASTS_S,
            httponly=True,
            samesite="lax",
            secure=sessions.secure,
        )


def read_asked(request: Request, sessions: Sessions) -> str:
    """Return the page that was asked for, "/" for none: anybody may have written the cookie."""
    path = unquote(request.cookies.get(sessions.asked_cookie, ""))
    return path if is_page(path) else "/"


def forget_asked(request: Request, answer: Response, sessions: Sessions) -> None:
    """Have a browser forget it, where it keeps one."""
    if sessions.asked_cookie in request.cookies:
        answer.delete_cookie(sessions.asked_cookie, secure=sessions.secure, httponly=True, samesite="lax")
