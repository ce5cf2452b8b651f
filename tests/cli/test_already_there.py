"""A rollback that is typed again after it succeeded is the same rollback: it says so, and ends as that one did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cli_shell import Stream, make_shell
from values import replace

from backout.cli.guard.live import Live
from backout.cli.rollback import _make_plan as planned
from backout.cli.rollback import _say_already_live as already
from backout.cli.support.session import Session
from backout.errors import Refused
from backout.journal.stop import StopRequest
from backout.model.guard.policy import Mode
from backout.model.plan import Plan
from backout.model.version import Mark, VersionId, VersionMark
from backout.plan.rollback import Request

from line import Story, by_version, watch

if TYPE_CHECKING:
    from pathlib import Path


def test_a_target_that_is_live_already_is_the_same_rollback(tmp_path: Path, quick_path: Path) -> None:
    """Typed again after its end: no refusal, and how the run ended; also where the code was uploaded again."""
    story = Story(quick_path / "journal.sqlite")
    shell = make_shell(tmp_path)
    session = Session(shell, story.tools(), StopRequest(lambda: None), Live(shell.output, "rollback", stream=False))
    request = Request(message="it fails", target=story.good.id)
    plan = planned(session, request, story.good.id[:8], with_database=False)
    assert isinstance(plan, Plan)
    run = session.drive(session.submit(plan, "it fails"))
    again = planned(session, request, story.good.id[:8], with_database=False)
    assert not isinstance(again, Plan)
    assert already(session, again, dry_run=False) == 0
    out = session.shell.output.stdout
    assert isinstance(out, Stream)
    assert f"nothing to do: version {story.good.id} is live at 100 %" in out.getvalue()
    assert f"by run {run.id}" in out.getvalue()
    with pytest.raises(Refused):
        planned(session, replace(request, target=story.bad.id), story.bad.id, with_database=False)


def session_of(tmp_path: Path, story: Story) -> Session:
    shell = make_shell(tmp_path)
    return Session(shell, story.tools(), StopRequest(lambda: None), Live(shell.output, "rollback", stream=False))


def oldest_proven(story: Story) -> str:
    """Return a proven version before the good one, so that there is one further back."""
    world = story.world
    older, good = world.upload("older"), story.good
    world.deploy(older)
    for version in (older, good):
        mark = VersionMark(Mark.STABLE, VersionId(version.id), None, world.clock.now(), "guard-x", "healthy")
        story.tools().marks.mark("production", mark, actor="ops@host")
        world.clock.sleep(1)
    for version in (good, story.bad):
        world.deploy(version)
        world.clock.sleep(2)
    return older.id


def test_without_a_target_it_does_not_go_one_further_back(tmp_path: Path, quick_path: Path) -> None:
    """The same command, twice: the second one says where it is and what goes further; an hour later it is a new one."""
    story = Story(quick_path / "journal.sqlite")
    older = oldest_proven(story)
    session, request = session_of(tmp_path, story), Request(message="it fails")
    plan = planned(session, request, None, with_database=False)
    assert isinstance(plan, Plan)
    assert plan.step("activate").args["version"] == story.good.id
    run = session.drive(session.submit(plan, "it fails"))
    again = planned(session, request, None, with_database=False)
    assert not isinstance(again, Plan)
    assert already(session, again, dry_run=False) == 0
    out, err = session.shell.output.stdout, session.shell.output.stderr
    assert isinstance(out, Stream)
    assert isinstance(err, Stream)
    assert f"nothing to do: version {story.good.id} is live at 100 %" in out.getvalue()
    assert f"by run {run.id}" in out.getvalue()
    assert f"backout rollback {older} -e production -m WHY  # one further back" in err.getvalue()
    story.world.clock.sleep(3600)
    assert isinstance(planned(session, request, None, with_database=False), Plan)


def test_what_a_watch_found_bad_since_is_left_without_a_target(tmp_path: Path, quick_path: Path) -> None:
    """A rollback went to it, and it is bad as well: the same words mean the next one, at once."""
    story = Story(quick_path / "journal.sqlite")
    older = oldest_proven(story)
    session, request = session_of(tmp_path, story), Request(message="it fails")
    plan = planned(session, request, None, with_database=False)
    assert isinstance(plan, Plan)
    session.drive(session.submit(plan, "it fails"))
    story.world.traffic_rule = by_version(story.good.id)
    story.world.clock.sleep(2)
    watch(story.tools(), mode=Mode.OBSERVE)
    further = planned(session, request, None, with_database=False)
    assert isinstance(further, Plan)
    assert further.step("activate").args["version"] == older
