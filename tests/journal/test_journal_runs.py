"""Submitting, driving and steering runs in one process: what is recorded, what is returned, what is raised."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from journal import toy
from values import replace

from backout.errors import (
    AuthError,
    BackoutError,
    Busy,
    DecisionNeeded,
    Interrupted,
    PartlyDone,
    Paused,
    ProviderRejected,
    ProviderUnavailable,
    Refused,
    SecretsChanged,
    UsageError,
    WorldMoved,
)
from backout.journal import lease as leases
from backout.journal import ledger
from backout.journal.history import make_plan_data, read_plan
from backout.journal.lock import FileLock, make_lock_path
from backout.journal.stop import StopRequest
from backout.model.incident.incident import Pause, RunState
from backout.model.plan import Plan, PlanKind, Step
from backout.ports import Done, Next, NotDone, Unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from backout.journal.stored import StoredJournal
    from backout.model.incident.incident import Event, Run
    from backout.model.plan import Json
    from backout.ports import Action, Probe, StepContext


@dataclass
class Scripted:
    """An action that answers from a script; the last answer stays. Exceptions are raised, callables called."""

    does: list[object] = field(default_factory=lambda: [None])
    probes: list[object] = field(default_factory=lambda: [NotDone()])
    effect: bool = True
    irreversible: bool = False
    arguments: Any = dict
    calls: list[str] = field(default_factory=list)

    def do(self, args: dict[str, Json], context: StepContext) -> Json | Next[Json]:
        self.calls.append(f"do {toy.key_of(context)}")
        return self._next(self.does, context)  # type: ignore[return-value]

    def probe(self, args: dict[str, Json], context: StepContext) -> Probe[Json]:
        self.calls.append(f"probe {toy.key_of(context)}")
        return self._next(self.probes, context)  # type: ignore[return-value]

    def _next(self, script: list[object], context: StepContext) -> object:
        answer = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer(context) if callable(answer) else answer


@dataclass
class Bench:
    """A journal on a fake clock, its stop request, and short names for what the tests do."""

    directory: Path
    clock: toy.FakeClock = field(default_factory=toy.FakeClock)
    stop: StopRequest = field(default_factory=StopRequest)

    def __post_init__(self) -> None:
        self.journal = self.open()

    def open(self) -> StoredJournal:
        return toy.journal_in(self.directory, clock=self.clock, stop=self.stop)

    def submit(self, *steps: str, environment: str = "staging", irreversible: bool = False) -> str:
        return self.journal.submit(
            plan_of_steps(*steps, environment=environment, irreversible=irreversible), actor="me", reason="r"
        )

    def drive(self, run: str, **actions: Action) -> Run:
        return self.journal.drive(run, actions, actor="me")

    def state(self, run: str) -> RunState:
        found = self.journal.find(run)
        assert found is not None
        return found.state

    def kinds(self, run: str) -> list[str]:
        return [e.kind if e.step is None else f"{e.kind} {e.step}" for e in self.journal.events(run=run)]


@pytest.fixture
def bench(tmp_path: Path, engine: str) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.journal.close()


def plan_of_steps(*steps: str, environment: str = "staging", irreversible: bool = False) -> Plan:
    made = tuple(
        Step(action, f"Title of {action}", {"i": i}, irreversible=irreversible) for i, action in enumerate(steps)
    )
    return Plan(PlanKind.ROLLBACK, environment, "why", made)


def crash(_context: StepContext) -> object:
    raise KeyboardInterrupt


# --- plans and submission -------------------------------------------------------------------------------------------

WORDS = st.text(max_size=8)
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS
ARGS = st.dictionaries(WORDS, VALUES | st.lists(VALUES, max_size=3), max_size=3)
STEPS = st.tuples(WORDS, WORDS, ARGS, WORDS, st.booleans()).map(lambda made: Step(*made))
LINES = st.lists(WORDS, max_size=2).map(tuple)
PLANS = st.tuples(
    st.sampled_from(PlanKind), WORDS, WORDS, st.lists(STEPS, max_size=3).map(tuple), LINES, LINES, WORDS
).map(lambda made: Plan(*made))


@given(PLANS)
def test_the_whole_plan_comes_back_from_the_record(plan: Plan) -> None:
    """Every field survives, so that the plan and its hash are those that were accepted."""
    back = read_plan(make_plan_data(plan))
    assert back == plan
    assert back.hash == plan.hash


def test_the_same_unfinished_plan_is_the_same_run(bench: Bench) -> None:
    """Typing it twice is one run, also with other words around it; the id names its kind."""
    plan = plan_of_steps("a")
    run = bench.journal.submit(plan, actor="me", reason="r")
    assert re.fullmatch(r"rollback-[0-9a-f]{8}", run)
    assert bench.journal.submit(replace(plan, why="again"), actor="you", reason="q") == run
    assert bench.kinds(run) == ["run.submitted"]
    found = bench.journal.find(run)
    assert found is not None
    assert (found.plan, found.state, found.actor, found.started_at) == (
        plan,
        RunState.INTERRUPTED,
        "me",
        bench.clock.at,
    )


def test_the_same_plan_after_its_end_is_a_new_run(bench: Bench, tmp_path: Path) -> None:
    """Another id, in this journal and in another one: two machines are told apart by the ids of their runs."""
    first = bench.submit("a")
    bench.drive(first, a=Scripted())
    second = bench.submit("a")
    assert second != first
    assert [run.id for run in bench.journal.runs()] == [second, first]
    elsewhere = toy.journal_in(tmp_path / "elsewhere", clock=bench.clock)
    assert elsewhere.submit(plan_of_steps("a"), actor="me", reason="r") not in (first, second)


def test_a_prefix_that_fits_several_runs_is_refused_naming_them(bench: Bench) -> None:
    """An unambiguous one finds its run; nothing fits an empty one."""
    first, second = bench.submit("a"), bench.submit("b", environment="production")
    with pytest.raises(UsageError, match=second):
        bench.journal.find("rollback-")
    found = bench.journal.find(first[:-2])
    assert found is not None
    assert found.id == first
    assert bench.journal.find("") is None
    assert bench.journal.find("guard") is None
    assert [run.id for run in bench.journal.runs("production")] == [second]


def test_a_run_is_found_by_its_id_at_one_price_however_many_there_are(tmp_path: Path) -> None:
    """A report asks for each run several times: by instructions of SQLite, as no clock says it."""
    bench = Bench(tmp_path)
    first = bench.submit("a", environment="e-0")

    def count_instructions() -> int:
        connection, taken = bench.journal._store._connection, [0]
        assert connection is not None

        def tick() -> int:
            taken[0] += 1
            return 0

        connection.set_progress_handler(tick, 1)
        assert bench.journal.find(first) is not None
        assert bench.journal.result(first, "a") is None
        connection.set_progress_handler(None, 0)
        return taken[0]

    alone = count_instructions()
    for number in range(1, 100):
        bench.submit("a", environment=f"e-{number}")
    assert count_instructions() <= alone
    bench.journal.close()


def test_the_result_of_a_run_that_went_on_is_read_again(bench: Bench) -> None:
    """What was read last is not what is there now."""
    run = bench.submit("a", "b")
    assert bench.journal.result(run, "a") is None
    with pytest.raises(PartlyDone):
        bench.drive(run, a=Scripted(does=[{"x": 1}]), b=Scripted(does=[ProviderUnavailable("no answer")]))
    assert bench.journal.result(run, "a") == {"x": 1}
    bench.drive(run, b=Scripted(does=[{"y": 2}]))
    assert bench.journal.result(run[:-2], "b") == {"y": 2}
    assert bench.journal.result(run, "b") == {"y": 2}


def test_another_unfinished_run_keeps_its_environment(bench: Bench) -> None:
    """Busy says which, what it is at, that nobody drives it, and the two ways on; other environments are free."""
    run = bench.submit("a", "b")
    with pytest.raises(PartlyDone):
        bench.drive(run, a=Scripted(), b=Scripted(does=[ProviderUnavailable("no answer")]))
    with pytest.raises(Busy) as busy:
        bench.submit("c")
    assert f"staging is kept by run {run}, at step 2 of 2: Title of b; no process drives it" in str(busy.value)
    assert busy.value.hint == f"backout runs resume {run}, or: backout runs abort {run}"
    assert bench.submit("c", environment="production")


def test_a_live_holder_is_named_to_the_same_and_to_other_plans(bench: Bench) -> None:
    """While a run is driven, submitting another plan and driving the same run are both Busy with the holder."""
    other = bench.open()
    told: list[str] = []

    def meanwhile(context: StepContext) -> object:
        run = other.find(context.run)
        assert run is not None
        assert run.state is RunState.RUNNING
        calls: list[Callable[[], object]] = [
            lambda: other.submit(plan_of_steps("c"), actor="you", reason="r"),
            lambda: other.drive(context.run, {"a": Scripted()}, actor="you"),
        ]
        for call in calls:
            with pytest.raises(Busy, match=f"driven by pid .*{run.holder.split()[1]}") as busy:
                call()
            told.append(str(busy.value.hint))
        assert other.submit(plan_of_steps("a"), actor="you", reason="r") == context.run
        return None

    run = bench.submit("a")
    assert bench.drive(run, a=Scripted(does=[meanwhile])).state is RunState.DONE
    assert told == [f"wait for it, or: backout runs abort {run}"] * 2
    other.close()


def test_an_unknown_run_is_a_usage_error(bench: Bench) -> None:
    """Driving and asking say so, with the command that lists what there is."""
    for call in (lambda: bench.drive("nope"), lambda: bench.journal.ask("nope", "abort", actor="me", reason="r")):
        with pytest.raises(UsageError, match="no run 'nope'"):
            call()


# --- driving --------------------------------------------------------------------------------------------------------


def test_a_run_is_driven_in_order_and_every_event_is_told_after_its_commit(bench: Bench) -> None:
    """Start before effect, end after, each with its attempt; what `notify` sees is in the file already."""
    other = bench.open()
    seen: list[Event] = []

    def notify(event: Event) -> None:
        assert list(other.events())[-1] == event
        seen.append(event)

    run = bench.submit("a", "b")
    actions = {"a": Scripted(does=[{"x": (1, 2)}]), "b": Scripted(does=["text"])}
    done = bench.journal.drive(run, actions, actor="me", notify=notify)
    assert (done.state, done.steps_done, done.ended_at, done.holder) == (RunState.DONE, 2, bench.clock.at, "")
    order = ["run.driven", "step.start 0", "step.ok 0", "step.start 1", "step.ok 1", "run.ok"]
    assert bench.kinds(run) == ["run.submitted", *order]
    assert [event.kind for event in seen] == [kind.split()[0] for kind in order]
    assert bench.journal.result(run, "a") == {"x": [1, 2]}
    assert bench.journal.result(run, "b") == "text"
    assert bench.journal.result(run, "c") is None
    other.close()


def test_a_run_that_is_over_is_returned_as_it_is(bench: Bench) -> None:
    """No event, no action, no lease."""
    run = bench.submit("a")
    bench.drive(run, a=Scripted())
    before = bench.kinds(run)
    assert bench.drive(run).state is RunState.DONE
    assert bench.kinds(run) == before


def test_an_unknown_action_is_refused_before_anything_is_touched(bench: Bench) -> None:
    """Only the steps still to do are asked for; the refusal names them and records nothing."""
    run = bench.submit("a", "new", "b")
    a = Scripted()
    with pytest.raises(Refused, match="does not know how to do b, new"):
        bench.drive(run, a=a)
    assert a.calls == []
    assert bench.kinds(run) == ["run.submitted"]


class Whole(msgspec.Struct):
    """What a step is given by this version."""

    target: str


@pytest.mark.parametrize("begun_by", ["0.0.9", "1; rm -rf ~"])
def test_a_run_that_another_version_planned_names_that_version_and_the_lines_by_hand(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, begun_by: str
) -> None:
    """What it is given is not as this version writes it: nothing is touched, and what a person may do is typed out."""
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "__version__", begun_by)
        step = Step("a", "switch", {"to": "v1"}, "npx wrangler rollback v1")
        run = bench.journal.submit(Plan(PlanKind.ROLLBACK, "staging", "w", (step,)), actor="me", reason="r")
    a = Scripted(arguments=Whole)
    with pytest.raises(Refused, match="does not know what the plan says of a; nothing was touched") as refused:
        bench.drive(run, a=a)
    assert a.calls == []
    assert f"backout runs resume {run}" in str(refused.value.hint)
    assert ("uv tool install --force backout==0.0.9" in str(refused.value.hint)) is (begun_by == "0.0.9")
    assert "rm -rf" not in str(refused.value.hint)
    assert refused.value.options[0] == "By hand, switch: `npx wrangler rollback v1`."


def test_a_completed_step_is_never_repeated_and_an_open_one_is_probed(bench: Bench) -> None:
    """Done: its result is taken over, marked as probed, and `do` is not called again."""
    run = bench.submit("a", "b")
    a, b = Scripted(), Scripted(does=[crash], probes=[Done({"found": 1})])
    with pytest.raises(KeyboardInterrupt):
        bench.drive(run, a=a, b=b)
    assert bench.state(run) is RunState.INTERRUPTED
    assert bench.drive(run, a=a, b=b).state is RunState.DONE
    assert a.calls == [f"do {run}:0"]
    assert b.calls == [f"do {run}:1", f"probe {run}:1"]
    ok = list(bench.journal.events(run=run, kind="step.ok"))[-1]
    assert ok.data == {"result": {"found": 1}, "attempt": 1, "probed": True}


@pytest.mark.parametrize("probe", [NotDone(), Unknown("cannot tell")])
def test_an_open_step_that_did_not_happen_is_done_again(bench: Bench, probe: Probe) -> None:
    """With the next attempt's number and the same key; Unknown too, as long as it can be undone."""
    run = bench.submit("a")
    a = Scripted(does=[crash, "second"], probes=[probe])
    with pytest.raises(KeyboardInterrupt):
        bench.drive(run, a=a)
    assert bench.drive(run, a=a).state is RunState.DONE
    assert a.calls == [f"do {run}:0", f"probe {run}:0", f"do {run}:0"]
    assert [e.data["attempt"] for e in bench.journal.events(kind="step.start")] == [1, 2]


@pytest.mark.parametrize("by_plan", [True, False])
@pytest.mark.parametrize("answer", ["done", "retry"])
def test_a_blind_irreversible_step_waits_for_a_person(bench: Bench, answer: str, by_plan: bool) -> None:
    """Blocked as often as it is resumed, until the decision; a decision counts for one attempt."""
    run = bench.submit("a", "b", irreversible=by_plan)
    a = Scripted(does=[crash, "again"], probes=[Unknown("no record")], irreversible=not by_plan)
    with pytest.raises(KeyboardInterrupt):
        bench.drive(run, a=a, b=Scripted())
    for _ in range(2):
        with pytest.raises(DecisionNeeded, match="no record") as needed:
            bench.drive(run, a=a, b=Scripted())
        assert any("--decide retry" in option for option in needed.value.options)
        assert bench.state(run) is RunState.BLOCKED
    assert a.calls.count(f"do {run}:0") == 1
    with pytest.raises(Busy, match="waiting for a decision"):
        bench.submit("c")
    bench.journal.ask(run, f"decide:{answer}", actor="ann", reason="I looked")
    assert bench.state(run) is RunState.INTERRUPTED
    assert bench.drive(run, a=a, b=Scripted()).state is RunState.DONE
    assert a.calls.count(f"do {run}:0") == (2 if answer == "retry" else 1)
    ok = next(bench.journal.events(run=run, kind="step.ok"))
    assert ok.data.get("decided_by") == ("ann" if answer == "done" else None)


def test_a_decision_to_retry_does_not_cover_the_next_crash(bench: Bench) -> None:
    """The second unknown end is asked about again."""
    run = bench.submit("a", irreversible=True)
    a = Scripted(does=[crash, crash, "x"], probes=[Unknown("no record")])
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            bench.drive(run, a=a)
        with pytest.raises(DecisionNeeded):
            bench.drive(run, a=a)
        bench.journal.ask(run, "decide:retry", actor="me", reason="r")
    assert bench.drive(run, a=a).state is RunState.DONE


def test_a_decision_is_refused_where_none_is_needed(bench: Bench) -> None:
    """Of a run that is not blocked, that is over, and in words that mean nothing."""
    run = bench.submit("a")
    with pytest.raises(Refused, match="no decision"):
        bench.journal.ask(run, "decide:done", actor="me", reason="r")
    with pytest.raises(UsageError, match="'pray'"):
        bench.journal.ask(run, "pray", actor="me", reason="r")
    bench.drive(run, a=Scripted())
    for what in ("decide:done", "abort"):
        with pytest.raises(Refused, match="over"):
            bench.journal.ask(run, what, actor="me", reason="r")
    assert "run.asked" not in bench.kinds(run)


ENDING = [
    Refused("no"),
    DecisionNeeded("who"),
    SecretsChanged("changed"),
    Busy("another machine is at it"),
    ProviderRejected("no", status=404),
    AuthError("no token"),
]
STAYING = [ProviderUnavailable("no answer"), BackoutError("odd"), PartlyDone("half"), ValueError("a bug")]


@pytest.mark.parametrize("error", [*ENDING, WorldMoved("moved")], ids=lambda e: type(e).__name__)
def test_an_error_that_says_no_ends_a_run_without_effect(bench: Bench, error: BackoutError) -> None:
    """The very error is raised, the environment is free, and a step without effect before it does not count."""
    run = bench.submit("look", "a")
    with pytest.raises(type(error)) as raised:
        bench.drive(run, look=Scripted(effect=False), a=Scripted(does=[error]))
    assert raised.value is error
    assert bench.state(run) is RunState.FAILED
    assert bench.kinds(run)[-2:] == ["step.failed 1", "run.failed"]
    failed = next(bench.journal.events(kind="step.failed"))
    assert failed.data == {"error": type(error).__name__, "text": str(error), "attempt": 1}
    assert bench.submit("c")


@pytest.mark.parametrize("error", [*ENDING, *STAYING], ids=lambda e: type(e).__name__)
def test_after_an_effect_every_error_leaves_the_run_to_be_resumed(bench: Bench, error: Exception) -> None:
    """PartlyDone from the error, with the resume command; the failed step is probed before it is done again."""
    run = bench.submit("a", "b")
    a, b = Scripted(), Scripted(does=[error, "then it works"])
    with pytest.raises(PartlyDone, match="step 2 of 2") as raised:
        bench.drive(run, a=a, b=b)
    assert raised.value.__cause__ is error
    assert raised.value.hint == f"backout runs resume {run}"
    assert bench.state(run) is RunState.INTERRUPTED
    assert bench.drive(run, a=a, b=b).state is RunState.DONE
    assert b.calls == [f"do {run}:1", f"probe {run}:1", f"do {run}:1"]


def test_a_world_that_moved_on_ends_a_run_after_an_effect_too(bench: Bench) -> None:
    """What is left to do would be about a state that is gone; nothing is repeated, and the environment is free."""
    run = bench.submit("a", "b")
    a = Scripted()
    with pytest.raises(WorldMoved):
        bench.drive(run, a=a, b=Scripted(does=[WorldMoved("moved")]))
    assert bench.state(run) is RunState.FAILED
    assert a.calls == [f"do {run}:0"]
    assert bench.submit("c")


@pytest.mark.parametrize("error", STAYING, ids=lambda e: type(e).__name__)
def test_an_error_that_may_heal_never_ends_a_run(bench: Bench, error: Exception) -> None:
    """Also in its first step: nobody knows whether the effect happened."""
    run = bench.submit("a")
    with pytest.raises(PartlyDone):
        bench.drive(run, a=Scripted(does=[error]))
    assert bench.state(run) is RunState.INTERRUPTED


def test_an_attempt_that_may_have_happened_counts_as_an_effect(bench: Bench) -> None:
    """The probe did not know, the second attempt was rejected: the run is not declared over."""
    run = bench.submit("a")
    a = Scripted(does=[crash, ProviderRejected("no", status=409)], probes=[Unknown("cannot tell")])
    with pytest.raises(KeyboardInterrupt):
        bench.drive(run, a=a)
    with pytest.raises(PartlyDone):
        bench.drive(run, a=a)
    assert bench.state(run) is RunState.INTERRUPTED


def test_a_probe_that_fails_settles_nothing(bench: Bench) -> None:
    """Its error is recorded, and the next resume probes again."""
    run = bench.submit("a")
    a = Scripted(does=[crash], probes=[AuthError("no token"), Done("x")])
    with pytest.raises(KeyboardInterrupt):
        bench.drive(run, a=a)
    with pytest.raises(PartlyDone, match="no token"):
        bench.drive(run, a=a)
    assert bench.state(run) is RunState.INTERRUPTED
    assert bench.drive(run, a=a).state is RunState.DONE
    assert a.calls == [f"do {run}:0", f"probe {run}:0", f"probe {run}:0"]


def test_a_result_that_is_not_json_is_a_type_error(bench: Bench) -> None:
    """Nothing is coerced, and the step stays open."""
    run = bench.submit("a")
    with pytest.raises(TypeError, match="set"):
        bench.drive(run, a=Scripted(does=[{"x": {1}}]))
    assert bench.kinds(run)[-1] == "step.start 0"


def test_progress_is_kept_over_attempts_and_per_step(bench: Bench) -> None:
    """A watch goes on where it was."""
    found: list[object] = []

    def work(context: StepContext) -> object:
        found.append(context.last_progress())
        context.progress({"seen": len(found)})
        if len(found) == 1:
            raise KeyboardInterrupt
        return None

    run = bench.submit("a", "b")
    a, b = Scripted(does=[work]), Scripted(does=[work])
    with pytest.raises(KeyboardInterrupt):
        bench.drive(run, a=a, b=b)
    bench.drive(run, a=a, b=b)
    assert found == [None, {"seen": 1}, None]


@pytest.mark.parametrize("ends", ["well", "badly", "with no", "handing over", "saying"])
def test_whatever_a_step_does_after_a_takeover_nothing_of_it_is_written(bench: Bench, ends: str) -> None:
    """A higher fence number is in the file: the drive ends Busy, and the record stays as the new holder left it."""

    def taken_over(context: StepContext) -> object:
        with bench.journal._store.write("takeover") as transaction:
            transaction.connection.execute("UPDATE lease SET fence = fence + 1, host = 'there', pid = 7")
        if ends == "saying":
            context.progress({"late": True})
        if ends in ("badly", "with no"):
            raise ValueError(ends) if ends == "badly" else Refused(ends)
        return Next(None, plan_of_steps("a"), "r") if ends == "handing over" else None

    run = bench.submit("a")
    with pytest.raises(Busy, match=r"taken over by .* pid 7 on there"):
        bench.drive(run, a=Scripted(does=[taken_over]))
    assert bench.kinds(run)[-1] == "step.start 0"
    assert len(bench.journal.runs()) == 1
    assert bench.journal._store.rows("SELECT host, pid FROM lease") == [("there", 7)]


@dataclass
class Undertaker(toy.FakeClock):
    """A clock at whose third sleep something happens: the kernel frees a file lock a moment after a death."""

    at_the_third: Callable[[], None] | None = None
    sleeps: int = 0

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.sleeps += 1
        if self.at_the_third is not None and self.sleeps == 3:
            self.at_the_third()


@pytest.mark.parametrize("frees", [True, False])
def test_the_file_lock_of_a_dying_holder_is_waited_for_a_moment(engine: str, tmp_path: Path, frees: bool) -> None:
    """Its first thread is gone and its last one still has the lock: no Busy for that; but no waiting without end."""
    lock = FileLock(make_lock_path(tmp_path / "journal", "staging"))
    clock = Undertaker(at_the_third=lock.free if frees else None)
    bench = Bench(tmp_path, clock)
    run = bench.submit("a")
    with pytest.raises(KeyboardInterrupt):
        bench.drive(run, a=Scripted(does=[crash]))
    dead = replace(bench.journal._me(), start="0")
    with bench.journal._store.write("death") as transaction:
        leases.write(transaction.connection, leases.Lease("staging", 9, run, dead, clock.at, clock.at + 3600))
    assert lock.take()
    if frees:
        assert bench.drive(run, a=Scripted()).state is RunState.DONE
        assert clock.sleeps == 3
    else:
        with pytest.raises(Busy):
            bench.drive(run, a=Scripted())
        assert clock.sleeps < 100
    lock.free()
    bench.journal.close()


def test_the_file_lock_of_a_holder_whose_run_is_over_is_waited_for_a_moment(engine: str, tmp_path: Path) -> None:
    """What is submitted between the end of a run and the end of its process is driven, not left lying."""
    lock = FileLock(make_lock_path(tmp_path / "journal", "staging"))
    bench = Bench(tmp_path, clock := Undertaker())
    before = bench.submit("a")
    assert bench.drive(before, a=Scripted()).state is RunState.DONE
    pid = os.getppid()
    lease = leases.Lease(
        "staging",
        9,
        before,
        replace(bench.journal._me(), pid=pid, start=leases._read_process_start(pid)),
        0,
        2 * clock.at,
    )
    with bench.journal._store.write("not given back yet") as transaction:
        leases.write(transaction.connection, lease)
    run = bench.submit("a", "b")
    assert lock.take()

    def leave() -> None:
        with bench.journal._store.write("given back") as transaction:
            leases.release(transaction.connection, lease)
        lock.free()

    clock.at_the_third = leave
    assert bench.drive(run, a=Scripted(), b=Scripted()).state is RunState.DONE
    assert clock.sleeps == 3
    bench.journal.close()


# --- stop and abort -------------------------------------------------------------------------------------------------


def test_a_stop_inside_a_watch_leaves_the_run_to_be_resumed(bench: Bench) -> None:
    """Interrupted with the resume command; the resumed watch ends well."""
    run = bench.submit("look")

    def asked(context: StepContext) -> object:
        context.check()
        bench.stop.request()
        context.check()
        raise AssertionError

    look = Scripted(does=[asked, None], effect=False)
    with pytest.raises(Interrupted) as stopped:
        bench.drive(run, look=look)
    assert stopped.value.hint == f"backout runs resume {run}"
    assert bench.kinds(run)[-1] == "step.interrupted 0"
    bench.stop.requested = False
    assert bench.drive(run, look=look).state is RunState.DONE


def test_an_abort_inside_a_watch_ends_the_run(bench: Bench) -> None:
    """The asker, another process, sees it recorded; the holder's drive returns the aborted run."""
    other = bench.open()

    def asked(context: StepContext) -> object:
        other.ask(context.run, "abort", actor="ann", reason="enough")
        context.check()
        raise AssertionError

    run = bench.submit("look", "a")
    a = Scripted()
    ended = bench.drive(run, look=Scripted(does=[asked], effect=False), a=a)
    assert (ended.state, a.calls) == (RunState.ABORTED, [])
    assert bench.kinds(run)[-3:] == ["run.asked", "step.interrupted 0", "run.aborted"]
    other.close()


def test_an_abort_without_a_holder_acts_at_once(bench: Bench) -> None:
    """Blocked and open steps too: what nobody settled is named, and the environment is free."""
    run = bench.submit("a", irreversible=True)
    a = Scripted(does=[crash], probes=[Unknown("no record")])
    with pytest.raises(KeyboardInterrupt):
        bench.drive(run, a=a)
    with pytest.raises(DecisionNeeded):
        bench.drive(run, a=a)
    bench.journal.ask(run, "abort", actor="ann", reason="give up")
    assert bench.state(run) is RunState.ABORTED
    aborted = list(bench.journal.events(run=run))[-1]
    assert (aborted.kind, aborted.actor, aborted.data) == ("run.aborted", "ann", {"open_step": 0, "steps_done": 0})
    assert bench.submit("c")


# --- handing over ---------------------------------------------------------------------------------------------------


def test_a_run_hands_its_environment_over_in_one_transaction(bench: Bench) -> None:
    """End of one and begin of the next are neighbours; the drive goes on, and both ids lead to the successor."""
    after = plan_of_steps("a")
    look = Scripted(does=[Next({"verdict": "bad"}, after, "it is bad")], effect=False)
    first = bench.submit("look")
    last = bench.drive(first, look=look, a=Scripted())
    assert (last.state, last.plan) == (RunState.DONE, replace(after, cause=first))
    kinds = [(event.run, event.kind) for event in bench.journal.events()]
    at = kinds.index((first, "run.ok"))
    assert kinds[at - 1 : at + 2] == [(first, "step.ok"), (first, "run.ok"), (last.id, "run.submitted")]
    assert bench.journal.result(first, "look") == {"verdict": "bad"}
    submitted = next(bench.journal.events(run=last.id, kind="run.submitted"))
    assert (submitted.data["cause"], submitted.data["reason"]) == (first, "it is bad")
    assert len({event.at for event in list(bench.journal.events())[at - 1 : at + 2]}) == 1


def test_resuming_a_run_that_handed_over_drives_its_successor(bench: Bench) -> None:
    """Also aborting it: the person means what goes on."""
    first = bench.submit("look")
    look = Scripted(does=[Next(None, plan_of_steps("a", "b"), "it is bad")], effect=False)
    with pytest.raises(PartlyDone) as partly:
        bench.drive(first, look=look, a=Scripted(), b=Scripted(does=[ProviderUnavailable("no answer")]))
    successor = str(partly.value.where)
    assert successor != first
    with pytest.raises(Busy, match=successor):
        bench.submit("c")
    done = bench.drive(first, b=Scripted())
    assert (done.id, done.state) == (successor, RunState.DONE)


@pytest.mark.parametrize("case", ["in the middle", "to another environment"])
def test_a_hand_over_out_of_place_is_a_type_error(bench: Bench, case: str) -> None:
    """Only the last step may, and only within the environment; nothing is recorded of it."""
    environment = "production" if case == "to another environment" else "staging"
    steps = ("look",) if case == "to another environment" else ("look", "a")
    run = bench.submit(*steps)
    look = Scripted(does=[Next(None, plan_of_steps("a", environment=environment), "r")])
    with pytest.raises(TypeError, match="hand"):
        bench.drive(run, look=look, a=Scripted())
    assert bench.kinds(run)[-1] == "step.start 0"


# --- reading --------------------------------------------------------------------------------------------------------


def test_events_are_filtered_and_continued(bench: Bench) -> None:
    """By run, environment, kind and its beginning, and from a number on; over more than one page."""
    run = bench.submit("a")
    bench.submit("b", environment="production")

    def chatter(context: StepContext) -> object:
        for number in range(600):
            context.progress({"n": number})
        return None

    bench.drive(run, a=Scripted(does=[chatter]))
    journal = bench.journal
    assert [e.seq for e in journal.events()] == list(range(1, 607))
    assert [e.environment for e in journal.events(environment="production")] == ["production"]
    assert len(list(journal.events(run=run, kind="step.progress"))) == 600
    assert [e.kind for e in journal.events(kind="run.*", run=run)] == ["run.submitted", "run.driven", "run.ok"]
    assert [e.kind for e in journal.events(after=603)] == ["step.progress", "step.ok", "run.ok"]
    assert list(journal.events(kind="run.%")) == []


# --- pausing --------------------------------------------------------------------------------------------------------


def test_a_driven_run_pauses_at_its_next_boundary_and_keeps_its_environment(bench: Bench) -> None:
    """Asked for elsewhere, while a step is in flight: that step ends; nothing else begins before a resume."""
    other = bench.open()

    def meanwhile(context: StepContext) -> object:
        other.ask(context.run, "pause", actor="you", reason="look first")
        found = other.find(context.run)
        assert found is not None
        assert found.state is RunState.RUNNING
        assert found.pause == Pause("you", "look first", bench.clock.at)
        return {"x": 1}

    run, second = bench.submit("a", "b"), Scripted()
    with pytest.raises(Paused, match=r"asked for by you: look first \(at step 2 of 2: Title of b\)") as paused:
        bench.drive(run, a=Scripted(does=[meanwhile]), b=second)
    assert (paused.value.exit_code, paused.value.hint) == (5, f"backout runs resume {run}")
    assert bench.state(run) is RunState.PAUSED
    assert second.calls == []
    with pytest.raises(Busy, match="a pause was asked for by you: look first; no process drives it"):
        bench.submit("c")
    with pytest.raises(Paused):  # only a resume lifts it
        bench.drive(run, b=second)
    assert second.calls == []
    bench.journal.ask(run, "resume", actor="me", reason="")
    assert bench.state(run) is RunState.INTERRUPTED
    assert bench.drive(run, b=second).state is RunState.DONE
    assert bench.journal.result(run, "a") == {"x": 1}
    other.close()


def test_a_pause_stops_a_watch_at_a_boundary_of_its_own(bench: Bench) -> None:
    """A step that only looks is interrupted; resumed, it goes on."""

    def watch(context: StepContext) -> object:
        context.check()
        bench.journal.ask(context.run, "pause", actor="you", reason="r")
        context.check()
        return None

    run = bench.submit("a")
    with pytest.raises(Paused):
        bench.drive(run, a=Scripted(does=[watch]))
    assert bench.kinds(run)[-3:] == ["run.asked", "step.interrupted 0", "run.paused"]
    bench.journal.ask(run, "resume", actor="you", reason="r")
    assert bench.drive(run, a=Scripted()).state is RunState.DONE


def test_a_run_that_nobody_drives_is_paused_at_once_and_can_be_aborted(bench: Bench) -> None:
    """What is not so cannot be asked: a second pause, a resume of what is not paused, anything of what is over."""
    run = bench.submit("a")
    with pytest.raises(Refused, match="not paused"):
        bench.journal.ask(run, "resume", actor="me", reason="r")
    bench.journal.ask(run, "pause", actor="me", reason="r")
    assert bench.state(run) is RunState.PAUSED
    with pytest.raises(Refused, match="paused already, by me"):
        bench.journal.ask(run, "pause", actor="you", reason="r")
    bench.journal.ask(run, "abort", actor="me", reason="r")
    assert bench.state(run) is RunState.ABORTED
    with pytest.raises(Refused, match="the run is over"):
        bench.journal.ask(run, "pause", actor="me", reason="r")
    with pytest.raises(UsageError, match="cannot be asked of a run"):
        bench.journal.ask(bench.submit("b"), "stop", actor="me", reason="r")
