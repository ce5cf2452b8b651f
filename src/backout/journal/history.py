"""Runs as folded from their events; the rule: a run's state is computed from the record, never stored beside it.

Kinds of events: `run.submitted`, `run.driven` (a holder took it), `run.asked` (abort, pause, resume, approve,
break-glass, decide:done, decide:retry), `run.waiting` (for an approval), `run.paused` (its holder obeyed),
`run.interrupted`, `run.blocked`, `run.ok`, `run.failed`, `run.aborted`; `step.start`, `step.ok`, `step.failed`,
`step.interrupted`, `step.progress`; `mark`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from backout.escaping import shorten
from backout.journal.approvals import Asker, read_approval, read_asker, read_waiting
from backout.journal.rows import DamagedRow, reading
from backout.model.approval import BrokenGlass
from backout.model.incident.incident import Pause, Run, RunState
from backout.model.person import SPOOLED
from backout.model.plan import Plan, PlanKind, Step
from backout.model.triggers import Coverage, Fate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from backout.model.approval import Approval, Waiting
    from backout.model.incident.incident import Event
    from backout.model.plan import Json

OVER = {"run.ok": RunState.DONE, "run.failed": RunState.FAILED, "run.aborted": RunState.ABORTED}
"""The events that end a run and free its environment."""

_VERSION = re.compile(r"\d[\w.+-]{0,31}", re.ASCII)
"""A version as it may appear in a line to type: any other text in a journal is not one."""

WITHOUT = " (while the journal was away)"
"""What is said beside who began a run that was recorded in a spool and merged."""

DECISIONS = ("decide:done", "decide:retry")


def make_plan_data(plan: Plan) -> dict[str, object]:
    """Return all fields of the plan as JSON."""
    return {
        "kind": str(plan.kind),
        "environment": plan.environment,
        "why": plan.why,
        "steps": [
            {
                "action": step.action,
                "title": step.title,
                "args": step.args,
                "equivalent": step.equivalent,
                "irreversible": step.irreversible,
            }
            for step in plan.steps
        ],
        "notes": plan.notes,
        "not_covered": plan.not_covered,
        "coverage": [[line.what, line.fate, line.why] for line in plan.coverage],
        "cause": plan.cause,
    }


def read_plan(data: Mapping[str, object]) -> Plan:
    """Return the plan that `make_plan_data` stored; unknown fields of a later version are left out."""
    steps = cast("list[dict[str, object]]", data["steps"])
    return Plan(
        PlanKind(str(data["kind"])),
        str(data["environment"]),
        str(data["why"]),
        tuple(
            Step(
                str(step["action"]),
                str(step["title"]),
                _get_arguments(step["args"]),
                str(step["equivalent"]),
                bool(step["irreversible"]),
            )
            for step in steps
        ),
        tuple(cast("list[str]", data["notes"])),
        tuple(cast("list[str]", data["not_covered"])),
        str(data["cause"]),
        tuple(Coverage(what, Fate(fate), why) for what, fate, why in cast("list[list[str]]", data.get("coverage", []))),
    )


class Arguments(dict[str, "Json"]):
    """The arguments of a recorded step; one that is not there is a journal that was not written by us."""

    def __missing__(self, name: str) -> Json:
        """Raise DamagedRow."""
        raise DamagedRow(
            f"the journal is damaged: a step of a plan lacks {name!r}",
            hint="backout audit verify  # whether each event is as it was written",
        )


def _get_arguments(found: object) -> dict[str, Json]:
    if not isinstance(found, dict):
        raise TypeError("the arguments of a step are an object")
    return Arguments(cast("dict[str, Json]", found))


@dataclass(slots=True)
class StepRecord:
    """What is recorded of one step: `attempts` starts, and whether it ended well; `decision` is a person's answer."""

    attempts: int = 0
    done: bool = False
    result: Json = None
    decision: str = ""
    decided_by: str = ""


@dataclass(slots=True)
class RunRecord:
    """A run as its events tell it."""

    id: str
    environment: str
    plan: Plan
    hash: str
    actor: str
    submitted_at: float
    steps: list[StepRecord]
    end: RunState | None = None
    ended_at: float | None = None
    successor: str = ""
    blocked: int | None = None
    pause: Pause | None = None
    waiting: Waiting | None = None
    """That it had to wait for an approval, also once that is there."""
    approval: Approval | None = None
    glass: BrokenGlass | None = None
    version: str = ""
    """Of the backout that planned it, "" in a journal that does not say."""
    asked_by: tuple[Asker, ...] = ()
    """Who submitted it and drove it to where it waits."""

    @property
    def is_over(self) -> bool:
        """Whether the run has ended."""
        return self.end is not None

    @property
    def lacks_approval(self) -> bool:
        """Whether it waits for an approval that no one has given since."""
        return self.waiting is not None and self.approval is None and self.glass is None

    @property
    def open_step(self) -> int | None:
        """Index of the step that was begun and not ended, or None."""
        return next((i for i, step in enumerate(self.steps) if step.attempts and not step.done), None)

    @property
    def next_step(self) -> int | None:
        """Index of the first step that is not done, or None."""
        return next((i for i, step in enumerate(self.steps) if not step.done), None)

    @property
    def steps_done(self) -> int:
        """How many steps have ended well."""
        return sum(step.done for step in self.steps)

    @property
    def results(self) -> dict[str, Json]:
        """{action: what the (last) completed step of that action returned}."""
        return {s.action: r.result for s, r in zip(self.plan.steps, self.steps, strict=True) if r.done}

    def doing(self) -> str:
        """Return what the run is at, for messages."""
        if self.blocked is not None:
            return "waiting for a decision"
        if self.pause is not None:
            return f"a pause was asked for by {shorten(self.pause.by)}: {shorten(self.pause.why)}"
        if self.lacks_approval:
            return "waiting for approval"
        index = self.next_step
        if index is None:
            return "ending"
        return f"at step {index + 1} of {len(self.steps)}: {self.plan.steps[index].title}"

    def run(self, holder: str, alive_at: float | None = None) -> Run:
        """Return the run for readers; `holder` names the live holder, "" when there is none; see `Run.alive_at`."""
        if self.end is not None:
            state = self.end
        elif holder:
            state = RunState.RUNNING
        elif self.blocked is not None:
            state = RunState.BLOCKED
        elif self.pause is not None:
            state = RunState.PAUSED
        else:
            state = RunState.WAITING if self.lacks_approval else RunState.INTERRUPTED
        return Run(
            self.id,
            self.environment,
            self.plan,
            state,
            self.submitted_at,
            self.ended_at,
            self.steps_done,
            holder,
            self.actor,
            self.ended_at if alive_at is None else alive_at,
            self.pause if self.end is None else None,
            self.approval,
            self.glass,
        )

    def take(self, event: Event) -> None:
        """Apply one more event."""
        kind, data = event.kind, event.data
        if event.step is not None and event.step < len(self.steps):
            self._take_step(self.steps[event.step], event)
        if kind in OVER:
            self.end, self.ended_at = OVER[kind], event.at
            self.successor = str(data.get("next") or "")
        elif kind == "run.blocked":
            self.blocked = event.step
        elif kind == "run.asked":
            self._take_request(event)
        elif kind == "run.waiting":
            if self.waiting is None:
                self.asked_by = (*self.asked_by, read_asker(event))
            self.waiting, self.approval = read_waiting(event), None

    def _take_request(self, event: Event) -> None:
        what = event.data.get("what")
        if what == "pause":
            self.pause = Pause(event.actor, str(event.data.get("reason") or ""), event.at)
        elif what == "resume":
            self.pause = None
        elif what == "approve":
            self.approval = read_approval(event)
        elif what == "break-glass":
            self.glass = BrokenGlass(event.actor, str(event.data.get("reason") or ""), event.at)

    def _take_step(self, step: StepRecord, event: Event) -> None:
        if event.kind == "step.start":
            step.attempts += 1
            step.decision = ""
            self.blocked = None
        elif event.kind == "step.ok":
            step.done, step.result = True, event.data.get("result")
            self.blocked = None
        elif event.kind == "run.asked":  # an abort belongs to no step
            step.decision = str(event.data["what"]).removeprefix("decide:")
            step.decided_by = event.actor
            self.blocked = None


def fold(events: Iterable[Event]) -> dict[str, RunRecord]:
    """Return the records by run id, in order of submission; events of no submitted run are left out."""
    records: dict[str, RunRecord] = {}
    for event in events:
        with reading(f"event {event.seq} of run {event.run[:80]}"):
            if event.kind == "run.submitted":
                plan = read_plan(cast("dict[str, object]", event.data["plan"]))
                steps = [StepRecord() for _ in plan.steps]
                told = str(event.data["hash"])
                actor = event.actor + (WITHOUT if SPOOLED in event.data else "")
                record = RunRecord(event.run, event.environment, plan, told, actor, event.at, steps)
                version = str(event.data.get("version") or "")
                record.version = version if _VERSION.fullmatch(version) else ""
                record.asked_by = (read_asker(event),)
                records[event.run] = record
            elif event.run in records:
                records[event.run].take(event)
    return records
