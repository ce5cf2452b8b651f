"""A real server with an application that can be fenced: its roles, its table, and a writer that never gives up."""

from __future__ import annotations

import threading
import time
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import psycopg
from kept import template

from backout.providers.postgres.fence.fence import PostgresFence
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWORD = "canary-of-the-fence"
DEADLINE = 1_900_000_000.0


@contextmanager
def running_server(folder: Path, **settings: str) -> Iterator[int]:
    """Yield the port of a server whose superuser has the password."""
    server = PostgresServer(
        folder / "data", find_binaries(), settings={"fsync": "off", "max_prepared_transactions": "5", **settings}
    )
    server.create(cache_directory=template())
    yield server.start(password=PASSWORD).port
    server.stop(mode="immediate")


@dataclass
class Shop:
    """A database with a role of its own, on a server that others may use as well."""

    port: int
    folder: Path
    name: str = field(default_factory=lambda: f"shop_{uuid.uuid4().hex[:8]}")
    fenced: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        with self.connect("postgres", "postgres") as session:
            session.execute(f"CREATE ROLE {self.name} LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT 17")
            session.execute(f"COMMENT ON ROLE {self.name} IS 'it''s the \"shop\"\n\\ of ümläut'")
            session.execute(f"CREATE DATABASE {self.name} OWNER {self.name}")
            session.execute(f"REVOKE CONNECT ON DATABASE {self.name} FROM PUBLIC")
        with self.connect(self.name) as session:
            session.execute("CREATE TABLE orders (id bigserial PRIMARY KEY, at timestamptz DEFAULT now())")
        self.fence = self.make_fence()

    def url(self, role: str, database: str | None = None) -> str:
        return f"postgresql://{role}:{PASSWORD}@127.0.0.1:{self.port}/{database or self.name}"

    def connect(self, role: str, database: str | None = None) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url(role, database), autocommit=True, connect_timeout=10)

    def make_fence(self, role: str = "postgres", *, binaries: Path | None = None, **options: Any) -> PostgresFence:
        """Return the fence as another process would have it."""
        planned = self.fenced or (self.name,)
        return PostgresFence(
            lambda: self.url(role), lambda: planned, lambda: find_binaries(binaries), self.folder, **options
        )

    def administer(self, *statements: str) -> list[Any]:
        """Run statements as the superuser, in the shop; return the rows of the last one."""
        with self.connect("postgres") as session:
            for statement in statements:
                made = session.execute(statement.encode())
            return made.fetchall() if made.description else []

    def write(self) -> bool:
        """Write as the application does; return whether it was let in."""
        try:
            with self.connect(self.name) as session:
                session.execute("INSERT INTO orders DEFAULT VALUES")
        except psycopg.OperationalError:
            return False
        return True

    def prepare(self) -> None:
        """Leave a prepared transaction."""
        with psycopg.connect(self.url(self.name), autocommit=True) as session:
            session.execute(f"BEGIN; INSERT INTO orders DEFAULT VALUES; PREPARE TRANSACTION 'held {self.name}'")

    def roles(self) -> object:
        """Return all that a fence changes."""
        return self.administer(
            "SELECT rolname, rolcanlogin, rolconnlimit, shobj_description(oid, 'pg_authid') FROM pg_authid ORDER BY 1"
        )


class Writer:
    """An application that connects anew every 10 ms and writes a row each time, in several threads.

    Attributes:
        acknowledged: (id, when its commit was acknowledged by `time.monotonic`) of each row.
    """

    def __init__(self, shop: Shop, threads: int = 3) -> None:
        self._shop = shop
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        self.acknowledged: list[tuple[int, float]] = []
        self.refused = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            with suppress(psycopg.Error):
                try:
                    session = self._shop.connect(self._shop.name)
                except psycopg.OperationalError:
                    self.refused += 1
                    continue
                with session:
                    for _ in range(3):
                        row = session.execute("INSERT INTO orders DEFAULT VALUES RETURNING id").fetchone()
                        assert row is not None
                        self.acknowledged.append((int(row[0]), time.monotonic()))
