"""Database connections as evidence: none left, where there was room before, is reason enough for a verdict.

Use that was as high before is "not the deployment"; connections that grow steadily towards their limit keep a version
from being called healthy, and never roll it back; a database that could not be asked says nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, cast

from backout.analysis.detector.wording import count
from backout.model.guard.connections import ConnectionUse
from backout.model.guard.verdict import StreamEvidence
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

STREAM = "database connections"
SERVICE = "database"
"""The service whose criticality decides whether connections may act."""
EXHAUSTED = 0.95
"""From this share of the limit on a database counts as full: the next burst is refused."""
ROOM_BEFORE = 0.8
"""A database that was fuller than this before may be full now without the deployment."""
LEAK_LOOKS, LEAK_S = 5, 900.0
"""A line through at least this many looks that reaches the limit within this time (or the watch) is a leak."""
_MOST_LOOKS = 30
_STRAIGHT = 0.9
"""Share of the scatter that a line must explain (R squared)."""
_LEAST_GROWTH = 0.05
"""Growth below this share of the limit is no more than what comes and goes."""
_CERTAIN = 20.0
"""Log evidence shown for a full database: not a probability, only "beyond the threshold"."""
_LIMITS = {"server": "", "database": " of the database", "role": " of the role", "pool": " of the pool"}


class UseState(TypedDict):
    """Checkpoint of a `ConnectionUse`."""

    at: float
    used: int
    limit: int
    waiting: int | None
    scope: str
    refused: str


class OccupancyState(TypedDict):
    """Checkpoint of an `Occupancy`."""

    before: UseState | None
    looks: list[UseState]
    seen: int
    full: int
    in_a_row: int
    unanswered: int
    first_bad_at: float | None


class Occupancy:
    """The use of the database's connections, look by look.

    Args:
        is_critical: whether an outage of the database is one of the application.
        needed: consecutive looks that count.
        until: Unix seconds at which the watch ends.
    """

    def __init__(self, *, is_critical: bool, needed: int, until: float) -> None:
        self._is_critical = is_critical
        self._needed = needed
        self._until = until
        self._before: ConnectionUse | None = None
        self._looks: list[ConnectionUse] = []
        self._seen = self._full = self._in_a_row = self._unanswered = 0
        self.first_bad_at: float | None = None

    def add_before(self, use: ConnectionUse) -> None:
        """Take a look made before the deployment; of several the fullest counts."""
        if self._before is None or use.share > self._before.share:
            self._before = use

    def add(self, use: ConnectionUse | None) -> None:
        """Take a look made after the deployment; None: the database could not be asked."""
        if use is None:
            self._unanswered += 1
            return
        self._seen += 1
        if self._looks and (self._looks[-1].limit, self._looks[-1].scope) != (use.limit, use.scope):
            self._looks = []  # another limit is the tightest now: the line begins anew
        self._looks = [*self._looks, use][-_MOST_LOOKS:]
        if use.share < EXHAUSTED:
            self._in_a_row = 0
            if self._before is None and use.share < ROOM_BEFORE:
                self._before = use  # seen with room in this watch: that it is full later is news
            return
        self._full += 1
        self._in_a_row += 1
        if self._had_room() and self._is_critical:
            self.first_bad_at = use.at if self.first_bad_at is None else self.first_bad_at

    def _had_room(self) -> bool:
        return self._before is not None and self._before.share < ROOM_BEFORE

    def find_regression(self) -> str | None:
        """Return why the connections alone call for a rollback, one sentence, or None."""
        if not self._is_critical or self._in_a_row < self._needed or not self._had_room():
            return None
        return f"{self._words()}, in the last {self._in_a_row} looks"

    def not_the_deployment(self) -> str | None:
        """Return that the database was as full before, one sentence, or None."""
        if not self._is_critical or not self._in_a_row or self._before is None or self._had_room():
            return None
        return f"not the deployment: {self._words()}"

    def doubtful(self, now: float) -> str | None:
        """Return what keeps the connections from saying "all is well" at `now`, one sentence, or None."""
        if not self._is_critical:
            return None
        if self._in_a_row:
            known = "" if self._before is not None else "; whether there was room before is not known"
            return f"{self._words()}{known}"
        return self._leak(now)

    def _leak(self, now: float) -> str | None:
        line = _fit_line(self._looks)
        if line is None or line.straight < _STRAIGHT:
            return None
        last = self._looks[-1]
        left_s = (last.limit - last.used) / line.per_s if line.per_s > 0 else LEAK_S + self._until
        grown = last.used - self._looks[0].used
        if grown < _LEAST_GROWTH * last.limit or left_s > max(LEAK_S, self._until - now):
            return None
        return (
            f"database connections grow by {line.per_s * 60:.2g} a minute: {_describe_use(last)}, at this pace "
            "all of them "
            f"in {max(1, round(left_s / 60))} min"
        )

    def _words(self) -> str:
        last = self._looks[-1]
        before = f", {self._before.used:,} before" if self._before is not None and not self._before.refused else ""
        if self._before is not None and self._before.refused:
            before = ", and it refused some before"
        refused = f'the database refuses connections ("{last.refused}")'
        return f"{refused if last.refused else _describe_use(last)}{before}"

    def evidence(self) -> tuple[StreamEvidence, ...]:
        """Return the line of evidence, none when the database was never asked."""
        if not self._seen and not self._unanswered:
            return ()
        sentence = self._words() if self._seen else "the database did not tell its connections"
        if self._seen and self._unanswered:
            sentence += f"; it did not tell in {count(self._unanswered, 'look')}"
        return (
            StreamEvidence(
                stream=STREAM,
                bad=self._full,
                total=self._seen,
                expected=self._before.share if self._before is not None else None,
                expected_from="the looks before" if self._before is not None else "the looks; unknown before",
                log_evidence=_CERTAIN if self.find_regression() is not None else 0.0,
                sentence=sentence,
            ),
        )

    def state(self) -> OccupancyState:
        """Return a checkpoint, plain JSON."""
        return {
            "before": _use_state(self._before) if self._before is not None else None,
            "looks": [_use_state(look) for look in self._looks],
            "seen": self._seen,
            "full": self._full,
            "in_a_row": self._in_a_row,
            "unanswered": self._unanswered,
            "first_bad_at": self.first_bad_at,
        }

    def restore(self, state: OccupancyState) -> None:
        """Go on from a checkpoint."""
        self._before = ConnectionUse(**state["before"]) if state["before"] is not None else None
        self._looks = [ConnectionUse(**look) for look in state["looks"]]
        self._seen, self._full, self._in_a_row = state["seen"], state["full"], state["in_a_row"]
        self._unanswered, self.first_bad_at = state["unanswered"], state["first_bad_at"]


def _use_state(use: ConnectionUse) -> UseState:
    names = ("at", "used", "limit", "waiting", "scope", "refused")
    return cast("UseState", {name: getattr(use, name) for name in names})


def _describe_use(use: ConnectionUse) -> str:
    return f"{use.used:,} of {use.limit:,} connections{_LIMITS.get(use.scope, '')} in use"


class _Line(Value, frozen=True):
    """Growth in connections per second, and the share of the scatter that the line explains."""

    per_s: float
    straight: float


def _fit_line(looks: Sequence[ConnectionUse]) -> _Line | None:
    """Return the least-squares line through the looks; None for too few, or when nothing changes."""
    if len(looks) < LEAK_LOOKS or any(look.refused for look in looks):
        return None
    at = sum(look.at for look in looks) / len(looks)
    used = sum(look.used for look in looks) / len(looks)
    along = sum((look.at - at) ** 2 for look in looks)
    up = sum((look.used - used) ** 2 for look in looks)
    both = sum((look.at - at) * (look.used - used) for look in looks)
    if not along or not up:
        return None
    return _Line(both / along, both * both / (along * up))
