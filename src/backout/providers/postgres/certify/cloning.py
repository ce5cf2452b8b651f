"""Rows of a real database, copied into the trial's: rows alone, in one snapshot.

No code of that database comes along (functions, triggers, types): the schema is built from the migrations.

Source: PostgreSQL 18 documentation, pg_dump and pg_restore (`--data-only`, `--disable-triggers`).
"""

from __future__ import annotations

import signal
import subprocess
import tempfile
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError
from backout.providers.child import tie_to_parent
from backout.providers.postgres.certify.rows import HISTORIES
from backout.providers.postgres.tls.dsn import drop_secrets
from backout.providers.postgres.tls.routes import open_program_environment

if TYPE_CHECKING:
    from backout.providers.child_environment import ChildEnvironment
    from backout.providers.postgres.server.binaries import Binaries

_QUOTED: Final = 500


def copy_rows(source: str, target: str, binaries: Binaries) -> None:
    """Copy the rows of all tables.

    Args:
        source: connection string of the database that is only read.
        target: of the trial's, which has the tables already.
        binaries: pg_dump and pg_restore; they read servers of their own version and older.

    Raises:
        BackoutError: one of them failed, in its words: the tables are not those that the migrations make, for example.
    """
    dump = [
        *(binaries.path("pg_dump"), "--format=custom", "--compress=0", "--data-only", "--no-password"),
        *("--lock-wait-timeout=30s", *(f"--exclude-table-data=*.{name}" for name in HISTORIES)),
    ]
    load = [
        *(binaries.path("pg_restore"), "--data-only", "--disable-triggers", "--single-transaction", "--no-password"),
        *("--no-owner", "--no-privileges", "--dbname="),
    ]
    has_tls = binaries.has_tls()
    with (
        open_program_environment(source, has_tls=has_tls) as there,
        open_program_environment(target, has_tls=has_tls) as here,
        tempfile.TemporaryFile() as rows,
    ):
        _run(dump, there, source, output=rows.fileno())
        rows.seek(0)
        _run(load, here, target, given=rows.fileno())


def _run(argv: list[str], environment: ChildEnvironment, url: str, *, given: int = -3, output: int = -3) -> None:
    done = subprocess.run(
        tie_to_parent(argv, signal.SIGTERM),
        stdin=given,
        stdout=output,
        stderr=subprocess.PIPE,
        env=environment,
        check=False,
    )
    if done.returncode != 0:
        said = " ".join(drop_secrets(url, done.stderr.decode("utf-8", "replace")).split())[:_QUOTED]
        name = argv[0].rpartition("/")[2]
        raise BackoutError(
            f"the rows cannot be copied: {said or f'{name} ended with {done.returncode}'}",
            where=name,
            hint='certify.data = "generated" needs no database; `backout db migrations drift` compares the schemas',
        )
