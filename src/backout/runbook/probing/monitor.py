"""Monitor what is live, without ever acting on it ("Monitoring During Rollback")."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.analysis.detector.criteria import CriteriaEngine
from backout.analysis.detector.monitored import MonitoringTally
from backout.analysis.history.remarks import drop_remarks
from backout.errors import BackoutError, Unmeasured
from backout.model.guard.connections import ConnectionUse
from backout.model.guard.monitoring import Reading, RunSight
from backout.report.times import format_clock
from backout.runbook.guard.baseline import read_baseline
from backout.runbook.probing.looks import make_connections_prober, make_health_look
from backout.runbook.probing.prober import Prober

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.model.deployment import Deployment
    from backout.model.guard.monitored import Monitored
    from backout.model.guard.signals import Counts, HealthReport
    from backout.model.guard.verdict import Verification
    from backout.runbook.toolbox import Toolbox

LOOK_AGAIN_S: Final = 5.0
"""How often what is live is read again."""
TICK_S: Final = 1.0


class Monitor:
    """Reads health, counts, connections and what is live; follows each new deployment.

    Args:
        for_s: how long it will go on, None: nobody knows.

    Raises:
        Unmeasured: nothing is deployed.
    """

    def __init__(self, tools: Toolbox, for_s: float | None = None) -> None:
        self._tools = tools
        self._for_s = for_s
        self.began_at = tools.clock.now()
        criteria = tools.policy.criteria
        self._tally = MonitoringTally(tools.policy, self.began_at, criteria.error_rate_for_s)
        history = drop_remarks(tools.deployments.history())
        if not history:
            raise Unmeasured("nothing is deployed", where=tools.environment, hint="backout deployments list")
        self._look_again_at = self.began_at + tools.pace(LOOK_AGAIN_S)
        self._live_problem = self._counts_problem = self._connections_problem = ""
        self._health: HealthReport | None = None
        self._use: ConnectionUse | None = None
        self._follow(history)
        look = None if tools.health is None else make_health_look(tools, tools.health)
        every_s, aside = tools.policy.guard.probe_every_s, tools.guard.in_background
        self._health_prober = Prober("health", look, tools.clock, every_s, in_background=aside)
        self._connections_prober = make_connections_prober(tools)

    def close(self) -> None:
        """Stop looking."""
        self._health_prober.close()
        self._connections_prober.close()

    def look(self) -> Reading:
        """Take in what is new, and return how things are."""
        self._look_at_deployments()
        self._read_counts()
        for report in self._health_prober.collect():
            self._health = report
            self._tally.add_health(report)
            self._engine.add_health(report)
        for read in self._connections_prober.collect():
            if isinstance(read, ConnectionUse):
                self._use, self._connections_problem = read, ""
                self._tally.add_connections(read)
            else:
                self._connections_problem = read.what
        now, tools = self._tools.clock.now(), self._tools
        seen = self._tally.current
        assert seen is not None
        return Reading(
            at=now,
            elapsed_s=now - self.began_at,
            for_s=self._for_s,
            version=self._live.main,
            deployment=self._live.id,
            live_since=self._live.created_at,
            maintenance=self._live.is_maintenance,
            left=self._left,
            live_problem=self._live_problem,
            run=_find_run(tools),
            has_health=tools.health is not None,
            has_connections=tools.guard.connections is not None,
            health=self._health,
            errors=None if tools.traffic is None else self._tally.measure_rate(now),
            counts_problem=self._counts_problem,
            response=self._tally.measure_recent(now),
            usual=seen.usual,
            usual_from=seen.usual_from,
            connections=self._use,
            connections_problem=self._connections_problem,
            criteria=self._engine.results(now),
        )

    def summarize(self) -> tuple[Monitored, Verification]:
        """Return what was seen since it began, and what the success criteria say of what is live now."""
        now = self._tools.clock.now()
        return self._tally.summarize(now), self._engine.verification(now)

    def _look_at_deployments(self) -> None:
        now = self._tools.clock.now()
        if now < self._look_again_at:
            return
        self._look_again_at = now + self._tools.pace(LOOK_AGAIN_S)
        try:
            history = drop_remarks(self._tools.deployments.history())
        except BackoutError as error:
            self._live_problem = error.what
            return
        self._live_problem = "" if history else "nothing is deployed any more"
        if history and history[0].id != self._live.id:
            self._follow(history)

    def _follow(self, history: Sequence[Deployment]) -> None:
        """Begin anew with the newest deployment: its criteria, its counts, what these are compared with."""
        tools = self._tools
        self._live, now = history[0], tools.clock.now()
        version = self._live.main
        served = (share.version for each in history[1:] for share in each.shares)
        self._left = next((each for each in served if not self._live.serves(each)), None)
        is_new = not any(each.serves(version) for each in history[1:])  # else what it replaced is what was left
        criteria = tools.policy.criteria
        since = min(max(self._live.created_at, self.began_at - criteria.error_rate_for_s), now)
        baseline, usual_from = self._read_baseline(history, since)
        ends_at = math.inf if self._for_s is None else self.began_at + self._for_s
        self._engine = CriteriaEngine(
            replace(criteria, watch_s=ends_at - since),
            tools.policy,
            started_at=since,
            live_version=version,
            left_version=self._left,
            baseline=[row for row in baseline if is_new or row.version == version],
            has_health=tools.health is not None,
            has_traffic=tools.traffic is not None,
            fails_early=True,
        )
        self._tally.follow(version, since, baseline, usual_from)
        self._read_until = int(since)

    def _read_baseline(self, history: Sequence[Deployment], since: float) -> tuple[Sequence[Counts], str]:
        """Return what response times are compared with, and in words what that is.

        After a rollback: the version's own traffic before it was left. Else its own before the watch, where it was live
        for as long as an error rate is measured; else that of the version before.
        """
        tools, version = self._tools, self._live.main
        before = next((each for each in history[1:] if not each.serves(version)), None)
        came_back = before is not None and any(each.serves(version) for each in history[history.index(before) :])
        if before is not None and came_back:
            baseline, _ = read_baseline(tools, version, before.created_at)
            if baseline:
                return baseline, f"its own before {format_clock(before.created_at)} UTC"
        if since > self._live.created_at:
            baseline, _ = read_baseline(tools, version, since)
            return baseline, f"its own before {format_clock(since)} UTC"
        baseline, _ = read_baseline(tools, self._left or "", self._live.created_at)
        return baseline, f"of version {(self._left or '')[:8]}, which it replaced"

    def _read_counts(self) -> None:
        traffic = self._tools.traffic
        if traffic is None:
            return
        try:
            page = traffic.read(self._read_until, int(self._tools.clock.now()) + 1)
        except BackoutError as error:
            self._counts_problem = error.what
            return
        self._counts_problem = ""
        final = sorted((row for row in page.counts if row.second < page.complete_until), key=lambda row: row.second)
        self._engine.add(final)
        self._tally.add(final)
        self._read_until = max(self._read_until, page.complete_until)


def _find_run(tools: Toolbox) -> RunSight | None:
    """Return the run that is under way here, a watch of guard as well as a rollback."""
    run = next(tools.runs.walk_runs(tools.environment), None)
    if run is None or run.state.is_over:
        return None
    steps = run.plan.steps
    title = steps[run.steps_done].title if run.steps_done < len(steps) else ""
    return RunSight(run.id, run.state, run.steps_done, len(steps), title)


def monitor(
    tools: Toolbox,
    show: Callable[[Reading], None],
    *,
    for_s: float | None,
    every_s: float,
    stopped: Callable[[], bool] = lambda: False,
) -> tuple[Monitored, Verification]:
    """Show a reading every so many seconds until the time is up, or `stopped`; return what was seen, and the criteria.

    Raises:
        AuthError, ProviderUnavailable, ProviderRejected: at the beginning, what is live could not be read.
    """
    watched = Monitor(tools, for_s)
    show_at = watched.began_at
    try:
        while True:
            reading = watched.look()
            ends = stopped() or (for_s is not None and reading.elapsed_s >= for_s)
            if ends or reading.at >= show_at:
                show_at = reading.at + every_s
                show(reading)
            if ends:
                return watched.summarize()
            tools.clock.sleep(TICK_S)
    finally:
        watched.close()
