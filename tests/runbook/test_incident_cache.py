"""Incidents that are listed again and again: always what a journal that is read anew tells, and read once."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from shifted import NAME, held
from values import replace

from backout.model.guard.policy import Mode
from backout.model.incident import record
from backout.ports import NotDone
from backout.runbook.guard.accept import accept
from backout.runbook.incident.case import IncidentRecords, add_remark, open_incident
from backout.runbook.incident.incident_cache import IncidentCache
from backout.runbook.incident.records import list_incidents

from line import POLICY, Story, roll_back, watch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from backout.journal.stored import StoredJournal
    from backout.model.incident.incident import Run
    from backout.model.plan import Json
    from backout.ports import StepContext
    from backout.runbook.toolbox import Toolbox

OBSERVE = replace(POLICY, guard=replace(POLICY.guard, mode=Mode.OBSERVE))


class Watched:
    """A story whose incidents are listed at each commit to its journal, by the cache and anew.

    Attributes:
        looks: how often that was.
        seen: every list that there was.
    """

    def __init__(self, story: Story) -> None:
        self.story, self.looks = story, 0
        self.seen: set[str] = set()
        self.journal: StoredJournal = story.tools().journal  # type: ignore[assignment]
        self.cache = IncidentCache(self.journal, self.journal)

    def look(self, _point: str = "") -> None:
        """Compare what the cache lists with what is there."""
        for name in ("production", "staging"):
            expected = list_incidents(self.journal, self.journal, name)
            assert self.cache.list_incidents(name) == expected
        self.looks += 1
        self.seen.add(str(self.cache.list_incidents("production")))

    def open_records(self) -> IncidentRecords:
        tools, world = self.story.tools(self.look), self.story.world
        ports = {name: getattr(tools, name) for name in ("journal", "runs", "counts", "checkpoints", "notifier")}
        return IncidentRecords("production", "ada@host", world.clock, reports=world.reports, **ports)


def test_a_night_as_the_cache_lists_it_at_each_commit(quick_path: Path) -> None:
    """A watch that only observes, people's words, a rollback by hand, an incident that a person opened and closed."""
    watched = Watched(Story(quick_path / "journal.sqlite", policy=OBSERVE))
    story, look = watched.story, watched.look
    look()
    watch(story.tools(look))
    records = watched.open_records()
    (found,) = records.list_records()
    add_remark(records, found, record.ACKNOWLEDGED, "")
    add_remark(records, found, record.NOTED, "the deploy of 10:00")
    roll_back(story.tools(look))
    name = open_incident(records, "mail is late", None)
    opened = next(each for each in records.list_records() if each.id == name)
    add_remark(records, opened, record.RESOLVED, "it was the provider")
    look()
    assert watched.looks > 40
    assert len(watched.seen) >= 7


def test_what_guard_mends_as_the_cache_lists_it_at_each_commit(quick_path: Path) -> None:
    """The rollback's run belongs to the watch that led to it, from its first event on."""
    watched = Watched(Story(quick_path / "journal.sqlite"))
    watched.look()
    ended = watch(watched.story.tools(watched.look))
    (found,) = watched.cache.list_incidents("production")
    assert found.runs[-1] == ended.id
    assert len(watched.seen) >= 3


def test_a_word_about_a_watch_that_is_over_counts(quick_path: Path) -> None:
    """A shift that a person accepts makes a held watch one that ended well, and resolves what was open."""
    story, other = held(quick_path / "journal.sqlite"), Story(quick_path / "other.sqlite", policy=OBSERVE)
    repeat(other.tools(), watch(other.tools()), story.tools())
    story.world.clock.sleep(40)  # it was decided after half a minute
    watched = Watched(story)
    watch(story.tools())
    watched.look()
    assert watched.cache.list_incidents("production")[0].resolved_at is None
    accept(story.tools(watched.look), NAME, "it moved to /up")
    watched.look()
    assert watched.cache.list_incidents("production")[0].resolved_at is not None


def repeat(source: Toolbox, run: Run, target: Toolbox) -> None:
    """Have the journal of a story tell of a run as that of another one does."""
    actions = {step.action: Repeated(source.runs.result(run.id, step.action)) for step in run.plan.steps}
    made = target.journal.submit(run.plan, actor="toy", reason="the same again")
    target.journal.drive(made, actions, actor="toy")


class Repeated:
    """An action that returns what was recorded of it elsewhere."""

    arguments: Any = dict
    effect = irreversible = False

    def __init__(self, result: Json) -> None:
        self._result = result

    def do(self, _args: dict[str, Json], _context: StepContext) -> Json:
        return self._result

    def probe(self, _args: dict[str, Json], _context: StepContext) -> NotDone:
        return NotDone()


@pytest.mark.parametrize("regrown", [False, True], ids=["shorter", "with others in their place"])
def test_events_that_the_journal_lost_are_forgotten(quick_path: Path, *, regrown: bool) -> None:
    """A file that was put back from a copy: nothing of what came after is listed."""
    path = quick_path / "journal.sqlite"
    watched = Watched(Story(path, policy=OBSERVE))
    watched.look()
    watched.journal.close()
    shutil.copy(path, quick_path / "copy")
    watch(watched.story.tools())
    assert watched.cache.list_incidents("production")
    lost = watched.journal.find_newest()
    watched.journal.close()
    shutil.copy(quick_path / "copy", path)
    for beside in quick_path.glob("journal.sqlite-*"):
        beside.unlink()
    while regrown and watched.journal.find_newest() <= lost:
        watched.journal.note("production", "drill.noted", f"{watched.journal.find_newest()}", {}, actor="toy")
    watched.look()
    assert watched.cache.list_incidents("production") == ()


class CountedRuns:
    """The port Runs of a journal, which keeps the ids of the runs that were read."""

    def __init__(self, journal: StoredJournal) -> None:
        self._journal = journal
        self.read: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def walk_history(self, environment: str) -> Iterator[tuple[Run, Mapping[str, Json]]]:
        for run, results in self._journal.walk_history(environment):
            self.read.append(run.id)
            yield run, results

    def find(self, run: str) -> Run | None:
        self.read.append(run)
        return self._journal.find(run)


def test_a_run_that_is_over_is_read_once(quick_path: Path) -> None:
    """However often incidents are listed, and whatever is recorded of others meanwhile."""
    story = Story(quick_path / "journal.sqlite", policy=OBSERVE)
    watch(story.tools())
    journal: StoredJournal = story.tools().journal  # type: ignore[assignment]
    runs = CountedRuns(journal)
    cache = IncidentCache(journal, runs)
    first = cache.list_incidents("production")
    known = set(runs.read)
    assert len(known) == len(runs.read) == 2
    for _ in range(3):
        assert cache.list_incidents("production") == first
    journal.note("production", record.NOTED, "k", {"id": first[0].id, "text": "a note"}, actor="toy")
    (noted,) = cache.list_incidents("production")
    assert [each.text for each in noted.remarks] == ["a note"]
    assert len(runs.read) == 2
    rolled = roll_back(story.tools())
    cache.list_incidents("production")
    assert {*runs.read} - known == {rolled.id}
    assert known.isdisjoint(runs.read[2:])
