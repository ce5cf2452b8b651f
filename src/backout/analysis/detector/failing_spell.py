"""Whether failures go on: what failed for two seconds and is over is a blip, which no rollback would mend.

A spell of failures is over when, at the share that failed in it, so many requests without a failure would come one time
in a thousand. One spell is forgiven; what comes back is not.
"""

from __future__ import annotations

from dataclasses import dataclass

from backout.analysis.detector.streams import AGREES
from backout.analysis.detector.wording import count
from backout.analysis.statistics.beta import log_beta
from backout.analysis.statistics.rates import log_e_above

LASTS_S = 4
"""Failures are a reason to roll back when they were seen for so long, unless it is known sooner that they are over."""
_OVER = -6.9
"""Log probability of the requests since the last failure, at the share that failed before."""


@dataclass(slots=True)
class Spell:
    """Failures that hang together.

    Args:
        first, last: the Unix seconds in which a request failed first and last.
        failed, total: of the requests from `first` to `last`.
        until: how many requests there were in the whole watch up to `last`.
    """

    first: int
    last: int
    failed: int
    total: int
    until: int

    def is_over(self, requests: int) -> bool:
        """Return whether it is, after so many requests in the whole watch."""
        a, b = float(self.failed), float(self.total - self.failed + 1)
        return log_beta(a, b + requests - self.until) - log_beta(a, b) < _OVER


class FailingSpells:
    """The spells of failures of one version, from its counts of each second.

    Args:
        usual: the share of requests that fails as a rule, in (0, 1).
    """

    def __init__(self, usual: float) -> None:
        self._usual = usual
        self._requests = 0
        self._reaches = 0
        self._open: Spell | None = None
        self._grave_before = 0
        self._asked_at: float | None = None

    def add(self, second: int, requests: int, failed: int) -> None:
        """Count a second (Unix), or a part of one."""
        self._reaches = max(self._reaches, second)
        if failed:
            self._add_failures(second, requests, failed)
        self._requests += requests

    def _add_failures(self, second: int, requests: int, failed: int) -> None:
        alone = Spell(second, second, failed, requests, self._requests + requests)
        spell = self._open
        if spell is None or spell.is_over(self._requests):
            self._grave_before += self._is_grave(spell)
            self._open = alone
        elif second - spell.last >= LASTS_S and self._is_grave(alone) and not self._is_grave(spell):
            self._open = alone  # what failed now and then before does not make it older
        else:
            spell.last = max(spell.last, second)
            spell.failed += failed
            spell.total += alone.until - spell.until
            spell.until = alone.until

    def _is_grave(self, spell: Spell | None) -> bool:
        return spell is not None and log_e_above(spell.failed, spell.total, self._usual) >= AGREES

    def explain_wait(self, at: float, *, is_last: bool) -> str:
        """Return why failures are no reason to roll back yet, or any more, "" when they are.

        Args:
            at: Unix seconds; nothing is waited for any longer than `LASTS_S` after the first question.
            is_last: nothing more will be seen.
        """
        spell = self._open
        is_grave = self._is_grave(spell)
        if spell is None or self._grave_before + is_grave != 1:  # none stands out, or it came back
            return ""
        if not is_grave or spell.is_over(self._requests):
            return f"but that is over: {count(self._requests - spell.until, 'request')} since then went well"
        self._asked_at = at if self._asked_at is None else self._asked_at
        left_s = min(spell.first + LASTS_S - 1 - self._reaches, round(self._asked_at + LASTS_S - at))
        return "" if left_s <= 0 or is_last else f"and {left_s} s more will tell whether it goes on"
