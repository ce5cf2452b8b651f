"""A maintenance version is never stable, never a target, never watched, and in no statistic."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from source_trees import nodes_of
from values import replace

import backout
from backout.analysis.history.stability import find_quarantine, find_stable_mark, list_candidates
from backout.errors import Refused
from backout.model.plan import Plan
from backout.model.remark import Code, Remark, RemarkKind
from backout.model.version import Mark, VersionMark
from backout.plan.rollback import Request
from backout.runbook.guard import guard
from backout.runbook.guard.next_deployment import find_newest_known
from backout.runbook.guard.watch_gap import measure_watch_gap_s
from backout.runbook.hindsight.dora import read_history
from backout.runbook.hindsight.track_record import read_past
from backout.runbook.observe import observe, observe_application
from backout.runbook.rollback.rollback import prepare

from line import Story, toolbox, watch

if TYPE_CHECKING:
    from backout.model.deployment import Deployment
    from backout.runbook.toolbox import Toolbox

SOURCE = Path(backout.__file__).parent


@pytest.fixture
def story(quick_path: Path) -> Story:
    """A World whose proven version is live; the bad one was taken back by hand."""
    found = Story(quick_path / "journal.sqlite")
    found.world.deploy(found.good)
    found.world.clock.sleep(600)
    return found


def show(story: Story, run: str = "recover-1a2b3c4d") -> Deployment:
    """Show a maintenance version, as a recovery does."""
    shown = story.world.maintenance.show(str(Remark(RemarkKind.MAINTENANCE, run, text="back to 14:03")))
    story.world.clock.sleep(300)
    return shown


def elsewhere(story: Story) -> Toolbox:
    """Return the tools of a machine with an empty journal."""
    return toolbox(story.world, story.path.parent / "elsewhere" / "journal.sqlite", policy=story.policy)


def test_it_is_never_a_target(story: Story) -> None:
    """Not even where a person names it, accepts what is unproven, or it was marked stable."""
    shown = show(story)
    story.world.deploy(story.bad)
    story.world.clock.sleep(2)
    tools = story.tools()
    mark = VersionMark(Mark.STABLE, shown.main, "code-maintenance", story.world.clock.now(), "guard-1a2b3c4d", "forged")
    tools.marks.mark("production", mark, actor="ops@host")
    situation = observe(tools)
    assert find_stable_mark(situation, shown.main) is None
    ranked = list_candidates(situation, leaving=story.bad.id, accept_unproven=True)
    assert [(each.eligible, each.rule.number) for each in ranked if each.version == shown.main] == [(False, 5)]
    _, refused = prepare(tools, Request(message="back", target=shown.main, accept_unproven=True))
    assert not isinstance(refused, Plan)
    assert "maintenance version" in refused.reason
    _, plan = prepare(tools, Request(message="back"))
    assert isinstance(plan, Plan), plan


def test_nobody_watches_it_and_nobody_misses_a_watch(story: Story) -> None:
    """A guard that follows waits on; one that is typed is refused, with the reason."""
    before = story.world.live.id
    show(story)
    for tools in (story.tools(), elsewhere(story)):
        assert find_newest_known(tools, None) == before
        situation = observe(tools)
        assert situation.live.is_maintenance
        assert measure_watch_gap_s(situation, (), 3600.0) is None
    with pytest.raises(Refused, match="maintenance version"):
        watch(story.tools())


def test_after_it_a_watch_compares_with_the_application(story: Story) -> None:
    """With the version before it, not with what answered 503; nor does a deployment of it count."""
    show(story)
    fixed = story.world.upload("fixed")
    story.world.deploy(fixed)
    story.world.clock.sleep(2)
    tools = story.tools()
    situation = observe_application(tools)
    assert [each.main for each in situation.history[:2]] == [fixed.id, story.good.id]
    assert isinstance(guard.plan(tools, mode=story.policy.guard.mode, for_s=25.0), Plan)
    past, _ = read_past(tools, ())
    assert not [each for each in past.deployments if each.is_maintenance]
    counted, _ = read_history(tools, 0.0, lambda _sha: None)
    assert {each.version for each in counted.reached} <= {story.good.id, story.bad.id, fixed.id}


def test_its_requests_are_in_no_count(story: Story) -> None:
    """Once it was seen: the baseline of the next watch is the application's."""
    since = int(story.world.clock.now())
    shown = show(story)
    story.world.deploy(story.good)
    story.world.clock.sleep(60)
    for tools in (story.tools(), replace(elsewhere(story), actor="other")):
        observe(tools)
        assert tools.traffic is not None
        rows = tools.traffic.read(since, int(story.world.clock.now())).counts
        assert {row.version for row in rows} == {story.good.id}
    unfiltered = story.world.traffic.read(since, int(story.world.clock.now())).counts
    assert shown.main in {row.version for row in unfiltered}


def test_a_rollback_over_it_is_a_rollback(story: Story) -> None:
    """The version that was left for it is the one that the mark speaks of, on any machine."""
    story.world.deploy(story.bad)
    show(story)
    remark = Remark(RemarkKind.ROLLBACK, "recover-1a2b3c4d", code=Code.of(story.bad), text="everything back")
    story.world.deploy(story.good, message=str(remark))
    situation = observe(elsewhere(story))
    assert situation.live.remark is not None
    assert find_quarantine(situation, story.bad.id, story.bad.code_hash) is not None


def test_a_message_alone_makes_no_maintenance(story: Story) -> None:
    """The tag of the version does, in which no pipeline puts the subject of a commit."""
    made = story.world.upload("worse")
    story.world.deploy(made, message="[backout recover-1a2b3c4d maintenance] chore")
    situation = observe(elsewhere(story))
    assert not situation.live.is_maintenance
    assert situation.live.remark is None


READS = {
    "cli/audit_witnesses.py": "what messages say of the journal; those of maintenance pages say nothing",
    "cli/demo.py": "what is live, read back",
    "cli/guard/guard.py": "what is live, to say what a watch would be of",
    "cli/release/list.py": "what is live, by share",
    "cli/timeline.py": "the timeline shows it: it was live",
    "runbook/guard/accept.py": "what is live, to say of which version a shift is",
    "runbook/guard/conclude.py": "whether the watched deployment is still live",
    "runbook/guard/deployment_watcher.py": "left out",
    "runbook/guard/guard.py": "whether the watched deployment is still live",
    "runbook/guard/next_deployment.py": "left out",
    "runbook/guard/questioned_marks.py": "marks of proven versions, of which it is none",
    "runbook/guard/wanted_version.py": "whether a version has traffic",
    "runbook/hindsight/dora.py": "its deployments are those of `read_past`, where it is left out",
    "runbook/hindsight/forecast.py": "what is live, for a title; the counts leave it out",
    "runbook/hindsight/track_record.py": "left out",
    "runbook/incident/checkup_questions.py": "whether the platform answers, and whether a hold stands",
    "runbook/incident/tell.py": "what is live, read back",
    "runbook/conformance.py": "made live again as whatever is live: it asks only who is live",
    "runbook/observe.py": "kept: it is live; `observe_application` leaves it out, candidates refuse it",
    "runbook/probing/monitor.py": "shown as what it is, and watched as what is live",
    "runbook/probing/pairs.py": "a mark of this run",
    "runbook/probing/pre_promotion.py": "whether the planned deployment is still live",
    "runbook/probing/verify.py": "who followed",
    "runbook/recovery/points.py": "noted, and then missing: no point of it is complete",
    "runbook/recover/lift.py": "its own, which it takes away",
    "runbook/recover/opening.py": "its own, which it takes away",
    "runbook/recover/prepare.py": "what is live before it is shown",
    "runbook/recover/undo.py": "its own, which it takes away",
    "runbook/release.py": "what is live and marked, so that it is not removed; hosts have no maintenance version",
    "runbook/rollback/already.py": "whether what is live beneath it is what that rollback chose",
    "runbook/rollback/jobs.py": "what is live, whose job workers are to run",
    "runbook/rollback/next_target.py": "one version, by its id",
    "runbook/rollback/panic.py": "whether a run of ours has switched",
    "runbook/rollback/remarks.py": "what is live, to write a mark on it",
    "runbook/rollback/reupload.py": "an upload of this run, by its message",
    "runbook/rollback/roll_forward.py": "what is new and live after a deployment",
    "runbook/safety/announce.py": "holds that are written at the provider",
    "runbook/safety/checks.py": "whether the world moved",
    "runbook/safety/clock.py": "the clock",
    "runbook/safety/maintained.py": "notes it",
    "runbook/safety/marked_deployments.py": "marks it",
    "runbook/secrets/push.py": "what is live, to set secrets on it",
    "runbook/secrets/secrets.py": "what is live, to set secrets on it",
    "wiring/checkup/__init__.py": "when something was deployed last",
    "wiring/drills/deployment.py": "a drill's own application, which has none",
    "wiring/drills/ground.py": "a drill's own application, which has none",
    "wiring/drills/homes.py": "a drill's own application, which has none",
    "wiring/drills/night.py": "a drill's own application, which has none",
    "wiring/drills/post_mortems.py": "a drill's own application, which has none",
    "wiring/certify/staging.py": "put back as whatever was live in staging",
    "wiring/drills/rehearsal.py": "a drill's own application, or what is live in staging before and after",
    "wiring/drills/targets.py": "a drill's own application, which has none",
    "wiring/drills/trial.py": "a drill's own application, which has none",
}
"""Every module that reads the provider's deployments or versions, and what becomes of a maintenance version there."""


def test_every_reader_of_the_history_has_decided_what_becomes_of_it() -> None:
    """A new one is not forgotten: say above what it does with a maintenance version."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        name = str(path.relative_to(SOURCE))
        if name.startswith(("providers/", "twin/", "ports/", "analysis/")):
            continue
        for node in nodes_of(path):
            reads = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if reads and ast.unparse(node.func).endswith(("deployments.history", "versions.recent", "raw.history")):
                found.add(name)
    assert found <= READS.keys(), found - READS.keys()
    assert READS.keys() - found <= {"runbook/safety/maintained.py"}, READS.keys() - found
