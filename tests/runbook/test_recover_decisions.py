"""A recovery that waits for its approval has closed nothing; one that is paused keeps closed what it has closed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from journal_engines import on_both
from recovery_story import ASK, Night, check_closed, check_recovered, recover

from backout.errors import DecisionNeeded, Paused
from backout.model.approval import ApprovalRule, Change, list_changes
from backout.model.incident.incident import RunState
from backout.model.objects.versions import Moment
from backout.model.steps.recovery import FenceStep
from backout.plan.objects import plan_restore
from backout.runbook.recover.actions import RecoverActions
from backout.runbook.recover.deadline import read_outage
from backout.runbook.recover.prepare import prepare

from extent import sampled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.model.incident.incident import Event, Run
    from backout.runbook.recover.tools import RecoverTools

    from conftest import Record

STRICT = {"approvals": ApprovalRule((Change.RECOVER,))}


class Crash(BaseException):
    """The process dies here: nothing of ours may catch it."""


class CrashAt:
    """Counts moments, and dies at one of them."""

    def __init__(self, moment: int | None = None) -> None:
        self.seen = 0
        self._moment = moment

    def __call__(self, name: str) -> None:
        self.seen += 1
        if self.seen - 1 == self._moment:
            raise Crash(name)


def newest(tools: RecoverTools) -> Run:
    return tools.tools.runs.runs("production")[0]


def ask(tools: RecoverTools, what: str) -> None:
    tools.tools.runs.ask(newest(tools).id, what, actor="boss@host", reason="I looked")


def approve_and_recover(tools: RecoverTools) -> Run:
    """Recover; a person approves the plan when it waits for that."""
    try:
        return recover(tools)
    except DecisionNeeded:
        ask(tools, "approve")
        return recover(tools)


def pause_and_recover(tools: RecoverTools) -> Run:
    """Recover; a person pauses it right behind its fence, and has it go on."""

    def interfere(event: Event) -> None:
        plan = newest(tools).plan
        if event.kind == "step.ok" and event.step == plan.find_place(FenceStep) and not asked(tools, "pause"):
            ask(tools, "pause")

    box, actions = tools.tools, RecoverActions(tools)
    first = box.runs.runs("production")[:1]
    if not first or first[0].state.is_over:
        submit(tools)
    for event in list(box.journal.events(run=newest(tools).id)):  # it died before anybody heard of the fence
        interfere(event)
    try:
        return box.journal.drive(newest(tools).id, actions, actor="ops@host", notify=interfere)
    except Paused:
        ask(tools, "resume")
        return recover(tools)


def submit(tools: RecoverTools) -> None:
    tools.tools.journal.submit(prepare(tools, ASK), actor="ops@host", reason="a bad night")


def asked(tools: RecoverTools, what: str) -> list[Any]:
    events = tools.tools.journal.events(run=newest(tools).id, kind="run.asked")
    return [event for event in events if event.data["what"] == what]


def test_one_that_waits_for_its_approval_has_closed_nothing(quick_path: Path) -> None:
    """No page, no fence, no side instance; approved, it goes on as any other."""
    night = Night(quick_path, approvals=STRICT)
    tools = night.tools()
    with pytest.raises(DecisionNeeded):
        recover(tools)
    assert newest(tools).state is RunState.WAITING
    assert newest(tools).steps_done == 0
    assert night.server.write()
    assert read_outage(tools.tools, shows_page=False) is None
    ask(tools, "approve")
    recover(night.tools())
    check_recovered(night)
    (report,) = night.world.reports.texts.values()
    assert re.search(r"approved until [\d:]+ UTC, by `boss@host` at [\d:]+ UTC: I looked", report)


def test_one_that_goes_on_without_its_approval_says_so_in_its_report(quick_path: Path) -> None:
    """And who it was, and why."""
    night = Night(quick_path, approvals=STRICT)
    submit(night.tools())
    ask(night.tools(), "break-glass")
    recover(night.tools())
    check_recovered(night)
    (report,) = night.world.reports.texts.values()
    assert re.search(r"WITHOUT THE APPROVAL .*by `boss@host` at [\d:]+ UTC: I looked", report)


def test_one_that_is_paused_inside_its_fence_stays_closed(quick_path: Path) -> None:
    """Who closed it, and until when, is known meanwhile; resumed, it opens at its end."""
    night = Night(quick_path)
    tools = night.tools()
    submit(tools)
    fence = newest(tools).plan.find_place(FenceStep)

    def interfere(event: Event) -> None:
        if event.kind == "step.ok" and event.step == fence:
            ask(tools, "pause")

    with pytest.raises(Paused):
        tools.tools.journal.drive(newest(tools).id, RecoverActions(tools), actor="ops@host", notify=interfere)
    assert newest(tools).state is RunState.PAUSED
    assert newest(tools).steps_done == fence + 1
    check_closed(night)
    outage = read_outage(tools.tools, shows_page=True)
    assert outage is not None
    assert (outage.run, outage.fence) == (newest(tools).id, None)
    ask(tools, "resume")
    recover(night.tools())
    check_recovered(night)


@pytest.mark.proof
@pytest.mark.parametrize(("name", "procedure"), [("approved", approve_and_recover), ("paused", pause_and_recover)])
@on_both
def test_crash_at_every_moment_then_again(
    quick_path: Path, name: str, procedure: Callable[[RecoverTools], Run], proof: Record
) -> None:
    """Whatever the moment: decided once, nothing closed before an approval, and the same end."""
    told = STRICT if name == "approved" else None
    (quick_path / "whole").mkdir()
    whole, count = Night(quick_path / "whole", approvals=told), CrashAt()
    whole.watch_application(count)
    procedure(whole.tools(count))
    whole.watch_application()
    chosen = sampled(count.seen, 150, 40)
    for moment in chosen:
        (quick_path / str(moment)).mkdir()
        night, crash = Night(quick_path / str(moment), approvals=told), CrashAt(moment)
        night.watch_application(crash)
        try:
            procedure(night.tools(crash))
        except Crash:
            night.watch_application()
            tools = night.tools()
            known = tools.tools.runs.runs("production")
            if name == "approved" and known and not asked(tools, "approve"):
                assert night.server.write(), moment
            if not known or not known[0].state.is_over:
                procedure(tools)
        night.watch_application()
        check_recovered(night)
        assert len(asked(night.tools(), "approve" if name == "approved" else "pause")) == 1, moment
    proof(
        f"a recovery that is {name} by a person crashed at every moment, then again: decided once, the same end",
        trials=len(chosen),
        failures=0,
        note="tests/runbook/test_recover_decisions.py",
    )


def test_what_a_plan_is_by_the_words_of_the_configuration(quick_path: Path) -> None:
    """A recovery of everything overwrites data, too; a restore of objects is no recovery."""
    night = Night(quick_path)
    tools = night.tools()
    submit(tools)
    assert list_changes(newest(tools).plan) == {Change.RECOVER, Change.RESTORE}
    assert list_changes(plan_restore("production", "models", "", Moment(1.0, 2.0), snapshot=False)) == {Change.RESTORE}
