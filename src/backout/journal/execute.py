"""Driving a plan to its end; the rule: a start is recorded before its effect, an end after it.

A step found begun and not ended is probed. An error of the kinds below ends the run for good only while no step with an
effect is done; later the run stays, to be resumed. A world that moved ends it at any time: the remaining steps are
about a state that is gone.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from backout import __version__
from backout.decoding import Undecodable, decode_values
from backout.errors import (
    AuthError,
    Busy,
    DecisionNeeded,
    Interrupted,
    PartlyDone,
    ProviderRejected,
    Refused,
    WorldMoved,
)
from backout.journal.store import Entry
from backout.model.steps.base import to_json
from backout.model.steps.jobs import MOVING
from backout.ports import Done, Next, NotDone, Unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.journal.history import RunRecord
    from backout.journal.ledger import Ledger
    from backout.journal.stop import StopRequest
    from backout.model.plan import Json, Step
    from backout.ports import AnyAction, Probe

_ENDING = (Refused, Busy, ProviderRejected, AuthError)
"""Errors that say "this must not or cannot be done": without an effect before, there is nothing to resume."""


_STEP = "what the journal says of this step"


def resume_hint(run: str) -> str:
    """Return the command that continues the run."""
    return f"backout runs resume {run}"


def refuse_unknown(record: RunRecord, actions: Mapping[str, AnyAction]) -> None:
    """Raise Refused, before anything is touched, when an open step is not known here as it was planned.

    The refusal names the version of backout that planned it, how to install that, and the lines that do the same by
    hand.
    """
    steps = [step for step, done in zip(record.plan.steps, record.steps, strict=True) if not done.done]
    missing = sorted({step.action for step in steps if step.action not in actions})
    strange = sorted({step.action for step in steps if step.action in actions and not _is_known(step, actions)})
    if not missing and not strange:
        return
    what = f"how to do {', '.join(missing)}" if missing else f"what the plan says of {', '.join(strange)}"
    began = f"backout {record.version}" if record.version else "the version of backout"
    hint = f"resume it with {began} that started it: {resume_hint(record.id)}"
    if record.version and record.version != __version__:
        hint = f"uv tool install --force backout=={record.version}  # which started it; then: {resume_hint(record.id)}"
    lines = (step for step in steps if step.equivalent and not step.equivalent.startswith("#"))
    raise Refused(
        f"this backout ({__version__}) does not know {what}; nothing was touched",
        where=record.id,
        hint=hint,
        options=(
            *(f"By hand, {step.title}: `{step.equivalent}`." for step in lines),
            f"Give the run up: backout runs abort {record.id}.",
        ),
    )


def _is_known(step: Step, actions: Mapping[str, AnyAction]) -> bool:
    try:
        decode_values(step.args, actions[step.action].arguments)
    except Undecodable:
        return False
    return True


class _Context:
    """The StepContext of one step."""

    def __init__(self, ledger: Ledger, step: int, stop: StopRequest | None) -> None:
        self._ledger = ledger
        self._step = step
        self._stop = stop

    @property
    def run(self) -> str:
        return self._ledger.run

    def progress(self, data: Mapping[str, Json]) -> None:
        self._ledger.record(Entry("step.progress", self.run, self._step, data))

    def last_progress(self) -> Mapping[str, Json] | None:
        return self._ledger.last_progress(self._step)

    def check(self) -> None:
        self._ledger.check()
        if self._ledger.abort_asked():
            raise Interrupted("an abort was asked for", where=self.run)
        if self._stop is not None and self._stop.requested:
            raise Interrupted("stopped on request", where=self.run, hint=resume_hint(self.run))


class _Aborted(Exception):
    pass


class Driver:
    """Drives the run that the ledger's lease is for, and those it hands over to."""

    def __init__(self, ledger: Ledger, actions: Mapping[str, AnyAction], stop: StopRequest | None) -> None:
        self._ledger = ledger
        self._actions = actions
        self._stop = stop

    def drive(self) -> str:
        """Return the id of the last run, which is over now. Raises as `Journal.drive` does."""
        with suppress(_Aborted):
            while self._drive_run():
                pass
        return self._ledger.run

    def _drive_run(self) -> bool:
        """Drive one run to its end; return whether it handed over to another one."""
        record = self._ledger.load()
        if record.is_over:
            return False
        refuse_unknown(record, self._actions)
        for index, step in enumerate(record.steps):
            if step.done:
                continue
            self._at_boundary(record, index)
            result = self._drive_step(record, index)
            if isinstance(result, Next):
                ok = Entry("step.ok", record.id, index, {"result": result.result, "attempt": step.attempts})
                self._ledger.hand_over(ok, result.plan, result.reason)
                return True
            step.done = True
        self._ledger.record(Entry("run.ok", record.id))
        return False

    def _at_boundary(self, record: RunRecord, index: int) -> None:
        """Obey a request to abort or to stop; a step found open stays open, and is named."""
        if self._ledger.abort_asked():
            self._ledger.record(make_abort_entry(record))
            raise _Aborted
        if self._stop is not None and self._stop.requested:
            self._ledger.record(Entry("run.interrupted", record.id, data={"before_step": index}))
            raise _make_interrupted(record)

    def _drive_step(self, record: RunRecord, index: int) -> Next[Json] | None:
        """Settle or do the step; everything but a `Next` is recorded."""
        step = record.steps[index]
        probe: Probe[Json] = NotDone()
        if step.decision == "done":
            self._ok(record, index, {"result": None, "attempt": step.attempts, "decided_by": step.decided_by})
            return None
        if step.attempts and not step.decision:
            probe = self._probe(record, index)
            if isinstance(probe, Done):
                self._ok(record, index, {"result": to_json(probe.result), "attempt": step.attempts, "probed": True})
                return None
            if isinstance(probe, Unknown) and self._is_irreversible(record, index):
                raise self._record_block(record, index, probe)
        step.attempts += 1
        start = {"action": record.plan.steps[index].action, "attempt": step.attempts}
        self._ledger.record(Entry("step.start", record.id, index, start))
        result = self._do(record, index, certain=not isinstance(probe, Unknown))
        if isinstance(result, Next):
            return result
        self._ok(record, index, {"result": result, "attempt": step.attempts})
        return None

    def _probe(self, record: RunRecord, index: int) -> Probe[Json]:
        step = record.plan.steps[index]
        action = self._actions[step.action]
        try:
            return action.probe(decode_values(step.args, action.arguments, what=_STEP), self._context(index))
        except Interrupted as error:
            raise self._record_stop_inside(record, index) from error
        except Exception as error:
            raise self._record_failure(record, index, error, ends=False) from error

    def _do(self, record: RunRecord, index: int, *, certain: bool) -> Json | Next[Json]:
        step = record.plan.steps[index]
        action = self._actions[step.action]
        try:
            result = action.do(decode_values(step.args, action.arguments, what=_STEP), self._context(index))
        except Interrupted as error:
            raise self._record_stop_inside(record, index) from error
        except Exception as error:
            ends = certain and (
                isinstance(error, WorldMoved) or (isinstance(error, _ENDING) and not self._has_effect(record))
            )
            failure = self._record_failure(record, index, error, ends=ends)
            if ends:
                raise
            raise failure from error
        if isinstance(result, Next):
            self._check_next(record, index, result)
            return Next(to_json(result.result), result.plan, result.reason)
        return to_json(result)

    def _ok(self, record: RunRecord, index: int, data: Mapping[str, object]) -> None:
        self._ledger.record(Entry("step.ok", record.id, index, data))

    def _record_failure(self, record: RunRecord, index: int, error: Exception, *, ends: bool) -> PartlyDone:
        """Record the failure, and the run's end if it ends the run; return what to raise if it does not."""
        data = {"error": type(error).__name__, "text": str(error), "attempt": record.steps[index].attempts}
        entries = [Entry("step.failed", record.id, index, data)]
        if ends:
            entries.append(Entry("run.failed", record.id, data={"step": index, "error": data["error"]}))
        self._ledger.record(*entries)
        title = record.plan.steps[index].title
        return PartlyDone(
            f"stopped in step {index + 1} of {len(record.steps)} ({title}): {error}",
            where=record.id,
            hint=resume_hint(record.id),
        )

    def _record_block(self, record: RunRecord, index: int, probe: Unknown) -> DecisionNeeded:
        step = record.plan.steps[index]
        self._ledger.record(Entry("run.blocked", record.id, index, {"why": probe.why}))
        return DecisionNeeded(
            f"it is not known whether step {index + 1} ({step.title}) happened: {probe.why};"
            " it cannot be undone, so it is not repeated blindly",
            where=record.id,
            hint=f"look at it ({step.equivalent or f'backout runs show {record.id}'}), then decide",
            options=(
                f"It happened: {resume_hint(record.id)} --decide done.",
                f"It did not happen: {resume_hint(record.id)} --decide retry.",
                f"Give the run up: backout runs abort {record.id}.",
            ),
        )

    def _record_stop_inside(self, record: RunRecord, index: int) -> Exception:
        """Record that a step stopped at a boundary of its own; return the exception that leaves the loops."""
        asked = self._ledger.abort_asked()
        stopped = Entry("step.interrupted", record.id, index, {"attempt": record.steps[index].attempts})
        self._ledger.record(stopped, *([make_abort_entry(record)] if asked else []))
        return _Aborted() if asked else _make_interrupted(record)

    def _check_next(self, record: RunRecord, index: int, result: Next[Any]) -> None:
        if any(step.action not in MOVING for step in record.plan.steps[index + 1 :]):
            raise TypeError(f"{record.plan.steps[index].action}: only the last step of a plan may hand over")
        if result.plan.environment != record.environment:
            raise TypeError(f"{record.id}: a run hands over within {record.environment} only")

    def _is_irreversible(self, record: RunRecord, index: int) -> bool:
        step = record.plan.steps[index]
        return step.irreversible or self._actions[step.action].irreversible

    def _has_effect(self, record: RunRecord) -> bool:
        return any(
            done.done and (step.action not in self._actions or self._actions[step.action].effect)
            for step, done in zip(record.plan.steps, record.steps, strict=True)
        )

    def _context(self, index: int) -> _Context:
        return _Context(self._ledger, index, self._stop)


def make_abort_entry(record: RunRecord) -> Entry:
    """Return the entry that ends the run on request, naming the step whose effect is unsettled."""
    return Entry("run.aborted", record.id, data={"open_step": record.open_step, "steps_done": record.steps_done})


def _make_interrupted(record: RunRecord) -> Interrupted:
    return Interrupted("stopped on request, at a step boundary", where=record.id, hint=resume_hint(record.id))


def check_request(record: RunRecord, what: str) -> None:
    """Raise Refused when nothing can be asked of the run any more, or there is nothing to decide."""
    if record.end is not None:
        raise Refused(f"the run is over ({record.end})", where=record.id, hint=f"backout runs show {record.id}")
    if what != "abort" and record.blocked is None:
        raise Refused("the run waits for no decision", where=record.id, hint=resume_hint(record.id))
