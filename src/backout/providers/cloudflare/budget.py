"""How many calls of the API are left, as its last answer said: whoever only looks leaves enough for a switch.

All tokens of a user, and the dashboard, share 1,200 calls in five minutes; who exceeds that is blocked for five
minutes, so that two guards and a colleague's browser could keep a rollback from happening. So what only looks stays
above a line that falls from all calls at the beginning of a period to twice the reserve at its end: however many look,
and whatever else a colleague's browser uses, the reserve is there at every moment.

Source: Cloudflare documentation, "Rate limits" (2026-04-20): `Ratelimit: "default";r=50;t=30`, r calls left until the
period ends in t seconds; `Ratelimit-Policy: "default";q=1200;w=300`, q calls in w seconds.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Final

from backout.errors import ProviderUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

RESERVE: Final = 60
"""Calls that are left for a switch and what is read back behind it, of several environments if need be."""
_END: Final = 2 * RESERVE
"""Where the line ends: so many may look once more at a time, as none knows of the others' calls before its own."""
_CALLS, _PERIOD_S = 1200, 300.0
"""No answer, however odd, stops what looks for longer than a period."""
_LEFT: Final = re.compile(r";\s*r=(\d{1,9})(?!\d)")
_RESETS: Final = re.compile(r";\s*t=(\d{1,9})(?!\d)")
_QUOTA: Final = re.compile(r";\s*q=(\d{1,9})(?!\d)")
_WINDOW: Final = re.compile(r";\s*w=(\d{1,9})(?!\d)")


_FORGOTTEN_S: Final = 15.0
"""After so many seconds without asking, a look is not waited for any more."""


class Budget:
    """The calls that are left to one user of the API, shared by all that call with their token; safe in threads."""

    def __init__(self) -> None:
        self._left: int | None = None
        self._resets_at = 0.0
        self._slope = (_CALLS - _END) / _PERIOD_S
        self._held = 0
        self._waiting: dict[int, float] = {}
        self._lock = Lock()

    def note(self, header: str | None, now: float, policy: str | None = None) -> None:
        """Take in the headers of an answer; of several limits the one with the fewest calls counts."""
        quota, window = _QUOTA.search(policy or ""), _WINDOW.search(policy or "")
        if quota is not None and window is not None and int(window[1]) and int(quota[1]) > _END:
            self._slope = (int(quota[1]) - _END) / int(window[1])
        found = []
        for item in (header or "").split(","):
            left, resets = _LEFT.search(item), _RESETS.search(item)
            if left is not None and resets is not None:
                found.append((int(left[1]), now + min(int(resets[1]), _PERIOD_S)))
        if found:
            self._left, self._resets_at = min(found)

    def note_blocked(self, for_s: float, now: float) -> None:
        """Take in that no call is answered for so many seconds."""
        self._left, self._resets_at = 0, now + min(for_s, _PERIOD_S)

    def left(self, now: float) -> tuple[int, float] | None:
        """Return (calls that are left, seconds until there are more); None where that is not known."""
        if self._left is None or now >= self._resets_at:
            return None
        return self._left, self._resets_at - now

    def wait_s(self, now: float, calls: int = 1) -> float:
        """Return how long what only looks has to wait until it may make so many calls."""
        known = self.left(now)
        if known is None:
            return 0.0
        left, seconds = known
        room = left - self._held - (calls - 1) - _END
        return min(seconds, max(0.0, seconds - room / self._slope))

    def take_turn(self, who: int, calls: int, now: float, *, first: bool = False) -> bool:
        """Hold so many calls for a look that asks for its turn, or return False: who asked first is first.

        So several that look each get their turn, and none takes the few calls that another one waits for.

        Args:
            who: a number of its own.
            first: its turn comes before that of all others.
        """
        with self._lock:
            self._waiting = {each: at for each, at in self._waiting.items() if now - at < _FORGOTTEN_S}
            is_next = first or next(iter(self._waiting), who) == who
            if not is_next or self.wait_s(now, calls) > 0:
                self._waiting = {who: now} | self._waiting if first else self._waiting | {who: now}
                return False
            self._waiting.pop(who, None)
            self._held += calls
            return True

    def end_turn(self, calls: int) -> None:
        """Hold these calls no longer: they were made."""
        with self._lock:
            self._held -= calls

    def pace(self, every_s: float, now: float) -> float:
        """Return how long to wait between two looks that are usually made every so many seconds.

        >>> budget = Budget()
        >>> budget.pace(0.5, 0.0)
        0.5
        >>> budget.note('"default";r=480;t=200', 0.0)
        >>> budget.pace(0.5, 0.0)
        100.0
        """
        return max(every_s, self.wait_s(now))


class Looker:
    """A client that only looks, and so leaves calls to others."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._holds = False

    def check(self, now: float, where: str) -> None:
        """Raise ProviderUnavailable where the next call is one of those that are left for a rollback."""
        if not self._holds and self._budget.wait_s(now) > 0:
            raise self._make_error(now, where)

    @contextmanager
    def hold(self, calls: int, now: float, where: str, *, first: bool = False) -> Iterator[None]:
        """Have so many calls for what is done within: part of a look would tell nothing, and cost the whole of another.

        Args:
            first: see `Budget.take_turn`.

        Raises:
            ProviderUnavailable: there are not so many now, or others wait for them.
        """
        if not self._budget.take_turn(id(self), calls, now, first=first):
            raise self._make_error(now, where)
        self._holds = True
        try:
            yield
        finally:
            self._holds = False
            self._budget.end_turn(calls)

    def _make_error(self, now: float, where: str) -> ProviderUnavailable:
        left, seconds = self._budget.left(now) or (0, 0.0)
        what = f"the API allows {left:,} more calls in the next {seconds:.0f} s, which are left for a rollback"
        return ProviderUnavailable(what, where=where)


class Budgets:
    """The budgets of this process: one for each token at each API."""

    def __init__(self) -> None:
        self._found: dict[int, Budget] = {}

    def find(self, api: str, token: str) -> Budget:
        """Return the budget of a token, which is not kept."""
        return self._found.setdefault(hash((api, token)), Budget())
