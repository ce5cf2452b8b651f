"""A damage done in one transaction, the rescue of it, and its undo: what each of them reports."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backout.runbook.recovery.restore import plan_rescue, plan_side, plan_undo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from recovery_lab import Lab

    from backout.model.plan import Json


def damaged(lab: Lab, name: str, made: str, damage: str, since: str = "") -> str:
    """Make tables, take a base, do the damage in one transaction and what came after; return the damage's id."""
    with lab.connect() as connection:
        connection.execute(made)  # type: ignore[call-overload]
        lab.base(name)
        with connection.transaction():
            row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            connection.execute(damage)  # type: ignore[call-overload]
        if since:
            connection.execute(since)  # type: ignore[call-overload]
    lab.archived()
    assert row is not None
    return str(row[0])


def rescue(lab: Lab, xid: str) -> dict[str, Any]:
    """Rescue, and return what is reported, by table."""
    tools = lab.tools()
    run = lab.run(plan_rescue(tools, xid, conflicts="live", skip=(), queues=False), tools)
    told: Json = lab.journal.result(run.id, "db_rescue")
    assert isinstance(told, dict)
    tables = told["tables"]
    assert isinstance(tables, list)
    return {str(each["table"]): each for each in tables if isinstance(each, dict)}


def undone(lab: Lab) -> dict[str, str]:
    """Take the rescue back, and return what stays, with the reason."""
    tools = lab.tools()
    run = lab.run(plan_undo(tools), tools)
    told: Json = lab.journal.result(run.id, "db_undo_rescue")
    assert isinstance(told, dict)
    compared: Any = lab.journal.result(run.id, "db_compare_undo")
    assert "failed" not in compared, compared
    assert [*compared["differs"], *compared["behind"]] == []
    left_out = told["left_out"]
    assert isinstance(left_out, list)
    return {str(each["what"]): str(each["reason"]) for each in left_out if isinstance(each, dict)}


def type_told(lab: Lab, xid: str, texts: Sequence[str], folder: Path, *, user: str = "postgres") -> list[str]:
    """Type what a rescue tells to be done by hand into psql, as it stands there, and return what psql printed.

    The part before the line about the live database goes to a side instance just before the damage.

    Args:
        folder: in which psql runs.
        user: of the live database.
    """
    tools = lab.tools()
    run = lab.run(plan_side(tools, xid), tools)
    made: Any = lab.journal.result(run.id, "db_side_open")
    psql = lab.binaries.path("psql")
    environment = {**os.environ, "PATH": f"{Path(psql).parent}{os.pathsep}{os.environ['PATH']}"}
    printed = []
    for text in texts:
        at_side, live = re.split(r"(?m)^(?=--.*psql of the live database)", text)
        for dsn, typed in ((str(made["dsn"]), at_side), (lab.dsn.replace("user=postgres", f"user={user}"), live)):
            argv = (psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn)
            done = subprocess.run(
                argv, input=typed, cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{done.stderr}\n{text}"
            printed.append(done.stdout)
    tools.sides.drop(str(made["name"]))
    return printed
