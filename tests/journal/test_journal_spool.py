"""The journal's server away: a person's commands go on, recorded in a file, and are merged once when it is back."""

from __future__ import annotations

import json
import socket
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from cli_shell import backout
from journal import toy
from journal.test_journal_move import Dies

from backout import config
from backout.errors import Busy
from backout.journal.lease import make_own_holder, name_this_machine
from backout.journal.postgres_store import PostgresStore
from backout.journal.rows import JournalUnavailable
from backout.journal.spool import MERGED, merge
from backout.journal.sqlite_store import SqliteStore
from backout.journal.stored import StoredJournal
from backout.model.incident.incident import RunState
from backout.model.version import Mark, VersionId, VersionMark
from backout.providers.postgres.server.journal_link import PostgresLink
from backout.wiring.hooks import Hooks
from backout.wiring.journal_spool import open_spool, replace_if_away
from backout.wiring.records import open_journal

from private import write_private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CONFIG = """
[app]
name = "fm5"
[journal]
url_env = "BACKOUT_JOURNAL_URL"
[environments.staging]
platform = { provider = "cloudflare", script = "fm5", account_id = "0123456789abcdef0123456789abcdef" }
"""
ME = make_own_holder(name_this_machine())


@pytest.fixture
def url(tmp_path: Path, journal_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the connection string of an empty database, beside a backout.toml that names its variable."""
    write_private(tmp_path / "backout.toml", CONFIG)
    monkeypatch.setenv(toy.SERVER, journal_server)
    return toy.url_of(tmp_path)


@pytest.fixture
def black_hole() -> Iterator[str]:
    """Return a connection string that leads to where connections are taken and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"postgresql://me:{toy.PASSWORD}@127.0.0.1:{server.getsockname()[1]}/journal"


def load(folder: Path, url: str) -> config.Config:
    return config.load(config.Environment({"BACKOUT_JOURNAL_URL": url}), start=folder, environment="staging")


def submit(journal: Any, environment: str = "staging", plan: str = "probed") -> str:
    return str(journal.submit(toy.plan_named(plan, environment), actor="me", reason="r"))


def on_server(directory: Path, url: str, **more: Any) -> StoredJournal:
    store = PostgresStore(PostgresLink(lambda: url), **more)
    return StoredJournal(store, toy.WallClock(), locks=directory / "of-it", host=name_this_machine())


def test_what_a_person_did_meanwhile_is_merged_once_and_shown_so(tmp_path: Path, url: str, black_hole: str) -> None:
    """The run that it overtook is ended; times, marks and steps are those that were; the file is put aside."""
    with closing(on_server(tmp_path, url)) as there:
        overtaken = submit(there, plan="waiting")
    said: list[str] = []
    away = load(tmp_path, black_hole)
    began = time.monotonic()
    book = replace_if_away(away, open_journal(away, hurried=True), Hooks(say=said.append))
    assert time.monotonic() - began < 8
    assert "merged when the server is back" in said[0]
    assert toy.PASSWORD not in said[0]
    run = submit(book)
    assert book.drive(run, toy.actions_in(toy.World(tmp_path)), actor="me").state is RunState.DONE
    mark = VersionMark(Mark.QUARANTINED, VersionId("v9"), None, 5.0, run, "it failed", None)
    book.mark("staging", mark, actor="me")
    recorded = list(book.events(run=run))
    book.close()
    back = load(tmp_path, url)
    with closing(open_journal(back)) as journal:
        merged = journal.find(run)
        assert merged is not None
        assert (merged.state, merged.actor) == (RunState.DONE, "me (while the journal was away)")
        old = journal.find(overtaken)
        assert old is not None
        assert old.state is RunState.ABORTED
        assert journal.marks("staging") == (mark,)
        events = list(journal.events(run=run))
        assert [(e.kind, e.step, e.at, e.actor) for e in events] == [(e.kind, e.step, e.at, e.actor) for e in recorded]
        assert all("spooled" in event.data for event in events)
        assert journal.verify_chain().is_whole
        assert [event.data["events"] for event in journal.events(kind=MERGED)] == [len(recorded)]
        assert submit(journal), "the environment is free"
    assert not back.places.spool.exists()
    assert list(tmp_path.rglob("journal.spool.merged-*.sqlite"))
    again = backout(tmp_path, "journal", "merge", "--json", variables={"BACKOUT_JOURNAL_URL": url})
    assert (again.code, json.loads(again.out)["events"]) == (0, 0)


def spool_of(directory: Path, point: Callable[[str], None] | None = None) -> SqliteStore:
    path = directory / ".backout" / "journal.spool.sqlite"
    return SqliteStore(path, time.time, even_moved=True, crash_point=point)


def test_a_merge_that_dies_anywhere_merges_each_event_once(tmp_path: Path, url: str, black_hole: str) -> None:
    """Before and after the commit on either side."""
    with closing(open_spool(load(tmp_path, black_hole))) as book:
        run = submit(book)
        book.drive(run, toy.actions_in(toy.World(tmp_path)), actor="me")
    for die_at in (1, 2, 3, 4, 5):
        points: list[str] = []

        def point(name: str, points: list[str] = points, die_at: int = die_at) -> None:
            points.append(name)
            if len(points) == die_at:
                raise Dies(name)

        target = PostgresStore(PostgresLink(lambda: url), crash_point=point)
        with closing(spool_of(tmp_path, point)) as spool, closing(target):
            try:
                merge(spool, target, ME, actor="me")
            except Dies:
                continue
            break
    assert die_at == 5
    with closing(on_server(tmp_path, url)) as there:
        assert [event.kind for event in there.events(kind="run.submitted")] == ["run.submitted"]
        assert len(list(there.events(kind="step.ok"))) == 3
        assert there.verify_chain().is_whole


def test_a_run_under_way_is_not_overtaken_by_a_merge(tmp_path: Path, url: str, black_hole: str) -> None:
    """Neither there nor in the file: it is merged when that is over, and nothing is before."""
    with closing(open_spool(load(tmp_path, black_hole))) as book:
        submit(book)
    journal = on_server(tmp_path, url)
    tried: list[str] = []

    class Merges(toy.Look):
        def do(self, args: Any, context: Any) -> Any:
            target = PostgresStore(PostgresLink(lambda: url))
            with closing(spool_of(tmp_path)) as spool, closing(target), pytest.raises(Busy) as busy:
                merge(spool, target, ME, actor="me")
            tried.append(str(busy.value))

    run = submit(journal)
    actions = {**toy.actions_in(toy.World(tmp_path)), "look": Merges()}
    assert journal.drive(run, actions, actor="me").state is RunState.DONE
    assert run in tried[0]
    journal.close()
    merged = backout(tmp_path, "journal", "merge", "--json", variables={"BACKOUT_JOURNAL_URL": url})
    assert (merged.code, json.loads(merged.out)["events"]) == (0, 1), merged.err


def test_a_journal_that_is_not_away_is_not_replaced(tmp_path: Path, url: str) -> None:
    """A newer schema, a role without rights, a variable that is not set: the command says so, as ever."""
    found = load(tmp_path, "://")
    book = open_journal(found, hurried=True)
    assert replace_if_away(found, book, Hooks()) is book
    with pytest.raises(JournalUnavailable):
        book.runs()
    assert not found.places.spool.exists()
