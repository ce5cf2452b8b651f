"""A rescue that waits for an approval says which rows it would write: the plan that is approved does not name them."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

import pytest
from kept import template
from restore_typing import Typing, typing_beside

from backout.errors import Refused
from backout.journal.sqlite import SqliteJournal
from backout.model.database.rescue_preview import PreviewState
from backout.model.incident.incident import RunState
from backout.providers.clock import SystemClock
from backout.providers.postgres.rescue.rescue import PostgresRescuer
from backout.runbook.recovery.previews import read_preview

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.model.database.rescue_preview import RescuePreview
    from backout.model.incident.incident import Run

pytestmark = pytest.mark.rotating("restores", 5)
APPROVALS = '[environments.lab.approvals]\nrequired_for = ["restore"]\n'


@pytest.fixture(scope="module")
def typing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Typing]:
    folders = tmp_path_factory.mktemp("typed"), template()
    table = "CREATE TABLE orders (id int PRIMARY KEY, status text)"
    with typing_beside(*folders, table, "INSERT INTO orders SELECT g, 'paid' FROM generate_series(1, 1000) g") as made:
        file = made.folder / "backout.toml"
        file.write_text(file.read_text(encoding="utf-8") + APPROVALS, encoding="utf-8")
        yield made


def damage(typing: Typing, first: int, last: int) -> str:
    with typing.lab.connect() as connection, connection.transaction():
        row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
        connection.execute("UPDATE orders SET status = 'bad' WHERE id BETWEEN %s AND %s", (first, last))
    assert row is not None
    typing.archived()
    return str(row[0])


def read(typing: Typing, run_id: str) -> tuple[Run, RescuePreview]:
    with contextlib.closing(SqliteJournal(typing.folder / ".backout" / "journal.sqlite", SystemClock())) as journal:
        run = journal.find(run_id)
        assert run is not None
        found = read_preview(journal, run)
    assert found is not None
    return run, found


def wait(typing: Typing, target: str) -> tuple[str, str]:
    """Type a rescue that waits for its approval, and return its run and what was said."""
    asked = typing("db", "restore", target, "-m", "wrong UPDATE", "--yes", code=3)
    run = re.search(r"backout runs approve (\S+)", asked.err)
    assert run is not None, asked.err
    return run[1], asked.err


@pytest.mark.long
def test_the_rows_are_counted_while_it_waits_and_are_those_that_it_writes(typing: Typing) -> None:
    xid = damage(typing, 1, 300)
    typing.lab.rows("UPDATE orders SET status = 'refunded' WHERE id = 7 RETURNING 1")
    run_id, said = wait(typing, xid)
    run, found = read(typing, run_id)
    assert run.state is RunState.WAITING
    assert found.state is PreviewState.COUNTED
    assert found.report is not None
    (table,) = found.report.tables
    assert (table.table, table.updated, table.conflicts, table.examples) == ("public.orders", 299, 1, ("7",))
    assert "it would write" in said
    assert "public.orders" in said
    assert typing.lab.rows("SELECT count(*) FROM orders WHERE status = 'bad' AND id <= 300") == [(299,)], (
        "nothing is written"
    )
    assert "-look" not in typing("db", "restore", "--list").out, "its side instances are removed again"
    shown = typing("runs", "show", run_id, "--json").json["preview"]
    assert isinstance(shown, dict)
    assert (shown["state"], shown["rescue"]["tables"][0]["updated"]) == ("counted", 299)
    approved = typing("runs", "approve", run_id, "-m", "looked at the rows", "--yes").err
    assert re.search(r"it would write, as counted at .*Z:\nTABLE .*\npublic.orders +299 ", approved), approved
    done = typing("runs", "resume", run_id, "--json").json["rescue"]
    assert isinstance(done, dict)
    assert [(each["updated"], each["conflicts"]) for each in done["tables"]] == [(299, 1)]


@pytest.mark.long
def test_a_count_that_fails_or_is_stopped_leaves_the_run_as_it_waits(
    typing: Typing, monkeypatch: pytest.MonkeyPatch
) -> None:
    xid = damage(typing, 301, 310)
    for error, why in ((Refused("the disk is full"), "the disk is full"), (KeyboardInterrupt(), "was stopped")):

        def fail(*_words: object, error: BaseException = error) -> None:
            raise error

        with monkeypatch.context() as patched:
            patched.setattr(PostgresRescuer, "damage", fail)
            run_id, said = wait(typing, xid)
        run, found = read(typing, run_id)
        assert (found.state, why in found.why, why in said) == (PreviewState.FAILED, True, True)
        assert run.state is RunState.WAITING
        assert "-look" not in typing("db", "restore", "--list").out
        typing("runs", "abort", run_id, "-m", "once more", "--yes")
