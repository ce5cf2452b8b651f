"""Guard's own looks besides the counts: health, the database's connections, synthetic requests; each by itself.

Looks at the live version are stored, so that the watch of its successor knows what was usual before.
"""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

import msgspec
from msgspec import field

from backout.analysis.detector.expectations import find_unmet
from backout.analysis.detector.probes import ENDPOINT
from backout.errors import BackoutError
from backout.model.guard.answers import AnswerClass
from backout.model.guard.connections import ConnectionUse
from backout.model.guard.probes import HEALTH, ProbesBefore, SyntheticAnswer
from backout.model.guard.signals import HealthReport, Reach, ServiceHealth, ServiceState, sum_counts
from backout.model.value import Value
from backout.runbook.guard.checkpoint import load_remembered
from backout.runbook.probing.prober import Prober

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from backout.analysis.detector.decision import Detector
    from backout.model.guard.policy import SyntheticCheck
    from backout.model.guard.signals import Counts
    from backout.ports import Connections, HealthCheck
    from backout.runbook.toolbox import Toolbox

PROBES_PER_READING = 5
"""The database is asked for its connections once in this many health probes: every ten seconds."""
RECENT_S, PROOF_REQUESTS, PROOF_ERROR_RATE = 600, 20, 0.1
"""That many requests in the last seconds before a deployment, with fewer errors than this, prove that it was up."""
_MOST_PROBES = 1800
"""How many probes of a version are stored: beyond this, older ones count half."""


class Seen(Value, frozen=True):
    """The looks since the last time; a None among the connections: the database could not be asked."""

    health: tuple[HealthReport, ...]
    connections: tuple[ConnectionUse | None, ...]
    synthetic: tuple[SyntheticAnswer, ...]

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.health or self.connections or self.synthetic)


class Looks:
    """All looks during a watch, or between two; each in a thread of its own.

    Args:
        at_most_every_s: a slower pace of synthetic requests than the configured one, between deployments.
    """

    def __init__(self, tools: Toolbox, *, at_most_every_s: float = 0.0) -> None:
        self._tools = tools
        self._said = False
        guard, clock, aside = tools.policy.guard, tools.clock, tools.guard.in_background
        look = make_health_look(tools, tools.health) if tools.health is not None else None
        sender = tools.guard.sender
        send = _make_synthetic_look(tools, sender, guard.asked) if sender is not None and guard.asked else None
        send_s = max(guard.synthetic_every_s, at_most_every_s)
        self._health = Prober("health", look, clock, guard.probe_every_s, in_background=aside)
        self._connections = make_connections_prober(tools)
        self._synthetic = Prober("synthetic", send, clock, send_s, in_background=aside)

    def collect(self) -> Seen:
        """Return the new looks; report once when the database does not tell its connections."""
        read = self._connections.collect()
        failed = next((each for each in read if isinstance(each, BackoutError)), None)
        if failed is not None and not self._said:
            self._said = True
            self._tools.say(f"the database's connections are not watched: {failed}")
        uses = tuple(each if isinstance(each, ConnectionUse) else None for each in read)
        sent = tuple(each for each in self._synthetic.collect() if each is not None)
        return Seen(self._health.collect(), uses, sent)

    def close(self) -> None:
        """Stop looking."""
        for prober in (self._health, self._connections, self._synthetic):
            prober.close()


def make_health_look(tools: Toolbox, health: HealthCheck) -> Callable[[], HealthReport]:
    """Return a look at the health endpoint that never raises."""

    def look() -> HealthReport:
        try:
            return health.look()
        except BackoutError as error:
            return HealthReport(tools.clock.now(), Reach.UNREADABLE, findings=(error.what,))

    return look


def make_connections_prober(tools: Toolbox) -> Prober[ConnectionUse | BackoutError]:
    """Return what looks at the database's connections, if that is set up; what a look raises is its result."""
    guard = tools.guard
    read = None if guard.connections is None else _make_connections_look(guard.connections)
    every_s = PROBES_PER_READING * tools.policy.guard.probe_every_s
    return Prober("connections", read, tools.clock, every_s, in_background=guard.in_background)


def _make_connections_look(connections: Connections) -> Callable[[], ConnectionUse | BackoutError]:
    def read() -> ConnectionUse | BackoutError:
        try:
            return connections.read()
        except BackoutError as error:
            return error

    return read


def _make_synthetic_look(
    tools: Toolbox, sender: HealthCheck, checks: Sequence[SyntheticCheck]
) -> Callable[[], SyntheticAnswer | None]:
    turns: Iterator[SyntheticCheck] = cycle(checks)
    said: set[str] = set()

    def send() -> SyntheticAnswer | None:
        check, at = next(turns), tools.clock.now()
        try:
            answer = sender.fetch(check.path, check=check)
        except BackoutError as error:  # it was not sent, which says nothing about the application
            if check.name not in said:
                said.add(check.name)
                tools.say(f"the request {check.name} is not sent: {error.what}")
            return None
        return SyntheticAnswer(at, check.name, answer.status, find_unmet(check, answer), answer.media_type)

    return send


_LONG_S = 3600.0
"""A service that was down for so long before a deployment is as usual."""
_GAP_S = 300.0
"""Nobody knows what was down meanwhile, where no look was made for longer than that."""


class _Remembered(Value, frozen=True):
    """The stored looks at one version: the newest look's time, the fullest database, how probes ended."""

    at: float
    down: dict[str, float] = field(default_factory=dict)
    """{service: Unix seconds since when each look shows it down, without a gap of more than some minutes}."""
    looked: float = 0.0
    """When the health endpoint was looked at last."""
    fullest: ConnectionUse | None = None
    ended: dict[str, tuple[int, int]] = field(default_factory=dict)
    good: dict[str, str] = field(default_factory=dict)
    """{name: content type} of the requests that were last answered well."""


def remember(tools: Toolbox, version: str, seen: Seen) -> None:
    """Store looks at a version, for the watch of its successor."""
    if not seen:
        return
    if seen.health:
        newest = msgspec.to_builtins(seen.health[-1])
        tools.checkpoints.save_checkpoint(tools.environment, f"health of {version}", newest)
    now = tools.clock.now()
    known = _load_remembered(tools, version)
    fullest, ended = known.fullest, dict(known.ended)
    for use in seen.connections:
        if use is not None and (fullest is None or _is_old(tools, fullest.at, now) or use.share >= fullest.share):
            fullest = use
    for what, failed in _list_probes(tools, seen):
        made, bad = ended.get(what, (0, 0))
        made, bad = (made // 2, bad // 2) if made >= _MOST_PROBES else (made, bad)
        ended[what] = made + 1, bad + failed
    good = dict(known.good)
    for answer in seen.synthetic:
        good.pop(answer.path, None)
        if answer.kind is AnswerClass.GOOD and not answer.failed:
            good[answer.path] = answer.media_type
    down, looked = _note_down(known, seen.health)
    kept = msgspec.to_builtins(_Remembered(now, down, looked, fullest, ended, good))
    tools.checkpoints.save_checkpoint(tools.environment, f"looks of {version}", kept)


def _note_down(known: _Remembered, looks: Sequence[HealthReport]) -> tuple[dict[str, float], float]:
    """Return {what is down: since when}, as far as it was looked at all the time, and when that was last."""
    down, looked = dict(known.down), known.looked
    for report in looks:
        if report.at - looked > _GAP_S:
            down.clear()
        looked = report.at
        for name, is_down in _list_states(report):
            if is_down:
                down.setdefault(name, report.at)
            else:
                down.pop(name, None)
    return down, looked


def _list_states(report: HealthReport) -> Iterator[tuple[str, bool]]:
    """Yield each service of which something is known, and the endpoint, with whether it is down."""
    for service in report.services:
        if service.state is not ServiceState.UNKNOWN:
            yield service.name, service.state is ServiceState.DOWN
    if report.measured or report.is_down:
        yield ENDPOINT, report.is_down


def _load_remembered(tools: Toolbox, version: str) -> _Remembered:
    return load_remembered(tools, f"looks of {version}", _Remembered) or _Remembered(0.0)


def _is_old(tools: Toolbox, at: float, now: float) -> bool:
    return at < now - tools.policy.guard.baseline_s


def _list_probes(tools: Toolbox, seen: Seen) -> Iterator[tuple[str, bool]]:
    """Yield each probe, and whether it failed."""
    for report in seen.health:
        down = (s.name for s in report.services if s.state is ServiceState.DOWN)
        if report.measured or report.is_down:
            yield HEALTH, report.is_down or any(map(tools.policy.is_critical, down))
    for answer in seen.synthetic:
        yield answer.path, answer.failed


def add_looks_before(detector: Detector, tools: Toolbox, old: str, since: float) -> None:
    """Give a detector what the old version's health endpoint usually answers, and how full the database was with it."""
    usual = find_last_look(tools, old)
    if usual is not None:
        detector.add_usual_health(usual)
    use = find_connections_before(tools, old, since)
    if use is not None:
        detector.add_connections(use)


def find_connections_before(tools: Toolbox, old: str, since: float) -> ConnectionUse | None:
    """Return the look, in the last hour before a deployment, at which the database was the fullest, or None."""
    use = _load_remembered(tools, old).fullest if old else None
    return use if use is not None and use.at < since and not _is_old(tools, use.at, since) else None


def find_long_down(tools: Toolbox, old: str, since: float) -> frozenset[str]:
    """Return what was down at every look at the old version throughout the baseline, an hour at least."""
    known = _load_remembered(tools, old) if old else _Remembered(0.0)
    begun = since - max(tools.policy.guard.baseline_s, _LONG_S)
    return frozenset(name for name, at in known.down.items() if at <= begun)


def find_probes_before(tools: Toolbox, old: str, since: float) -> ProbesBefore:
    """Return how probes of the old version ended, those of the last hour."""
    known = _load_remembered(tools, old) if old else _Remembered(0.0)
    good = frozenset(known.good)  # of the code, however long ago
    return ProbesBefore({} if _is_old(tools, known.at, since) else known.ended, good)


def find_usual(tools: Toolbox, version: str) -> dict[str, str]:
    """Return {name: content type} of the requests that a version answered well the last time, however long ago."""
    return _load_remembered(tools, version).good


def find_last_look(tools: Toolbox, version: str) -> HealthReport | None:
    """Return the last look at a version's health endpoint while it was live, however old, or None."""
    return load_remembered(tools, f"health of {version}", HealthReport) if version else None


def find_health_before(tools: Toolbox, old: str, since: float, baseline: tuple[Counts, ...]) -> HealthReport | None:
    """Return what was up before the deployment: from a look of the last hour, or as the traffic before proves, or None.

    An application that answered nearly everything right after the last look had its critical services.
    """
    report = find_last_look(tools, old)
    if report is not None and since - tools.policy.guard.baseline_s <= report.at <= since:
        return report
    requests, errors = sum_counts(row for row in baseline if row.second >= since - RECENT_S)
    if requests < PROOF_REQUESTS or errors > requests * PROOF_ERROR_RATE:
        return None
    proof = f"inferred: {requests - errors:,} of {requests:,} requests before the deployment were answered"
    critical = [name for name in tools.policy.services if tools.policy.is_critical(name)]
    services = tuple(ServiceHealth(name, ServiceState.OK, proof) for name in critical)
    return HealthReport(since, Reach.ANSWERED, 200, ServiceState.OK, services, (proof,))
