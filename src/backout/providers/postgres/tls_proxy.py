"""TLS for Postgres programs that have none: a private unix socket here, a verified TLS connection to the server there.

The server offers SCRAM-SHA-256-PLUS on TLS, which binds the login to the TLS channel. The program sees no TLS and would
refuse ("server offered SCRAM-SHA-256-PLUS authentication over a non-SSL connection"), so that mechanism is taken out of
the offer. That gives up channel binding, so the certificate is always verified: `sslmode=require` means verify-full
here. Source: PostgreSQL 18, "Frontend/Backend Protocol", "SASL Authentication", "libpq, SSL Support".
"""

from __future__ import annotations

import atexit
import contextlib
import ipaddress
import selectors
import shutil
import socket
import ssl
import struct
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from backout.errors import AuthError, ProviderUnavailable, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_SSL_REQUEST, _GSS_REQUEST, _CANCEL_REQUEST = 80877103, 80877104, 80877102
_SASL: Final = 10
_PLUS: Final = b"SCRAM-SHA-256-PLUS"
_PORT: Final = 5432
_CHUNK: Final = 64 * 1024
_MOST_WAITING: Final = 1024 * 1024
_LEAST_STARTUP: Final = 8
_MOST_STARTUP: Final = 10_000  # Postgres' own limit
_LENGTH_BYTES: Final = 4
_MOST_MESSAGE: Final = 1024 * 1024
_CONNECT_S: Final = 10.0
_TLS_ONLY: Final = (
    "sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "sslcrldir", "sslnegotiation", "sslsni",
    "sslcertmode", "ssl_min_protocol_version", "ssl_max_protocol_version", "channel_binding", "hostaddr", "gssencmode",
    "requiressl", "sslcompression", "ssl",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TlsServer:
    """A server that is reached with TLS.

    Args:
        host: what the certificate is checked against. address: what is connected to, "" for the host.
        check_name: whether the certificate has to name the host (verify-full), or only to be trusted (verify-ca).
        root: a file with the certificates that are trusted, "" for those of the system.
        certificate, key: our own, "" without.
    """

    host: str
    port: int = _PORT
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


@contextlib.contextmanager
def without_tls(url: str, *, has_tls: bool = False) -> Iterator[str]:
    """Yield a connection string for programs without TLS: the same database, through a proxy where it needs TLS.

    A unix socket, this machine, and `sslmode=disable` go without; every other server is reached with a verified
    certificate. With `has_tls` the programs do it themselves and the string is as it was.

    Raises:
        AuthError: it is no connection string; the text does not quote it. UsageError: several hosts, or no certificate
        file. ProviderUnavailable: the certificate does not hold, or the server has no TLS: before any program runs.
    """
    parameters = parsed(url)
    server = None if has_tls else _server(parameters)
    if server is None:
        yield _written(parameters)
        return
    with TlsProxy(server) as proxy:
        proxy.try_it()
        kept = {name: value for name, value in parameters.items() if name not in _TLS_ONLY}
        yield _written({**kept, "host": str(proxy.directory), "port": str(_PORT)})


@contextlib.contextmanager
def reached(url: str, *, has_tls: bool) -> Iterator[dict[str, str]]:
    """Yield the environment in which a Postgres program reaches a database, through `without_tls` where it must."""
    from backout.providers.postgres.backup_tools import access  # noqa: PLC0415 which knows `parsed`

    with without_tls(url, has_tls=has_tls) as plain:
        yield access(plain)


class PlainAccess:
    """A connection string for programs without TLS; the proxy starts when it is first asked, and ends with the process.

    Args:
        url: returns the connection string. has_tls: whether the programs speak TLS themselves.
    """

    def __init__(self, url: Callable[[], str], has_tls: Callable[[], bool]) -> None:
        self._url = url
        self._has_tls = has_tls
        self._open = contextlib.ExitStack()
        self._dsn: str | None = None

    def dsn(self) -> str:
        """Return it. Raises as `without_tls`, at the first call; a later one returns the same."""
        if self._dsn is None:
            self._dsn = self._open.enter_context(without_tls(self._url(), has_tls=self._has_tls()))
            atexit.register(self.close)
        return self._dsn

    def close(self) -> None:
        """End the proxy before the process ends."""
        self._open.close()


def parsed(url: str) -> dict[str, str]:
    """Return a connection string's parameters. Raises AuthError: it is none; the text does not quote it."""
    from backout.providers.postgres import libpq  # noqa: PLC0415 only with a database
    from backout.providers.postgres.schema import libpq_url  # noqa: PLC0415 same

    try:
        return libpq.parameters(libpq_url(url)[0])
    except (libpq.LibpqError, UnicodeError):
        what = "the connection string cannot be read"
        raise AuthError(what, where="database", hint="postgresql://USER:PASSWORD@HOST/NAME") from None


def is_here(url: str) -> bool:
    """Return whether a connection string leads to this machine. Raises AuthError as `parsed`."""
    host = parsed(url).get("host", "")
    return not host or host.startswith("/") or _is_here(host)


def _written(parameters: Mapping[str, str]) -> str:
    quoted = {name: value.replace("\\", "\\\\").replace("'", "\\'") for name, value in parameters.items()}
    return " ".join(f"{name}='{value}'" for name, value in quoted.items())


def _server(parameters: Mapping[str, str]) -> TlsServer | None:
    """Return the server to be reached with TLS, or None where the connection goes without."""
    host, mode = parameters.get("host", ""), parameters.get("sslmode", "")
    if not host or host.startswith("/") or mode == "disable" or (mode in ("", "allow", "prefer") and _is_here(host)):
        return None
    if "," in host:
        raise UsageError("the connection string names several hosts", where="database", hint="name the primary alone")
    root = parameters.get("sslrootcert", "")
    own = Path("~/.postgresql/root.crt").expanduser()
    if not root and own.is_file():
        root = str(own)
    return TlsServer(
        host,
        int(parameters.get("port", _PORT)),
        address=parameters.get("hostaddr", ""),
        check_name=mode != "verify-ca",
        root="" if root == "system" else root,
        certificate=parameters.get("sslcert", ""),
        key=parameters.get("sslkey", ""),
    )


def _is_here(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


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
        self._listener.bind(str(self.directory / f".s.PGSQL.{_PORT}"))
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
        self._connected().close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), name="backout-tls", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), self._kept(client):
            client.settimeout(self._connect_s)
            startup = _startup(client)
            try:
                server = self._connected()
            except ProviderUnavailable as error:
                client.sendall(_error(error.what))
                return
            with contextlib.closing(server), self._kept(server):
                server.sendall(startup)
                if struct.unpack_from("!i", startup, 4)[0] == _CANCEL_REQUEST:
                    server.recv(1)
                    return
                server.settimeout(60.0)  # a server that starts, or a slow login
                _answer_to_startup(server, client)
                _relay(client, server)

    @contextlib.contextmanager
    def _kept(self, sock: socket.socket) -> Iterator[None]:
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

    def _connected(self) -> ssl.SSLSocket:
        server = self._server
        where = f"{server.host}:{server.port}"
        hint = "check host, sslmode and sslrootcert of the connection string"
        try:
            plain = socket.create_connection((server.address or server.host, server.port), self._connect_s)
        except (OSError, UnicodeError) as error:
            raise ProviderUnavailable(f"no connection: {_said(error)}", where=where, hint=hint) from error
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.sendall(struct.pack("!ii", 8, _SSL_REQUEST))
            answer = plain.recv(1)
            if answer == b"S":
                return self._context.wrap_socket(plain, server_hostname=server.host)
        except ssl.SSLCertVerificationError as error:
            plain.close()
            what = f"the server's certificate is not accepted: {error.verify_message}"
            raise ProviderUnavailable(what, where=where, hint=hint) from error
        except OSError as error:
            plain.close()
            raise ProviderUnavailable(f"no TLS connection: {_said(error)}", where=where, hint=hint) from error
        plain.close()
        what = "the server has no TLS, and a password is not sent without it"
        raise ProviderUnavailable(what, where=where, hint="add sslmode=disable where the network is trusted")


def _said(error: Exception) -> str:
    return (getattr(error, "strerror", None) if isinstance(error, OSError) else None) or str(error) or "no answer"


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        if not chunk:
            raise ConnectionResetError("closed in the middle of a message")
        data += chunk
    return bytes(data)


def _startup(client: socket.socket) -> bytes:
    """Return the client's startup message (or cancel request); offers of encryption are declined: it is on us."""
    while True:
        head = _exactly(client, 4)
        length = struct.unpack("!i", head)[0]
        if not _LEAST_STARTUP <= length <= _MOST_STARTUP:
            raise ConnectionResetError("not a startup message")
        message = head + _exactly(client, length - 4)
        if struct.unpack_from("!i", message, 4)[0] not in (_SSL_REQUEST, _GSS_REQUEST):
            return message
        client.sendall(b"N")


def _answer_to_startup(server: ssl.SSLSocket, client: socket.socket) -> None:
    """Pass the server's first answer on, the offer of channel binding taken out of it."""
    kind = b"v"
    while kind == b"v":  # NegotiateProtocolVersion comes before
        head = _exactly(server, 5)
        kind, length = head[:1], struct.unpack("!i", head[1:])[0]
        if not _LENGTH_BYTES <= length <= _MOST_MESSAGE:
            raise ConnectionResetError("not a message of Postgres")
        client.sendall(_without_binding(head + _exactly(server, length - 4)))


def _without_binding(message: bytes) -> bytes:
    r"""Return a message; of an offer of login methods, only those without channel binding.

    >>> _without_binding(b"R" + struct.pack("!ii", 42, 10) + b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")[9:]
    b'SCRAM-SHA-256\x00\x00'
    """
    if message[:1] != b"R" or struct.unpack_from("!i", message, 5)[0] != _SASL:
        return message
    kept = [name for name in message[9:].split(b"\0") if name and name != _PLUS]
    if not kept:
        return _error("the server insists on channel binding, which needs programs with TLS of their own")
    body = b"".join(name + b"\0" for name in kept) + b"\0"
    return b"R" + struct.pack("!ii", 8 + len(body), _SASL) + body


def _error(text: str) -> bytes:
    """Return an ErrorResponse, so that the program shows the text."""
    fields = b"SFATAL\0VFATAL\0C08006\0M" + text.encode() + b"\0\0"
    return b"E" + struct.pack("!i", 4 + len(fields)) + fields


def _relay(client: socket.socket, server: ssl.SSLSocket) -> None:
    """Carry bytes both ways until one side ends; neither side waits for the other one to be read."""
    client.setblocking(False)
    server.setblocking(False)
    up, down = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ)
        selector.register(server, selectors.EVENT_READ)
        while True:
            # TLS may hold bytes already that the selector does not see.
            held = server.pending() > 0 and len(down) < _MOST_WAITING
            woken = {key.fileobj for key, _ in selector.select(0 if held else None)}
            ways = ((client, server, up), (server, client, down))
            for source, other, waiting in ways:
                if source in woken or (held and source is server):
                    ended = _fill(source, waiting)
                    if ended:
                        _drain(other, waiting)
                        return
            for _, other, waiting in ways:
                _send(other, waiting)
            for source, _, waiting in ways:
                wanted = selectors.EVENT_READ if len(waiting) < _MOST_WAITING else 0
                wanted |= selectors.EVENT_WRITE if (down if source is client else up) else 0
                selector.modify(source, wanted)


def _fill(source: socket.socket, waiting: bytearray) -> bool:
    """Read what there is, up to the most that may wait; return whether the source has ended."""
    while len(waiting) < _MOST_WAITING:
        chunk = _receive(source)
        if chunk is None:
            return False
        if not chunk:
            return True
        waiting += chunk
    return False


def _send(sock: socket.socket, data: bytearray) -> None:
    while data:
        try:
            del data[: sock.send(memoryview(data)[:_CHUNK].tobytes())]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return


def _receive(sock: socket.socket) -> bytes | None:
    """Return bytes, b"" at the end, None when there are none yet."""
    try:
        return sock.recv(_CHUNK)
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return None
    except (ssl.SSLEOFError, ConnectionResetError):
        return b""


def _drain(sock: socket.socket, data: bytearray) -> None:
    sock.settimeout(5.0)
    if data:
        sock.sendall(data)
    if isinstance(sock, ssl.SSLSocket):
        with contextlib.suppress(OSError, ValueError):
            sock.unwrap()
