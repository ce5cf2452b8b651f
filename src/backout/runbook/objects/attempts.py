"""When the attempts of a restore were at work: by that, one that goes on knows which delete markers they made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.decoding import decode_values
from backout.model.incident.incident import RunState
from backout.model.objects.versions import Attempt
from backout.model.steps.objects import UndoObjectsStep
from backout.ports import list_progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from backout.model.objects.checks import BucketFacts
    from backout.model.plan import Json, StepArguments
    from backout.ports import Clock, StepContext
    from backout.runbook.objects.tools import ObjectTools

_RECORDED_EVERY_S: Final = 5.0
_NOT_RECORDED: Final = ((0.0, 0.0),)
"""Of a journal of before: any delete marker may be theirs, or the application's."""


class AtWork:
    """Records in a step's progress that it is at work on the changes from a place on.

    Args:
        attempts: those on the same changes that did not come to their end.
        end: up to where changes may have been made: of a restore that is, or was, spread over several machines.
    """

    def __init__(
        self,
        clock: Clock,
        context: StepContext,
        begin: int,
        attempts: Sequence[Attempt] = (),
        *,
        end: int | None = None,
    ) -> None:
        self._clock = clock
        self._context = context
        self._begin = begin
        self._end = end
        self._before: list[Json] = [[each.began, each.until] for each in attempts]
        self._began = clock.now()
        self._record(self._began)

    def move(self, begin: int, end: int, began: float) -> None:
        """Record that the work is on the changes between two places by now, and since when it is."""
        self._begin, self._end, self._began = begin, end, began
        self._record(self._clock.now())

    def go_on(self) -> None:
        """Record that it still is, every few seconds."""
        now = self._clock.now()
        if now - self._recorded >= _RECORDED_EVERY_S:
            self._record(now)

    def _record(self, now: float) -> None:
        self._recorded = now
        spread: Mapping[str, Json] = {} if self._end is None else {"begun": self._end}
        self._context.progress({"done": self._begin, **spread, "at_work": [*self._before, [self._began, now]]})


def read_attempts(tools: ObjectTools, progress: Iterable[Mapping[str, Json]]) -> tuple[Attempt, ...]:
    """Return the attempts that recorded such progress, oldest first.

    Raises:
        BackoutError: the bucket does not say how its clock stands.
    """
    spans: dict[float, float] = {}
    for each in progress:
        spans |= decode_values(each.get("at_work", _NOT_RECORDED), tuple[tuple[float, float], ...])
    skew_s = measure_skew(tools.look.read()) if spans else 0.0
    return tuple(Attempt(began, until, skew_s) for began, until in spans.items())


def list_given_up(tools: ObjectTools, of: str, kind: type[StepArguments]) -> list[Mapping[str, Json]]:
    """Return the progress of a step of undos that were given up, oldest first: some of it is done already.

    Args:
        of: the run that they were to take back.
    """
    found: list[Mapping[str, Json]] = []
    for each in reversed(tools.runs.runs()):
        is_undo = each.plan.has(UndoObjectsStep) and each.plan.arguments(UndoObjectsStep).of == of
        if is_undo and each.state.is_over and each.state is not RunState.DONE:
            found += list_progress(tools.journal, each, kind)
    return found


def measure_skew(facts: BucketFacts) -> float:
    """Return how far apart the clock of the store and this host's may be, in seconds."""
    return max(abs(facts.clock_ahead_s or 0.0), facts.clock_slack_s)
