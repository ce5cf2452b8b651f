"""Reads connection strings, with the one rule for how far a server is trusted.

A server must prove its identity: its certificate is verified, including its name, even if `sslmode` asks for less.
Exempt are a socket, this machine where TLS was not asked for, and `sslmode=disable`; a private certificate authority is
named with `sslrootcert`.

Source: PostgreSQL 18, "SSL Support", table "SSL Mode Descriptions": below `verify-ca` the server is not authenticated.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from backout.errors import AuthError
from backout.providers.postgres.tls.dsn import make_libpq_url

if TYPE_CHECKING:
    from collections.abc import Mapping

_MILD: Final = ("", "allow", "prefer")
_PROVEN: Final = ("verify-ca", "verify-full")
_PLAIN: Final = re.compile(r"[0-9A-Za-z_.-]+")


def parse_dsn(url: str) -> dict[str, str]:
    """Return a connection string's parameters. Raises AuthError: it is not valid; the text does not quote it."""
    from backout.providers.postgres.server.libpq_library import LibpqError, parse_parameters

    try:
        return parse_parameters(make_libpq_url(url)[0])
    except (LibpqError, UnicodeError):
        what = "the connection string cannot be read"
        raise AuthError(what, where="database", hint="postgresql://USER:PASSWORD@HOST/NAME") from None


def format_parameters(parameters: Mapping[str, str]) -> str:
    """Return parameters as a connection string."""
    return " ".join(f"{name}={_quote(value)}" for name, value in parameters.items())


def quote_value(value: str) -> str:
    """Return a value for a connection string, in quotes only where it needs them.

    >>> quote_value("app"), quote_value("a b host=c")
    ('app', "'a b host=c'")
    """
    return value if _PLAIN.fullmatch(value) else _quote(value)


def _quote(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def is_here(url: str) -> bool:
    """Return whether a connection string leads to this machine. Raises AuthError as `parse_dsn`."""
    return leads_here(parse_dsn(url))


def leads_here(given: Mapping[str, str]) -> bool:
    """Return whether parameters lead to this machine by name: a socket, or the loopback.

    A name of another machine with the loopback's address is a tunnel, and who is at its end is asked as ever.
    """
    places = given.get("host") or given.get("hostaddr", "")
    return all(not place or place.startswith(("/", "@")) or _is_loopback(place) for place in places.split(","))


def needs_proof(given: Mapping[str, str]) -> bool:
    """Return whether the server at the end of these parameters has to prove who it is."""
    host, mode = given.get("host") or given.get("hostaddr", ""), given.get("sslmode", "")
    is_socket = not host or host.startswith(("/", "@"))
    return not is_socket and mode != "disable" and not (mode in _MILD and leads_here(given))


def add_verification(url: str) -> str:
    """Return a connection string that checks the server's certificate, name included, where it `needs_proof`.

    An unreadable one is returned as it is, and libpq reports the error.
    """
    try:
        given = parse_dsn(url)
    except AuthError:
        return url
    if not needs_proof(given) or given.get("sslmode") in _PROVEN:
        return url
    root = given.get("sslrootcert") or _find_authorities()
    # Encryption by Kerberos would come first, and without any certificate.
    return format_parameters({**given, "sslmode": "verify-full", "sslrootcert": root, "gssencmode": "disable"})


def _find_authorities() -> str:
    """Return the file of the authorities that this user trusts, else those that the system does."""
    own = Path("~/.postgresql/root.crt").expanduser()
    if own.is_file():
        return str(own)
    import ssl

    return ssl.get_default_verify_paths().cafile or "system"


def _is_loopback(host: str) -> bool:
    if host == "localhost":  # names below it libpq asks of a resolver, which may answer anything
        return True
    import ipaddress

    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False
