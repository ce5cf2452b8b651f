"""Everything that an on-call engineer asks first; it only reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import field

from backout.analysis.blind_spots import list_blind_spots
from backout.analysis.certify.traces import find_trial
from backout.analysis.history.proof import ENOUGH_REQUESTS, NEARLY_ALL
from backout.analysis.history.remarks import list_rollbacks
from backout.analysis.history.stability import find_quarantine, find_stable_mark
from backout.errors import BackoutError
from backout.model.checkup import Check, CheckState
from backout.model.database.backups import Protection
from backout.model.guard.answers import AnswerClass
from backout.model.guard.signals import (
    Criticality,
    ServiceState,
    find_bucket,
    merge_counts,
    merge_latency,
    quantile_ms,
    sum_counts,
)
from backout.model.plan import PlanKind
from backout.model.value import Value
from backout.report.times import format_duration
from backout.runbook.guard.accept import list_waiting
from backout.runbook.guard.watch_gap import measure_watch_gap_s
from backout.runbook.incident.drills import LeftBroken, find_last_drill, find_left_broken
from backout.runbook.incident.ends import read_end
from backout.runbook.incident.left_open import list_left_open
from backout.runbook.observe import observe
from backout.runbook.recover.deadline import read_outage
from backout.runbook.safety.hold import find_active_hold

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.analysis.detector.unseen import Sight
    from backout.model.deployment import Deployment
    from backout.model.drill import DrillRecord
    from backout.model.guard.shift import Shift
    from backout.model.guard.signals import HealthReport
    from backout.model.hold import Hold
    from backout.model.incident.incident import Run
    from backout.model.incident.notice import Delivery
    from backout.model.remark import Remark
    from backout.model.situation import Situation
    from backout.model.version import VersionMark
    from backout.report.guard.run_end import RunEnd
    from backout.runbook.recover.deadline import Outage
    from backout.runbook.toolbox import Toolbox

WINDOW_S = 300
"""The runbook's five minutes."""
_FEW = 3


class TrafficLook(Value, frozen=True):
    """The last minutes of the live version; `problem` when the source did not answer."""

    window_s: int
    requests: int = 0
    errors: int = 0
    p99_ms: float | None = None
    slow: int = 0
    """Requests that took longer than any normal one (`criteria.latency.never_above`)."""
    last_error_s: float | None = None
    """How long ago the last request failed; None: none did."""
    well_since: int = 0
    """Requests that were answered well after the last second in which one failed."""
    last_slow_s: float | None = None
    classes: Mapping[AnswerClass, int] = field(default_factory=dict)
    """How many answers there were of each class that is neither good nor an error."""
    problem: str = ""
    source: str = ""
    unseen: tuple[Sight, ...] = ()
    """What the source does not see."""

    @property
    def error_rate(self) -> float | None:
        """Share of errors, None without requests."""
        return self.errors / self.requests if self.requests else None

    @property
    def unlike_words(self) -> str:
        """The class of 4xx that most requests were answered with, in words; "" while it is less than half of them."""
        refused = {each: number for each, number in self.classes.items() if each is not AnswerClass.REDIRECT}
        most = max(refused, key=lambda each: refused[each], default=None)
        if most is None or sum(refused.values()) * 2 < self.requests:
            return ""
        return f"{refused[most]:,} of {self.requests:,} requests were answered {most.words}"

    @property
    def is_unlike(self) -> bool:
        """Whether nearly all requests are answered 4xx: no error by the numbers, but of no use to users."""
        refused = sum(number for each, number in self.classes.items() if each is not AnswerClass.REDIRECT)
        return self.requests >= ENOUGH_REQUESTS and refused >= NEARLY_ALL * self.requests

    @property
    def is_slow(self) -> bool:
        """Whether one request in a hundred takes longer than any normal one; a single one says nothing."""
        return self.slow >= _FEW and self.slow * 100 >= self.requests


class Status(Value, frozen=True):
    """What `backout status` shows; None: not set up."""

    situation: Situation
    stable: VersionMark | None
    quarantined: VersionMark | None
    health: HealthReport | None
    traffic: TrafficLook | None
    guard: Run | None
    rollback: Run | None
    unfinished: Run | None
    error_rate_below: float
    ends: Mapping[str, RunEnd] = field(default_factory=dict)
    """How the newest watch and the newest rollback ended, by run."""
    hold: Hold | None = None
    watch_gap_s: float | None = None
    notices: Delivery | None = None
    backups: Protection | str | None = None
    """Whether the database could be brought back now, or in words why that is not known."""
    proof_alarm: str = ""
    """Why the proofs of the backups need attention where no WAL is received."""
    objects: Check | str | None = None
    """Whether what the objects were before is kept, or in words why that is not known."""
    elsewhere: tuple[Deployment, Remark] | None = None
    """The newest rollback, when this journal does not know it: another machine made it."""
    left_open: tuple[str, ...] = ()
    """What waits for a person although nothing is broken, one sentence each."""
    waiting: tuple[Shift, ...] = ()
    """What is answered otherwise than before, for which a person has yet to say whether it is intended."""
    drill: DrillRecord | None = None
    """The newest drill that passed, on the twin or here; None: none ever did."""
    journal: str = ""
    """What is wrong with the journal, in a sentence: nothing is then known of runs here, and guard cannot act."""
    closed: Outage | None = None
    """The recovery that has closed the application, None while it is open."""
    trial: Deployment | None = None
    """The deployment of a trial of `backout certify --on` that decides what is live, None where none does."""
    broken: LeftBroken | None = None
    """What a drill broke on purpose and could not put back, None where nothing of that is live."""
    services: Mapping[str, Criticality] = field(default_factory=dict)
    """What the configuration says of each service; one that it does not name is critical."""

    @property
    def down(self) -> tuple[str, ...]:
        """The critical services that the application itself reports as down."""
        found = self.health.services if self.health is not None else ()
        return tuple(each.name for each in found if each.state is ServiceState.DOWN and self._is_critical(each.name))

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """What is set up and could not be measured just now, in words: it is not known whether it is well."""
        found = []
        if self.health is not None and not self.health.measured and not self.health.is_down:
            found.append(f"health is not measured: {self.health.why_unmeasured}")
        found += [f"nothing is known of service {name}" for name in self._silent]
        if self.traffic is not None and self.traffic.problem:
            found.append("the source of counts is lost")
        if self.situation.schema.set_up and self.situation.schema.state is None:
            found.append("the migrations could not be read")
        if isinstance(self.backups, str):
            found.append("the backups could not be looked at")
        if isinstance(self.objects, str):
            found.append("the bucket could not be looked at")
        return tuple(found)

    @property
    def _silent(self) -> tuple[str, ...]:
        """Critical services that a health answer does not mention, or only with an unknown word."""
        if self.health is None or not self.health.measured or not self.health.services:
            return ()
        states = {each.name: each.state for each in self.health.services}
        named = dict.fromkeys([*self.services, *states])
        unknown = [name for name in named if states.get(name, ServiceState.UNKNOWN) is ServiceState.UNKNOWN]
        return tuple(name for name in unknown if self._is_critical(name))

    def _is_critical(self, service: str) -> bool:
        return self.services.get(service, Criticality.CRITICAL) is Criticality.CRITICAL

    @property
    def _undecided(self) -> tuple[str, ...]:
        more = f" (and {len(self.waiting) - 1} more)" if self.waiting[1:] else ""
        return tuple(
            f"a person has to say whether this is intended: {each.sentence}{more}" for each in self.waiting[:1]
        )

    @property
    def _live_troubles(self) -> tuple[str, ...]:
        """What is wrong with what is live, in words."""
        live, found = self.situation.live, []
        if self.trial is not None:
            found.append("what is live is a trial's: its code, on an empty database, in place of your own")
        if live.hosts:
            found.append(f"it is not the same everywhere: {live.describe_hosts()}")
        if self.quarantined is not None:
            found.append(f"the live version is quarantined: {self.quarantined.why}")
        if self.broken is not None:
            found.append(f"what is live was broken on purpose by the drill {self.broken.name}, which was stopped")
        return tuple(found)

    @property
    def _traffic_troubles(self) -> tuple[str, ...]:
        """What is wrong with the answers of the last minutes, in words."""
        traffic, found = self.traffic, []
        if traffic is None:
            return ()
        if traffic.error_rate is not None and traffic.error_rate >= self.error_rate_below:
            found.append(_describe_failed(traffic))
        if traffic.is_unlike:
            found.append(f"{traffic.unlike_words} in the last {traffic.window_s // 60} min")
        if traffic.is_slow:
            took = f"{(traffic.p99_ms or 0) / 1000:.0f} s"
            last = "" if traffic.last_slow_s is None else f", the last one {format_duration(traffic.last_slow_s)} ago"
            found.append(f"{traffic.slow:,} requests took far too long in the last minutes (p99 {took}){last}")
        return tuple(found)

    @property
    def troubles(self) -> tuple[str, ...]:
        """What makes this a finding, in words; empty when all is well."""
        found = []
        if self.journal:
            found.append(self.journal)
        found += self._live_troubles
        found += self._undecided
        found += self.left_open
        if self.health is not None and self.health.is_down:
            found.append("the health check fails")
        if self.down:
            found.append(f"{', '.join(self.down)} {'is' if len(self.down) == 1 else 'are'} down")
        found += self._traffic_troubles
        if self.situation.schema.state is not None and self.situation.schema.state.failed:
            found.append(f"migration {self.situation.schema.state.failed[-1]} failed half-way")
        if isinstance(self.backups, Protection) and not self.backups.protected:
            found.append(f"the database is UNPROTECTED: {self.backups.why}")
        alarm = self.backups.alarm if isinstance(self.backups, Protection) else self.proof_alarm
        if alarm:
            found.append(f"{alarm} (backout db backups prove)")
        if isinstance(self.objects, Check) and self.objects.state is CheckState.MISSING:
            found.append(self.objects.why)
        if self.watch_gap_s is not None:
            found.append(f"the live deployment is {format_duration(self.watch_gap_s)} old, and no guard watches it")
        return tuple(found)


def _describe_failed(traffic: TrafficLook | None) -> str:
    """Return how many requests failed, when the last did, and how many were answered well since (a repair shows)."""
    if traffic is None or traffic.last_error_s is None:
        return "requests failed in the last minutes"
    said = f"{traffic.errors:,} requests failed in the last {traffic.window_s // 60} min"
    since = f"; {traffic.well_since:,} answered well since" if traffic.well_since else ""
    return f"{said}, the last one {format_duration(traffic.last_error_s)} ago{since}"


def read_status(tools: Toolbox) -> Status:
    """Return the status; sources that do not answer are shown as such, only the platform itself must answer."""
    situation = observe(tools)
    live = situation.live.main
    known = situation.version(live)
    runs = tools.runs.runs(tools.environment)
    guard = next((run for run in runs if run.plan.kind is PlanKind.GUARD), None)
    rollback = next((run for run in runs if run.plan.kind is PlanKind.ROLLBACK), None)
    return Status(
        situation=situation,
        stable=find_stable_mark(situation, live),
        quarantined=find_quarantine(situation, live, known.code_hash if known else None),
        health=tools.health.look() if tools.health is not None else None,
        traffic=_look_at_traffic(tools, live),
        guard=guard,
        rollback=rollback,
        ends={run.id: read_end(tools.journal, tools.runs, run) for run in (guard, rollback) if run is not None},
        unfinished=next((run for run in runs[:1] if not run.state.is_over), None),
        error_rate_below=tools.policy.criteria.error_rate_below,
        hold=find_active_hold(tools, situation.listed),
        notices=tools.notifier.flush(0.0) if tools.notifier is not None else None,
        watch_gap_s=measure_watch_gap_s(situation, runs, tools.policy.criteria.watch_s),
        backups=_judge_backups(tools),
        proof_alarm=tools.recovery.proof_alarm(),
        objects=_check_objects(tools),
        elsewhere=_find_elsewhere(situation, {run.id for run in runs}),
        services=tools.policy.services,
        waiting=list_waiting(tools, guard, situation.listed),
        left_open=list_left_open(tools, runs, situation.listed),
        drill=find_last_drill(tools.journal, tools.environment),
        trial=find_trial(situation.listed),
        broken=find_left_broken(tools.journal, tools.environment, situation.listed),
        closed=read_outage(tools, shows_page=known is not None and known.is_maintenance),
    )


def _find_elsewhere(situation: Situation, own: set[str]) -> tuple[Deployment, Remark] | None:
    newest = next(iter(list_rollbacks(situation.listed, since=0.0)), None)
    return newest if newest is not None and newest[1].run not in own else None


def _judge_backups(tools: Toolbox) -> Protection | str | None:
    if tools.recovery.protection is None:
        return None
    try:
        return tools.recovery.protection()
    except BackoutError as error:
        return str(error)


def _check_objects(tools: Toolbox) -> Check | str | None:
    if tools.recovery.check_objects is None:
        return None
    try:
        return tools.recovery.check_objects()
    except BackoutError as error:
        return str(error)


def _look_at_traffic(tools: Toolbox, live: str) -> TrafficLook | None:
    if tools.traffic is None:
        return None
    until = int(tools.clock.now()) + 1
    try:
        page = tools.traffic.read(until - WINDOW_S, until)
    except BackoutError as error:
        return TrafficLook(WINDOW_S, problem=str(error))
    rows = [row for row in page.counts if row.version == live]
    requests, errors = sum_counts(rows)
    latency, traits = merge_latency(rows), tools.traffic.traits
    p99_ms = quantile_ms(latency, 0.99)
    edge = find_bucket(tools.policy.criteria.latency_never_above_s * 1000)
    slow = sum(number for bucket, number in latency.items() if bucket > edge)
    now = tools.clock.now()
    failed = max((row.second for row in rows if row.errors), default=None)
    slowest = max((row.second for row in rows if any(bucket > edge for bucket in row.latency)), default=None)
    return TrafficLook(
        WINDOW_S,
        requests,
        errors,
        p99_ms,
        slow,
        last_error_s=None if failed is None else max(0.0, now - failed),
        well_since=0 if failed is None else sum(row.requests - row.errors for row in rows if row.second > failed),
        classes=merge_counts(row.classes for row in rows),
        last_slow_s=None if slowest is None else max(0.0, now - slowest),
        source=traits.name,
        unseen=list_blind_spots(traits, tools.policy.guard),
    )
