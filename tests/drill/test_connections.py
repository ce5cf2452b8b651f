"""Connections on real parts: sessions use up what the database grants, after a deployment that fails no request."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from polling import PATIENCE_S
from streamed import await_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drillbook import Drillbook, Trial

pytestmark = pytest.mark.rotating("drills", 5)

LIMIT = 40


@contextlib.contextmanager
def limited(book: Drillbook) -> Iterator[str]:
    """Have the database grant so few connections until the block ends (the twin's own role is not bound by it)."""
    dsn = str(book.stage.twin.postgres_dsn)
    with psycopg.connect(dsn, autocommit=True) as admin:
        name = sql.Identifier(admin.info.dbname)
        admin.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(name, sql.Literal(LIMIT)))
        try:
            yield dsn
        finally:
            admin.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT -1").format(name))


def watched(trial: Trial, dsn: str) -> tuple[int, dict[str, object], str]:
    """Watch the live version while, from the second tick with a reading on, sessions take every connection."""
    process = trial.start("guard", "--json")
    with contextlib.ExitStack() as sessions:
        for _ in range(4):  # the first look is over: there was room at the beginning
            await_line(process, lambda text: json.loads(text)["type"] == "tick")
        for _ in range(LIMIT):
            sessions.enter_context(psycopg.connect(dsn, autocommit=True))
        out, err = process.communicate(timeout=PATIENCE_S)
    result: dict[str, object] = json.loads(out.splitlines()[-1])
    return process.returncode, result, err


@pytest.mark.long
def test_a_version_that_uses_up_the_connections_is_rolled_back(drillbook: Drillbook) -> None:
    """No request fails and health is well; three looks at pg_stat_activity in a row are the reason."""
    good = drillbook.good
    try:
        drillbook.deploy("good-2")
        # Long enough beside other programs; it ends with the reason.
        trial = drillbook.trial().replace((r'watch = "\d+s"', 'watch = "90s"'))
        hog = trial.live()
        assert hog != good
        with limited(drillbook) as dsn:
            code, result, err = watched(trial, dsn)
        assert code == 1, err
        decision = result["decision"]
        assert isinstance(decision, dict)
        assert decision["cause"] == "connections"
        assert f"of {LIMIT} connections of the database in use" in decision["reason"]
        assert decision["errors"] == 0
        assert result["live_version"] == good
        (report,) = trial.reports()
        assert "no database connections left" in report.read_text(encoding="utf-8")
    finally:
        drillbook.trial().tools().deployments.activate(good, message="back", force=True)
