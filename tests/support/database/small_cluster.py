"""Clusters as small as they can be: every base backup, copy and look at the WAL reads and writes all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from backout.providers.postgres.server.template import run_tool

if TYPE_CHECKING:
    from pathlib import Path

    from backout.providers.postgres.server.binaries import Binaries

SEGMENT: Final = 1 << 20
"""Bytes of a segment of WAL, where Postgres has 16 MB unless it is told otherwise: mostly zeros, in a test."""


def shrink_segments(data: Path, binaries: Binaries) -> None:
    """Give a cluster that was never started small segments of WAL."""
    run_tool(binaries, "pg_resetwal", f"--pgdata={data}", f"--wal-segsize={SEGMENT >> 20}")


def drop_templates(connection: Any) -> None:
    """Drop the databases that new ones are copied from: two thirds of the files."""
    connection.execute("UPDATE pg_database SET datistemplate = false WHERE datistemplate")
    connection.execute("DROP DATABASE template0")
    connection.execute("DROP DATABASE template1")
