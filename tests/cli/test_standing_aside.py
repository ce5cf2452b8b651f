"""What a person types goes before a watch: it ends, and that is recorded; nothing else gives way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cli_shell import Stream, make_shell
from values import replace

from backout.cli.guard.live import Live
from backout.cli.panic import _go_back as go_back
from backout.cli.rollback import _check_same as check_same
from backout.cli.support.by_hand import ByHand
from backout.cli.support.session import Session
from backout.errors import Busy, DecisionNeeded, Paused, Refused, UsageError
from backout.journal.stop import StopRequest
from backout.model.approval import ApprovalRule, Approver, Change
from backout.model.guard.policy import Mode
from backout.model.incident.incident import RunState
from backout.model.incident.notice import NoticeKind
from backout.model.plan import Plan, PlanKind
from backout.plan.rollback import Request
from backout.runbook.guard.next_deployment import end_outdated_plan
from backout.runbook.rollback.rollback import prepare

from line import Story, watch

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.incident.incident import Run


class Crash(BaseException):
    """The process is gone."""


@pytest.fixture
def story(quick_path: Path) -> Story:
    """A World in which the bad version was just deployed."""
    return Story(quick_path / "journal.sqlite")


def dies(story: Story, mode: Mode, call: str) -> None:
    """Have guard die in the middle."""

    def die(name: str) -> None:
        if name == call:
            raise Crash

    story.world.before_call = die
    with pytest.raises(Crash):
        watch(story.tools(), mode=mode)
    story.world.before_call = None


def session_of(story: Story, folder: Path) -> tuple[Session, Stream]:
    """Return the workbench of a command, and what it says."""
    shell = make_shell(folder)
    said = shell.output.stderr
    assert isinstance(said, Stream)
    return Session(shell, story.tools(), StopRequest(lambda: None), Live(shell.output, "rollback", stream=False)), said


def runs(story: Story) -> tuple[Run, ...]:
    return story.tools().runs.runs("production")


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.ACT])
def test_an_interrupted_watch_ends_when_a_person_goes_back(story: Story, tmp_path: Path, mode: Mode) -> None:
    """Nothing is said before a person has confirmed it; then it ends, and why stands in its record."""
    dies(story, mode, "health.look")
    session, said = session_of(story, tmp_path)
    assert session.in_the_way() is None
    kept = runs(story)[0]
    assert (kept.plan.kind, kept.state) == (PlanKind.GUARD, RunState.INTERRUPTED)
    assert said.getvalue() == ""
    _, plan = prepare(session.tools, Request(message="it fails"))
    assert isinstance(plan, Plan)
    ended = session.drive(session.take_over(plan, "it fails"))
    assert (ended.state, story.world.live.sole) == (RunState.DONE, story.good.id)
    assert [run.state for run in runs(story)[:2]] == [RunState.DONE, RunState.ABORTED]
    (asked,) = story.tools().journal.events(run=kept.id, kind="run.asked")
    assert (asked.data["what"], asked.data["reason"]) == ("abort", "gave way to a person's rollback: it fails")
    assert asked.actor == "ops@host"
    watched = f"{kept.id} (watch the deployment of version {story.bad.id})"
    assert f"{watched} was interrupted: this rollback ends it\n{kept.id} is ended\n" in said.getvalue()


def test_a_rollback_that_guard_began_does_not_give_way(story: Story, tmp_path: Path) -> None:
    """It may have switched: it is picked up or given up, never passed over."""
    dies(story, Mode.ACT, "deployments.activate")
    session, _ = session_of(story, tmp_path)
    keeper = session.in_the_way()
    assert keeper is not None
    assert (keeper.plan.kind, keeper.state) == (PlanKind.ROLLBACK, RunState.INTERRUPTED)
    _, plan = prepare(session.tools, Request(message="it fails", target=story.good.id, accept_unproven=True))
    assert isinstance(plan, Plan)
    with pytest.raises(Busy, match=f"is kept by run {keeper.id}"):
        session.take_over(plan, "it fails")
    assert runs(story)[0].state is RunState.INTERRUPTED


def test_the_same_target_is_the_same_run(story: Story, tmp_path: Path) -> None:
    """By its id, a prefix or its number; no TARGET is any; another one is told which run is in the way."""
    dies(story, Mode.ACT, "deployments.activate")
    session, _ = session_of(story, tmp_path)
    run = runs(story)[0]
    for target in (None, story.good.id, story.good.id[:8], f"v{story.good.number}"):
        check_same(session, run, target, with_database=False)
    with pytest.raises(Busy, match=f"'{story.bad.id[:8]}' is version {story.bad.id}") as found:
        check_same(session, run, story.bad.id[:8], with_database=False)
    assert f"backout runs resume {run.id}" in str(found.value.hint)
    with pytest.raises(UsageError):
        check_same(session, run, "nonsense", with_database=False)


def test_who_nobody_can_tell_is_no_tick(story: Story, tmp_path: Path) -> None:
    """Without a channel the last step of a rollback says that nobody was told."""
    session, said = session_of(story, tmp_path)
    session = replace(session, tools=replace(session.tools, notifier=None))
    _, plan = prepare(session.tools, Request(message="it fails"))
    assert isinstance(plan, Plan)
    session.drive(session.submit(plan, "it fails"))
    assert "no notice was sent: no channel is set up in [notify]" in said.getvalue()
    assert "send the notices" not in said.getvalue()


def test_one_with_the_database_is_another_run(story: Story, tmp_path: Path) -> None:
    """Who types --with-database does not get a rollback of the code alone."""
    dies(story, Mode.ACT, "deployments.activate")
    session, _ = session_of(story, tmp_path)
    with pytest.raises(Busy, match="it leaves the database alone"):
        check_same(session, runs(story)[0], None, with_database=True)


def waits(story: Story, folder: Path) -> Session:
    """Return the workbench of a command after a rollback began to wait for its approval."""
    story.approvals = {"approvals": ApprovalRule((Change.ROLLBACK,))}
    session, _ = session_of(story, folder)
    _, plan = prepare(session.tools, Request(message="it fails"))
    assert isinstance(plan, Plan)
    with pytest.raises(DecisionNeeded):
        session.drive(session.take_over(plan, "it fails"))
    assert runs(story)[0].state is RunState.WAITING
    (told,) = story.world.notices
    assert told.kind is NoticeKind.HELD
    return session


def test_what_waits_for_an_approval_gives_way_to_another_plan_and_is_kept_for_the_same(
    story: Story, tmp_path: Path
) -> None:
    """It has changed nothing. Typed again it is the same run, so that whoever approves it finds it."""
    session = waits(story, tmp_path)
    waiting = runs(story)[0]
    assert session.in_the_way() is None
    assert session.take_over(waiting.plan, "it fails") == waiting.id
    _, other = prepare(session.tools, Request(message="another reason"))
    assert isinstance(other, Plan)
    assert session.take_over(other, "another reason") != waiting.id
    assert [run.state for run in runs(story)[:2]] == [RunState.INTERRUPTED, RunState.ABORTED]


def test_what_waits_for_an_approval_gives_way_to_panic(story: Story, tmp_path: Path) -> None:
    """In the worst minute nobody is waited for: its own plan breaks the glass, and everybody is told."""
    session = waits(story, tmp_path)
    session.shell.notifier = session.tools.notifier  # as `Shell.toolbox` does
    go_back(session, ByHand(session.shell), "checkout is down")
    ended, waited = runs(story)[:2]
    assert (ended.state, waited.state) == (RunState.DONE, RunState.ABORTED)
    assert ended.glass is not None
    assert ended.glass.why == "checkout is down"
    assert story.world.live.sole == story.good.id
    assert NoticeKind.BROKE_GLASS in [notice.kind for notice in story.world.notices]


def test_what_waits_for_an_approval_ends_when_guard_watches_something_newer(story: Story, tmp_path: Path) -> None:
    """A plan for what is live keeps its environment; one for what is gone would leave the newer one unwatched."""
    waits(story, tmp_path)
    waiting = runs(story)[0]
    kept = end_outdated_plan(story.tools(), waiting)
    assert kept is not None
    assert kept.id == waiting.id
    story.world.clock.sleep(5)
    story.world.deploy(story.world.upload("newer"))
    story.world.clock.sleep(5)
    assert end_outdated_plan(story.tools(), waiting) is None
    assert runs(story)[0].state is RunState.ABORTED


def test_a_paused_run_is_in_the_way_and_says_of_whom(story: Story, tmp_path: Path) -> None:
    """Of a rollback; only a resume or an abort moves it."""
    session, _ = session_of(story, tmp_path)
    _, plan = prepare(session.tools, Request(message="it fails"))
    assert isinstance(plan, Plan)
    run = session.take_over(plan, "it fails")
    session.tools.runs.ask(run, "pause", actor="ada@host", reason="let me look")
    unfinished = session.in_the_way()
    assert unfinished is not None
    with pytest.raises(Busy, match="it was paused by ada@host: let me look") as busy:
        check_same(session, unfinished, None, with_database=False)
    assert f"backout runs resume {run}" in str(busy.value.hint)
    with pytest.raises(Paused):
        session.drive(run)
    assert not story.world.activations


def test_no_watch_is_ended_for_a_plan_that_nobody_could_approve(story: Story, tmp_path: Path) -> None:
    """A second person is asked for, and the journal is a file: the watch stays, unless the glass is broken."""
    dies(story, Mode.ACT, "health.look")
    story.approvals = {"approvals": ApprovalRule((Change.ROLLBACK,), Approver.SECOND_PERSON)}
    session, _ = session_of(story, tmp_path)
    _, plan = prepare(session.tools, Request(message="it fails"))
    assert isinstance(plan, Plan)
    with pytest.raises(Refused, match="not provable"):
        session.take_over(plan, "it fails")
    assert runs(story)[0].plan.kind is PlanKind.GUARD
    assert runs(story)[0].state is RunState.INTERRUPTED
    session.shell.take(glass="it burns")
    session.shell.notifier = session.tools.notifier
    assert session.drive(session.take_over(plan, "it fails")).state is RunState.DONE
    assert story.world.live.sole == story.good.id
