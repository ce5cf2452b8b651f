"""Restores as they are typed, on the project's own backups and WAL: a whole recovery, and what is refused before it."""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING

import psycopg
import pytest
from cli_shell import backout as typed
from kept import template
from restore_typing import Typing, typing_beside

from backout.providers.postgres.rescue import rows as rescue_rows
from backout.providers.postgres.schema.rowsql import copy_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recovery_lab import Lab

pytestmark = pytest.mark.rotating("restores", 5)


@pytest.fixture(scope="module")
def typing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Typing]:
    folders = tmp_path_factory.mktemp("typed"), template()
    table = "CREATE TABLE orders (id int PRIMARY KEY, status text, note text)"
    rows = "INSERT INTO orders SELECT g, 'paid', 'n' || g FROM generate_series(1, 1000) g"
    with typing_beside(*folders, table, rows) as made:
        yield made


def damaged(lab: Lab) -> str:
    with lab.connect() as connection, connection.transaction():
        row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
        connection.execute("UPDATE orders SET status = 'bad' WHERE id <= 300")
        connection.execute("SAVEPOINT one; ALTER TABLE orders DROP COLUMN note")
    assert row is not None
    return str(row[0])


def cheapened(lab: Lab) -> str:
    with lab.connect() as connection:
        connection.execute("CREATE TABLE prices (id int PRIMARY KEY, price float8)")
        connection.execute("INSERT INTO prices SELECT g, g FROM generate_series(1, 20) g")
        with connection.transaction():
            row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            connection.execute("UPDATE prices SET price = 0 WHERE id <= 7")
    assert row is not None
    return str(row[0])


@pytest.mark.long
def test_a_whole_recovery_as_it_is_typed(  # noqa: PLR0915 one story
    typing: Typing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Point, side instance, dry run, rescue, undo, swap, undo, release: each ends with what is there now."""
    lab = typing.lab
    point = typing("db", "points", "add", "before-all", "--json").json
    assert point["schema"] == "backout.db-points/1"
    xid, cheap = damaged(lab), cheapened(lab)
    lab.rows("INSERT INTO orders VALUES (5000, 'new') RETURNING 1")
    typing.archived()
    assert "before-all" in typing("db", "points", "list").out
    side = typing("db", "restore", "before drop of orders.note", "--side", "--json").json
    assert side["schema"] == "backout.db-restore/1"
    found = side["side"]
    assert isinstance(found, dict)
    with psycopg.connect(str(found["dsn"])) as connection:
        assert connection.execute("SELECT count(note), count(*) FROM orders").fetchone() == (1000, 1000)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("DELETE FROM orders")
    assert str(found["name"]) in typing("db", "restore", "--list").out
    typing("db", "restore", "--drop-side", str(found["name"]))

    dry = typing("db", "restore", "before drop of orders.note", "--dry-run")
    assert "nothing was changed" in dry.err
    assert "public.orders" in dry.out
    assert lab.rows("SELECT count(*) FROM orders WHERE status = 'bad'") == [(300,)]
    refused = typing("db", "restore", "before drop of orders.note", "--no-input", code=3)
    assert "no one is here to ask" in refused.err
    done = typing("db", "restore", "before drop of orders.note", "--yes", "--json").json
    rescue = done["rescue"]
    assert isinstance(rescue, dict)
    assert rescue["tables"][0]["columns"] == ["status", "note"]
    compared = done["comparison"]
    assert isinstance(compared, dict)
    assert (compared["differs"], compared["rows"]) == ([], 1000)
    assert lab.rows("SELECT count(*), count(note) FROM orders WHERE status <> 'bad'") == [(1001, 1000)]
    assert "no run '999999' is recorded" in typing("db", "restore", "999999", "--undo", "--yes", code=2).err
    undo = typing("db", "restore", str(done["run_id"]), "--undo", "--yes")
    assert f"done: undo of the rescue by run {done['run_id']} at " in undo.out
    assert 'removed again: ALTER TABLE "public"."orders" DROP COLUMN "note"' in undo.out
    assert lab.rows("SELECT count(*) FROM orders WHERE status = 'bad'") == [(300,)]

    with monkeypatch.context() as patched:  # a rescue that gets a column wrong, and whose own check cannot know
        broken = lambda *words: copy_rows(words[0], words[1].replace('"price"', "7 * price"), *words[2:])  # noqa: E731
        patched.setattr(rescue_rows, "copy_rows", broken)
        wrong = typing("db", "restore", cheap, "--yes", code=1)
    assert "NOT AS BEFORE: public.prices: 7 rows written by the rescue, and not as before: 1, 2, 3, 4, 5" in wrong.out
    assert "backout db restore --undo" in wrong.err

    # By now the undo has dropped the column, too: the transaction says which of the two is meant.
    swap = typing("db", "restore", xid, "--swap", "--yes", "--json").json
    assert swap["protected"] is False
    assert any("pg_hba.conf" in str(line) for line in swap["also"])  # type: ignore[union-attr]
    assert len(swap["kept"]) == 1  # type: ignore[arg-type]
    assert lab.rows("SELECT count(note), count(*) FROM orders") == [(1000, 1000)]
    back = typing("db", "restore", "--undo", "--yes")
    assert "UNPROTECTED" in back.out
    assert lab.rows("SELECT count(*) FROM orders WHERE status = 'bad'") == [(300,)]
    unsaid = typing("db", "restore", "--undo", "--yes", "-m", "it was better", code=3).err
    assert "of postgres, written since the swap was taken" in unsaid
    command = re.search("`(backout db restore --undo [^`]*--also-back postgres=all)`", " ".join(unsaid.split()))
    assert command is not None, unsaid
    again = typing(*shlex.split(command[1])[1:], "--json").json
    assert lab.rows("SELECT count(note), count(*) FROM orders") == [(1000, 1000)]
    typing("db", "restore", "--prepare")
    typing("db", "restore", "--release", "--yes")
    assert "nothing is kept" in typing("db", "restore", "--release", "--yes", code=2).err
    assert not any(os.path.exists(path) for path in again["kept"])  # type: ignore[attr-defined]  # noqa: PTH110
    assert typing("db", "restore", "--undo", code=2).out == ""


def test_what_cannot_be_is_said_before_anything_is_done(typing: Typing) -> None:
    """No target, an unknown one, one in the future, and a connection string that leads nowhere."""
    assert "no TARGET" in typing("db", "restore", code=2).err
    assert "is no target" in typing("db", "restore", "no-such-thing", code=2).err
    assert "in the future" in typing("db", "restore", "2099-01-01T00:00:00Z", code=3).err
    assert "no side instance" in typing("db", "restore", "--drop-side", "none", code=2).err
    nowhere = {"DATABASE_URL": "postgresql://postgres:canary-secret@127.0.0.1:1/postgres"}
    lost = typed(typing.folder, "db", "points", "add", "x", variables=nowhere)
    assert lost.code == 7
    assert "canary-secret" not in lost.err + lost.out
