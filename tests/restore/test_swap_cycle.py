"""Swap, undo, swap, undo under load: each row against a ledger outside, no value of a sequence handed out twice."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Self

import psycopg
import pytest
from cli_shell import backout as typed
from kept import template
from restore_typing import Typing, typing_beside

from backout.providers.postgres.server.own_files import measure_size

from extent import by_extent
from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from recovery_lab import Lab

pytestmark = pytest.mark.rotating("restores", 5)

ROWS = "SELECT id, n FROM ledger"


class Ledger(threading.Thread):
    """A client that writes rows and values of sequences, and notes outside what it was acknowledged.

    Args:
        draws: every value that a sequence handed out, used or not.
        unsure: those of rows that nobody acknowledged.
    """

    def __init__(self, lab: Lab, draws: list[int], unsure: set[int]) -> None:
        super().__init__()
        self._lab, self._draws, self._unsure = lab, draws, unsure
        self._ends = threading.Event()
        self.rows: dict[int, int] = {}

    def __enter__(self) -> Self:
        self.start()
        until(lambda: len(self.rows) > 20, what="the load writes")
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self.join(PATIENCE_S)
        assert not self.is_alive()

    def run(self) -> None:
        number = 0
        while not self._ends.wait(0.05):
            with contextlib.suppress(psycopg.OperationalError), self._lab.connect() as connection:
                while not self._ends.is_set():
                    number += 1
                    (drawn,) = connection.execute("SELECT nextval('ledger_id_seq')").fetchone() or (0,)
                    self._draws.append(drawn)
                    self._unsure.add(drawn)
                    connection.execute("INSERT INTO ledger VALUES (%s, %s)", (drawn, number))
                    self.rows[drawn] = number
                    self._unsure.discard(drawn)


@pytest.fixture(scope="module")
def typing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Typing]:
    folders = tmp_path_factory.mktemp("cycle"), template()
    table = "CREATE TABLE ledger (id bigserial PRIMARY KEY, n int NOT NULL)"
    with typing_beside(*folders, table, "CREATE DATABASE crm") as made:
        yield made


def agreed(typing: Typing, *words: str) -> dict[str, Any]:
    """Type a swap or its undo with the words that its dry run prints, however much is written meanwhile."""
    told = typing("db", "restore", *words, "--dry-run", "--json").json
    found: Any = told["also_back"]
    more = [each for thing in found for each in ("--also-back", str(thing["word"]))]
    return typing("db", "restore", *words, "--yes", "--json", *more).json


def test_what_is_kept_is_measured(tmp_path: Path) -> None:
    """As it lies on the disk; what is gone takes nothing."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "1").write_bytes(bytes(range(256)) * 8192)
    assert measure_size(tmp_path) >= 2 << 20
    assert measure_size(tmp_path / "gone") == 0


@pytest.mark.proof
@pytest.mark.long
@pytest.mark.timeout(1200)
def test_swap_undo_swap_undo_with_load_between(typing: Typing, proof: Callable[..., None]) -> None:
    """What was acknowledged is in the cluster that had it, exactly; kept ones are listed with what removes them."""
    lab, draws, unsure = typing.lab, list[int](), set[int]()
    with Ledger(lab, draws, unsure) as load:
        pass
    position = str(lab.rows("SELECT pg_current_wal_insert_lsn()::text")[0][0])
    comes, goes = (
        dict(load.rows),
        dict(load.rows),
    )  # what the ledger says of the cluster that comes, and of the live one
    typing.archived()
    steps, failures = by_extent(2, 3, proof=12), 0
    for step in range(steps):
        with Ledger(lab, draws, unsure) as load:  # the clients are cut off by the stop, and come again afterwards
            done = agreed(typing, *((position, "--swap") if step == 0 else ("--undo",)))
            before = len(load.rows)
            until(lambda load=load, before=before: len(load.rows) > before + 20, what="it writes on")  # type: ignore[misc]
        live = dict(lab.rows(ROWS))
        new = {key: n for key, n in load.rows.items() if key in live}
        gone = {key: n for key, n in load.rows.items() if key not in live}
        assert new
        assert gone, "it wrote before the stop, too"
        wanted = comes | new
        wrong = {key for key in wanted.keys() | live.keys() if wanted.get(key) != live.get(key)} - unsure
        wrong |= {key for key in gone if key > min(new)}  # behind the stop all goes into the cluster that came
        twice = len(draws) - len(set(draws))
        failures += bool(wrong or twice or not done["sequences"]["stopped_cleanly"])
        assert (step, wrong, twice) == (step, set(), 0)
        comes, goes = goes | gone, wanted
        assert goes
    proof("swap, undo, swap, undo under load: no row lost, no value handed out twice", trials=steps, failures=failures)
    # Both are there: the live one, and the one that is kept until somebody says otherwise.
    listed = typing("db", "restore", "--list")
    kept: Any = typing("db", "restore", "--list", "--json").json["kept"]
    assert kept
    assert all(each in listed.out for each in kept)
    assert "MB are free there; `backout db restore --release -e lab` removes what is kept" in listed.out
    sizes: Any = typing("db", "restore", "--list", "--json").json["kept_bytes"]
    assert all(sizes[each] > 1 << 20 for each in kept)
    typing("db", "restore", "--release", "--yes")
    assert typing("db", "restore", "--list", "--json").json["kept"] == []


@pytest.mark.long
def test_a_terminal_is_asked_by_name_and_a_yes_is_no_word_for_it(typing: Typing) -> None:
    """Of another database with rows: typed by its name, and anything else changes nothing."""
    lab = typing.lab
    typing("db", "backup", "--full")
    typing("db", "wal", "start")
    position = str(lab.rows("SELECT pg_current_wal_insert_lsn()::text")[0][0])
    with psycopg.connect(lab.dsn.replace("dbname=postgres", "dbname=crm"), autocommit=True) as connection:
        connection.execute("CREATE TABLE leads (id int); INSERT INTO leads SELECT generate_series(1, 777)")
    typing.archived()
    pid = (lab.data / "postmaster.pid").read_text(encoding="utf-8")
    refused = typing("db", "restore", position, "--swap", "--yes", code=3).err
    assert "crm" in refused
    assert "--also-back crm=" in refused
    assert "One database alone: `backout db restore" in refused
    variables = typing.variables

    def at_terminal(answers: str, *words: str) -> tuple[int, str]:
        whole = ("db", "restore", position, "--swap", *words)
        answer = typed(typing.folder, *whole, variables=variables, typed=answers, terminal=True)
        return answer.code, answer.err

    code, said = at_terminal("yes\n", "--yes")
    assert (code, "'yes' is not 'crm'" in said) == (3, True)
    assert (lab.data / "postmaster.pid").read_text(encoding="utf-8") == pid
    code, said = at_terminal("crm\n", "--yes")
    assert code == 0, said
    assert "database crm, with" in said
    with psycopg.connect(lab.dsn.replace("dbname=postgres", "dbname=crm")) as connection:
        assert connection.execute("SELECT to_regclass('leads')").fetchone() == (None,)
