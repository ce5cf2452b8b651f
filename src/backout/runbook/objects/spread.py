"""A restore whose ranges are worked on by several machines: this one drives it, and works on ranges as well.

Who drives it decides alone: it makes the ranges, a few dozen at a time, reads what became of each, and notes it on this
host as a restore by one machine does, so everything behind it is the same: the comparison, the undo, the figures.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from backout import __version__
from backout.model.objects.progress import ObjectProgress
from backout.model.objects.ranges import RangeOrder, RangeWork
from backout.model.objects.versions import Attempt
from backout.plan.objects import name_lane
from backout.runbook.objects.attempts import AtWork, measure_skew
from backout.runbook.objects.compare import count_noted
from backout.runbook.objects.ranges import RangeLost, work_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.objects.ranges import RangeState
    from backout.model.steps.objects import SurveyObjectsStep, UndoObjectsStep
    from backout.ports import Ranges, StepContext
    from backout.runbook.objects.before import Before
    from backout.runbook.objects.tools import ObjectTools, Spread

_AT_ONCE: Final = 32
"""How many ranges are out at once: what they need is in the journal's database, some hundred kilobytes each."""
_REFILLED_AT: Final = 24
_LOOK_S: Final = 0.25


class SpreadRestore:
    """The part of `restore_objects` that is done by several machines.

    Args:
        again: see `BucketVersions.carry_out`.
        others: attempts that may have made any of the changes.
    """

    def __init__(
        self,
        tools: ObjectTools,
        context: StepContext,
        order: SurveyObjectsStep | UndoObjectsStep,
        before: Before,
        *,
        again: bool,
        others: Sequence[Attempt],
    ) -> None:
        assert tools.spread is not None
        self._tools, self._spread, self._context = tools, tools.spread, context
        self._order, self._before = order, before
        self._again, self._others = again, tuple(others)
        self._run = context.run
        self._size = tools.chunk
        self._total = count_noted(tools, self._run)
        self._waiting = deque(
            first
            for first in range(before.done, self._total, self._size)
            if first >= before.end or not tools.notes.is_settled(self._run, first, self._size)
        )
        self._out: dict[int, float] = {}
        self._again_from: dict[int, float] = {}
        self._end = before.end
        self._told: set[str] = set()

    def restore(self) -> None:
        """Have every change carried out, and noted on this host.

        Raises:
            BackoutError: this machine's own part of it failed, or the run is another's by now.
        """
        tools, run = self._tools, self._run
        self._skew_s = measure_skew(tools.look.read())
        with self._spread.connect() as ranges:
            ranges.prepare()
            self._fence, server_now = ranges.find_fence(name_lane(tools.environment), run)
            self._ahead_s = server_now - tools.clock.now()
            self._context.check()  # so the lease with that fence is this process's own
            work = AtWork(tools.clock, self._context, self._find_begin(), self._before.attempts, end=self._end)
            ranges.remove(run)
            with _OwnShare(self._spread, run) as own:
                while self._waiting or self._out:
                    self._publish(ranges, work)
                    self._collect(ranges)
                    work.go_on()
                    own.raise_failure()
            ranges.remove(run)
        AtWork(tools.clock, self._context, self._total)

    def _find_begin(self) -> int:
        """Return the place before which everything is settled."""
        return min((*self._out, *list(self._waiting)[:1]), default=self._total)

    def _publish(self, ranges: Ranges, work: AtWork) -> None:
        """Let others work on the next ranges; that they may be is recorded before."""
        if not self._waiting or len(self._out) > _REFILLED_AT:
            return
        now = self._tools.clock.now()
        firsts = [self._waiting.popleft() for _ in range(min(len(self._waiting), _AT_ONCE - len(self._out)))]
        self._out |= dict.fromkeys(firsts, now)
        self._end = max(self._end, firsts[-1] + self._size)
        work.move(self._find_begin(), self._end, min(self._out.values()))
        ranges.publish([self._make_order(first, now) for first in firsts])

    def _make_order(self, first: int, now: float) -> RangeOrder:
        vanished = self._again_from.get(first)
        lost = () if vanished is None else (Attempt(vanished, now, self._skew_s),)
        work = RangeWork(
            place=self._spread.place,
            version=__version__,
            prefix=self._order.prefix,
            moment=self._order.moment,
            again=self._again,
            attempts=(*self._others, *self._before.find_attempts(first), *lost),
            ahead_s=self._ahead_s,
            skew_s=self._skew_s,
            changes=tuple(self._tools.notes.read(self._run, first, self._size)),
        )
        return RangeOrder(self._run, first, name_lane(self._tools.environment), self._fence, work)

    def _collect(self, ranges: Ranges) -> None:
        """Note what is settled, and have done again what somebody lost."""
        states = ranges.look(self._run)
        for state in states:
            if state.is_settled and (carried := ranges.take(self._run, state.first)) is not None:
                self._tools.notes.settle(self._run, state.first, carried)
                ranges.remove(self._run, state.first)
                self._out.pop(state.first, None)
        open_states = [state for state in states if not state.is_settled]
        for first in self._out.keys() - {state.first for state in states}:  # somebody removed its row
            self._again_from[first] = self._out.pop(first)
            self._waiting.appendleft(first)
        lost = [each.first for each in open_states if each.silent_s > self._find_patience_s(each)]
        if lost:
            ranges.recall(self._run, lost, self._spread.silent_s)
        self._tell(open_states)
        if len(open_states) == len(states):
            threading.Event().wait(_LOOK_S)

    def _find_patience_s(self, state: RangeState) -> float:
        return self._spread.silent_s if state.worker else self._spread.lost_s

    def _tell(self, states: Sequence[RangeState]) -> None:
        for state in states:
            if state.why and state.why not in self._told:
                self._told.add(state.why)
                self._spread.say(f"a worker gave a range of the restore up: {state.why}")
        left = self._size * (len(self._waiting) + len(self._out)) - sum(state.done for state in states)
        self._tools.progress(ObjectProgress("restoring", max(0, self._total - left), self._total))


class _OwnShare:
    """This process's own part: a thread that takes one range after the other, as any worker does."""

    def __init__(self, spread: Spread, run: str) -> None:
        self._spread = spread
        self._run = run
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="backout-ranges", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def raise_failure(self) -> None:
        """Raise what ended it, if anything did."""
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        try:
            with self._spread.connect() as ranges:
                while not self._stop.is_set():
                    claimed = ranges.claim(self._run, None, self._spread.worker, place=self._spread.place)
                    if claimed is None:
                        self._stop.wait(_LOOK_S)
                        continue
                    with suppress(RangeLost):  # another one has it, or the driver is to stop
                        work_on(self._spread, ranges, claimed, self._stop)
        except BaseException as error:  # noqa: BLE001 - it is raised in the driver's own thread
            self._failure = error
