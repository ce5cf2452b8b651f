"""Addresses on which processes of releases listen: "HOST:PORT", or "unix/" and a path."""

from __future__ import annotations

import socket
import time
from typing import Final

_LOOK_EVERY_S: Final = 0.02


def accepts(address: str) -> bool:
    """Whether something accepts connections at an address ("HOST:PORT", or "unix/" and a path)."""
    try:
        if address.startswith("unix/"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.settimeout(1.0)
                client.connect(address.removeprefix("unix/"))
            return True
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=1.0):
            return True
    except (OSError, ValueError):
        return False


def await_accepting(address: str, within_s: float) -> bool:
    """Wait until something accepts connections there, and return whether it does."""
    deadline = time.monotonic() + within_s
    while not accepts(address):
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_EVERY_S)
    return True
