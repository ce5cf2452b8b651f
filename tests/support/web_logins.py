"""Logging in to a lab of the pages, and requests that come from an address of one's choice."""

from __future__ import annotations

import http.client
import itertools
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from web_lab import read_answer

from polling import PATIENCE_S

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from web_lab import Answer, Lab

PEERS: Final = (f"127.0.{net}.{host}" for net, host in itertools.product(range(1, 9), range(1, 250)))
"""Each attempt to log in comes from another address of loopback: it is counted for each."""


def ask_from(
    lab: Lab,
    peer: str,
    method: str,
    path: str,
    headers: Sequence[tuple[str, str]] = (),
    *,
    form: dict[str, str] | None = None,
    host: str = "",
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """Send a request from an address of loopback, each header as often as it is named."""
    body = b"" if form is None else urlencode(form).encode()
    connection = http.client.HTTPConnection("127.0.0.1", lab.port, timeout=PATIENCE_S, source_address=(peer, 0))
    if tls is not None:
        connection = http.client.HTTPSConnection("127.0.0.1", lab.port, timeout=PATIENCE_S, context=tls)
    try:
        connection.putrequest(method, path, skip_host=True)
        connection.putheader("Host", host or f"127.0.0.1:{lab.port}")
        if form is not None:
            connection.putheader("Content-Type", "application/x-www-form-urlencoded")
        connection.putheader("Content-Length", str(len(body)))
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders(body)
        return read_answer(connection)
    finally:
        connection.close()


def log_in(lab: Lab, offer: str, peer: str = "", path: str = "/", **how: Any) -> Answer:
    """Send the form that a one-time address leads to."""
    return ask_from(lab, peer or next(PEERS), "POST", "/login", form={"offer": offer, "next": path}, **how)


def read_cookie(answer: Answer) -> tuple[str, dict[str, str]]:
    """Return `name=value` of the one cookie of an answer, and its attributes in lower case."""
    (cookie,) = answer.cookies
    pair, *rest = (each.strip() for each in cookie.split(";"))
    return pair, {name.lower(): value for name, _, value in (each.partition("=") for each in rest)}
