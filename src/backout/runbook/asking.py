"""Ask a target at 0 % of the traffic, and tell a total outage of what has the traffic (safety rule 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.proof import Look, Said, is_clear, is_total_outage, judge
from backout.errors import BackoutError

if TYPE_CHECKING:
    from collections.abc import Collection

    from backout.model.signals import Counts, HealthReport
    from backout.ports import HealthCheck
    from backout.runbook.toolbox import Toolbox

BUDGET_S, RETRY_S = 5.0, 0.2
"""How long one target is asked at most, and the wait before it is asked again after an answer that is not good."""
GOOD_LOOKS, BAD_LOOKS = 2, 3
"""So many answers in a row decide."""
OUTAGE_S, STALE_S = 15, 30.0
"""Counts of so many seconds tell a total outage, from a source that lags less than this."""
OUTAGE_LOOKS = 2


def total_outage(tools: Toolbox, serving: Collection[str], since: float) -> str:
    """Return how it is known that everything that has traffic since then is down now, or ""."""
    rows = _recent_counts(tools, serving, since)
    told = None if rows is None else is_total_outage(rows)
    if told is not None:
        return "nearly every answer of the last seconds was an error" if told else ""
    if tools.health is None or not all(tools.health.look().is_down for _ in range(OUTAGE_LOOKS)):
        return ""
    return f"the health endpoint is down in {OUTAGE_LOOKS} looks, and there are no counts"


def _recent_counts(tools: Toolbox, serving: Collection[str], since: float) -> list[Counts] | None:
    """Return the counts of the last seconds; None when no source tells them soon enough."""
    traffic, now = tools.traffic, int(tools.clock.now())
    if traffic is None or traffic.traits.lag_s >= STALE_S:
        return None
    try:
        page = traffic.read(max(now - OUTAGE_S - int(traffic.traits.lag_s), int(since)), now + 1)
    except BackoutError:
        return None
    return [row for row in page.counts if row.version in serving]


def ask(tools: Toolbox, target: str, *, leaving: str, serving: Collection[str]) -> tuple[bool | None, str]:
    """Return whether a target answers well (None: it could not be measured), and why in one sentence.

    Args:
        leaving: the version that it is compared with. serving: the versions with traffic.
    """
    if tools.health is None:
        return None, "no health check is set up"
    asker = _Asker(tools, tools.health, target, leaving, serving)
    deadline = tools.clock.now() + BUDGET_S
    look, row = asker.look(), 1
    while not _is_decided(look, row) and tools.clock.now() < deadline:
        if look.said is not Said.GOOD:
            tools.clock.sleep(RETRY_S)
        before, look = look, asker.look()
        row = row + 1 if look.said is before.said else 1
    if look.said is Said.GOOD:
        return asker.routes(look.why)
    return (False if look.said is Said.BAD else None), look.why


def _is_decided(look: Look, row: int) -> bool:
    return (look.said is Said.GOOD and row >= GOOD_LOOKS) or (look.said is Said.BAD and row >= BAD_LOOKS)


class _Asker:
    """Asks one target; the current version is asked once, and only when an answer is not good by itself."""

    def __init__(
        self, tools: Toolbox, health: HealthCheck, target: str, leaving: str, serving: Collection[str]
    ) -> None:
        self._policy = tools.policy
        self._health = health
        self._target = target
        self._leaving = leaving
        self._serving = serving
        self._current: HealthReport | None = None

    def look(self) -> Look:
        """Return one answer, judged."""
        report = self._health.look(self._target)
        if is_clear(report, self._target, self._policy):
            return Look(Said.GOOD, "it answers, and nothing critical is down")
        if self._current is None:
            self._current = self._health.look(self._leaving)
        return judge(report, self._target, self._serving, self._current, self._policy)

    def routes(self, why: str) -> tuple[bool | None, str]:
        """Ask the configured routes; one that is bad is asked once more."""
        routes = self._policy.guard.prove
        for path in routes:
            try:
                status = self._health.fetch(path, self._target).status
                if _is_bad(status):
                    status = self._health.fetch(path, self._target).status
            except BackoutError as error:
                return None, f"{path} cannot be asked: {error.what}"
            if _is_bad(status):
                return False, f"{path} answers {status}" if status else f"{path} does not answer"
        return True, f"{why}; {', '.join(routes)} {'answers' if len(routes) == 1 else 'answer'} too" if routes else why


def _is_bad(status: int | None) -> bool:
    return status is None or status >= 500  # noqa: PLR2004 the server's own errors
