"""Connection strings as libpq reads them, and errors that do not quote them."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from backout.errors import AuthError, ProviderUnavailable

_LIBPQ: Final = (
    "ssl",
    "hostaddr",
    "application_name",
    "connect_timeout",
    "options",
    "channel_binding",
    "target_session_attrs",
)
_REFUSED: Final = ("authentication failed", "permission denied", "no pg_hba.conf entry")
_PASSWORD: Final = re.compile(r"\bpassword\s*=\s*'?([^'\s]+)")


def make_libpq_url(url: str) -> tuple[str, str | None]:
    """Return a connection string that libpq takes, and Prisma's schema when one is named.

    >>> make_libpq_url("postgresql://u@db/app?schema=shop&connection_limit=1&sslmode=require")
    ('postgresql://u@db/app?sslmode=require', 'shop')
    """
    if "://" not in url:
        return url, None
    try:
        parts = urlsplit(url)
    except ValueError:
        return url, None
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(name, value) for name, value in pairs if name.startswith(_LIBPQ)]
    schema = next((value for name, value in pairs if name == "schema" and value), None)
    return urlunsplit(parts._replace(query=urlencode(kept, quote_via=quote))), schema


def make_connection_error(error: Exception, url: str, what: str) -> AuthError | ProviderUnavailable:
    """Return the error of what could not be read; neither the connection string nor its password is in it.

    Args:
        what: was to be read, such as `the server`.
    """
    text = drop_secrets(url, " ".join(str(error).split()))[:300] or type(error).__name__
    hint = "check the database's connection string and that it can be reached from here"
    if any(words in text for words in _REFUSED):
        return AuthError(f"the database refuses the connection: {text}", where="database", hint=hint)
    return ProviderUnavailable(f"{what} cannot be read: {text}", where="database", hint=hint)


def drop_secrets(url: str, text: str) -> str:
    """Return the text without the connection string and its password.

    For a password that makes the string unreadable, libpq quotes parts of it: then the error is in our own words.
    """
    if "://" not in url:
        if "connection info string" in text:
            return "the connection string cannot be read: a value with spaces must be in single quotes"
        password = next(iter(_PASSWORD.findall(url)), "")
    else:
        try:
            parts = urlsplit(url)
        except ValueError:
            return "the connection string is not a URL that can be read"
        signs = parts.netloc.count("@")
        if signs > 1 or (not signs and ":" in parts.netloc and "@" in url.partition("://")[2]):
            return "the connection string cannot be read: / ? # @ in a password are written %2F %3F %23 %40"
        password = parts.password or ""
    for secret in {url, password, unquote(password)} - {""}:
        text = text.replace(secret, "[redacted]")
    return text
