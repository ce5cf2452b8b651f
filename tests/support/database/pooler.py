"""Transaction poolers: one in a few lines (clients share server sessions, each for one transaction), and PgBouncer."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import socket
import struct
import subprocess
import threading
from typing import TYPE_CHECKING

import psycopg

from backout.providers.child import find_free_ports, find_unprivileged_prefix
from backout.twin.database.pgwire import make_message, make_startup

from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_IDLE, _READY = b"I", b"Z"


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionError
        data += more
    return data


def _message(connection: socket.socket) -> tuple[bytes, bytes]:
    kind = _exactly(connection, 1)
    (length,) = struct.unpack("!I", _exactly(connection, 4))
    return kind, _exactly(connection, length - 4)


class _Pool:
    def __init__(self, path: str, parameters: dict[str, str]) -> None:
        self._path, self._parameters = path, parameters
        self._free: list[socket.socket] = []
        self._lock = threading.Lock()
        self.opened: list[socket.socket] = []

    def take(self) -> socket.socket:
        with self._lock:
            return self._free.pop(0) if self._free else self._open()

    def give(self, server: socket.socket) -> None:
        with self._lock:
            self._free.append(server)

    def _open(self) -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._path)
        server.sendall(make_startup(self._parameters))
        self.opened.append(server)
        while _message(server)[0] != _READY:
            pass
        return server


def _serve(client: socket.socket, pool: _Pool, keeps: int) -> None:
    with client, contextlib.suppress(ConnectionError, OSError):
        while True:
            (length,) = struct.unpack("!I", _exactly(client, 4))
            (code,) = struct.unpack("!I", _exactly(client, length - 4)[:4])
            if code == 196608:  # a start-up; what comes before it asks for TLS
                break
            client.sendall(b"N")
        client.sendall(make_message(b"R", struct.pack("!I", 0)) + make_message(b"K", struct.pack("!II", 1, 1)))
        client.sendall(make_message(_READY, _IDLE))
        server: socket.socket | None = None
        done = 0
        while True:
            kind, body = _message(client)
            if kind == b"X":
                return
            server = server or pool.take()
            server.sendall(make_message(kind, body))
            if kind not in {b"Q", b"S"}:
                continue
            while True:
                kind, body = _message(server)
                client.sendall(make_message(kind, body))
                if kind == _READY:
                    break
            done += body == _IDLE
            if body == _IDLE and done >= keeps:
                pool.give(server)
                server = None


@contextlib.contextmanager
def transaction_pooler(dsn: str, *, clients: int = 1 << 30, keeps: int = 1) -> Iterator[str]:
    """Yield the connection string of a pooler in front of the database, which wants no password.

    Args:
        clients: how many it lets in.
        keeps: transactions for which each of them has a session of the server to itself, as they have by chance where
            the application uses the others.
    """
    with psycopg.connect(dsn) as connection:
        (folder,) = connection.execute(b"SHOW unix_socket_directories").fetchone() or ("",)
        info = connection.info
        path, parameters = f"{folder}/.s.PGSQL.{info.port}", {"user": info.user, "database": info.dbname}
    pool = _Pool(path, parameters)
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with contextlib.suppress(OSError):
            for number in itertools.count():
                client = listener.accept()[0]
                if number < clients:
                    threading.Thread(target=_serve, args=(client, pool, keeps), daemon=True).start()
                else:
                    client.close()

    threading.Thread(target=accept, daemon=True).start()
    try:
        port = listener.getsockname()[1]
        yield f"postgresql://{parameters['user']}@127.0.0.1:{port}/{parameters['database']}?sslmode=disable"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for server in pool.opened:
            server.close()


@contextlib.contextmanager
def pgbouncer(port: int, password: str, folder: Path, sessions: int = 2) -> Iterator[str]:
    """Run the real one, in transaction mode with so many sessions of the server, and yield the way through it."""
    (own,) = find_free_ports(1)
    users = folder / "users.txt"
    users.write_text(f'"postgres" "{password}"\n')
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        f"[databases]\npostgres = host=127.0.0.1 port={port}\n[pgbouncer]\nlisten_port = {own}\n"
        f"listen_addr = 127.0.0.1\nauth_type = scram-sha-256\nauth_file = {users}\ndefault_pool_size = {sessions}\n"
        "pool_mode = transaction\nunix_socket_dir =\nignore_startup_parameters = extra_float_digits\n"
    )
    argv = (*find_unprivileged_prefix(), str(shutil.which("pgbouncer")), "--quiet", str(configuration))
    url = f"postgresql://postgres:{password}@127.0.0.1:{own}/postgres"
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: _answers(url), what="pgbouncer answers")
            yield url
        finally:
            process.terminate()


def _answers(url: str) -> bool:
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url, autocommit=True) as connection:
        return connection.execute("SELECT true").fetchone() == (True,)
    return False
