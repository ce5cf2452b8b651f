"""TLS for Postgres programs without it: a private unix socket here, a verified TLS connection to the server there.

The server offers SCRAM-SHA-256-PLUS on TLS, which binds the login to the TLS channel. The program sees no TLS and would
refuse ("server offered SCRAM-SHA-256-PLUS authentication over a non-SSL connection"), so that mechanism is taken out of
the offer. That gives up channel binding, so the certificate is always verified: `sslmode=require` means verify-full
here. Source: PostgreSQL 18, "Frontend/Backend Protocol", "SASL Authentication", "libpq, SSL Support".
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import struct
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from backout.errors import ProviderUnavailable, UsageError
from backout.model.value import Value
from backout.providers.postgres.tls.wire import (
    CANCEL_REQUEST,
    SSL_REQUEST,
    make_error_response,
    pass_startup_answer,
    read_startup,
    relay,
)
from backout.providers.sockets import ExchangeError, dial

if TYPE_CHECKING:
    from collections.abc import Iterator

PORT: Final = 5432
_CONNECT_S: Final = 10.0


class TlsServer(Value, frozen=True):
    """A server that is reached with TLS.

    Args:
        host: the name that the certificate is checked against.
        address: the address to connect to, "" for the host.
        check_name: whether the certificate has to name the host (verify-full), or only to be trusted (verify-ca).
        root: a file with the certificates that are trusted, "" for those of the system.
        certificate, key: our own, "" without.
    """

    host: str
    port: int = PORT
    address: str = ""
    check_name: bool = True
    root: str = ""
    certificate: str = ""
    key: str = ""

    def context(self) -> ssl.SSLContext:
        """Return what verifies its certificate. Raises UsageError: a file of it cannot be read."""
        try:
            context = ssl.create_default_context(cafile=self.root or None)
            context.check_hostname = self.check_name
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key or None)
        except (OSError, ssl.SSLError) as error:
            what = f"a certificate file cannot be read: {getattr(error, 'strerror', None) or error}"
            raise UsageError(what, where=self.root or self.certificate, hint="check sslrootcert") from error
        return context


class TlsProxy:
    """A unix socket in a folder of its own (mode 0700), each connection to it one TLS connection to the server."""

    def __init__(self, server: TlsServer, *, connect_s: float = _CONNECT_S) -> None:
        self._server = server
        self._connect_s = connect_s
        self._context = server.context()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._ended = False

    def __enter__(self) -> Self:
        # A socket's path may have 107 bytes at most.
        self.directory = Path(tempfile.mkdtemp(prefix="backout-tls-"))
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.directory / f".s.PGSQL.{PORT}"))
        self._listener.listen(16)
        self._acceptor = threading.Thread(target=self._accept, name="backout-tls", daemon=True)
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._ended = True
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(5.0)
        self._listener.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def try_it(self) -> None:
        """Open one verified connection and close it. Raises ProviderUnavailable with what is wrong."""
        self._connect().close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), name="backout-tls", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), self._keep_open(client):
            client.settimeout(self._connect_s)
            startup = read_startup(client)
            try:
                server = self._connect()
            except ProviderUnavailable as error:
                client.sendall(make_error_response(error.what))
                return
            with contextlib.closing(server), self._keep_open(server):
                server.sendall(startup)
                if struct.unpack_from("!i", startup, 4)[0] == CANCEL_REQUEST:
                    server.recv(1)
                    return
                server.settimeout(60.0)  # a server that starts, or a slow login
                pass_startup_answer(server, client)
                relay(client, server)

    @contextlib.contextmanager
    def _keep_open(self, sock: socket.socket) -> Iterator[None]:
        """Close the socket in the end; when the proxy ends first, it is shut down."""
        with self._lock:
            self._open.add(sock)
            if self._ended:
                sock.close()
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(sock)
            sock.close()

    def _connect(self) -> ssl.SSLSocket:
        server = self._server
        where = f"{server.host}:{server.port}"
        hint = "check host, sslmode and sslrootcert of the connection string"
        try:
            plain = dial(server.address or server.host, server.port, time.monotonic() + self._connect_s, named=where)
        except ExchangeError as error:
            raise ProviderUnavailable(f"no connection: {error}", where=where, hint=hint) from error
        try:
            plain.settimeout(self._connect_s)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.sendall(struct.pack("!ii", 8, SSL_REQUEST))
            answer = plain.recv(1)
            if answer == b"S":
                return self._context.wrap_socket(plain, server_hostname=server.host)
        except ssl.SSLCertVerificationError as error:
            plain.close()
            what = f"the server's certificate is not accepted: {error.verify_message}"
            raise ProviderUnavailable(what, where=where, hint=hint) from error
        except OSError as error:
            plain.close()
            raise ProviderUnavailable(f"no TLS connection: {_describe_error(error)}", where=where, hint=hint) from error
        plain.close()
        what = "the server has no TLS, and a password is not sent without it"
        raise ProviderUnavailable(what, where=where, hint="add sslmode=disable where the network is trusted")


def _describe_error(error: Exception) -> str:
    return (getattr(error, "strerror", None) if isinstance(error, OSError) else None) or str(error) or "no answer"
