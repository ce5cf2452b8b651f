"""What earlier attempts at the changes of a restore left: by this machine, or by several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.decoding import decode_values
from backout.errors import BackoutError
from backout.model.objects.versions import Attempt
from backout.model.value import Value
from backout.runbook.objects.attempts import measure_skew, read_attempts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.plan import Json
    from backout.runbook.objects.tools import ObjectTools, Spread


class Before(Value, frozen=True):
    """What earlier attempts at the same changes left.

    Args:
        done: all changes before this place are settled.
        end: from this place on nothing was begun.
        attempts: those on the changes between the two.
        exact: those on a range, by the place of its first change, where the journal's server knows them; of one that
            nobody took none.
        is_spread: whether other machines may have made some of the changes.
    """

    done: int = 0
    end: int = 0
    attempts: tuple[Attempt, ...] = ()
    exact: dict[int, tuple[Attempt, ...]] = {}  # noqa: RUF012 - msgspec copies it
    is_spread: bool = False

    def find_attempts(self, begin: int) -> tuple[Attempt, ...]:
        """Return those that may have made some of the changes of a range."""
        return self.exact.get(begin, self.attempts) if begin < self.end else ()

    def is_untouched(self, begin: int) -> bool:
        """Whether it is known that nobody worked on the range."""
        return self.exact.get(begin) == ()


def read_before(tools: ObjectTools, run: str, told: Mapping[str, Json] | None) -> Before:
    """Return what is before another attempt; what other machines finished meanwhile is noted on this host.

    Args:
        told: the newest progress of the step; None: nothing was begun.

    Raises:
        BackoutError: the bucket does not say how its clock stands, or the journal's server does not answer.
    """
    if told is None:
        return Before()
    done, attempts = decode_values(told["done"], int), read_attempts(tools, [told])
    if "begun" not in told:
        return Before(done, done + tools.chunk, attempts)
    before = Before(done, decode_values(told["begun"], int), attempts, is_spread=True)
    return _take_left(tools, run, before)


def _take_left(tools: ObjectTools, run: str, before: Before) -> Before:
    """Note what other machines finished for a driver that is gone, once none of them works any more."""
    spread = require_spread(tools, run)
    with spread.connect() as ranges:
        left = ranges.withdraw(run, spread.silent_s)
    for first, carried in left.settled.items():
        tools.notes.settle(run, first, carried)
    now, skew_s = tools.clock.now(), measure_skew(tools.look.read())
    exact = {
        first: tuple(Attempt(now - began, now - ended, skew_s) for began, ended in spans)
        for first, spans in left.spans.items()
    }
    known = [each for spans in exact.values() for each in spans]
    return Before(before.done, before.end, (*before.attempts, *known), exact, is_spread=True)


def remove_left(tools: ObjectTools, run: str) -> None:
    """Forget what other machines left, once it is noted and recorded here."""
    with require_spread(tools, run).connect() as ranges:
        ranges.remove(run)


def require_spread(tools: ObjectTools, run: str) -> Spread:
    """Return the way to the ranges. Raises BackoutError: the journal is a file by now."""
    if tools.spread is None:
        what = "the restore was spread over several machines, and its journal is on no server by now"
        raise BackoutError(what, where=run, hint="set journal.url_env as it was, and type the same command again")
    return tools.spread
