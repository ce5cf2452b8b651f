"""Going on without an approval is recorded, told to everybody, and shown: nobody does it quietly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cli_shell import backout

from backout.errors import DecisionNeeded
from backout.model.approval import ApprovalRule, Change
from backout.model.incident.incident import RunState
from backout.model.incident.notice import NoticeKind
from backout.providers.notify.dispatcher import Dispatcher
from backout.providers.notify.outbox import Outbox
from backout.runbook.incident.status import read_status
from backout.runbook.safety.break_glass import break_glass

from line import Story, roll_back

if TYPE_CHECKING:
    from pathlib import Path

RULE = {"approvals": ApprovalRule((Change.ROLLBACK,))}


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """Return a World in which a bad version is live, and a rollback needs an approval."""
    return Story(tmp_path / "journal.sqlite", approvals=RULE)


def test_who_breaks_the_glass_stands_in_journal_notice_report_and_status(story: Story) -> None:
    """For a day in `status`; in the report for good."""
    tools = story.tools()
    with pytest.raises(DecisionNeeded):
        roll_back(tools)
    (run,) = tools.runs.runs("production")[:1]
    assert run.state is RunState.WAITING
    assert f"{run.id} waits for a person's approval" in read_status(tools).troubles
    assert not story.world.activations
    notice = break_glass(tools.runs, run.id, actor="ops@host", why="it burns", at=story.world.clock.now())
    assert notice is not None
    assert (notice.kind, notice.kind.is_critical) == (NoticeKind.BROKE_GLASS, True)
    assert "ops@host broke the glass: it burns" in notice.text
    assert break_glass(tools.runs, run.id, actor="ops@host", why="again", at=0.0) is None
    assert roll_back(tools).state is RunState.DONE
    (report,) = story.world.reports.texts.values()
    assert "WITHOUT THE APPROVAL that it needs: it burns" in report
    said = f"{run.id} went on without the approval that it needs (break-glass by ops@host: it burns)"
    assert said in read_status(tools).troubles
    story.world.clock.sleep(90_000)
    assert said not in read_status(story.tools()).troubles


def test_it_is_told_whatever_kinds_are_wanted(story: Story) -> None:
    """`notify.kinds` leaves notices out; this one it cannot."""
    dispatcher = Dispatcher((), Outbox(None), story.world.clock, kinds=[NoticeKind.HELD])
    assert NoticeKind.BROKE_GLASS in dispatcher._kinds


@pytest.mark.parametrize(
    "command",
    [
        ("rollback",),
        ("roll-forward",),
        ("recover",),
        ("secrets", "push"),
        ("db", "restore"),
        ("objects", "restore"),
        ("runs", "resume"),
    ],
)
def test_every_command_whose_plan_may_wait_can_go_on_without(tmp_path: Path, command: tuple[str, ...]) -> None:
    """By the same words; without a reason none does."""
    words = ("run-1",) if command == ("runs", "resume") else ()
    told = backout(tmp_path, *command, *words, "--break-glass")
    assert told.code == 2
    assert "--break-glass needs a reason: add -m WHY" in told.err
