"""The same night with a real Postgres: its archive, its fence, and an application that connects anew every 10 ms."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import psycopg
from recovery_story import Night
from values import replace

from backout.model.guard.policy import Criteria
from backout.providers.clock import SystemClock
from backout.providers.postgres.comparison.written_since import list_written_rows
from backout.providers.postgres.fence.fence import PostgresFence

from line import POLICY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from recovery_lab import Lab

    from backout.model.database.written_since import WrittenTable
    from backout.model.guard.policy import Policy
    from backout.ports import Fence
    from backout.runbook.recovery.tools import RestoreTools

QUICK = replace(POLICY, criteria=Criteria(error_rate_for_s=2, watch_s=4, old_version_quiet_s=1))


class Writer:
    """An application that connects anew for each row, in several threads; what is acknowledged is in its ledger.

    Attributes:
        ledger: the names of the rows, each with when it was acknowledged (Unix seconds).
    """

    def __init__(self, lab: Lab, threads: int = 2) -> None:
        self._dsn = lab.dsn.replace("user=postgres", "user=app")
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(each,), daemon=True) for each in range(threads)]
        self.ledger: list[tuple[str, float]] = []

    def write(self, name: str) -> bool:
        """Write one row; return whether that was acknowledged."""
        try:
            with psycopg.connect(self._dsn, autocommit=True, connect_timeout=5) as session:
                session.execute("INSERT INTO orders (name) VALUES (%s)", (name,))
        except psycopg.Error:
            return False
        self.ledger.append((name, time.time()))
        return True

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, number: int) -> None:
        tried = 0
        while not self._stop.wait(0.01):
            tried += 1
            self.write(f"t{number}-{tried}")


@dataclass
class LabServer:
    """The lab's server as the story wants it."""

    lab: Lab
    writer: Writer
    written: int = 0

    def write(self) -> bool:
        self.written += 1
        return self.writer.write(f"w{self.written}")

    def rows(self) -> list[str]:
        return [str(name) for (name,) in self.lab.rows("SELECT name FROM orders ORDER BY id")]

    def tools(self, journal: Any) -> RestoreTools:

        def written(copy: str, within_s: float) -> Sequence[WrittenTable]:
            return list_written_rows(self.lab.dsn, copy, "postgres", within_s=within_s)

        return self.lab.tools(journal=journal, runs=journal, receiver="lab", written=written)


@dataclass
class RealNight(Night):
    """The night on a lab.

    Attributes:
        marked: when the point was recorded, in Unix seconds, before and after it.
        xid: the transaction that did the damage.
    """

    lab: Any = None
    policy: Policy = QUICK
    pause_s: float = 2.0
    xid: str = ""
    writer: Writer = field(init=False)
    marked: tuple[float, float] = field(init=False)

    def _open_server(self) -> Any:
        self.world.clock = SystemClock()  # type: ignore[assignment]
        with self.lab.connect() as session:
            session.execute("CREATE ROLE app LOGIN CONNECTION LIMIT 40")
            session.execute("COMMENT ON ROLE app IS 'the shop''s own'")
            session.execute("CREATE TABLE orders (id bigserial PRIMARY KEY, name text, total int DEFAULT 7)")
            session.execute("ALTER TABLE orders OWNER TO app")
            session.execute("DROP TABLE IF EXISTS ticks")
        self.lab.base("base")
        self.writer = Writer(self.lab)
        return LabServer(self.lab, self.writer)

    def _mark(self, name: str) -> None:
        began = time.time()
        super()._mark(name)
        self.marked = began, time.time()

    def _damage(self) -> None:
        with self.lab.connect() as session, session.transaction():
            row = session.execute("SELECT pg_current_xact_id()::text").fetchone()
            session.execute("ALTER TABLE orders DROP COLUMN total")
            session.execute("UPDATE orders SET name = name || ' spoiled'")
        assert row is not None
        self.xid = str(row[0])
        self.lab.archived()

    def _open_fence(self) -> Fence:
        return PostgresFence(lambda: self.lab.dsn, lambda: ("app",), lambda: self.lab.binaries, self.folder / "fence")
