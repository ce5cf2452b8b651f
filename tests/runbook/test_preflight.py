"""Before a deployment, on the World: what could be returned to after it, what is allowed, and when it only advises."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from values import replace

from backout.analysis.checkup.views import shows
from backout.errors import UsageError
from backout.model.checkup import Check, CheckState, Checkup, View, must, should
from backout.model.guard.policy import Mode
from backout.model.hint import suggest_words
from backout.model.token import Needed
from backout.providers.memory import World
from backout.runbook.guard.preflight import REFUSALS
from backout.runbook.incident.checkup_questions import Here, Platform
from backout.runbook.incident.preflight import ALLOWED, FIXES, accept_gaps, find_advice, record_fix
from backout.runbook.rollback.rollback import rank_for_next

from line import Story, roll_back, toolbox, watch

if TYPE_CHECKING:
    from backout.runbook.toolbox import Toolbox

LOOK = suggest_words("look")


@pytest.fixture
def story(quick_path: Path) -> Story:
    return Story(quick_path / "journal.sqlite")


def ask(tools: Toolbox, *names: str) -> dict[str, Check]:
    """Return the answers of the platform's lane before a deployment."""

    def never() -> NoReturn:
        raise AssertionError("nobody asks for the identity")

    here = Here(tools.clock, lambda: (), lambda: None, tools.environment)  # type: ignore[arg-type]
    platform = Platform(
        lambda: tools,
        never,
        tools.environment,
        tools.policy,
        needed=Needed((), ""),
        places={},
        required=("A",),
        here=here,
    )
    asked = [question for question in platform.lane(deploys=True) if question.name in names]
    return {check.name: check for question in asked for check in question.ask()}


def test_after_the_next_deployment_one_goes_back_to_what_is_live(story: Story) -> None:
    """While it was never proved, to the stable one before it."""
    live = ask(story.tools(), "platform", "stable_version")["stable_version"]
    assert live.state is CheckState.OK
    assert story.good.id in live.why
    roll_back(story.tools())
    _, ranked = rank_for_next(story.tools())
    assert ranked[0].version == story.good.id
    assert "which is live now" in ask(story.tools(), "stable_version")["stable_version"].why


def test_where_nothing_is_proved_there_is_nothing_to_go_back_to(story: Story) -> None:
    """A fresh journal and a provider without marks: the command that proves what is live is named."""
    world = World()
    world.deploy(world.upload("first"))
    tools = toolbox(world, story.path.with_name("other.sqlite"))
    found = ask(tools, "platform", "stable_version")["stable_version"]
    assert (found.level, found.state) == ("must", CheckState.MISSING)
    assert found.next.lines == ("backout guard -e production",)
    accepted = replace(tools.policy, guard=replace(tools.policy.guard, accept_unproven=True))
    assert ask(replace(tools, policy=accepted), "stable_version")["stable_version"].state is CheckState.OK


def test_the_first_deployment_is_only_advised(story: Story) -> None:
    """Nothing is live: nothing to go back to, and nothing that could be lost."""
    tools = toolbox(World(), story.path.with_name("other.sqlite"))
    found = ask(tools, "platform", "stable_version", "kept_code", "secrets")
    assert {name: check.state for name, check in found.items()} == {
        "platform": CheckState.ALLOWED,
        "stable_version": CheckState.ALLOWED,
    }
    checkup = Checkup("production", tuple(found.values()))
    assert find_advice(tools.journal, tools.runs, checkup, fixes="") == "nothing is live yet"


def test_a_migration_that_the_live_code_does_not_survive_leaves_no_way_back(story: Story) -> None:
    """Applied before the deployment: what is live could not be returned to (safety rule 4)."""
    roll_back(story.tools())
    story.world.migrate("20261125000000_drop_column")
    found = ask(story.tools(), "stable_version")["stable_version"]
    assert found.state is CheckState.MISSING
    assert "the schema changed" in found.why
    assert found.next.lines == ("backout db migrations status -e production",)


GAPS = (must("objects").missing("no snapshot", LOOK), must("token").ok("it is"), should("card").missing("none", LOOK))


def test_in_an_open_incident_it_only_advises(story: Story) -> None:
    """And for what is named as its fix; when the incident is over, it decides again."""
    tools, found = story.tools(), Checkup("production", GAPS)
    assert find_advice(tools.journal, tools.runs, found, fixes="") == ""
    watched = watch(tools, mode=Mode.OBSERVE)
    assert find_advice(tools.journal, tools.runs, found, fixes="") == f"the incident {watched.id} is open"
    roll_back(tools)
    assert find_advice(tools.journal, tools.runs, found, fixes="") == ""
    assert find_advice(tools.journal, tools.runs, found, fixes="rollback-1") == "this deployment fixes rollback-1"


def test_what_is_allowed_is_recorded_with_who_and_why(story: Story) -> None:
    """Gaps alone: what is ok stays so, and a name that no check has is a mistake."""
    tools = story.tools()
    found = accept_gaps(
        Checkup("production", GAPS), ("objects", "token"), "nothing is deleted",
        notes=tools.journal, actor="ops@host", clock=tools.clock,
    )  # fmt: skip
    assert found.ready
    assert [check.state.value for check in found.checks] == ["allowed", "ok", "missing"]
    assert found.checks[0].why == "no snapshot (allowed by ops@host: nothing is deleted)"
    (event,) = tools.journal.events(kind=ALLOWED)
    assert event.actor == "ops@host"
    recorded = {"check": "objects", "state": "missing", "gap": "no snapshot", "why": "nothing is deleted"}
    assert event.data.items() >= recorded.items()
    with pytest.raises(UsageError, match="no check is called 'objcts'") as caught:
        accept_gaps(found, ("objcts",), "x", notes=tools.journal, actor="ops@host", clock=tools.clock)
    assert caught.value.hint == "backout preflight --allow card -m WHY"
    same = accept_gaps(
        found, ("channels",), "x", known=("channels",), notes=tools.journal, actor="ops@host", clock=tools.clock
    )
    assert same == found  # a check that is not made of everything
    assert len(list(tools.journal.events(kind=ALLOWED))) == 1


def test_a_fix_is_recorded_with_what_it_went_on_without(story: Story) -> None:
    """Who looks back sees which gaps a hotfix passed."""
    tools = story.tools()
    record_fix(Checkup("production", GAPS), "rollback-1", "", notes=tools.journal, actor="ops@host", clock=tools.clock)
    (event,) = tools.journal.events(kind=FIXES)
    assert (event.data["incident"], event.data["gaps"]) == ("rollback-1", ["objects"])


def test_what_keeps_a_watch_from_beginning_is_on_the_one_list() -> None:
    """Guard's own refusals are checks that doctor and preflight show, and that the page of checks explains."""
    page = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")
    for name in REFUSALS:
        assert shows(View.DOCTOR, name)
        assert shows(View.PREFLIGHT, name)
        assert re.search(rf"^\| `{name}`", page, re.MULTILINE), name
