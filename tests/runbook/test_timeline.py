"""The timeline of a night on the memory World: every source is told once, in order, and each is enough by itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.errors import BackoutError, ProviderUnavailable
from backout.model.database.backups import Choice
from backout.model.database.recovery import BackupKind
from backout.model.guard.policy import Mode
from backout.model.hold import Hold
from backout.model.incident.incident import Run, RunState
from backout.model.incident.notice import Notice, NoticeKind, QueuedNotice, QueueState
from backout.model.incident.timeline import EntryKind
from backout.plan.backup import plan_backup
from backout.plan.rollback import Request
from backout.report.guard.run_end import find_end
from backout.report.incident.timeline_entries import tell
from backout.report.incident.timeline_text import format_text, make_record
from backout.runbook.incident.timeline import read_records
from backout.runbook.safety.release import find_standing, release

from line import POLICY, Story, roll_back, watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.model.deployment import Deployment
    from backout.model.incident.timeline import Timeline

OBSERVE = replace(POLICY, guard=replace(POLICY.guard, mode=Mode.OBSERVE))


@pytest.fixture
def story(quick_path: Path) -> Story:
    """A night: guard only observes the bad version, a person goes back, holds, and releases it in the morning."""
    made = Story(quick_path / "journal.sqlite", policy=OBSERVE)
    world, tools = made.world, made.tools()
    watch(tools)
    world.clock.sleep(300)
    roll_back(tools, Request(message="500s on /api"))
    world.clock.sleep(60)
    world.deploy(made.good, message="[backout hold until=2099-01-01T00:00:00Z] migrating by hand")
    world.clock.sleep(600)
    found = find_standing(tools, made.bad.id)
    assert found.bad is not None
    release(tools, found.situation, found.bad, "it was the database")
    return made


def down() -> tuple[Deployment, ...]:
    raise ProviderUnavailable("no usable answer from the API (refused)")


def told(
    story: Story,
    *,
    at: float | None = None,
    since_s: float = 86_400,
    listed: Callable[[], tuple[Deployment, ...]] | None = None,
    most: int | None = None,
) -> Timeline:
    """Return the timeline as the command makes it."""
    tools, now = story.tools(), story.world.clock.now()
    records = read_records(
        "production",
        since=now - since_s,
        now=now,
        book=tools.journal,  # type: ignore[arg-type] # the journal of these tools is all three ports
        listed=listed or tools.deployments.history,
        queued=lambda: (),
        holds=lambda: (),
    )
    return tell(records, since=now - since_s, until=now, at=at, most=most)


def of(found: Timeline, kind: EntryKind) -> list[str]:
    return [entry.text for entry in found.entries if entry.kind is kind]


def test_a_night_is_told_in_order_and_once(story: Story) -> None:
    """Deployments, both watches with their verdicts, the rollback as it was typed and as it ended, hold and marks."""
    found = told(story)
    good, bad = story.good.id[:8], story.bad.id[:8]
    rollback = story.tools().runs.runs("production")[0].id
    assert [entry.at for entry in found.entries] == sorted(entry.at for entry in found.entries)
    assert of(found, EntryKind.DEPLOYMENT) == [
        f"version {good} went live",
        f"version {bad} went live, in place of {good}",
        f"version {good} is live again, in place of {bad} ({rollback})",
    ]
    watches, verdicts = of(found, EntryKind.WATCH), of(found, EntryKind.VERDICT)
    assert [f"version {good}" in watches[0], f"version {bad}" in watches[1], len(watches)] == [True, True, 2]
    assert "ends healthy, marked stable: " in verdicts[0]
    assert re.search(r"ends regressed, guard only observes: \d+ of \d+ requests failed", verdicts[1])
    (typed,) = of(found, EntryKind.COMMAND)
    assert f"to go back from version {bad} to {good} (rollback-" in typed
    assert typed.endswith(": it fails")
    (ended,) = of(found, EntryKind.RUN)
    assert "is done, verified: " in ended
    assert of(found, EntryKind.HOLD) == [
        "every automatic action is stopped until 2099-01-01T00:00:00Z: migrating by hand"
    ]
    assert [re.sub(r" \(guard-\w+\)", "", mark) for mark in of(found, EntryKind.MARK)] == [
        f"version {good} is stable",
        f"version {bad} is quarantined ({rollback})",
        f"version {bad} is released from quarantine: it was the database",
    ]
    assert {entry.by for entry in found.entries if entry.kind is EntryKind.COMMAND} == {"ops@host"}
    (note,) = found.notes
    assert note.startswith("the provider lists 6 deployments, the oldest of 2027-01-15 08:00:00 UTC")
    assert told(story, since_s=60).notes == ()


def test_at_a_moment_it_says_what_was_live_and_under_way(story: Story) -> None:
    """Between the bad deployment and the rollback; and while the hold was on."""
    runs = story.tools().runs.runs("production")
    rollback, bad_watch = runs[0], runs[1]
    then = told(story, at=bad_watch.started_at).moment
    assert then is not None
    assert then.deployment is not None
    assert (then.deployment.sole, [run.id for run in then.runs]) == (story.bad.id, [bad_watch.id])
    assert then.hold is None
    assert rollback.ended_at is not None
    later = told(story, at=story.world.clock.now() - 60).moment
    assert later is not None
    assert later.deployment is not None
    assert (later.deployment.sole, later.runs) == (story.good.id, ())
    assert later.hold is not None
    assert later.hold.why == "migrating by hand"
    long_ago = told(story, at=1.0).moment
    assert long_ago is not None
    assert long_ago.deployment is None


def test_the_journal_alone_is_enough_and_says_so(story: Story) -> None:
    """With the API down: the same deployments, watches, runs and marks; what only the provider knows is missing."""
    found, alone = told(story), told(story, listed=down)
    for kind in (EntryKind.WATCH, EntryKind.VERDICT, EntryKind.COMMAND, EntryKind.RUN):
        assert of(alone, kind) == of(found, kind)
    assert of(alone, EntryKind.DEPLOYMENT) == of(found, EntryKind.DEPLOYMENT)
    assert len(of(alone, EntryKind.MARK)) == 3
    assert alone.notes[0].startswith("the provider could not be asked (no usable answer from the API (refused))")
    assert "based on the journal alone" in alone.notes[0]


def test_the_provider_alone_is_enough(story: Story, tmp_path: Path) -> None:
    """An empty journal on another machine: deployments, marks and the hold are told by the messages."""
    story.path = tmp_path / "empty.sqlite"
    found = told(story)
    assert len(of(found, EntryKind.DEPLOYMENT)) == 3
    assert len(of(found, EntryKind.MARK)) == 2  # who only observes writes no stable mark there
    assert len(of(found, EntryKind.HOLD)) == 1
    assert of(found, EntryKind.WATCH) == []
    assert of(found, EntryKind.DEPLOYMENT)[-1].endswith(": 500s on /api")  # no run here tells why


def test_without_both_nothing_is_claimed(story: Story, tmp_path: Path) -> None:
    """A damaged journal and no provider: an error, not an empty night."""
    story.path = tmp_path / "damaged.sqlite"
    story.path.write_bytes(b"SQLite format 3\0" + bytes(4000))
    with pytest.raises(BackoutError):
        told(story, listed=down)
    assert any("the journal could not be read" in note for note in told(story).notes)


def test_what_was_interrupted_and_picked_up_is_told(quick_path: Path) -> None:
    """A watch whose process is gone says when it was last heard of; the next command goes on with it."""
    story = Story(quick_path / "journal.sqlite")

    class Crash(BaseException):
        pass

    def die(name: str) -> None:
        if name == "health.look":
            raise Crash

    story.world.before_call = die
    with pytest.raises(Crash):
        watch(story.tools())
    story.world.before_call = None
    (left,) = [entry for entry in told(story).entries if "its process is gone" in entry.text]
    assert left.run.startswith("guard-")
    story.world.clock.sleep(30)
    watch(story.tools())
    found = told(story)
    assert not any("goes on" in entry.text for entry in found.entries if entry.at < left.at)
    assert not any("its process is gone" in entry.text for entry in found.entries)
    assert any(entry.text.endswith(f"goes on with {left.run}") for entry in found.entries)
    assert any("guard begins to go back" in entry.text for entry in found.entries)


def test_the_text_fits_every_width_and_loses_nothing(story: Story) -> None:
    """Long sentences hang under their first word; the JSON has each entry with its kind and run."""
    found = told(story, at=story.world.clock.now() - 60)
    for width in (60, 80, 120):
        page = format_text(found, width=width)
        assert max(map(len, page.splitlines())) <= width
        for entry in found.entries:
            assert " ".join(entry.text.split())[:40] in " ".join(page.split())
    payload = make_record(found)
    assert payload["events"][0].keys() == {"at", "kind", "text", "run", "by"}  # type: ignore[index]
    assert payload["then"]["live"]["versions"] == [{"version": story.good.id, "percentage": 100.0}]  # type: ignore[index]


def test_the_newest_are_told_where_there_are_too_many(story: Story) -> None:
    """It is said how many older ones there are."""
    everything, few = told(story), told(story, most=3)
    assert [e.text for e in few.entries] == [e.text for e in everything.entries[-3:]]
    assert few.left_out == len(everything.entries) - 3
    assert f"{few.left_out} older ones are left out" in format_text(few)


def test_nothing_happened(story: Story) -> None:
    """It says so, and for which time."""
    story.world.clock.sleep(7_200)
    assert format_text(told(story, since_s=60)).startswith("nothing is known to have happened in production from ")


def test_a_hold_of_this_host_is_told_once(story: Story) -> None:
    """The file of this host and the provider's list may tell of the same hold."""
    tools, now = story.tools(), story.world.clock.now()
    (made,) = [d for d in tools.deployments.history() if "until=2099" in d.message]
    same = Hold(4e9, "migrating by hand", "ops@host", made.created_at, f"deployment {made.id}")
    other = Hold(now + 60, "one more", "ops@host", now - 5, "this host")
    records = read_records(
        "production", since=0.0, now=now, book=tools.journal, listed=tools.deployments.history,  # type: ignore[arg-type]
        queued=lambda: (), holds=lambda: (same, other),
    )  # fmt: skip
    held = of(tell(records, since=0.0, until=now), EntryKind.HOLD)
    assert len(held) == 2
    assert held[1].endswith(": one more")


def test_notices_changes_and_notes_are_told(story: Story) -> None:
    """A notice once, with what became of it on each channel; what began without a deployment; a restore point."""
    story.world.clock.sleep(120)
    tools, now = story.tools(), story.world.clock.now()
    notice = Notice(NoticeKind.HELD, "production", now - 30, "production is held\n", "text", "key", run="guard-1")
    queued = (
        QueuedNotice(notice, "webhook", QueueState.DELIVERED, 1, now),
        QueuedNotice(notice, "smtp", QueueState.GIVEN_UP, 9, now, why="refused"),
    )
    tools.journal.note("production", "change.began", "a", {"sentence": "errors began to rise"}, actor="ops@host")
    tools.journal.note("production", "database.point", "b", {"name": "p-1", "why": "on demand"}, actor="ops@host")
    tools.journal.note("production", "of.a.later.version", "c", {"name": "x"}, actor="ops@host")
    records = read_records(
        "production", since=0.0, now=now, book=tools.journal, listed=down,  # type: ignore[arg-type]
        queued=lambda: queued, holds=lambda: (),
    )  # fmt: skip
    found = tell(records, since=now - 60, until=now)
    assert [(entry.kind.value, entry.text) for entry in found.entries] == [
        ("notice", "told: production is held (webhook: delivered, smtp: given up)"),
        ("change", "errors began to rise"),
        ("note", "restore point p-1 (on demand)"),
    ]
    assert found.entries[0].run == "guard-1"


def test_a_part_that_cannot_be_read_costs_that_part_alone(story: Story) -> None:
    """The notices lie in a file of their own."""

    def damaged() -> tuple[QueuedNotice, ...]:
        raise BackoutError("the outbox is damaged")

    tools, now = story.tools(), story.world.clock.now()
    records = read_records(
        "production", since=now - 60, now=now, book=tools.journal,  # type: ignore[arg-type]
        listed=tools.deployments.history, queued=damaged, holds=lambda: (),
    )  # fmt: skip
    assert records.notes == ("the notices could not be read (the outbox is damaged)",)
    assert tell(records, since=0.0, until=now).entries


def test_a_backup_that_was_read_again_is_well() -> None:
    """It has no criteria, and was called "not proven": but every file of it was read."""
    choice = Choice(BackupKind.FULL, None, "there is no backup yet")
    plan = plan_backup("production", "b", choice, fallback=True, keep_s=1.0)
    run = Run("backup-1", plan.environment, plan, RunState.DONE, 0.0, 1.0, len(plan.steps))
    assert find_end(run, {"verify_backup": {"at": 1.0}}).verified is True
    assert find_end(run, {}).verified is None
