"""Which restore an undo takes back: the newest one, or that of a run; and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from backout.errors import UsageError
from backout.journal.sqlite import SqliteJournal
from backout.model.plan import Plan, PlanKind
from backout.providers.memory import WorldClock
from backout.runbook.recovery.tools import RESCUED, SWAPPED, RestoreTools
from backout.runbook.recovery.undoable import choose_undoable, describe_rescue, find_earlier

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.plan import Json


@pytest.fixture
def tools(tmp_path: Path) -> RestoreTools:
    clock = WorldClock(1_795_608_000.0)
    journal = SqliteJournal(tmp_path / "journal.sqlite", clock)
    unused: dict[str, Any] = dict.fromkeys(
        (
            *("backups", "wal", "sides", "beside", "bases", "rescuer", "comparer", "copies", "kept"),
            *("tools_version", "free_bytes", "walker", "live"),
        )
    )
    known: dict[str, Any] = {"environment": "lab", "actor": "test", "clock": clock, "journal": journal, "runs": journal}
    return RestoreTools(**known, **unused, database="app")


def restored(tools: RestoreTools, mark: str, kind: str = RESCUED, undone: Json = None) -> str:
    """Record a restore, or the undo of one, as their steps do; return its run."""
    journal: Any = tools.journal
    run: str = journal.submit(Plan(PlanKind.RECOVER, "lab", f"the rows of {mark}", ()), actor="test", reason="a test")
    journal.drive(run, {}, actor="test")
    note = {"mark": mark, "database": "app", **({} if undone is None else {"undone": undone})}
    journal.note("lab", kind, run, note, actor="test")
    return run


def test_the_newest_one_is_undone(tools: RestoreTools) -> None:
    """Rescues one after the other, until none is left."""
    with pytest.raises(UsageError, match="no restore of this database is recorded"):
        choose_undoable(tools, SWAPPED, None)
    first, second = restored(tools, "a"), restored(tools, "b")
    chosen = choose_undoable(tools, SWAPPED, None)
    assert (chosen.run, chosen.data["mark"]) == (second, "b")
    assert f"by run {second} at 2026-11-25T12:00:00.000Z: the rows of b" == describe_rescue(tools, chosen)
    restored(tools, "b", undone=True)
    assert choose_undoable(tools, SWAPPED, None).run == first
    restored(tools, "a", undone=True)
    with pytest.raises(UsageError, match="no restore of this database is recorded"):
        choose_undoable(tools, SWAPPED, None)


def test_one_of_which_something_is_left_stays_the_newest(tools: RestoreTools) -> None:
    """However often it was tried; the one before it is undone where a person names its run, by a prefix too."""
    first, second = restored(tools, "a"), restored(tools, "b")
    with pytest.raises(UsageError, match=f"run {second} rescued rows after it, and is to be undone first"):
        choose_undoable(tools, SWAPPED, first)
    for _ in range(2):
        restored(tools, "b", undone="partly")
        assert choose_undoable(tools, SWAPPED, None).run == second
        assert find_earlier(tools, SWAPPED, "b") == first
    assert choose_undoable(tools, SWAPPED, first[:-2]).run == first
    restored(tools, "a", undone=True)
    assert choose_undoable(tools, SWAPPED, None).run == second
    assert find_earlier(tools, SWAPPED, "b") is None


def test_a_swap_is_undone_before_what_was_restored_before_it(tools: RestoreTools) -> None:
    """Its undo is a swap, too."""
    rescue, swap = restored(tools, "a"), restored(tools, "b", SWAPPED)
    assert choose_undoable(tools, SWAPPED, None).run == swap
    with pytest.raises(UsageError, match=f"run {swap} replaced the whole after it"):
        choose_undoable(tools, SWAPPED, rescue)


@pytest.mark.parametrize("named", ["76652", "between 14:03 and now", ""])
def test_words_that_name_no_run_are_refused(tools: RestoreTools, named: str) -> None:
    """With the runs that can be named."""
    run = restored(tools, "a")
    with pytest.raises(UsageError, match="is recorded that restored this database") as refused:
        choose_undoable(tools, SWAPPED, named)
    assert run in str(refused.value.hint)
