"""The API token as it is sent, and the place that it comes from, in words."""

from __future__ import annotations

from typing import Final

from backout.errors import AuthError

TOKEN_VARIABLE: Final = "CLOUDFLARE_API_TOKEN"  # noqa: S105 - the name of a variable, not its value


def clean_token(token: str, place: str = TOKEN_VARIABLE) -> str:
    """Return the token, found at `place`, without surrounding white space.

    Raises:
        AuthError: it is empty, or holds characters that no token has; the text never quotes it.
    """
    token = token.strip()
    if not token:
        raise AuthError("the API token is missing", hint=explain_place("a token", place))
    if not token.isascii() or not token.isprintable() or " " in token:
        raise AuthError("the API token holds characters that no token has", hint=f"look at {place}")
    return token


def explain_place(what: str, place: str) -> str:
    """Return how to correct a value found in a place: a variable is set, a file is written."""
    return f"put {what} into {place}" if place.startswith("the file ") else f"set {place} to {what}"
