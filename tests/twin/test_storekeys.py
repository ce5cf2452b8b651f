"""The certificates between the parts of the twin's store: what the strictest Python takes, and nobody else's."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from backout.twin.storage import keys

if TYPE_CHECKING:
    from pathlib import Path


def shaken(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Do a handshake in memory. Raises ssl.SSLError: one does not take the other."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(back, there, server_hostname="127.0.0.1"),
        server.wrap_bio(there, back, server_side=True),
    ]
    waiting = list(ends)
    for _ in range(10):
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
        if not waiting:
            return
    raise AssertionError("no end")


def part(directory: Path) -> ssl.SSLContext:
    """Return what a part of the store answers with; it wants a certificate of its clients."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    server.load_verify_locations(directory / "ca.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    return server


def test_a_python_that_checks_strictly_takes_the_certificates(tmp_path: Path) -> None:
    """VERIFY_X509_STRICT is the default from Python 3.13 on; both ends check here as it does."""
    client, server = keys.write(tmp_path), part(tmp_path)
    for context in (client, server):
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    shaken(client, server)


def test_the_keys_of_another_start_are_not_taken(tmp_path: Path) -> None:
    """Each start has an authority of its own."""
    (tmp_path / "other").mkdir()
    client = keys.write(tmp_path)
    keys.write(tmp_path / "other")
    with pytest.raises(ssl.SSLError):
        shaken(client, part(tmp_path / "other"))
