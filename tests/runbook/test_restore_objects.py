"""Objects brought back to a moment on a bucket in memory: with the application writing, and after a crash."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from bucket_lab import DamagedBucket, is_done, restore
from values import replace

from backout.errors import BackoutError, Refused, UsageError
from backout.model.incident.incident import RunState
from backout.model.objects.checks import BucketFacts, History
from backout.model.objects.versions import ChangeKind, ObjectChange
from backout.model.steps.objects import CompareObjectsStep, RestoreObjectsStep
from backout.ports import find_result
from backout.providers.files.object_notes import FileChangeNotes
from backout.providers.memory.objects import Content
from backout.runbook.objects.check import judge_bucket
from backout.runbook.objects.restore import ObjectActions, foresee, prepare
from backout.runbook.objects.undo import has_begun, prepare_undo

from extent import sampled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.model.objects.progress import ObjectProgress
    from backout.model.steps.objects import CompareObjectsResult, RestoreObjectsResult
    from backout.runbook.objects.tools import ObjectTools

    from conftest import Record


@pytest.fixture
def damaged(tmp_path: Path) -> DamagedBucket:
    return DamagedBucket(tmp_path)


def results(tools: ObjectTools) -> tuple[RestoreObjectsResult, CompareObjectsResult]:
    run = tools.runs.runs("production/objects")[0].id
    restored = find_result(tools.runs, run, RestoreObjectsStep)
    compared = find_result(tools.runs, run, CompareObjectsStep)
    assert restored is not None
    assert compared is not None
    return restored, compared


def test_everything_is_as_it_was(damaged: DamagedBucket) -> None:
    tools = damaged.tools()
    assert is_done(restore(tools, damaged.ago()))
    restored, compared = results(tools)
    assert (restored.undeleted, restored.changed, restored.removed, restored.failures) == (3, 3, 1, 0)
    assert compared.compared.verified is True
    assert compared.compared.compared == 7
    assert damaged.bucket.live() == damaged.then
    assert damaged.kept.items() <= damaged.bucket.contents().items()


def test_the_dry_run_counts_what_the_run_does_and_changes_nothing(damaged: DamagedBucket) -> None:
    tools, before = damaged.tools(), damaged.bucket.contents()
    found = foresee(tools, prepare(tools, damaged.ago(), None, ""))
    assert (found.undeleted, found.changed, found.removed, found.objects) == (3, 3, 1, 10)
    assert damaged.bucket.contents() == before
    assert tools.runs.runs("production/objects") == ()


def undo(tools: ObjectTools) -> None:
    run = tools.journal.submit(prepare_undo(tools, None), actor="ops@host", reason="it was the wrong moment")
    assert is_done(tools.journal.drive(run, ObjectActions(tools), actor="ops@host"))


def test_an_undo_takes_back_all_that_the_restore_did(damaged: DamagedBucket) -> None:
    before = damaged.bucket.live()
    restore(damaged.tools(), damaged.ago())
    assert damaged.bucket.live() == damaged.then
    tools, kept = damaged.tools(), damaged.bucket.contents()
    undo(tools)
    restored, compared = results(tools)
    assert damaged.bucket.live() == before
    assert kept.items() <= damaged.bucket.contents().items()
    assert (restored.undeleted, restored.changed, restored.removed) == (1, 3, 3)
    assert compared.compared.verified is True
    tools = damaged.tools()
    undo(tools)
    assert damaged.bucket.live() == damaged.then, "the undo of the undo"


def test_an_undo_that_was_given_up_is_no_restore_to_take_back(damaged: DamagedBucket) -> None:
    """Its opposite is the restore that somebody wanted back."""
    before = damaged.bucket.live()
    restore(damaged.tools(), damaged.ago())
    damaged.world.after_call = make_crash([2], "objects.carry_out")
    with pytest.raises(Crash):
        undo(damaged.tools())
    damaged.world.after_call = None
    tools = damaged.tools()
    given_up = tools.runs.runs("production/objects")[0]
    assert damaged.bucket.live() not in (before, damaged.then)
    tools.runs.ask(given_up.id, "abort", actor="ops@host", reason="it takes too long")
    undo(tools)
    assert damaged.bucket.live() == before
    assert results(tools)[1].compared.verified is True
    undo(damaged.tools())
    assert damaged.bucket.live() == damaged.then, "the undo of the one that came to its end"


@pytest.mark.parametrize("is_given_up", [False, True])
def test_an_undo_that_was_killed_while_it_completed_the_restore_takes_all_of_it_back(
    damaged: DamagedBucket, is_given_up: bool
) -> None:
    """It knows what it made itself, also an hour after the restore was killed."""
    before = damaged.bucket.live()
    damaged.world.after_call = make_crash([0], "objects.carry_out")
    with pytest.raises(Crash):
        restore(damaged.tools(), damaged.ago())
    damaged.world.after_call = None
    tools = damaged.tools()
    killed = tools.runs.runs("production/objects")[0].id
    damaged.world.clock.sleep(3600)
    plan = prepare_undo(tools, None)
    tools.runs.ask(killed, "abort", actor="ops@host", reason="taken back")
    run = tools.journal.submit(plan, actor="ops@host", reason="it was the wrong moment")
    damaged.world.after_call = make_crash([6], "objects.carry_out")
    with pytest.raises(Crash):
        tools.journal.drive(run, ObjectActions(tools), actor="ops@host")
    damaged.world.after_call = None
    damaged.world.clock.sleep(3600)
    assert "new" not in damaged.bucket.live()
    tools = damaged.tools()
    if is_given_up:
        tools.runs.ask(run, "abort", actor="ops@host", reason="it takes too long")
        undo(tools)
    else:
        assert is_done(tools.journal.drive(run, ObjectActions(tools), actor="ops@host"))
    assert damaged.bucket.live() == before
    assert results(tools)[0].failures == 0


def test_an_undo_leaves_what_was_written_since(damaged: DamagedBucket) -> None:
    restore(damaged.tools(), damaged.ago())
    damaged.world.clock.sleep(5)
    damaged.bucket.put("k0", b"since")
    damaged.bucket.put("k3", b"since")
    damaged.bucket.put("new", b"since then")
    tools = damaged.tools()
    undo(tools)
    live, compared = damaged.bucket.live(), results(tools)[1].compared
    assert {key: live[key].body for key in ("k0", "k3", "new")} == {
        "k0": b"since",
        "k3": b"since",
        "new": b"since then",
    }
    assert compared.verified is True
    assert {"k0", "k3", "new"} == set(compared.put_back)


def test_there_is_no_undo_without_a_restore_or_without_its_notes(damaged: DamagedBucket) -> None:
    with pytest.raises(UsageError, match="no restore of objects"):
        prepare_undo(damaged.tools(), None)
    restore(damaged.tools(), damaged.ago())
    for path in (damaged.folder / "notes").iterdir():
        path.unlink()
    with pytest.raises(BackoutError, match="not noted on this host"):
        prepare_undo(damaged.tools(), None)


def test_an_undo_where_a_history_was_set_up_since_says_so(damaged: DamagedBucket) -> None:
    """The bucket keeps versions all the same: the restore went by them."""
    restore(damaged.tools(), damaged.ago())
    kept: Any = object()
    with pytest.raises(Refused, match=r"went by the bucket's versions, and storage.history is set by now") as refused:
        prepare_undo(replace(damaged.tools(), snapshots=kept), None)
    assert refused.value.options == ("Take storage.history out of the configuration, and type the undo again.",)
    undo(damaged.tools())


def test_a_restore_does_not_go_on_by_another_history(damaged: DamagedBucket) -> None:
    """By snapshots every object that is known by a version would count as written again meanwhile."""
    damaged.world.after_call = make_crash([2], "objects.carry_out")
    with pytest.raises(Crash):
        restore(damaged.tools(), damaged.ago())
    damaged.world.after_call = None
    kept: Any = object()
    with pytest.raises(BackoutError, match=r"goes by the bucket's versions, and storage.history is set by now"):
        restore(replace(damaged.tools(), snapshots=kept), damaged.ago())
    assert is_done(restore(damaged.tools(), damaged.ago()))
    assert damaged.bucket.live() == damaged.then


def test_its_progress_is_told_object_by_object(damaged: DamagedBucket) -> None:
    """A thousand of them take minutes in a slow store, in which somebody waits."""
    told: list[ObjectProgress] = []
    restore(replace(damaged.tools(), progress=told.append), damaged.ago())
    assert [(each.done, each.total) for each in told if each.what == "restoring"] == [(done, 7) for done in range(1, 8)]


def test_a_listing_that_changed_while_it_was_read_is_noticed(tmp_path: Path) -> None:
    """An object that comes twice would be brought back twice; the notes of before are not gone by."""
    change = ObjectChange(ChangeKind.REMOVE, "k", "v1")
    notes = FileChangeNotes(tmp_path)
    with pytest.raises(BackoutError, match="an object came twice"):
        notes.note("recover-00000001", [change, replace(change, key="l"), change])
    assert notes.count("recover-00000001") is None


def test_a_second_restore_changes_nothing(damaged: DamagedBucket) -> None:
    restore(damaged.tools(), damaged.ago())
    before = damaged.bucket.contents()
    tools = damaged.tools()
    restore(tools, damaged.ago())
    assert damaged.bucket.contents() == before
    assert results(tools)[0].same == 3


@pytest.mark.parametrize("written", ["put", "delete"])
@pytest.mark.parametrize("call", ["objects.carry_out", "objects.versions"])
def test_what_the_application_writes_meanwhile_stays_the_newest(
    damaged: DamagedBucket, written: str, call: str
) -> None:
    """Between the listing and the change it would lie below the copy; after the change it is the newest anyway."""
    seen: list[str] = []

    def write(name: str) -> None:
        if name == call and not seen:
            seen.append(name)
            for key in ("k0", "k3", "new", "k8"):
                damaged.bucket.put(key, b"good again") if written == "put" else damaged.bucket.delete(key)

    damaged.world.after_call = write
    tools = damaged.tools()
    assert is_done(restore(tools, damaged.ago()))
    live, compared = damaged.bucket.live(), results(tools)[1].compared
    wanted = Content(b"good again") if written == "put" else None
    assert {key: live.get(key) for key in ("k0", "k3", "k8")} == dict.fromkeys(("k0", "k3", "k8"), wanted)
    assert live.get("new") == wanted
    assert compared.verified is True
    assert "k0" in compared.put_back
    rest = {key: content for key, content in damaged.then.items() if key not in ("k0", "k3", "k8")}
    assert {key: live.get(key) for key in rest} == rest


def test_a_copy_that_is_not_as_its_source_is_found(damaged: DamagedBucket) -> None:
    """The second listing does not rest on what the restore said."""
    spoiled: list[str] = []

    def spoil(name: str) -> None:
        if name == "objects.carry_out" and len(spoiled) < 7:
            spoiled.append(name)
            if len(spoiled) == 7:
                damaged.bucket.forge("k1", b"other")

    damaged.world.after_call = spoil
    tools = damaged.tools()
    restore(tools, damaged.ago())
    compared = results(tools)[1].compared
    assert compared.verified is False
    assert [each.key for each in compared.differing] == ["k1"]


class Crash(BaseException):
    """The process dies here."""


def count_moments(folder: Path) -> int:
    """Return how many moments there are at which a restore can crash."""
    seen: list[str] = []
    story = DamagedBucket(folder)
    story.world.before_call = story.world.after_call = seen.append
    restore(story.tools(seen.append), story.ago())
    return len(seen)


def test_crashed_at_every_moment_and_typed_again(tmp_path: Path, proof: Record) -> None:
    """Same end, nothing twice: one copy of each changed object, one marker of the new one."""
    (tmp_path / "count").mkdir()
    moments = count_moments(tmp_path / "count")
    tried = sampled(moments, 4)
    for moment in tried:
        folder = tmp_path / str(moment)
        folder.mkdir()
        story, left = DamagedBucket(folder), [moment]
        crash = make_crash(left)
        story.world.before_call = story.world.after_call = crash
        to = story.ago()
        with pytest.raises(Crash):
            restore(story.tools(crash), to)
        story.world.before_call = story.world.after_call = None
        tools = story.tools()
        assert is_done(restore(tools, story.ago())), moment
        assert story.bucket.live() == story.then, moment
        made = len(story.bucket.contents()) - len(story.kept)
        assert made == 3, (moment, "copies")
        assert all(run.state is RunState.DONE for run in tools.runs.runs("production/objects"))
        assert results(tools)[1].compared.verified is True
    proof(
        "a restore of objects crashed at every moment, then again: as it was, each copied once, no version lost",
        trials=len(tried),
        failures=0,
    )


def test_crashed_at_every_moment_and_taken_back(tmp_path: Path) -> None:
    """What it had done until then is undone, whether it was noted or not; no version is lost."""
    (tmp_path / "count").mkdir()
    for moment in sampled(count_moments(tmp_path / "count"), 4):
        folder = tmp_path / str(moment)
        folder.mkdir()
        story, left = DamagedBucket(folder), [moment]
        before = story.bucket.live()
        story.world.before_call = story.world.after_call = make_crash(left)
        with pytest.raises(Crash):
            restore(story.tools(make_crash(left)), story.ago())
        story.world.before_call = story.world.after_call = None
        tools = story.tools()
        newest = next(iter(tools.runs.runs("production/objects")), None)
        if newest is None or not has_begun(tools, newest):
            assert story.bucket.live() == before, moment
            continue
        plan = prepare_undo(tools, None)
        if not newest.state.is_over:
            tools.runs.ask(newest.id, "abort", actor="ops@host", reason="taken back")
        run = tools.journal.submit(plan, actor="ops@host", reason="it was the wrong moment")
        assert is_done(tools.journal.drive(run, ObjectActions(tools), actor="ops@host")), moment
        assert story.bucket.live() == before, moment
        assert story.kept.items() <= story.bucket.contents().items()
        assert results(tools)[1].compared.verified is True


@pytest.mark.parametrize("when", ["before", "long after"])
def test_a_deletion_by_the_application_is_no_work_of_a_killed_restore(damaged: DamagedBucket, when: str) -> None:
    """The undo of the restore would take it back."""
    bucket, clock, world = damaged.bucket, damaged.world.clock, damaged.world
    bucket.put("new too", b"since")
    clock.sleep(2)

    def delete(name: str) -> None:
        if name == "objects.versions" and when == "before":
            bucket.delete("new")
            clock.sleep(60)

    world.before_call, world.after_call = make_crash([0], "objects.carry_out"), delete
    with pytest.raises(Crash):
        restore(damaged.tools(), damaged.ago())
    world.before_call = world.after_call = None
    clock.sleep(3600)
    if when == "long after":
        bucket.delete("new")
    assert is_done(restore(damaged.tools(), damaged.ago()))
    tools = damaged.tools()
    undo(tools)
    live, restored = bucket.live(), results(tools)[0]
    assert "new" not in live
    assert live["new too"].body == b"since"
    assert restored.failures == (when == "long after"), "whose deletion it is nobody knows then, which is told"


def make_crash(left: list[int], call: str = "") -> Callable[[str], None]:
    def crash(name: str) -> None:
        left[0] -= call in ("", name)
        if left[0] == -1:
            raise Crash(name)

    return crash


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (BucketFacts("off"), "off"),
        (BucketFacts("suspended"), "suspended"),
        (BucketFacts("unknown"), "not known"),
        (BucketFacts("enabled", expires_after_s=60.0), "lifecycle"),
    ],
)
def test_a_bucket_that_does_not_keep_the_past_is_refused(
    damaged: DamagedBucket, facts: BucketFacts, words: str
) -> None:
    damaged.look.facts = facts
    with pytest.raises(Refused, match=words):
        prepare(damaged.tools(), damaged.ago(), None, "")


def test_what_no_snapshot_covers_is_not_restored(damaged: DamagedBucket) -> None:
    """It would be deleted for good: nothing of it was stored before."""
    kept: Any = object()
    tools = replace(damaged.tools(), snapshots=kept, prefix="models/")
    for prefix in ("", "other/"):
        with pytest.raises(UsageError, match="only of what lies below models/"):
            prepare(tools, damaged.ago(), None, prefix)


def test_a_moment_before_everything_is_refused_before_anything_is_changed(damaged: DamagedBucket) -> None:
    tools, before = damaged.tools(), damaged.bucket.contents()
    with pytest.raises(Refused, match="every object would be removed"):
        restore(tools, "3 days ago")
    assert damaged.bucket.contents() == before
    assert damaged.bucket.live().keys() == {"k0", "k1", "k2", "k6", "k7", "k8", "new"}


@pytest.mark.parametrize(("to", "until"), [("soon", None), ("1h ago", "2h ago"), ("2099-01-01", None)])
def test_times_that_cannot_be_meant(damaged: DamagedBucket, to: str, until: str | None) -> None:
    with pytest.raises(UsageError):
        prepare(damaged.tools(), to, until, "")


def test_a_store_whose_clock_is_apart_makes_near_versions_ambiguous(damaged: DamagedBucket) -> None:
    damaged.look.facts = BucketFacts("enabled", None, 90.0)
    tools = damaged.tools()
    found = foresee(tools, prepare(tools, damaged.ago(), None, ""))
    assert found.ambiguous_objects
    damaged.look.facts = replace(damaged.look.facts, clock_ahead_s=1.0)
    assert foresee(tools, prepare(tools, damaged.ago(), None, "")).ambiguous_objects == 0
    damaged.look.facts = replace(damaged.look.facts, clock_slack_s=90.0)
    assert foresee(tools, prepare(tools, damaged.ago(), None, "")).ambiguous_objects


@pytest.mark.parametrize("call", ["objects.carry_out", "objects.is_same"])
def test_without_its_notes_a_restore_says_so(damaged: DamagedBucket, call: str) -> None:
    def crash(name: str) -> None:
        if name == call:
            raise Crash(name)

    damaged.world.after_call = crash
    with pytest.raises(Crash):
        restore(damaged.tools(), damaged.ago())
    damaged.world.after_call = None
    for path in (damaged.folder / "notes").iterdir():
        path.unlink()
    with pytest.raises(BackoutError, match="not noted on this host"):
        restore(damaged.tools(), damaged.ago())


def test_a_check_says_what_is_missing_in_one_sentence_each(damaged: DamagedBucket) -> None:
    """Its checks, and what of them is a problem: here versions that were suspended, and a clock that is behind."""
    whole = judge_bucket(damaged.tools())
    assert (whole.history, whole.problems) == (History.VERSIONS, ())
    assert {check.name for check in whole.checks if check.level == "must"} == {
        "objects_list", "objects_read", "objects_write", "objects_delete", "objects",
    }  # fmt: skip
    damaged.look.facts = BucketFacts("suspended", None, -60.0)
    found = judge_bucket(damaged.tools())
    assert found.kept.why in found.problems
    assert [each.partition(":")[0] for each in found.problems] == [
        "the bucket's versions are suspended",
        "the store's clock is 60 s behind this machine's",
    ]
