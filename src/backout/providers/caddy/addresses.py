"""Addresses on which processes of releases listen: "HOST:PORT", or "unix/" and a path."""

from __future__ import annotations

import time

from backout.providers.sockets import ExchangeError, dial, dial_socket

_LOOK_EVERY_S, _CONNECT_S = 0.02, 1.0


def accepts(address: str) -> bool:
    """Whether something accepts connections at an address ("HOST:PORT", or "unix/" and a path)."""
    try:
        if address.startswith("unix/"):
            found = dial_socket(address.removeprefix("unix/"), _CONNECT_S)
        else:
            host, _, port = address.rpartition(":")
            found = dial(host, int(port), time.monotonic() + _CONNECT_S, named=address)
    except (OSError, ValueError, ExchangeError):
        return False
    found.close()
    return True


def await_accepting(address: str, within_s: float) -> bool:
    """Wait until something accepts connections there, and return whether it does."""
    deadline = time.monotonic() + within_s
    while not accepts(address):
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_EVERY_S)
    return True
