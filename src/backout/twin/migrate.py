"""Applies a folder of Prisma migrations as `prisma migrate deploy` does, so that the twin needs no Prisma engine.

Unlike Prisma's own, a migration is one transaction: a script that fails leaves nothing behind but its row. Source: the
`_prisma_migrations` table as Prisma 6.19 and 7.10 write it (row first, then the script, then `finished_at`; checksum is
the SHA-256 of the file; advisory lock 72707369); Prisma's CLI takes the rows for its own.
"""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING

import psycopg

from backout.errors import BackoutError, Busy, Refused, UsageError

if TYPE_CHECKING:
    from pathlib import Path

_LOCK_KEY = 72707369
_LOCK_TIMEOUT_S = 10.0
_TABLE = b"""
CREATE TABLE IF NOT EXISTS _prisma_migrations (
    id VARCHAR(36) PRIMARY KEY NOT NULL,
    checksum VARCHAR(64) NOT NULL,
    finished_at TIMESTAMPTZ,
    migration_name VARCHAR(255) NOT NULL,
    logs TEXT,
    rolled_back_at TIMESTAMPTZ,
    started_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    applied_steps_count INTEGER NOT NULL DEFAULT 0
)"""


def apply_migrations(dsn: str, folder: Path, *, lock_timeout_s: float = _LOCK_TIMEOUT_S) -> tuple[str, ...]:
    """Apply what is not applied yet, in the order of the names, and return those names.

    Raises:
        UsageError: `folder` is not there. Busy: another migration holds the lock for `lock_timeout_s`.
        Refused: an earlier migration failed and nobody resolved it (Prisma's P3009).
        BackoutError: a script failed; the database is as before that script.
    """
    scripts = _scripts(folder)
    with psycopg.connect(dsn, autocommit=True) as connection:
        _lock(connection, lock_timeout_s)
        connection.execute(_TABLE)
        done = _finished(connection)
        pending = tuple(path for path in scripts if path.parent.name not in done)
        for path in pending:
            _apply(connection, path)
    return tuple(path.parent.name for path in pending)


def apply_script(dsn: str, path: Path) -> None:
    """Run one SQL file (a seed) in one transaction; psycopg.Error when it fails."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(path.read_bytes())


def _scripts(folder: Path) -> tuple[Path, ...]:
    if not folder.is_dir():
        raise UsageError("no such folder of migrations", where=str(folder))
    return tuple(sorted(folder.glob("*/migration.sql"), key=lambda path: path.parent.name))


def _lock(connection: psycopg.Connection, timeout_s: float) -> None:
    """Take Prisma's lock for as long as the connection lives."""
    connection.execute(f"SET lock_timeout = {int(timeout_s * 1000)}".encode())
    try:
        connection.execute(b"SELECT pg_advisory_lock(%s)", (_LOCK_KEY,))
    except psycopg.errors.LockNotAvailable as error:
        raise Busy("another migration is running", where="Postgres", hint="wait for it, then try again") from error
    connection.execute(b"RESET lock_timeout")


def _finished(connection: psycopg.Connection) -> frozenset[str]:
    rows = connection.execute(
        b"SELECT migration_name, finished_at IS NOT NULL FROM _prisma_migrations WHERE rolled_back_at IS NULL"
    ).fetchall()
    failed = sorted(name for name, finished in rows if not finished)
    if failed:
        raise Refused(
            f"migration {failed[0]} failed before, and nobody said what became of it",
            where="_prisma_migrations",
            hint=f"prisma migrate resolve --rolled-back {failed[0]}",
        )
    return frozenset(name for name, _ in rows)


def _apply(connection: psycopg.Connection, path: Path) -> None:
    name, script, row = path.parent.name, path.read_bytes(), str(uuid.uuid4())
    connection.execute(
        b"INSERT INTO _prisma_migrations (id, checksum, migration_name) VALUES (%s, %s, %s)",
        (row, hashlib.sha256(script).hexdigest(), name),
    )
    try:
        connection.execute(script)  # without parameters: one simple query, which is one transaction
    except psycopg.Error as error:
        connection.rollback()  # a script with its own BEGIN leaves its transaction open
        connection.execute(b"UPDATE _prisma_migrations SET logs = %s WHERE id = %s", (str(error), row))
        raise BackoutError(
            f"migration {name} failed: {str(error).splitlines()[0]}",
            where=str(path),
            hint=f"correct the script, then: prisma migrate resolve --rolled-back {name}",
        ) from error
    connection.execute(
        b"UPDATE _prisma_migrations SET finished_at = now(), applied_steps_count = 1 WHERE id = %s", (row,)
    )
