"""One choice of the version to go back to, whatever is out of reach: the card keeps what journal and API knew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.errors import BackoutError
from backout.model.plan import Equivalents, Plan
from backout.plan.rollback import Request
from backout.providers.files.card import FileCard
from backout.runbook.incident.card import keep_card, make_card
from backout.runbook.incident.no_journal import replace_journal
from backout.runbook.rollback.panic import list_lines_without_journal, plan_way_back
from backout.runbook.rollback.rollback import prepare

from line import Story, equip, roll_back, watch

if TYPE_CHECKING:
    from pathlib import Path

    from backout.runbook.toolbox import Toolbox

LINES = Equivalents(activate="npx wrangler rollback {version} --message {message}", live="look")
LOST = BackoutError("the journal is damaged", where="journal.sqlite")


@pytest.fixture
def story(quick_path: Path) -> Story:
    return Story(quick_path / "journal.sqlite")


def tools_of(story: Story) -> Toolbox:
    """Return tools with a card."""
    return equip(story.tools(), cards=FileCard(story.path.with_name("card.md")), equivalents=LINES)


def push_marks_out(story: Story) -> None:
    """Have the provider list no remark any more."""
    kept = story.world.all_deployments
    kept[:] = [replace(each, message="") for each in kept]


def test_without_journal_and_marks_the_card_knows_the_way(story: Story) -> None:
    """The journal is lost, and remarks pushed the stable mark out of the provider's list: a line that goes back."""
    tools = tools_of(story)
    keep_card(tools)
    push_marks_out(story)
    lost = replace_journal(tools, LOST)
    plan = plan_way_back(lost, "panic")
    assert isinstance(plan, Plan), plan
    assert plan.step("activate").args["version"] == make_card(lost).target == story.good.id
    lines = list_lines_without_journal(lost, "panic")
    assert lines[0] == f"npx wrangler rollback {story.good.id} --message panic"  # type: ignore[index]


def test_what_is_quarantined_by_the_card_is_no_way_back(story: Story) -> None:
    """The version before is the bad one that was left: without the card it would be the one to return to."""
    roll_back(story.tools())
    tools = tools_of(story)
    keep_card(tools)
    story.world.deploy(story.bad)
    story.world.deploy(story.world.upload("worse"))
    push_marks_out(story)
    plan = prepare(replace_journal(tools, LOST), Request(message="x", accept_unproven=True))[1]
    assert isinstance(plan, Plan)
    assert plan.step("activate").args["version"] == story.good.id
    assert any(note.startswith(f"not {story.bad.id}: it is quarantined") for note in plan.notes)


def test_a_journal_begun_anew_does_not_wipe_the_card(story: Story) -> None:
    """The damaged one was put away, as the hint says: the next card still has what the last one knew."""
    keep_card(tools_of(story))
    push_marks_out(story)
    for file in story.path.parent.glob("journal.sqlite*"):
        file.unlink()
    keep_card(tools_of(story))
    text = story.path.with_name("card.md").read_text(encoding="utf-8")
    assert f" stable {story.good.id}" in text


def test_guard_finds_what_it_needs_in_the_journal_alone(story: Story) -> None:
    """A card never makes a version stable for what acts: only lines that a person types rest on it."""
    keep_card(tools_of(story))
    push_marks_out(story)
    for file in story.path.parent.glob("journal.sqlite*"):
        file.unlink()
    ended = watch(tools_of(story), for_s=25)
    assert story.tools().runs.result(ended.id, "conclude")["action"] != "rollback"  # type: ignore[index,call-overload]
    assert story.world.live.sole == story.bad.id
