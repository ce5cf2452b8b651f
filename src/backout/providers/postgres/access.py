"""What a connection string says, and the one rule of how far a server is trusted on the way to it.

A server proves who it is: its certificate is verified, its name included, whatever milder `sslmode` the string has.
Without are a socket, this machine where nobody asked for TLS, and who says `sslmode=disable`; who has an authority of
his own names it with `sslrootcert`.

Source: PostgreSQL 18, "SSL Support", table "SSL Mode Descriptions": below `verify-ca` nobody is recognised.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from backout.errors import AuthError

if TYPE_CHECKING:
    from collections.abc import Mapping

_MILD: Final = ("", "allow", "prefer")
_PROVEN: Final = ("verify-ca", "verify-full")


def parsed(url: str) -> dict[str, str]:
    """Return a connection string's parameters. Raises AuthError: it is none; the text does not quote it."""
    from backout.providers.postgres import libpq  # noqa: PLC0415 only with a database
    from backout.providers.postgres.schema import libpq_url  # noqa: PLC0415 same

    try:
        return libpq.parameters(libpq_url(url)[0])
    except (libpq.LibpqError, UnicodeError):
        what = "the connection string cannot be read"
        raise AuthError(what, where="database", hint="postgresql://USER:PASSWORD@HOST/NAME") from None


def written(parameters: Mapping[str, str]) -> str:
    """Return parameters as a connection string."""
    quoted = {name: value.replace("\\", "\\\\").replace("'", "\\'") for name, value in parameters.items()}
    return " ".join(f"{name}='{value}'" for name, value in quoted.items())


def is_here(url: str) -> bool:
    """Return whether a connection string leads to this machine. Raises AuthError as `parsed`."""
    return leads_here(parsed(url))


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


def verified(url: str) -> str:
    """Return a connection string that checks the server's certificate, name included, where it `needs_proof`.

    One that cannot be read is returned as it is, and libpq says what is wrong with it.
    """
    try:
        given = parsed(url)
    except AuthError:
        return url
    if not needs_proof(given) or given.get("sslmode") in _PROVEN:
        return url
    root = given.get("sslrootcert") or _authorities()
    # Encryption by Kerberos would come first, and without any certificate.
    return written({**given, "sslmode": "verify-full", "sslrootcert": root, "gssencmode": "disable"})


def _authorities() -> str:
    """Return the file of whom this user trusts, else of whom the system does."""
    own = Path("~/.postgresql/root.crt").expanduser()
    if own.is_file():
        return str(own)
    import ssl  # noqa: PLC0415 only for a server elsewhere

    return ssl.get_default_verify_paths().cafile or "system"


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    import ipaddress  # noqa: PLC0415 costs 5 ms

    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False
