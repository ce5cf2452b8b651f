"""A message that only reads like a mark is a message: it disarms no guard, frees nothing, accuses nobody (rule 15)."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ramped import Ramped
from source_trees import nodes_of
from values import replace

import backout
from backout.analysis.history.stability import find_quarantine, find_stable_mark
from backout.model.plan import PlanKind
from backout.providers.memory import World
from backout.runbook.guard.follow import wait_for_unwatched
from backout.runbook.guard.watch_gap import measure_watch_gap_s
from backout.runbook.incident.status import read_status
from backout.runbook.observe import observe
from backout.runbook.safety.hold import find_active_hold

from line import Story, by_version, toolbox, watch

if TYPE_CHECKING:
    from backout.model.version import Version
    from backout.runbook.toolbox import Toolbox

SOURCE = Path(backout.__file__).parent
GOOD, LEFT = "GOOD", "LEFT"
"""In a message: the first digits of the proven version, and of the one that was live before this deployment."""
FORGED = (
    "[backout rollback-1a2b3c4d auto bad=GOOD//] bump",
    "[backout rollback-1a2b3c4d auto bad=LEFT//] bump",
    "[backout rollback-1a2b3c4d auto hop=2 bad=LEFT/0123456789ab/abcdef1] bump",
    "[backout rollback-1a2b3c4d auto] bump",
    "[backout x auto] bump",
    "[backout hold until=2099-01-01T00:00:00Z] chore",
    "[backout hold until=2027-01-15T12:00:00Z] chore",
    "[backout guard-1a2b3c4d stable=NEW//] chore",
    "[backout release ok=NEW//] chore",
    "[backout ramp-1a2b3c4d ramp] to 100 %",
    "[backout r ramp] to 100 %",
    "[backout secrets-1a2b3c4d secrets] set again",
    "[backout recover-1a2b3c4d maintenance] chore",
    "[backout rollback-1a2b3c4d prove] at 0 %",
    # nearly: other spaces, case, letters that look alike, control characters, not in front, several
    " [backout hold until=2099-01-01T00:00:00Z] chore",
    "[BACKOUT hold until=2099-01-01T00:00:00Z] chore",
    "[backout\u00a0hold\u00a0until=2099-01-01T00:00:00Z] chore",
    "[backout  hold  until=2099-01-01T00:00:00Z] chore",
    "[backout\thold\tuntil=2099-01-01T00:00:00Z] chore",
    "[b\u0430ckout hold until=2099-01-01T00:00:00Z] chore",
    "\u200b[backout hold until=2099-01-01T00:00:00Z] chore",
    "[backout hold until=2099-01-01T00:00:00\u017b] chore",
    "fix: [backout hold until=2099-01-01T00:00:00Z] chore",
    "[backout hold until=0] [backout hold until=2099-01-01T00:00:00Z] chore",
    "[backout rollback-1a2b3c4d auto bad=LEFT//] [backout hold until=2099-01-01T00:00:00Z]\n[backout x prove]",
    "[backout rollback-1a2b3c4d auto\x00bad=LEFT//] bump",
)


def forged(story: Story, text: str, name: str = "worse") -> tuple[Version, str]:
    """Let a pipeline deploy a new, failing version whose commit has that subject; return it and the whole message."""
    world = story.world
    left = world.live.main
    made = world.upload(name)
    told = text.replace(GOOD, story.good.id[:8]).replace(LEFT, left[:8]).replace("NEW", made.id[:8])
    world.traffic_rule = by_version(made.id)
    world.deploy(made, message=told)
    world.clock.sleep(2)
    return made, told


def elsewhere(story: Story) -> Toolbox:
    """Return the tools of a machine with an empty journal."""
    return toolbox(story.world, story.path.parent / "elsewhere" / "journal.sqlite", policy=story.policy)


class StillWaiting(Exception):
    """Who follows has looked often enough."""


def is_taken_up(story: Story, tools: Toolbox | None = None) -> bool:
    """Whether a guard that follows (else with an empty journal) takes what is live for a deployment to be watched."""
    looks = iter(range(10))

    def count(_name: str) -> None:
        if next(looks, None) is None:
            raise StillWaiting

    story.world.before_call = count
    try:
        wait_for_unwatched(tools or elsewhere(story))
    except StillWaiting:
        return False
    finally:
        story.world.before_call = None
    return True


@pytest.fixture
def story(quick_path: Path) -> Story:
    """A World whose proven version is live; nothing bad was deployed yet."""
    found = Story(quick_path / "journal.sqlite")
    found.world.all_deployments.pop()  # the story's own bad one
    return found


@pytest.mark.parametrize("text", FORGED)
def test_an_armed_guard_rolls_back_whatever_the_commit_says(story: Story, text: str) -> None:
    """On a machine with an empty journal: the new version fails, and the proven one is live again."""
    made, _ = forged(story, text)
    tools = elsewhere(story)
    run = watch(tools)
    assert run.plan.kind is PlanKind.ROLLBACK, tools.runs.result(run.id, "conclude")
    assert story.world.live.sole == story.good.id
    assert find_quarantine(observe(elsewhere(story)), made.id, made.code_hash) is not None


@pytest.mark.parametrize("text", FORGED)
def test_an_ordinary_deployment_is_no_mark(story: Story, text: str) -> None:
    """It is in the history, nobody holds, nothing is stable or quarantined by it, and somebody has to watch it."""
    made, told = forged(story, text)
    story.world.clock.sleep(130)
    tools = elsewhere(story)
    situation = observe(tools)
    assert situation.live.sole == made.id
    assert situation.live.message == told
    assert find_stable_mark(situation, made.id) is None
    assert find_stable_mark(situation, story.good.id) is not None
    assert find_quarantine(situation, story.good.id, story.good.code_hash) is None
    assert find_active_hold(tools, situation.listed) is None
    assert read_status(tools).elsewhere is None
    assert measure_watch_gap_s(situation, (), story.policy.criteria.watch_s * 10) is not None
    assert is_taken_up(story)


def test_a_forged_release_frees_nothing(quick_path: Path) -> None:
    """Quarantined code stays quarantined, whoever deploys it again with whatever subject."""
    story = Story(quick_path / "journal.sqlite")
    watch(story.tools())
    assert story.world.live.sole == story.good.id
    again = story.world.upload("again", code="bad")
    told = f"{again.id[:8]}/{(again.code_hash or '')[:12]}/"
    story.world.deploy(again, message=f"[backout release ok={told}] mended")
    assert find_quarantine(observe(elsewhere(story)), again.id, again.code_hash) is not None


def test_a_canary_that_is_promoted_is_no_rollback(story: Story) -> None:
    """It had traffic before, and still less than the version that its message calls bad."""
    world, new = story.world, story.world.upload("worse")
    text = f"[backout rollback-1a2b3c4d auto bad={story.good.id[:8]}//] bump"
    world.deploy((story.good.id, 90.0), (new.id, 10.0), message=text)
    world.deploy(new, message=text)
    situation = observe(elsewhere(story))
    assert find_quarantine(situation, story.good.id, story.good.code_hash) is None
    assert read_status(elsewhere(story)).elsewhere is None


def test_a_preview_that_is_promoted_is_no_rollback(quick_path: Path) -> None:
    """It was uploaded before the version that its message calls bad, and never had any traffic."""
    world = World()
    preview, live = world.upload("preview"), world.upload("live")
    world.deploy(live)
    world.deploy(preview, message=f"[backout rollback-1a2b3c4d auto bad={live.id[:8]}//] bump")
    situation = observe(toolbox(world, quick_path / "journal.sqlite"))
    assert find_quarantine(situation, live.id, live.code_hash) is None
    assert read_status(toolbox(world, quick_path / "journal.sqlite")).elsewhere is None


def test_a_ramp_that_a_pipeline_moves_up_is_watched(story: Story) -> None:
    """A step up that no run of this journal made is a deployment like any other."""
    world, new = story.world, story.world.upload("worse")
    world.deploy((story.good.id, 90.0), (new.id, 10.0))
    world.deploy(new, message="[backout ramp-1a2b3c4d ramp] to 100 %")
    assert is_taken_up(story)


def test_a_copy_of_a_step_of_ours_is_watched(quick_path: Path) -> None:
    """The run is known here, and made another deployment: whoever copied its message, to the letter, made this one."""
    story = Ramped(quick_path / "journal.sqlite")
    watch(story.tools())
    copied = story.world.activations[-1].message
    assert copied.startswith("[backout ramp-")
    worse = story.world.upload("worse")
    for shares in (((story.canary.id, 90.0), (worse.id, 10.0)), ((worse.id, 100.0),)):
        story.world.deploy(*shares, message=copied)
        story.world.clock.sleep(2)
        assert is_taken_up(story, story.tools())


def test_nobody_elses_upload_is_taken_for_our_own(story: Story) -> None:
    """A version whose message has a run's marker is that run's upload only when it is the very code."""
    from backout.runbook.rollback.reupload import upload_again  # noqa: PLC0415 one test needs it

    tools = story.tools()
    evil = story.world.upload("evil", message=f"[backout rollback-1a2b3c4d carry] {story.good.id}")
    made = upload_again(tools, "rollback-1a2b3c4d", story.good.id)
    assert made.id != evil.id
    assert made.code_hash == story.good.code_hash
    assert upload_again(replace(tools), "rollback-1a2b3c4d", story.good.id).id == made.id


def imports_of(module: str, name: str) -> set[str]:
    """Return the modules of the program that import a name from another one."""
    found = set()
    texts = {path: path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")}
    for path, text in texts.items():
        for node in nodes_of(path) if module in text else ():
            if isinstance(node, ast.ImportFrom) and node.module == module and name in {n.name for n in node.names}:
                found.add(str(path.relative_to(SOURCE)))
    return found


def test_a_message_becomes_a_remark_in_one_place() -> None:
    """The text is read by `analysis.marks` alone, and a procedure gets a history through it alone."""
    assert imports_of("backout.analysis.history.remark_text", "parse") == {"analysis/history/marks.py"}
    apart = {"analysis/certify/traces.py"}  # what was live in staging before a trial; without a seal more is in doubt
    assert (
        imports_of("backout.analysis.history.marks", "read_marks") == {"runbook/safety/marked_deployments.py"} | apart
    )
    beneath = {"wiring/boundary.py"}  # puts a boundary beneath who reads them
    assert (
        imports_of("backout.runbook.safety.marked_deployments", "MarkedDeployments") == {"runbook/toolbox.py"} | beneath
    )


def test_no_toolbox_has_an_unread_history(story: Story) -> None:
    """However tools are made or changed, what they list says what it is."""
    world, raw = story.world, story.world.deployments
    world.deploy(story.good, message="[backout hold until=0] lifted")
    for tools in (story.tools(), replace(story.tools(), deployments=raw), replace(elsewhere(story), actor="other")):
        assert tools.deployments.history()[0].remark is not None
    assert raw.history()[0].remark is None
