"""Whatever keeps guard from rolling a bad version back has one exit code, and that is the one that is documented."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_shell import Stream, make_shell
from values import replace

from backout.cli.guard.guard import _get_exit_code as code_of
from backout.cli.guard.guard import _refuse as refuse
from backout.cli.guard.guard import finish
from backout.cli.guard.live import Live
from backout.cli.support.session import Session
from backout.errors import Refused
from backout.journal.stop import StopRequest
from backout.model.guard.policy import Mode
from backout.model.incident.vendor import VendorIncident
from backout.model.steps.guard import ConcludeAction, ConcludeResult
from backout.runbook.safety import permission

from line import Story, by_version, equip, watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.guard.signals import CountsPage, SourceTraits
    from backout.runbook.toolbox import Toolbox

PAGE = Path(__file__).parents[2] / "docs" / "quickstart.md"


def by_identity(story: Story, tools: Toolbox) -> Toolbox:
    """The working copy does not contain what is live."""
    bad = story.world.upload("bad", git_sha="c0ffee1")
    deploy(story, bad.id)
    return equip(tools, checkout=Foreign())


def by_a_hold(story: Story, tools: Toolbox) -> Toolbox:
    """Somebody stopped every automatic action."""
    story.world.deploy(story.bad, message="[backout hold until=2099-01-01T00:00:00Z] migrating by hand")
    return tools


def by_the_source(story: Story, tools: Toolbox) -> Toolbox:
    """The counts are estimates."""
    assert tools.traffic is not None
    return replace(tools, traffic=Estimates(story))


def by_an_earlier_rollback(story: Story, tools: Toolbox) -> Toolbox:
    """One automatic rollback was made within six hours."""
    watch(tools, mode=Mode.ACT)
    assert story.world.live.sole == story.good.id
    deploy(story, story.world.upload("worse").id)
    return tools


def by_a_vendor(story: Story, tools: Toolbox) -> Toolbox:
    """A vendor has announced an incident."""
    return equip(tools, vendors=Announced(story.world.clock.now()))


def by_the_platform(story: Story, tools: Toolbox) -> Toolbox:
    """The commands that speak for the platform never passed the trial."""
    return equip(tools, doubt="the platform's commands never passed")


def by_nothing(story: Story, tools: Toolbox) -> Toolbox:
    """Guard only observes."""
    return tools


def deploy(story: Story, version: str) -> None:
    story.world.traffic_rule = by_version(version)
    story.world.deploy(version)
    story.world.clock.sleep(2)


class Foreign:
    """Port Checkout of another working copy."""

    def contains(self, git_sha: str) -> bool | None:
        return not git_sha


class Announced:
    """Port VendorStatus of a vendor with an incident."""

    def __init__(self, at: float) -> None:
        self._at = at

    def incidents(self) -> tuple[VendorIncident, ...]:
        return (VendorIncident("Cloud", "elevated errors", "major", self._at - 60),)


@dataclass(frozen=True)
class Estimates:
    """Port Traffic that may not be acted on."""

    story: Story

    @property
    def traits(self) -> SourceTraits:
        known = self.story.world.traffic.traits
        return replace(known, name="estimates", sampled=True)

    def read(self, since: int, until: int) -> CountsPage:
        return self.story.world.traffic.read(since, until)


HOLDS: dict[str, tuple[Callable[[Story, Toolbox], Toolbox], int]] = {
    "1 identity": (by_identity, 3),
    "conformance": (by_the_platform, 3),
    "10 hold": (by_a_hold, 3),
    "13 sources": (by_the_source, 3),
    "9 once": (by_an_earlier_rollback, 3),
    "12 same cause": (by_a_vendor, 7),
    "observe": (by_nothing, 1),
}


def test_every_hold_has_a_code() -> None:
    """None is forgotten: those that are asked in order, and those of the table, are the same."""
    asked = {rule for rule, _ in permission._CHECKS}
    assert asked == set(permission.HELD_CODES)
    assert {rule: code for rule, (_, code) in HOLDS.items()}.items() <= permission.HELD_CODES.items()
    assert asked - set(HOLDS) == {permission.DATA_RULE}  # a refusal with options: `tests/safety/test_rule_11_data.py`


@pytest.mark.parametrize("rule", HOLDS)
def test_the_exit_code_of_each_hold(quick_path: Path, tmp_path: Path, rule: str) -> None:
    """A real watch that ends held by it: the JSON names the rule, and the process exits with its code."""
    story = Story(quick_path / "journal.sqlite")
    arrange, expected = HOLDS[rule]
    tools = arrange(story, story.tools())
    shell = make_shell(tmp_path)
    shell.output.json = True
    session = Session(shell, tools, StopRequest(lambda: None), Live(shell.output, "guard", stream=True))
    run = watch(tools, mode=Mode.OBSERVE if rule == "observe" else Mode.ACT)
    code = finish(session, run)
    out = shell.output.stdout
    assert isinstance(out, Stream)
    told = json.loads(out.getvalue().splitlines()[-1])
    assert (told["verdict"], told["action"], told["rule"]) == ("regressed", "hold", rule)
    assert code == expected
    assert story.world.live.sole != story.good.id


def test_a_person_who_says_no_leaves_a_finding(quick_path: Path, tmp_path: Path) -> None:
    """No rule kept it: exit 1."""
    story = Story(quick_path / "journal.sqlite")
    tools = replace(story.tools(), confirm=lambda _plan: False)
    shell = make_shell(tmp_path)
    session = Session(shell, tools, StopRequest(lambda: None), Live(shell.output, "guard", stream=True))
    assert finish(session, watch(tools, mode=Mode.ASK)) == 1


@pytest.mark.parametrize(
    ("verdict", "rule", "code"),
    [
        ("healthy", "10 hold", 3),
        ("healthy", "1 identity", 3),
        ("healthy", "13 sources", 7),
        ("unmeasured", "13 sources", 7),
        ("inconclusive", "", 7),
    ],
)
def test_a_step_of_a_ramp_that_is_not_made(verdict: str, rule: str, code: int) -> None:
    """The same rule has the same code; what was not seen well enough is unmeasured."""
    assert code_of(verdict, "hold", rule) == code


def test_what_no_rule_holds_names_none(tmp_path: Path, quick_path: Path) -> None:
    """A person has to decide all the same: the ways out are told, and no rule that there is not."""
    shell = make_shell(tmp_path)
    tools = Story(quick_path / "journal.sqlite").tools()
    session = Session(shell, tools, StopRequest(lambda: None), Live(shell.output, "guard", stream=True))
    held = ConcludeResult(
        action=ConcludeAction.HOLD, why="answers differ", options=("accept it: `backout guard accept`",)
    )
    with pytest.raises(Refused) as refused:
        refuse(session, held, {"verdict": "inconclusive"})
    assert (refused.value.rule, refused.value.options) == (None, held.options)


def test_the_codes_are_documented() -> None:
    """The table of exit codes says which rules end with 3 and with 7."""
    rows = dict(re.findall(r"^\| (\d+) \| (.*?) \|", PAGE.read_text("utf-8"), re.MULTILINE))
    for rule, code in permission.HELD_CODES.items():
        if rule != permission.OBSERVE:
            assert f"rule {rule.split()[0]}" in rows[str(code)], rule
    assert "mode `observe`" in rows["1"]
