"""The source of counts during a watch: estimates and old counts carry no automatic action (safety rule 13)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from backout.analysis.unseen import words
from backout.errors import AuthError, BackoutError
from backout.model.notice import NoticeKind
from backout.model.routes import has_method
from backout.model.signals import merged
from backout.plan.ramp import AT_LEAST_S
from backout.runbook.tell import tell

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from backout.model.plan import Json
    from backout.model.signals import Counts
    from backout.ports import LearnsRoutes
    from backout.runbook.toolbox import Toolbox

STALE_S = 30.0
"""Counts that reach less far than this say nothing about now."""
SLOT_S = 10.0
"""A step of a ramp falls into parts of so many seconds; half as many as its least time has must have a request."""
PAGE_S = 3600
"""So many seconds of kept counts stand in memory at a time."""


def unseen(tools: Toolbox, watch: Mapping[str, Json]) -> str:
    """Return why a version at the present step of its ramp was hardly seen, or "" (also of a watch without a ramp).

    The evidence is carried from step to step: without this, what was seen at the share before would speak for a share
    at which the source was down or has a gap (safety rule 13).
    """
    if tools.traffic is None or "stage_s" not in watch:
        return ""
    at = float(str(watch["deployed_at"]))
    wanted = max(1, int(min(AT_LEAST_S, float(str(watch["stage_s"]))) / 2 / SLOT_S))
    now, seen = int(tools.clock.now()) + 1, set[int]()
    for since in range(math.ceil(at), now, PAGE_S):
        rows = tools.counts.kept(tools.environment, since, min(since + PAGE_S, now))
        seen |= {int((row.second - at) / SLOT_S) for row in rows if row.version == watch["version"] and row.requests}
        if len(seen) >= wanted:
            return ""
    return f"hardly any request was counted at {float(str(watch['split'])) * 100:g} % of the traffic"


def teach(tools: Toolbox, rows: Iterable[Counts]) -> None:
    """Tell the source which routes there were, where it names them itself.

    One that begins to count after a deployment would not know what was answered well before, and a version that answers
    404 to everybody would be taken for somebody's guesses.
    """
    if not hasattr(tools.traffic, "learn"):  # the boundary around it has what it has, which `isinstance` does not see
        return
    source = cast("LearnsRoutes", tools.traffic)
    used = merged({name: route.requests} for row in rows for name, route in row.routes.items() if has_method(name))
    source.learn(sorted(used, key=lambda name: (-used[name], name)))


def kept_before(tools: Toolbox, until: float) -> tuple[Counts, ...]:
    """Return the counts of all versions that were kept of the time that a baseline takes, before a time.

    Names without a method, as an earlier version kept them, are left out where the source has methods now: they would
    stand for routes that nobody asks for any more.
    """
    since = int(until - tools.policy.guard.baseline_s)
    rows = tools.counts.kept(tools.environment, since, int(until))
    if tools.traffic is None or not tools.traffic.traits.has_method:
        return rows
    return tuple(row if any(map(has_method, row.routes)) else replace(row, routes={}) for row in rows)


def check_source(tools: Toolbox) -> None:
    """Return when the source's credentials are there and taken; whatever else ails it, the watch itself will say.

    Raises:
        AuthError: they are not. A watch of nothing would look like one of a quiet version.
    """
    if tools.traffic is None:
        return
    now = int(tools.clock.now())
    teach(tools, kept_before(tools, now))
    try:
        tools.traffic.read(now - 1, now)
    except AuthError:
        raise
    except BackoutError as error:
        tools.say(f"the source of counts does not answer yet: {error}")
    found = words(tools.traffic.traits)
    if found:
        tools.say(f"{found}; no verdict says anything about it")


class SourceWatch:
    """Beside one watch: whether what the source tells may carry an automatic action.

    Sampling downgrades for the rest of the watch: estimates are among the counts from then on. Old counts downgrade
    until the source is up to date again. Both are said at once and told once.

    Args:
        reaches: until when the counts reach that were kept already, Unix seconds: a restart makes no source fresh.
        sampled: whether this watch has taken in estimates already, before an interruption.
    """

    def __init__(self, tools: Toolbox, run: str, *, reaches: float, sampled: bool = False) -> None:
        self._tools = tools
        self._run = run
        self._reaches = reaches
        self._told: set[str] = set()
        self._is_stale = False
        self.sampled = sampled

    @property
    def downgraded(self) -> str:
        """Why no automatic action may rest on the counts now, or ""."""
        if self._tools.traffic is None:
            return ""
        name = self._tools.traffic.traits.name
        if self.sampled:
            return f"the counts of the source {name} are estimates; the verdict is advice"
        if self._is_stale:
            return f"the source {name} told nothing newer than {STALE_S:g} s; the verdict is advice"
        return ""

    def tick(self, *, complete_until: int | None, sampled: bool, trouble: str = "") -> None:
        """Take note of how far the counts reach (None: nothing was ever read) and whether they are estimates.

        `trouble`: why they cannot be read just now, or "".
        """
        if self._tools.traffic is None:
            return
        before = self.downgraded
        self.sampled = self.sampled or sampled
        self._reaches = max(self._reaches, complete_until or 0.0)
        self._is_stale = self._tools.clock.now() - self._reaches > STALE_S
        why = self.downgraded
        if why and why != before:
            self._tell("sampled" if self.sampled else "lost", why, trouble)
        elif before and not why:
            self._tools.say("the source of counts is up to date again")

    def _tell(self, what: str, why: str, trouble: str) -> None:
        self._tools.say(f"{why}: nothing is done automatically on these counts")
        if what in self._told:
            return
        self._told.add(what)
        environment = self._tools.environment
        said = f" It says: {trouble}." if trouble else ""
        rest = "Health checks still count; a rollback on errors or slowness needs a person."
        tell(
            self._tools,
            NoticeKind.SOURCE_LOST,
            f"{environment}: guard cannot act on its counts",
            f"{why[:1].upper()}{why[1:]}.{said} {rest}",
            key=f"{self._run}:{what}",
            run=self._run,
            next=(f"backout status -e {environment}",),
        )
