"""The source of counts during a watch: estimates and old counts allow no automatic action (safety rule 13)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

from msgspec.structs import replace

from backout.analysis.blind_spots import describe_blind_spots
from backout.errors import AuthError, BackoutError
from backout.model.guard.routes import has_method
from backout.model.guard.signals import LATE_S, merge_counts
from backout.model.incident.notice import NoticeKind
from backout.plan.ramp import AT_LEAST_S
from backout.runbook.incident.tell import tell

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backout.model.guard.signals import Counts
    from backout.model.steps.guard import WatchStep
    from backout.ports import LearnsRoutes
    from backout.runbook.toolbox import Toolbox

STALE_S = LATE_S
SLOT_S = 10.0
"""A step of a ramp is divided into parts of this many seconds; half as many as its minimum time has need a request."""
PAGE_S = 3600
"""How many seconds of stored counts are in memory at a time."""


def explain_unseen(tools: Toolbox, watch: WatchStep) -> str:
    """Return why a version at the present step of its ramp was hardly seen, or "" (also for a watch without a ramp).

    The evidence is carried from step to step: without this, the evidence at the previous share would count for one at
    which the source was down or has a gap (safety rule 13).
    """
    if tools.traffic is None or watch.stage_s is None:
        return ""
    at = watch.deployed_at
    wanted = max(1, int(min(AT_LEAST_S, watch.stage_s) / 2 / SLOT_S))
    now, seen = int(tools.clock.now()) + 1, set[int]()
    for since in range(math.ceil(at), now, PAGE_S):
        rows = tools.counts.load_counts(tools.environment, since, min(since + PAGE_S, now))
        seen |= {int((row.second - at) / SLOT_S) for row in rows if row.version == watch.version and row.requests}
        if len(seen) >= wanted:
            return ""
    return f"hardly any request was counted at {watch.split * 100:g} % of the traffic"


def teach(tools: Toolbox, rows: Iterable[Counts]) -> None:
    """Tell the source which routes there were, where it names them itself.

    A source that begins to count after a deployment would not know which routes were answered well before; if a version
    answers 404 to everyone, those requests would be taken for guesses.
    """
    if not hasattr(tools.traffic, "learn"):  # the wrapper passes attributes on, which `isinstance` does not see
        return
    source = cast("LearnsRoutes", tools.traffic)
    used = merge_counts(
        {name: route.requests} for row in rows for name, route in row.routes.items() if has_method(name)
    )
    source.learn(sorted(used, key=lambda name: (-used[name], name)))


def read_kept_before(tools: Toolbox, until: float) -> tuple[Counts, ...]:
    """Return the stored counts of all versions for the span of a baseline, before a time.

    Names without a method, as an earlier version kept them, are left out where the source has methods now: they would
    stand for routes that are no longer requested.
    """
    since = int(until - tools.policy.guard.baseline_s)
    rows = tools.counts.load_counts(tools.environment, since, int(until))
    if tools.traffic is None or not tools.traffic.traits.has_method:
        return rows
    return tuple(row if any(map(has_method, row.routes)) else replace(row, routes={}) for row in rows)


def check_source(tools: Toolbox) -> None:
    """Check that the source's credentials are there and accepted; any other trouble is reported by the watch itself.

    Raises:
        AuthError: they are not. Watching nothing would look like watching a quiet version.
    """
    if tools.traffic is None:
        return
    now = int(tools.clock.now())
    teach(tools, read_kept_before(tools, now))
    try:
        tools.traffic.read(now - 1, now)
    except AuthError:
        raise
    except BackoutError as error:
        tools.say(f"the source of counts does not answer yet: {error}")
    found = describe_blind_spots(tools.traffic.traits, tools.policy.guard)
    if found:
        tools.say(f"{found}; no verdict says anything about it")


class SourceWatch:
    """Runs beside one watch: whether the source may be the basis of an automatic action.

    Sampling downgrades for the rest of the watch: from then on there are estimates among the counts. Old counts
    downgrade until the source is up to date again. Both are reported at once, and told once.

    Args:
        reaches: how far the stored counts reach, Unix seconds: a restart does not make a source fresh.
        sampled: whether this watch used estimates before an interruption.
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
        name, estimated = self._tools.traffic.traits.name, self._tools.traffic.traits.estimated
        why = f" ({estimated})" if estimated else ""
        if self.sampled:
            return f"the counts of the source {name} are estimates{why}; the verdict is advice"
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
