"""Moving a journal from its file to a server: the same events, whatever interrupts it, and two histories stay two."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from cli_shell import backout
from journal import toy

from backout import config
from backout.errors import BackoutError, Busy, Refused
from backout.journal import schema
from backout.journal.chain import COLUMNS
from backout.journal.lease import Holder, Lease
from backout.journal.lease import write as write_lease
from backout.journal.look import look_at_journal
from backout.journal.move import look, move, read_identity
from backout.journal.postgres_store import PostgresStore
from backout.journal.rows import JournalUnavailable
from backout.journal.sqlite import SqliteJournal
from backout.journal.sqlite_store import SqliteStore
from backout.journal.stored import StoredJournal
from backout.model.guard.signals import Counts, RouteCounts
from backout.model.incident.incident import RunState
from backout.model.version import Mark, VersionId, VersionMark
from backout.providers.postgres.server.journal_link import PostgresLink
from backout.wiring.records import open_journal

from private import write_private

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONFIG = """
[app]
name = "fm5"
[environments.staging]
platform = { provider = "cloudflare", script = "fm5", account_id = "0123456789abcdef0123456789abcdef" }
"""
ON_SERVER = '[journal]\nurl_env = "BACKOUT_JOURNAL_URL"\n'
ALL = f"SELECT {COLUMNS} FROM event ORDER BY seq"  # noqa: S608 constant columns


@pytest.fixture
def url(tmp_path: Path, journal_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the connection string of an empty database."""
    monkeypatch.setenv(toy.SERVER, journal_server)
    return toy.url_of(tmp_path)


def file_of(directory: Path) -> Path:
    return directory / ".backout" / "journal.sqlite"


def recorded(directory: Path) -> SqliteJournal:
    """Record in a file: a run that is over, one that is not, marks, counts, a checkpoint."""
    journal = SqliteJournal(file_of(directory), toy.WallClock())
    world = toy.World(directory)
    journal.drive(submit(journal), toy.actions_in(world), actor="me")
    submit(journal, "production")
    journal.mark("staging", VersionMark(Mark.STABLE, VersionId("v1"), "h", 1.5, "r", "it was ünwell", None), actor="me")
    journal.keep("staging", [Counts("v", second, 3, 1, 0, {90: 3}, {"/app": RouteCounts(3, 1)}) for second in range(9)])
    journal.save_checkpoint("r", "watch", {"a": 0.1})
    return journal


def submit(journal: StoredJournal, environment: str = "staging") -> str:
    return journal.submit(toy.plan_named("probed", environment), actor="me", reason="r")


def stores(directory: Path, url: str, point: Callable[[str], None] | None = None) -> tuple[SqliteStore, PostgresStore]:
    source = SqliteStore(file_of(directory), toy.WallClock().now, even_moved=True, crash_point=point)
    return source, PostgresStore(PostgresLink(lambda: url), mover=read_identity(source), crash_point=point)


def on_server(directory: Path, url: str) -> StoredJournal:
    return StoredJournal(PostgresStore(PostgresLink(lambda: url)), toy.WallClock(), locks=directory / "of-it")


def test_everything_is_there_afterwards_and_goes_on_there(tmp_path: Path, url: str) -> None:
    """By the commands: the same rows, the runs, marks, counts, checkpoints; the file is refused, and kept."""
    write_private(tmp_path / "backout.toml", CONFIG)
    with closing(recorded(tmp_path)) as journal:
        rows, runs, marks = journal._store.rows(ALL), journal.runs(), journal.marks("staging")
        counts, fence = journal.load_counts("staging", 0, 99), journal._store.rows("SELECT fence FROM lease")
    here = {"BACKOUT_JOURNAL_URL": url}
    dry = backout(tmp_path, "journal", "move", "--to", "BACKOUT_JOURNAL_URL", "--dry-run", "--json", variables=here)
    assert (dry.code, json.loads(dry.out)["there"], json.loads(dry.out)["events"]) == (0, 0, len(rows)), dry.err
    with psycopg.connect(url) as connection:
        assert connection.execute(b"SELECT FROM pg_namespace WHERE nspname = 'backout'").fetchone() is None
    moved = backout(tmp_path, "journal", "move", "--to", "BACKOUT_JOURNAL_URL", "--json", variables=here)
    assert moved.code == 0, moved.err
    assert json.loads(moved.out)["copied"] == len(rows)
    assert json.loads(moved.out)["closed"] is True
    refused = backout(tmp_path, "runs", "list", variables=here)
    assert (refused.code, "was moved to a server" in refused.err, "url_env" in refused.err) == (1, True, True)
    write_private(tmp_path / "backout.toml", ON_SERVER + CONFIG)
    again = backout(tmp_path, "journal", "move", "--json", variables=here)
    assert (again.code, json.loads(again.out)["copied"]) == (0, 0), again.err
    verified = backout(tmp_path, "audit", "verify", "--json", variables=here)
    assert (verified.code, json.loads(verified.out)["events"]) == (0, len(rows))
    with closing(on_server(tmp_path, url)) as there:
        assert there._store.rows(ALL) == rows
        assert there._store.rows("SELECT fence FROM lease") == fence
        assert (there.runs(), there.marks("staging"), there.load_counts("staging", 0, 99)) == (runs, marks, counts)
        assert there.load_checkpoint("r", "watch") == {"a": 0.1}
        done = there.drive(runs[0].id, toy.actions_in(toy.World(tmp_path)), actor="me")
        assert done.state is RunState.DONE
        assert there.verify_chain().is_whole


class Dies(BaseException):
    """Nobody catches it."""


def test_whatever_point_it_dies_at_the_same_command_goes_on(tmp_path: Path, url: str, journal_server: str) -> None:
    """Before and after each commit on either side; what is on the server meanwhile nobody else can use."""
    recorded(tmp_path).close()
    points: list[str] = []
    die_at = 0

    def point(name: str) -> None:
        points.append(name)
        if len(points) == die_at:
            raise Dies(name)

    while True:
        die_at += 1
        points.clear()
        source, target = stores(tmp_path, url, point)
        try:
            done = move(source, target)
        except Dies as died:
            if str(died).endswith(("move: events", "move: beside", "before commit: move: all there")):
                with closing(on_server(tmp_path, url)) as other, pytest.raises(JournalUnavailable, match="being moved"):
                    other.runs()
        else:
            break
        finally:
            source.close()
            target.close()
    assert die_at > 8, points
    assert done.is_done
    with closing(on_server(tmp_path, url)) as there, closing(stores(tmp_path, url)[0]) as source:
        assert there._store.rows(ALL) == source.rows(ALL)
        assert there.verify_chain().is_whole


def test_what_is_recorded_while_it_moves_comes_along_and_nothing_afterwards(tmp_path: Path, url: str) -> None:
    """A process that has the file open writes until the end of the move, and is refused from then on."""
    journal = recorded(tmp_path)
    source, target = stores(tmp_path, url)
    with closing(source), closing(target):
        move(source, target, lambda _done, _all: journal.note("staging", "x.late", "1", {}, actor="me") and None)
    for call in (lambda: journal.note("staging", "x.later", "2", {}, actor="me"), lambda: submit(journal)):
        with pytest.raises(JournalUnavailable):
            call()
    journal.close()
    with pytest.raises(JournalUnavailable, match="was moved to a server"):
        journal.runs()
    with closing(on_server(tmp_path, url)) as there:
        assert [event.kind for event in there.events(kind="x.*")] == ["x.late"]


def test_an_older_backout_refuses_the_file_as_a_newer_ones(tmp_path: Path, url: str) -> None:
    """It knows nothing of moves, but of versions: the highest that the table names is not one of its own."""
    recorded(tmp_path).close()
    source, target = stores(tmp_path, url)
    with closing(source), closing(target):
        move(source, target)
    found = look_at_journal(file_of(tmp_path))
    assert "was moved to a server" in found.problem
    assert "url_env" in found.hint
    with closing(sqlite3.connect(file_of(tmp_path))) as file:
        assert file.execute("SELECT max(version) > ? FROM schema_version", (schema.VERSION,)).fetchone() == (1,)
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            file.execute("DELETE FROM schema_version WHERE version > 9")


def other_history(tmp_path: Path, url: str) -> None:
    with closing(on_server(tmp_path, url)) as there:
        there.note("staging", "x.theirs", "1", {}, actor="they")


def damage(tmp_path: Path, _url: str) -> None:
    with closing(sqlite3.connect(file_of(tmp_path), isolation_level=None)) as file:
        file.execute("DROP TRIGGER event_no_update")
        file.execute("UPDATE event SET actor = 'somebody else' WHERE seq = 4")


def drive(tmp_path: Path, _url: str) -> None:
    with closing(SqliteJournal(file_of(tmp_path), toy.WallClock())) as journal:
        far = Lease("staging", 9, "rollback-1", Holder("another", 1, "1"), 0.0, 2e10)
        with journal._store.write("lease") as transaction:
            write_lease(transaction.connection, far)


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        (other_history, Refused, "another history"),
        (damage, Refused, "event 4 was changed"),
        (drive, Busy, "a run is under way"),
    ],
)
def test_what_cannot_be_moved_is_refused_and_left_as_it_is(
    tmp_path: Path, url: str, spoil: Any, error: type[BackoutError], says: str
) -> None:
    """Neither side is changed."""
    recorded(tmp_path).close()
    spoil(tmp_path, url)
    source, target = stores(tmp_path, url)
    with closing(source), closing(target):
        rows, there = source.rows(ALL), target.rows(ALL)
        for way in (move, look):
            with pytest.raises(error, match=says):
                way(source, target)
        assert (source.rows(ALL), target.rows(ALL)) == (rows, there)
        assert source.rows("SELECT max(version) FROM schema_version") == [(schema.VERSION,)]


def test_a_journal_is_not_begun_on_a_server_while_there_is_one_in_the_file(tmp_path: Path, url: str) -> None:
    """It would have no past, and the file could not be moved there any more."""
    recorded(tmp_path).close()
    write_private(tmp_path / "backout.toml", ON_SERVER + CONFIG)
    here = {"BACKOUT_JOURNAL_URL": url}
    found = config.load(config.Environment(here), start=tmp_path, environment="staging")
    with pytest.raises(Refused, match="there is a journal in the file") as error:
        open_journal(found).note("staging", "x", "1", {}, actor="me")
    assert error.value.hint == "backout journal move"
    assert backout(tmp_path, "journal", "move", variables=here).code == 0
    assert open_journal(found).note("staging", "x", "1", {}, actor="me")
    open_journal(found).close()


def test_a_connection_string_in_the_command_line_is_refused_and_not_said_again(tmp_path: Path) -> None:
    """Everybody on the machine can read what is typed."""
    write_private(tmp_path / "backout.toml", CONFIG)
    secret = "canary-of-a-journal-url"
    found = backout(tmp_path, "journal", "move", "--to", f"postgresql://me:{secret}@host/db")
    assert (found.code, "name of a variable" in found.err) == (2, True)
    assert secret not in found.out + found.err
    nothing = backout(tmp_path, "journal", "move", "--to", "BACKOUT_JOURNAL_URL")
    assert (nothing.code, "BACKOUT_JOURNAL_URL" in nothing.err) != (0, False)
