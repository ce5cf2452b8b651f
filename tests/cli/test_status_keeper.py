"""What a worker reads for the pages: nothing while nobody looks, and no more than their limit while many do."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from backout.cli import worker_beside
from backout.cli.worker_beside import StatusKeeper, taking_ranges
from backout.config import Environment, load
from backout.errors import BackoutError
from backout.journal.sqlite import SqliteJournal
from backout.providers.clock import SystemClock
from backout.runbook.serve.overviews import note_viewed, read_kept_status
from backout.wiring import tasks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backout.runbook.toolbox import Toolbox

NAMES = tuple(f"app-{number}" for number in range(8))


class Keeping:
    """A keeper whose environments cannot be read, and how often each was tried."""

    def __init__(self, folder: Path) -> None:
        self.journal = SqliteJournal(folder / "journal.sqlite", SystemClock())
        self.tried: list[str] = []
        self.keeper = StatusKeeper(self._open, self.journal)

    def _open(self, name: str) -> Toolbox:
        self.tried.append(name)
        raise BackoutError("there is no token", where=name)


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[Keeping]:
    made = Keeping(tmp_path)
    yield made
    made.journal.close()


def test_nothing_is_read_while_nobody_looks(keeping: Keeping) -> None:
    """Whatever happens there."""
    for number in range(5):
        keeping.journal.note("app-0", "incident.noted", f"{number}", {}, actor="me")
        keeping.keeper.look(NAMES)
    note_viewed(keeping.journal, ["app-0"], time.time() - 120)
    keeping.keeper.look(NAMES)
    assert (keeping.tried, keeping.keeper.is_viewed) == ([], False)
    note_viewed(keeping.journal, ["of-another-worker"], time.time())
    keeping.keeper.look(NAMES)
    assert not keeping.keeper.is_viewed
    note_viewed(keeping.journal, NAMES[:1], time.time())
    keeping.keeper.look(NAMES)
    assert keeping.keeper.is_viewed, "from now on requests are looked for more often"


@pytest.mark.parametrize("has_bucket", [False, True])
def test_ranges_are_taken_only_with_a_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_bucket: bool
) -> None:
    """Without one a worker could do none, and each that it takes is kept from those that can for a while."""
    storage = 'storage = { provider = "s3", bucket = "b", endpoint = "http://127.0.0.1:1" }\n' if has_bucket else ""
    (tmp_path / "backout.toml").write_text(
        '[app]\nname = "shop"\n[journal]\nurl_env = "JOURNAL"\n[environments.production]\n'
        f'platform = {{ provider = "cloudflare", script = "shop" }}\n{storage}',
        encoding="utf-8",
    )
    variables = Environment({"JOURNAL": "postgresql://nobody@127.0.0.1:1/none"})
    began = threading.Event()
    monkeypatch.setattr(tasks, "run_tasks", lambda *_: began.set())
    with taking_ranges(load(variables, start=tmp_path), lambda *_: None):
        pass  # it ends with its thread
    assert began.is_set() is has_bucket


def test_each_that_is_looked_at_is_read_once_in_its_time(keeping: Keeping) -> None:
    """One after the other; that one cannot be read is kept with the reason."""
    note_viewed(keeping.journal, NAMES[:3], time.time())
    for _ in range(20):
        keeping.keeper.look(NAMES)
    assert sorted(keeping.tried) == list(NAMES[:3])
    kept = read_kept_status(keeping.journal, "app-1")
    assert kept is not None
    assert kept.record["message"] == "there is no token"


def test_news_is_read_soon_and_progress_is_none(keeping: Keeping, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch records something every second: that would be a look a second."""
    note_viewed(keeping.journal, NAMES[:1], time.time())
    keeping.keeper.look(NAMES)
    monkeypatch.setattr(worker_beside, "_APART_S", 0.0)
    keeping.journal.note("app-0", "step.progress", "1", {}, actor="me")
    keeping.keeper.look(NAMES)
    assert keeping.tried == ["app-0"]
    keeping.journal.note("app-0", "mark", "2", {}, actor="me")
    keeping.keeper.look(NAMES)
    assert keeping.tried == ["app-0", "app-0"]
