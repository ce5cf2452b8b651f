"""Approvals in the journal: a plan waits before its first effect, and an approval counts for that plan, for a while."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from journal import toy
from values import replace

from backout.errors import Busy, DecisionNeeded, Refused
from backout.journal.store import Entry
from backout.model.approval import NOT_PROVABLE, OVERWRITES, RECOVERS, ApprovalRule, Approver, Change
from backout.model.incident.incident import RunState
from backout.model.plan import Plan, PlanKind, Step
from backout.model.steps.branches import BranchRescueStep, FinalizeStep
from backout.model.steps.objects import RestoreObjectsStep, UndoObjectsStep
from backout.model.steps.recovery import RecoverReportStep
from backout.model.steps.rescue import RescueStep, UndoRescueStep
from backout.model.steps.restore import ExchangeStep

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.journal.stored import StoredJournal
    from backout.model.incident.incident import Run
    from backout.ports import StepContext

ANYONE = ApprovalRule((Change.ROLLBACK,), Approver.ANYONE, 600.0)
SECOND = replace(ANYONE, by=Approver.SECOND_PERSON)


@dataclass
class Does(toy.Look):
    """A step that does what the test says."""

    does: Callable[[StepContext], object] = lambda _context: None
    effect: bool = True

    def do(self, args: dict[str, Any], context: StepContext) -> Any:
        return self.does(context)


@dataclass
class Desk:
    """One journal, a clock, and the effects that there were; each `open` is another process, or person."""

    directory: Path
    clock: toy.FakeClock = field(default_factory=toy.FakeClock)
    effects: list[str] = field(default_factory=list)

    def open(self, rule: ApprovalRule | None = ANYONE) -> StoredJournal:
        return toy.journal_in(self.directory, clock=self.clock, approvals=rule)

    def submit(self, plan: Plan | None = None) -> str:
        return self.open().submit(plan or make_plan(), actor="ops", reason="r")

    def drive(self, run: str, journal: StoredJournal | None = None, **does: Callable[[StepContext], object]) -> Run:
        actions = {
            "look": Does(does.get("look", lambda _context: None), effect=False),
            "act": Does(does.get("act", lambda context: self.effects.append(context.run))),
        }
        return (journal or self.open()).drive(run, actions, actor="ops")

    def wait(self, run: str, journal: StoredJournal | None = None) -> DecisionNeeded:
        with pytest.raises(DecisionNeeded, match="waits for") as waits:
            self.drive(run, journal)
        return waits.value

    def state(self, run: str) -> RunState:
        found = self.open().find(run)
        assert found is not None
        return found.state

    def kinds(self, run: str) -> list[str]:
        return [event.kind for event in self.open().events(run=run)]

    def approve(self, run: str, journal: StoredJournal | None = None) -> None:
        (journal or self.open()).ask(run, "approve", actor="boss", reason="I looked")


@pytest.fixture
def desk(tmp_path: Path, engine: str) -> Desk:
    return Desk(tmp_path)


def make_plan(number: int = 1, kind: PlanKind = PlanKind.ROLLBACK, cause: str = "") -> Plan:
    return Plan(kind, "staging", "why", (Step("look", "Look"), Step("act", "Act", {"number": number})), cause=cause)


def test_a_plan_waits_until_it_is_approved_and_then_goes_on(desk: Desk) -> None:
    """Nothing is done before; it keeps its environment; the wait is recorded once, and what to type is said."""
    run = desk.submit()
    error = desk.wait(run)
    assert error.exit_code == 3
    assert error.hint == f"backout runs approve {run} -m WHY"
    assert any("--break-glass" in option for option in error.options)
    assert desk.state(run) is RunState.WAITING
    with pytest.raises(Busy, match="waiting for approval; no process drives it"):
        desk.submit(make_plan(2))
    assert desk.submit() == run
    desk.wait(run)
    assert desk.kinds(run) == ["run.submitted", "run.driven", "run.waiting", "run.driven"]
    desk.approve(run)
    assert desk.state(run) is RunState.INTERRUPTED
    with pytest.raises(Refused, match="waits for no approval"):
        desk.approve(run)
    ended = desk.drive(run)
    assert (ended.state, desk.effects) == (RunState.DONE, [run])
    assert ended.approval is not None
    assert (ended.approval.by, ended.approval.hash) == ("boss", make_plan().hash)


def test_a_changed_plan_is_another_one_and_not_approved(desk: Desk) -> None:
    """By its run, and by its hash: an approval of another hash counts for nothing."""
    first = desk.submit()
    desk.wait(first)
    desk.approve(first)
    desk.open().ask(first, "abort", actor="ops", reason="r")
    second = desk.submit(make_plan(2))
    desk.wait(second)
    foreign = {
        "what": "approve",
        "reason": "r",
        "hash": make_plan().hash,
        "expires_at": desk.clock.at + 99,
    }
    with desk.open()._store.write("forged") as transaction:
        transaction.append(Entry("run.asked", second, None, foreign), environment="staging", actor="boss")
    desk.wait(second)
    assert desk.effects == []


@pytest.mark.parametrize("late_in", ["before", "meanwhile"])
def test_an_approval_that_expires_before_the_first_effect_is_asked_for_again(desk: Desk, late_in: str) -> None:
    """Also where a step that only looks took too long."""
    run = desk.submit()
    desk.wait(run)
    desk.approve(run)
    if late_in == "before":
        desk.clock.sleep(601)
    with pytest.raises(DecisionNeeded, match="the one that was given has expired"):
        desk.drive(run, look=lambda _context: desk.clock.sleep(601))
    assert desk.effects == []
    assert desk.state(run) is RunState.WAITING
    desk.approve(run)
    assert desk.drive(run).state is RunState.DONE


def test_what_has_begun_to_change_something_is_stopped_by_no_approval(desk: Desk) -> None:
    """Half done is the worst place to wait: killed inside its first effect, it goes on however late that is."""
    run = desk.submit()
    desk.wait(run)
    desk.approve(run)

    def die(_context: StepContext) -> object:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        desk.drive(run, act=die)
    desk.clock.sleep(100_000)
    assert desk.drive(run).state is RunState.DONE


def test_what_had_to_wait_once_waits_everywhere(desk: Desk) -> None:
    """A machine whose configuration asks for no approval does not carry it out without one."""
    run = desk.submit()
    desk.wait(run)
    desk.wait(run, desk.open(None))
    desk.approve(run, desk.open(None))
    assert desk.drive(run, desk.open(None)).state is RunState.DONE


def test_a_machine_that_asks_for_less_does_not_make_an_approval_last(desk: Desk) -> None:
    """It counts for as long as where the plan began to wait, whatever a later configuration says."""
    run, lenient = desk.submit(), desk.open(replace(ANYONE, expires_s=999_999.0))
    desk.wait(run)
    desk.approve(run, lenient)
    desk.clock.sleep(601)
    assert "has expired" in str(desk.wait(run, lenient))


@pytest.mark.parametrize(
    "plan", [make_plan(kind=PlanKind.GUARD), make_plan(cause="guard-1"), make_plan(kind=PlanKind.BACKUP)]
)
def test_what_guard_does_and_what_is_not_named_waits_for_nobody(desk: Desk, plan: Plan) -> None:
    """A rollback that a watch led to is guard's own."""
    assert desk.drive(desk.submit(plan)).state is RunState.DONE


def test_a_second_person_is_not_provable_with_a_file(desk: Desk) -> None:
    """The run refuses before anything is done, and frees its environment; breaking the glass goes on."""
    run = desk.submit()
    with pytest.raises(Refused, match=NOT_PROVABLE) as refused:
        desk.drive(run, desk.open(SECOND))
    assert "on Postgres" in str(refused.value.hint)
    with pytest.raises(Refused, match=NOT_PROVABLE):
        desk.open(SECOND).check_approvable(make_plan())
    assert refused.value.exit_code == 3
    assert desk.state(run) is RunState.FAILED
    again = desk.submit()
    desk.open(SECOND).ask(again, "break-glass", actor="ops", reason="it burns")
    ended = desk.drive(again, desk.open(SECOND))
    assert ended.state is RunState.DONE
    assert ended.glass is not None
    assert (ended.glass.by, ended.glass.why) == ("ops", "it burns")


def test_there_is_no_glass_where_nothing_has_to_be_approved(desk: Desk) -> None:
    """Nor twice: it is recorded when it matters, and then once."""
    plain = desk.open(None)
    run = plain.submit(make_plan(), actor="ops", reason="r")
    with pytest.raises(Refused, match="waits for no approval"):
        plain.ask(run, "break-glass", actor="ops", reason="r")
    desk.open().ask(run, "break-glass", actor="ops", reason="r")
    with pytest.raises(Refused, match="waits for no approval"):
        desk.open().ask(run, "break-glass", actor="ops", reason="r")


def test_the_steps_that_overwrite_are_named_as_in_plans() -> None:
    """The configuration's `restore` and `recover` go by the steps of a plan."""
    steps = (
        RestoreObjectsStep,
        UndoObjectsStep,
        RescueStep,
        UndoRescueStep,
        ExchangeStep,
        BranchRescueStep,
        FinalizeStep,
    )
    assert {step.action for step in steps} == OVERWRITES
    assert RecoverReportStep.action == RECOVERS
    plan = Plan(PlanKind.RECOVER, "staging", "why", (Step("db_exchange", "Exchange"), Step("recover_report", "Report")))
    for change, needed in ((Change.RESTORE, True), (Change.RECOVER, True), (Change.ROLLBACK, False)):
        assert ApprovalRule((change,)).needs(plan) is needed
