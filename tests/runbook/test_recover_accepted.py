"""A second check that found a difference: it is mended by hand and compared again, or a person accepts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from recovery_story import ASK, Night, check_taken_back, find_kept, recover, take_back
from values import replace

from backout.errors import PartlyDone, ProviderUnavailable, UsageError
from backout.model.database.comparison import Comparison, TableComparison
from backout.model.database.fence import FenceRole
from backout.model.incident.incident import RunState
from backout.model.objects.surveys import MOST_NAMES
from backout.model.objects.versions import ChangeKind, ObjectChange, ObjectVersion
from backout.model.steps.objects import CompareObjectsResult
from backout.providers.memory.objects import MemoryBucket
from backout.report.recovery import make_record
from backout.runbook.objects.compare import Comparison as Comparing
from backout.runbook.recover.accepted import Found, accept, find_acceptance, find_shown
from backout.runbook.recover.demanded import read_found
from backout.runbook.recover.outcome import read_outcome
from backout.runbook.recover.undo import find_undoable, prepare_undo

if TYPE_CHECKING:
    from pathlib import Path

OBJECTS = replace(ASK, only=("objects",))
WHY = "that object is gone for good"


@pytest.fixture
def night(quick_path: Path) -> Night:
    return Night(quick_path)


def accept_shown(night: Night) -> None:
    """Accept what the newest run's second check has found, as the command does."""
    box = night.tools().tools
    run = next(iter(box.runs.runs("production")))
    accept(box, run.id, find_shown(box, run.id), WHY)


def check_page(night: Night, *, shown: bool) -> None:
    """Look whether the maintenance page is live."""
    assert night.world.builds[night.world.live.main].version.is_maintenance is shown


def test_objects_mended_by_hand_are_compared_again(night: Night) -> None:
    """An older version, an undeleted one and a deletion that the store refused: each done by hand in another way."""
    night.bucket.put("new", b"since")
    night.bucket.refused = dict.fromkeys(("k0", "k3", "new"), "AccessDenied")
    with pytest.raises(PartlyDone, match="k0: it was not brought back; k3: it was not brought back; new: it was not"):
        recover(night.tools(), OBJECTS)
    check_page(night, shown=True)
    night.bucket.put("k0", b"good 0")
    night.bucket.put("k3", b"something else")
    with pytest.raises(PartlyDone, match="everything was restored: k3: it was not brought back; new: it was not"):
        recover(night.tools(), OBJECTS)
    night.bucket.put("k3", b"good 3")
    night.bucket.delete("new")
    run = recover(night.tools(), OBJECTS)
    assert run.state is RunState.DONE
    assert night.bucket.live() == night.then
    assert read_outcome(night.tools().tools, run).accepted == ()


def test_what_cannot_be_mended_is_accepted_and_said(night: Night) -> None:
    """Objects alone have no fence that a person could take away."""
    night.bucket.refused = {"k0": "AccessDenied"}
    for _ in range(2):
        with pytest.raises(PartlyDone, match="k0: it was not brought back"):
            recover(night.tools(), OBJECTS)
    check_page(night, shown=True)
    accept_shown(night)
    run = recover(night.tools(), OBJECTS)
    assert run.state is RunState.DONE
    check_page(night, shown=False)
    found = read_outcome(night.tools().tools, run)
    said = f"ACCEPTED: not everything was restored: k0: it was not brought back; accepted by ops@host ({WHY})"
    assert make_record(found)["accepted"] == [said]
    (page,) = night.world.reports.texts.values()
    assert WHY in page


def test_another_difference_is_not_accepted_with_it(night: Night) -> None:
    night.bucket.refused = {"k0": "AccessDenied"}
    with pytest.raises(PartlyDone):
        recover(night.tools(), OBJECTS)
    accept_shown(night)
    night.bucket.forge("k1", b"lost by the store")
    with pytest.raises(PartlyDone, match="k1: the copy is not as the version"):
        recover(night.tools(), OBJECTS)
    check_page(night, shown=True)
    accept_shown(night)
    assert recover(night.tools(), OBJECTS).state is RunState.DONE


def test_an_undo_of_objects_alone_is_accepted(night: Night) -> None:
    recover(night.tools(), OBJECTS)
    night.bucket.refused = {"k0": "AccessDenied"}
    with pytest.raises(PartlyDone, match="k0: it was not brought back"):
        take_back(night.tools())
    check_page(night, shown=True)
    accept_shown(night)
    undone = take_back(night.tools())
    assert undone is not None
    assert undone.state is RunState.DONE
    assert read_outcome(night.tools().tools, undone).accepted != ()
    check_page(night, shown=False)


def test_a_check_that_can_never_be_made_is_accepted_behind_the_fence(night: Night) -> None:
    """Nothing opens before the run opens it; why the check failed may be other words each time."""
    tried: list[str] = []

    def fail(name: str) -> None:
        if name == "before copies.compare" and night.server.moved:
            tried.append(name)
            raise ProviderUnavailable(f"the second check does not answer (attempt {len(tried)})")

    night.watch_application(fail)
    with pytest.raises(PartlyDone, match="attempt 1"):
        recover(night.tools())
    accept_shown(night)
    run = recover(night.tools())
    night.stop_watching()
    assert night.through == []
    assert "attempt 2" in "".join(read_outcome(night.tools().tools, run).accepted)


def test_another_number_of_rows_is_another_difference(night: Night) -> None:
    """By the table's name alone, whatever became of it later was accepted, too."""
    night.server.told = compare_orders(3)
    with pytest.raises(PartlyDone, match=r"public\.orders: 3 rows not there: id=7"):
        recover(night.tools())
    accept_shown(night)
    night.server.told = compare_orders(4)
    with pytest.raises(PartlyDone, match=r"public\.orders: 4 rows not there: id=7"):
        recover(night.tools())
    check_page(night, shown=True)
    accept_shown(night)
    assert recover(night.tools()).state is RunState.DONE


def compare_orders(missing: int, *more: TableComparison) -> Comparison:
    """Return a comparison in which orders are missing."""
    return Comparison((TableComparison("public.orders", 10, missing=missing, examples=("id=7",)), *more))


def test_what_was_not_compared_is_shown_beside_what_differs(night: Night) -> None:
    unread = TableComparison("public.users", reason="no answer", failed=True)
    night.server.told = compare_orders(3, unread)
    both = "public.orders: 3 rows not there: id=7; whether all was restored is not known: table public.users could not"
    with pytest.raises(PartlyDone, match=both):
        recover(night.tools())
    accept_shown(night)
    (said,) = read_outcome(night.tools().tools, recover(night.tools())).accepted
    assert both in said


def test_a_check_that_could_not_be_made_is_not_accepted_with_another(night: Night) -> None:
    """Nor is any check by a note of an earlier version, which does not say of which one it was."""
    box = night.tools().tools
    accept(box, "run", Found(failed="no answer", step="compare_copies"), WHY)
    accept(box, "run", Found(failed="no answer"), WHY)
    assert find_acceptance(box, "run", Found(failed="no answer", step="compare_objects")) == ""
    assert WHY in find_acceptance(box, "run", Found(failed="not now", step="compare_copies"))


def test_other_objects_than_those_that_are_named_are_another_difference() -> None:
    """A thousand are named."""

    def compare(last: str) -> Found:
        comparison = Comparing(MemoryBucket(lambda: 0.0, lambda _name, effect: effect()), 1, 0.0)
        for key in (*(f"k{number}" for number in range(MOST_NAMES)), last):
            change = ObjectChange(ChangeKind.REMOVE, key, "found", "")
            comparison.compare([ObjectVersion(key, "v", 0.0, "", 1, is_marker=False)], change, None)
        return read_found(CompareObjectsResult(compared=comparison.finish(0, 0)))

    one, same, other = (compare(last).differs for last in ("one", "one", "other"))
    assert len(one) == MOST_NAMES + 1
    assert one[-1].startswith("and 1 more (digest of all: ")
    assert one == same != other


def test_nothing_is_accepted_that_was_not_shown(night: Night) -> None:
    run = recover(night.tools(), OBJECTS)
    with pytest.raises(UsageError, match="there is nothing to accept"):
        find_shown(night.tools().tools, run.id)


def test_the_line_that_opens_the_fence_in_an_undo_is_that_of_the_fence_that_stands(night: Night) -> None:
    """While it stands, only its mark knows that one role could not log in before; and the undo opens it."""
    fence = night.world.fence
    for cluster in (fence.live, *fence.copies.values()):
        cluster.roles["batch"] = FenceRole("batch", login=False, writes="it is a member of the owner")
    fence.planned = ("app", "batch")

    def fail(name: str) -> None:
        if name == "before objects.carry_out":
            raise ProviderUnavailable("the store does not answer")

    night.watch_application(fail)
    with pytest.raises(PartlyDone):
        recover(night.tools())
    night.stop_watching()
    assert find_kept(night)
    plan = prepare_undo(night.tools(), find_undoable(night.tools()))
    assert fence.live.mark is not None
    line = plan.step("recover_open").equivalent
    assert line == fence.live.mark.by_hand
    assert "ALTER ROLE batch NOLOGIN" in line
    night.watch_application()
    take_back(night.tools())
    night.stop_watching()
    check_taken_back(night)
    assert (fence.live.roles["batch"].login, fence.live.roles["app"].login) == (False, True)
