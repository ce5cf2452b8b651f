"""Postgres with TLS on loopback: certificates of our own, and a front that ends TLS before a server that has none."""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import ssl
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST = "db.test.localhost"


@dataclass(frozen=True)
class Authority:
    """A certificate authority; `root` is the file that a client trusts."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def root(self) -> Path:
        return self.folder / "root.crt"

    def issue(self, host: str = HOST, *, days: int = 30) -> tuple[Path, Path]:
        """Return the files of a certificate and its key; a negative number of days: it has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        signed = _signed(host, key, self.certificate.subject, self.key, days=days, is_root=False)
        name = f"{host}-{days}"
        return _written(self.folder, name, signed), _written_key(self.folder, name, key)


def authority(folder: Path) -> Authority:
    """Make an authority in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {folder.name}")])
    certificate = _signed(f"authority {folder.name}", key, name, key, days=30, is_root=True)
    _written(folder, "root", certificate)
    return Authority(folder, key, certificate)


def _signed(
    host: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    by: ec.EllipticCurvePrivateKey,
    *,
    days: int,
    is_root: bool,
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=60))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    )
    if is_root:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    else:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    return builder.sign(by, hashes.SHA256())


def _written(folder: Path, name: str, certificate: x509.Certificate) -> Path:
    path = folder / f"{name}.crt"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path


def _written_key(folder: Path, name: str, key: ec.EllipticCurvePrivateKey) -> Path:
    path = folder / f"{name}.key"
    plain = serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    path.chmod(0o600)
    return path


@contextlib.contextmanager
def tls_front(  # noqa: C901 - two threads
    port: int, certificate: Path, key: Path, *, offer_plus: bool = True
) -> Iterator[int]:
    """End TLS before the server on a loopback port; yields the front's port.

    As a real server with TLS does, it offers SCRAM-SHA-256-PLUS as well.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []
    sockets: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            worker = threading.Thread(target=serve, args=(client,), daemon=True)
            threads.append(worker)
            worker.start()

    def serve(client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            if client.recv(8) != struct.pack("!ii", 8, 80877103):
                return
            client.sendall(b"S")
            secured = context.wrap_socket(client, server_side=True)
            with secured as secure, socket.create_connection(("127.0.0.1", port)) as server:
                sockets.append(server)
                startup = secure.recv(65536)
                if not startup:  # the certificate was refused: the server would wait for a minute
                    return
                server.sendall(startup)
                first = server.recv(65536)
                if offer_plus and first[:1] == b"R" and first[5:9] == struct.pack("!i", 10):
                    body = b"SCRAM-SHA-256-PLUS\0" + first[9:]
                    first = b"R" + struct.pack("!ii", 8 + len(body), 10) + body
                secure.sendall(first)
                carry(secure, server)

    def carry(secure: ssl.SSLSocket, server: socket.socket) -> None:
        import select  # noqa: PLC0415 here alone

        while True:
            ready = [secure] if secure.pending() else select.select([secure, server], [], [], 30)[0]
            if not ready:
                return
            for source in ready:
                data = source.recv(65536)
                if not data:
                    return
                (server if source is secure else secure).sendall(data)

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(PATIENCE_S)
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)  # a client that was never closed would be waited for
        for thread in threads:
            thread.join(PATIENCE_S)
