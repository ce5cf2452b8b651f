"""The judgement on one deployment: counts and probes in, verdict with its reason out, at any number of looks.

`REGRESSED` is wrong with probability at most alpha in a whole watch; `HEALTHY` needs evidence too; what could not be
measured is neither.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NotRequired, TypedDict

from backout.analysis.baseline import FEW_LATENCIES
from backout.analysis.confirmation import Confirmation, ConfirmationState
from backout.analysis.connections import SERVICE, Occupancy, OccupancyState
from backout.analysis.exclusion import Exclusion
from backout.analysis.measures import EXTREMES, SLOWER, Against, Measure
from backout.analysis.persistence import FORGIVEN, persistence_of, stretch_of
from backout.analysis.probes import Probes, ProbesState
from backout.analysis.quantiles import Thresholds, counts_above, thresholds
from backout.analysis.rates import mix
from backout.analysis.repeats import Repeats, RepeatsState
from backout.analysis.shifts import PAIRS_PART, PART, Shifts
from backout.analysis.shifts.declared import is_asked_about, judged, worse
from backout.analysis.shifts.strata import folded
from backout.analysis.stream_set import BESIDE_PROBES, labelled_latency, streams_for, usable_edges, with_probes
from backout.analysis.streams import Stream, StreamState
from backout.analysis.summary import summarise
from backout.analysis.synthetic import Synthetic, SyntheticState, granted
from backout.analysis.wording import count, odds, percent
from backout.model.probes import ProbesBefore
from backout.model.shift import Outcome, ShiftKind
from backout.model.verdict import Cause, Decision, Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from backout.analysis.shifts import LooksOfShiftsState, ShiftsState
    from backout.model.connections import ConnectionUse
    from backout.model.policy import Policy
    from backout.model.probes import PairedAnswer, SyntheticAnswer
    from backout.model.shift import Shift
    from backout.model.signals import Counts, HealthReport

DRIFT_BUCKETS = 1
"""In a cut-over, and between labelled requests, latency may drift by one bucket (4.4 %)."""
_GRAVEST = (Outcome.ROLL_BACK, Outcome.HOLD, Outcome.TOLD)
QUIET_LOG_E = 1.0
"""No version is called healthy while any evidence against it is above this."""


class WaitsState(TypedDict):
    """Checkpoint of since when a verdict waits to be confirmed, and of when it was bad first (Unix seconds)."""

    confirming: ConfirmationState | None
    shifted_since: float | None
    first_bad_at: float | None


class LooksState(TypedDict):
    """Checkpoint of what was seen by looking: health, connections, synthetic requests; plain JSON."""

    probes: ProbesState
    occupancy: OccupancyState
    synthetic: SyntheticState
    probed: StreamState | None
    shifts: NotRequired[LooksOfShiftsState]
    waits: NotRequired[WaitsState]


class DetectorState(WaitsState):
    """Checkpoint of a `Detector`, plain JSON."""

    version: str
    old: str | None
    deployed_at: float
    split: float
    splits: list[tuple[float, float]]
    edges: list[int] | None
    learning: list[tuple[int, int]]
    streams: list[StreamState]
    repeats: RepeatsState
    probes: ProbesState
    occupancy: OccupancyState
    synthetic: SyntheticState
    requests: int
    errors: int
    beside: list[int]
    has_baseline: bool
    healthy_after_s: float
    watch_s: float
    shifts: ShiftsState
    unseen: NotRequired[str]
    can_ask: NotRequired[bool]


class Detector:
    """Watches one version after its deployment.

    Args:
        version, old: the version judged, and the one before it (None: there was none). deployed_at: Unix seconds.
        split: share of the traffic that the new version gets, in (0, 1]; 1 is a full cut-over.
        baseline: counts of the old version before the deployment, an hour if there is one.
        policy: how sure to be, the error rate that is too high, which services are critical.
        health_before: the last look at the health endpoint before the deployment.
        probed: how backout's own probes ended before, None when none are made: then nobody gives them weight.
        healthy_after_s: earliest moment of a verdict "healthy", in seconds after the deployment.
        watch_s: how long this watch is, None for the policy's.
        unseen: what the source of counts does not see, said with "healthy"; see `unseen.words`. declared: names of the
            schedules and queues that the team's own file declares, None where that is not known.
        can_ask: whether somebody asks both versions the same when `wants_probe`, and hands it to `add_pairs`.
    """

    def __init__(  # noqa: PLR0913 one noun per thing that a watch rests on, by keyword
        self,
        *,
        version: str,
        old: str | None,
        deployed_at: float,
        split: float,
        baseline: Sequence[Counts],
        policy: Policy,
        health_before: HealthReport | None = None,
        probed: ProbesBefore | None = None,
        healthy_after_s: float = 0.0,
        watch_s: float | None = None,
        unseen: str = "",
        declared: Collection[str] | None = None,
        can_ask: bool = False,
    ) -> None:
        self._version = version
        self._unseen = unseen
        self._can_ask = can_ask
        self._old = old
        self._deployed_at = deployed_at
        self._start = math.floor(deployed_at)
        self._split = split
        self._splits: list[tuple[float, float]] = []  # (from that second on, share): steps still to come
        self._accepts: list[tuple[float, str]] = []  # (from that second on, shift): accepted before, see `accept_again`
        self._policy = policy
        self._healthy_after_s = healthy_after_s
        # A warm-up that outlasts the watch says that response times are nothing to go by here.
        self._watch_s = policy.criteria.watch_s if watch_s is None else watch_s
        self._times = policy.guard.warm_up_s < self._watch_s
        # From the whole second of the deployment on: without a warm-up none of its requests is left out.
        self._warm_until = self._start + (policy.guard.warm_up_s if self._times else 0.0)
        self._persistence = persistence_of(self._watch_s, policy.guard.slow_start_s)
        # Extreme latency is judged from the end of a declared warm-up on, all other after a stretch of time at least.
        self._slow_from = max(self._warm_until, self._start + stretch_of(self._persistence))
        normal = summarise(baseline, old, deployed_at, policy.guard.vital)
        if not self._times:
            normal = replace(normal, edges=None, latency=())
        self._edges: Thresholds | None = usable_edges(normal)
        self._learning: dict[int, int] = {}
        self._has_baseline = normal.errors is not None
        self._repeats = Repeats(normal.per_cause, self._start)
        warming = policy.guard.warm_up_errors if self._warm_until > self._start else None
        slo = policy.criteria.error_rate_below
        self._streams = streams_for(
            normal, split, slo, self._persistence, warming, times=self._times, vital=policy.guard.vital
        )
        if probed is not None:
            usual = normal.errors.p0 if normal.errors is not None else 0.0
            self._streams = with_probes(self._streams, granted(probed, usual))
        self._synthetic = Synthetic(probed or ProbesBefore(), policy.guard.expect)
        self._probes = Probes(policy.services, policy.guard.down_probes)
        if health_before is not None:
            self._probes.add_before(health_before)
        self._occupancy = Occupancy(
            is_critical=policy.is_critical(SERVICE),
            needed=policy.guard.down_probes,
            until=deployed_at + self._watch_s,
        )
        before = [row for row in baseline if old is None or row.version == old]
        self._answers = Shifts(
            baseline=[row for row in before if row.second < self._start],
            start=self._start,
            split=split,
            policy=policy.guard,
            can_ask=can_ask,
            declared=declared,
            streamed={stream.route for stream in self._streams if stream.route},
            watch_s=self._watch_s,
        )
        self._shifted_since: float | None = None
        self._requests = self._errors = 0
        self._beside = [0, 0]  # requests and errors of the old version meanwhile
        self._first_bad_at: float | None = None
        self._confirming: Confirmation | None = None
        self._log_e: float | None = None
        self._most: float | None = None
        self._exclusion: tuple[tuple[Stream, ...], Exclusion] | None = None

    def set_split(self, at: float, share: float) -> None:
        """Take note that the new version's share is another one from that time on (Unix seconds); in time order.

        The evidence so far stays. Rows of earlier seconds count with the share of their time, as long as they come
        before rows of later ones.
        """
        self._splits.append((at, share))

    def _step_up(self, second: int) -> None:
        while self._splits and self._splits[0][0] <= second:
            at, self._split = self._splits.pop(0)
            self._answers.set_split(self._split, math.ceil(at))
            for stream in self._streams:
                stream.set_split(self._split)

    def add(self, counts: Iterable[Counts]) -> None:
        """Count rows of the seconds since the deployment, each request once; other versions' rows are passed over.

        Rows may be in any order and split into several of the same version and second; a row that is later than its
        minute counts in the minute that is open.
        """
        rows = [row for row in counts if row.second >= self._start and row.version in (self._version, self._old)]
        rows.sort(key=lambda row: row.second)
        for row in rows:
            self._step_up(row.second)
            self._accept_due(row.second)
            self._add_row(row)

    def _add_row(self, row: Counts) -> None:
        self._log_e = self._most = None
        is_new = row.version == self._version
        warming = row.second < self._warm_until
        self._answers.add(row, is_new=is_new, warming=warming)
        if not is_new and self._split >= 1:
            return
        self._tally(row, is_new=is_new)
        second = row.second - self._start
        above = self._above(row, is_new=is_new)
        weights = self._repeats.weigh(row.second, row.errors, row.requests, is_new=is_new)
        for stream in self._streams:
            if stream.route or stream.measure is Measure.PROBES:
                continue
            if stream.measure.is_errors:
                if (stream.measure is Measure.WARMING) == warming:
                    stream.add(second, row.errors, row.requests, is_new=is_new, weights=weights)
            elif stream.measure in EXTREMES:
                if row.latency and not warming:
                    stream.add(second, _slower(row.latency, stream.edge), sum(row.latency.values()), is_new=is_new)
            elif above[0]:
                stream.add(second, above[1 + SLOWER.index(stream.measure)], above[0], is_new=is_new)
        if row.routes and not warming:
            self._add_routes(row, second, is_new=is_new)

    def _tally(self, row: Counts, *, is_new: bool) -> None:
        if is_new:
            self._requests += row.requests
            self._errors += row.errors
            if row.errors and self._first_bad_at is None:
                self._first_bad_at = float(row.second)
            return
        self._beside = [self._beside[0] + row.requests, self._beside[1] + row.errors]
        if self._edges is None and self._times:
            self._learn(row)

    def _add_routes(self, row: Counts, second: int, *, is_new: bool) -> None:
        margin = DRIFT_BUCKETS if is_new and self._split >= 1 else 0
        routes = folded(row.routes)
        for stream in self._streams:
            route = routes.get(stream.route) if stream.route else None
            if route is None:
                continue
            if stream.measure is Measure.ERRORS:
                weights = self._repeats.weigh(
                    row.second, route.errors, route.requests, is_new=is_new, route=stream.route
                )
                stream.add(second, route.errors, route.requests, is_new=is_new, weights=weights)
            elif route.latency and row.second >= self._slow_from:
                slow = _slower(route.latency, stream.edge + margin)
                stream.add(second, slow, sum(route.latency.values()), is_new=is_new)

    def _learn(self, row: Counts) -> None:
        """Take latency thresholds from the old version's traffic when there is no baseline; they judge what follows."""
        for bucket, number in row.latency.items():
            self._learning[bucket] = self._learning.get(bucket, 0) + number
        total = sum(self._learning.values())
        edges = thresholds(self._learning)
        if edges is None or total < FEW_LATENCIES:
            return
        above = counts_above(self._learning, edges)
        self._edges = edges
        self._learning = {}
        shares = [n / total for n in above[1:]]
        learnt = tuple(labelled_latency(edges, shares, self._split, self._persistence))
        for stream in learnt if self._streams[0].measure is Measure.PROBES else ():
            stream.weight *= BESIDE_PROBES
        self._streams = (*self._streams, *learnt)

    def _above(self, row: Counts, *, is_new: bool) -> tuple[int, int, int, int, int]:
        """Return how many latencies count, and how many of them are above each threshold."""
        if self._edges is None or row.second < self._slow_from or not row.latency:
            return (0, 0, 0, 0, 0)
        drifts = is_new and (self._split >= 1 or self._labelled())
        return counts_above(row.latency, self._edges, DRIFT_BUCKETS if drifts else 0)

    def _labelled(self) -> bool:
        return self._streams[-1].expected_from is Against.BESIDE

    def add_health(self, report: HealthReport) -> None:
        """Take one look at the health endpoint; one made before the deployment tells what was up before."""
        if report.at < self._deployed_at:
            self._probes.add_before(report)
        elif report.version in (None, self._version):
            failed = self._probes.has_failed(report)
            if failed is not None:
                self._add_probe(report.at, failed=failed)
            self._probes.add(report)

    def add_usual_health(self, report: HealthReport) -> None:
        """Take a look at the health endpoint of the version before, from any time: whether it answers 200 as a rule."""
        self._probes.add_usual(report)

    def add_synthetic(self, answers: Iterable[SyntheticAnswer]) -> None:
        """Take what synthetic requests were answered since the deployment."""
        since = [each for each in answers if each.at >= self._deployed_at]
        for answer in since:
            if self._is_alone(answer.at):
                self._synthetic.compare(answer)
        for answer in self._synthetic.counted(since):
            self._add_probe(answer.at, failed=answer.failed)

    def _is_alone(self, at: float) -> bool:
        """Whether the new version has all of the traffic then, so that whatever is asked is asked of it."""
        return next((share for since, share in reversed(self._splits) if since <= at), self._split) >= 1

    def _add_probe(self, at: float, *, failed: bool) -> None:
        """Count a probe; not in a split, where nobody knows which version answered, nor in the warm-up."""
        # Not `_step_up`: the counts of the seconds before may still have to come, and count with their own share.
        if not self._is_alone(at) or at < self._warm_until or self._streams[0].measure is not Measure.PROBES:
            return
        self._log_e = self._most = None
        self._streams[0].add(math.floor(at) - self._start, int(failed), 1, is_new=True)
        if failed and self._first_bad_at is None:
            self._first_bad_at = at

    def add_connections(self, use: ConnectionUse | None) -> None:
        """Take one look at the database's connections, None: it could not be asked.

        One made before the deployment tells what was usual.
        """
        if use is not None and use.at < self._deployed_at:
            self._occupancy.add_before(use)
        else:
            self._occupancy.add(use)

    @property
    def wants_probe(self) -> bool:
        """Whether evidence of a shift is such that both versions should be asked the same; see `add_pairs`."""
        return self._split >= 1 and self._answers.judge(self._answers.until).wants_probe

    @property
    def suspected(self) -> frozenset[str]:
        """Names of what is answered otherwise, so that both versions should be asked that first."""
        about = self._answers.judge(self._answers.until).suspected if self._split >= 1 else ()
        return frozenset((*about, *(shift.stratum for shift in self._synthetic.shifts())))

    def add_pairs(self, pairs: Iterable[PairedAnswer]) -> None:
        """Take what both versions answered to the same safe requests, each pair once."""
        self._answers.add_pairs(pairs)

    def accept(self, shift: str) -> None:
        """Take note that a person accepts the shift of that name: it is told, and holds nothing any more."""
        self._answers.accept(shift)

    def accept_again(self, state: LooksState) -> None:
        """Take note of what a person accepted in this watch before it was taken up again, each at its time.

        To be called before the counts are fed again: what was counted until then was judged as it came in.

        Args:
            state: what `looks` returned then.
        """
        accepted = state["shifts"].get("accepted_at", {}) if "shifts" in state else {}
        self._accepts = sorted((at, name) for name, at in accepted.items())

    def _accept_due(self, second: int) -> None:
        while self._accepts and self._accepts[0][0] <= second:
            self._answers.accept(self._accepts.pop(0)[1])

    def note_until(self, until: float) -> None:
        """Take note that all that was answered before that time (Unix seconds) has been added."""
        self._answers.note_until(until)

    def decide(self, now: float) -> Decision:
        """Return the verdict as of `now` (Unix seconds); it may be asked for as often as one likes."""
        verdict, cause, reason = self.judge(now)
        bad_at = (self._first_bad_at, self._probes.first_bad_at, self._occupancy.first_bad_at)
        looked = (*self._probes.evidence(), *self._occupancy.evidence(), *self._synthetic.evidence())
        return Decision(
            verdict=verdict,
            cause=cause,
            at=now,
            version=self._version,
            reason=reason,
            evidence=(*(stream.evidence() for stream in self._streams), *looked),
            watched_s=max(0.0, now - self._deployed_at),
            requests=self._requests,
            errors=self._errors,
            first_bad_at=min((at for at in bad_at if at is not None), default=None),
            shifts=self._shifts(now),
        )

    def _shifts(self, now: float) -> tuple[Shift, ...]:
        """Return what is answered otherwise than before, the gravest first; what a person accepts is told alone."""
        pairs, accepted = self._answers.pairs, self._answers.accepted
        lone = (worse(pairs, self._enough_of_pairs()), self._probes.health_lost())
        found = [shift for shift in lone if shift is not None]
        found += judged(self._synthetic.shifts(), pairs)
        found = [replace(s, outcome=Outcome.TOLD) if s.name in accepted else s for s in found]
        every = sorted((*self._answers.judge(now).shifts, *found), key=lambda shift: _GRAVEST.index(shift.outcome))
        # Visitors' requests and guard's own may show the same: told once, by the gravest.
        return tuple({shift.name: shift for shift in reversed(every)}.values())[::-1]

    def _enough_of_pairs(self) -> float:
        return -math.log(self._policy.guard.alpha * PAIRS_PART)

    @property
    def asked_otherwise(self) -> bool:
        """Whether guard's own requests are answered otherwise than before, so that the old version should be asked."""
        pairs, accepted = self._answers.pairs, self._answers.accepted
        return not (pairs.are_alike or pairs.both_fail) and any(
            shift.outcome is Outcome.HOLD and shift.name not in accepted for shift in self._synthetic.shifts()
        )

    def _held(self, now: float) -> Shift | None:
        """Return the gravest shift that a person has to decide about."""
        return next((shift for shift in self._shifts(now) if shift.outcome is Outcome.HOLD), None)

    @property
    def threshold(self) -> float:
        """The log evidence of `log_evidence` that carries a rollback; shifts have a part of alpha of their own."""
        return -math.log((1 - PART) * self._policy.guard.alpha)

    def log_evidence(self) -> float:
        """Return the log evidence against "healthy" of all streams together."""
        if self._log_e is None:  # each stream knows its own until it is touched
            self._log_e = mix([(stream.weight, stream.log_e()) for stream in self._streams if stream.weight])
        return self._log_e

    def _most_log_evidence(self) -> float:
        if self._most is None:
            self._most = mix([(stream.weight, stream.most_log_e()) for stream in self._streams if stream.weight])
        return self._most

    def judge(self, now: float) -> tuple[Verdict, Cause, str]:
        """Return verdict, cause and reason alone, without the evidence lines."""
        looked = self._by_looking()
        if looked is not None:
            return Verdict.REGRESSED, *looked
        if not (self._requests or self._probes.measured or self._probed() or self._held(now)):
            return Verdict.UNMEASURED, Cause.NONE, self._nothing_seen()
        shifted = self._shifted(now)
        if shifted is not None:
            return shifted
        threshold = self.threshold
        log_e = self._most_log_evidence()  # far below everything that matters, its exact value does not matter either
        if log_e >= min(QUIET_LOG_E, threshold):
            log_e = self.log_evidence()
        if log_e < threshold:
            self._confirming = None
            return self._not_regressed(now, log_e)
        return self._against(now, log_e)

    def _against(self, now: float, log_e: float) -> tuple[Verdict, Cause, str]:
        """Return what follows from evidence of the streams that would carry a rollback."""
        threshold = self.threshold
        acting = [stream for stream in self._streams if stream.weight and stream.agrees]
        shared = mix([(stream.weight, stream.log_e()) for stream in acting]) < threshold
        lead = self._lead(acting if not shared else [stream for stream in self._streams if stream.weight])
        reason = f"{lead.sentence()}; evidence {odds(log_e)} against healthy"
        failing = self._answers.failing(self._errors) if lead.cause is Cause.ERRORS else ""
        if failing:  # what people could not do comes first
            reason = f"{failing}; {reason}"
        if shared:
            return (
                Verdict.INCONCLUSIVE,
                Cause.OUTSIDE,
                f"{lead.sentence()}, but so far the old version beside it does much the same",
            )
        crowd = self._answers.crowd if self._split >= 1 and lead.cause is Cause.LATENCY else 0.0
        if crowd and lead.expected_from is not Against.EXTREME:
            more = f"{crowd:.1f} times as many requests come as before, which alone makes answers slower"
            return Verdict.INCONCLUSIVE, Cause.NONE, f"{reason}, but {more}"
        if lead.bad < self._policy.guard.min_bad:
            missing = self._policy.guard.min_bad - lead.bad
            return Verdict.INCONCLUSIVE, Cause.NONE, f"{reason}, but {missing} more must be seen before that counts"
        if self._confirming is None:
            self._confirming = Confirmation(lead.name, now)
        left_s = self._confirming.left_s(now, self._streams, self._policy.guard.confirm_s)
        if self._confirming.half is None and self._confirming.since == now:  # it begins anew, or just began
            self._confirming.stream = lead.name
        if left_s > 0:
            return Verdict.INCONCLUSIVE, Cause.NONE, f"{reason}, to be confirmed for {left_s:.0f} s more"
        return Verdict.REGRESSED, lead.cause, reason

    def _by_looking(self) -> tuple[Cause, str] | None:
        """Return the cause and the reason of what guard saw itself, which needs no request of anybody else."""
        down, full = self._probes.regressed(), self._occupancy.regressed()
        if down or full:
            return Cause.HEALTH if down else Cause.CONNECTIONS, str(down or full)
        declared = worse(self._answers.pairs, self._enough_of_pairs())
        if declared is None or declared.name in self._answers.accepted:
            return None
        return Cause.ANSWERS, declared.sentence

    def _shifted(self, now: float) -> tuple[Verdict, Cause, str] | None:
        """Return the verdict that a shift carries by itself, or None."""
        worst = next(iter(self._answers.judge(now).of(Outcome.ROLL_BACK)), None)
        if worst is None:
            self._shifted_since = None
            return None
        self._shifted_since = now if self._shifted_since is None else self._shifted_since
        reason = f"{worst.sentence}; evidence {odds(worst.log_evidence)} against healthy"
        left_s = self._policy.guard.confirm_s - (now - self._shifted_since)
        if left_s > 0:
            return Verdict.INCONCLUSIVE, Cause.NONE, f"{reason}, to be confirmed for {left_s:.0f} s more"
        return Verdict.REGRESSED, Cause.ANSWERS, reason

    def _probed(self) -> int:
        """Return how many of backout's own probes were counted."""
        return self._streams[0].total if self._streams[0].measure is Measure.PROBES else 0

    def _lead(self, streams: Sequence[Stream]) -> Stream:
        """Return the stream with the most evidence; probes only when theirs is enough alone.

        A verdict of probes may be acted on whatever the source of counts is worth, so it must not rest on its counts.
        """
        weighed = {id(stream): stream.log_e() + math.log(stream.weight) for stream in streams}
        enough = self.threshold
        leading = [
            stream for stream in streams if stream.measure is not Measure.PROBES or weighed[id(stream)] >= enough
        ]
        return max(leading, key=lambda stream: weighed[id(stream)])

    def _nothing_seen(self) -> str:
        if self._probes.unreadable:
            return f"no request was seen, and {count(self._probes.unreadable, 'health answer')} could not be read"
        return "no request and no health answer was seen"

    def _not_regressed(self, now: float, log_e: float) -> tuple[Verdict, Cause, str]:
        beside = (self._beside[1], self._beside[0])
        shared = self._excluded().shared_trouble((self._errors, self._requests), beside)
        outside = self._probes.not_the_deployment() or self._occupancy.not_the_deployment() or shared
        if self._answers.pairs.both_fail and self._synthetic.shifts():
            outside = outside or "not the deployment: the version before it, asked the same, fails as well"
        excuse = outside or self._probes.doubtful() or self._occupancy.doubtful(now)
        seen = f"{self._errors:,} of {count(self._requests, 'request')} failed"
        held = self._held(now)
        if held is not None:  # whatever else is well, and whatever the policy makes of a watch without a verdict
            not_ours = self._answers.judge(now).outside
            why = not_ours or _unproven(held, self._answers.pairs.sentence) or seen
            return Verdict.INCONCLUSIVE, Cause.OUTSIDE if not_ours else Cause.ANSWERS, f"{held.sentence}; {why}"
        if excuse is not None:
            return Verdict.INCONCLUSIVE, Cause.OUTSIDE if outside else Cause.NONE, f"{excuse}; {seen}"
        open_point = self._excluded().above_slo() or self._slow_for_now() or self._open_point(log_e, now)
        if open_point is not None:
            return Verdict.INCONCLUSIVE, Cause.NONE, f"{seen}; {open_point}"
        limit = percent(self._excluded().error_rate)
        unseen = "" if self._edges is not None else "; response times could not be compared"
        guesses, asked = self._answers.unmatched
        if 2 * guesses > asked:
            unseen += f"; {guesses:,} of {count(asked, 'request')} asked for what was not known before"
        fell = self._answers.goodness(now).fell
        unseen += (
            f"; for about {count(fell, 'minute')} fewer answers were good than before, which is over" if fell else ""
        )
        unseen += f"; {self._unseen}" if self._unseen else ""
        reason = f"{seen}; an error rate of {limit} is excluded (99 % sure){unseen}"
        early_s = self._healthy_after_s - (now - self._deployed_at)
        if early_s > 0:
            return Verdict.INCONCLUSIVE, Cause.NONE, f"{reason}, watched for {early_s:.0f} s more"
        return Verdict.HEALTHY, Cause.NONE, reason

    def _excluded(self) -> Exclusion:
        """Return what must be excluded before "healthy", for the streams there are now."""
        if self._exclusion is None or self._exclusion[0] is not self._streams:
            slo = self._policy.criteria.error_rate_below
            self._exclusion = (self._streams, Exclusion(self._streams, slo, has_baseline=self._has_baseline))
        return self._exclusion[1]

    def _slow_for_now(self) -> str | None:
        """Return that answers are slow just now, though not for long enough to be a reason, or None."""
        stream = next((stream for stream in self._streams if not stream.route and stream.is_slow_now), None)
        if stream is None:
            return None
        slow, length = stream.slow_stretches + 1, count(stream.stretch_s, "second")
        if slow > FORGIVEN:
            return f"{stream.sentence()}; that is slow, and not yet for long enough to be sure"
        return f"{stream.sentence()}; slow in {slow} of the {FORGIVEN + 1} times {length} that it takes to be a reason"

    def _open_point(self, log_e: float, now: float) -> str | None:
        """Return what is still missing for "healthy", or None when nothing is."""
        if not self._requests:
            return "without a request nothing is excluded"
        if self._edges is not None and now <= self._slow_from:
            return f"response times count from {self._slow_from - self._start:.0f} s after the deployment on"
        needed = self._excluded().requests_missing() or self._answers.goodness(now).missing
        if needed:
            return f"about {count(needed, 'more request')} would tell"
        if log_e > QUIET_LOG_E:
            return (
                f"evidence {odds(log_e)} against healthy is too much to call it healthy and too little to call it bad"
            )
        return None

    def looks(self) -> LooksState:
        """Return a checkpoint of what was seen by looking alone; counts are kept elsewhere and can be fed again."""
        probed = self._streams[0] if self._streams[0].measure is Measure.PROBES else None
        return {
            "probes": self._probes.state(),
            "occupancy": self._occupancy.state(),
            "synthetic": self._synthetic.state(),
            "probed": probed.state() if probed is not None else None,
            "shifts": self._answers.looks(),
            "waits": self.waits(),
        }

    def waits(self) -> WaitsState:
        """Return a checkpoint of what a verdict waits for; it changes without anything seen by looking."""
        return {
            "confirming": self._confirming.state() if self._confirming else None,
            "shifted_since": self._shifted_since,
            "first_bad_at": self._first_bad_at,
        }

    def _restore_waits(self, state: WaitsState) -> None:
        self._confirming = Confirmation.from_state(state["confirming"]) if state["confirming"] else None
        self._shifted_since = state["shifted_since"]
        bad_at = (self._first_bad_at, state["first_bad_at"])  # what was counted since the checkpoint is fed again
        self._first_bad_at = min((at for at in bad_at if at is not None), default=None)

    def restore_looks(self, state: LooksState) -> None:
        """Go on from a checkpoint of looks, in a detector made anew for the same watch."""
        self._probes.restore(state["probes"])
        self._occupancy.restore(state["occupancy"])
        self._synthetic.restore(state["synthetic"])
        if "shifts" in state:  # the version before wrote none
            self._answers.restore_looks(state["shifts"])
        if "waits" in state:
            self._restore_waits(state["waits"])
        self._log_e = self._most = None
        if state["probed"] is not None and self._streams[0].measure is Measure.PROBES:
            self._streams = (Stream.from_state(state["probed"]), *self._streams[1:])

    def state(self) -> DetectorState:
        """Return a checkpoint; `from_state` goes on with the same decisions."""
        return {
            "version": self._version,
            "old": self._old,
            "deployed_at": self._deployed_at,
            "split": self._split,
            "splits": list(self._splits),
            "edges": list(self._edges) if self._edges else None,
            "learning": list(self._learning.items()),
            "streams": [stream.state() for stream in self._streams],
            "repeats": self._repeats.state(),
            "probes": self._probes.state(),
            "occupancy": self._occupancy.state(),
            "synthetic": self._synthetic.state(),
            "requests": self._requests,
            "errors": self._errors,
            "beside": list(self._beside),
            **self.waits(),
            "has_baseline": self._has_baseline,
            "healthy_after_s": self._healthy_after_s,
            "watch_s": self._watch_s,
            "shifts": self._answers.state(),
            "unseen": self._unseen,
            "can_ask": self._can_ask,
        }

    @classmethod
    def from_state(cls, state: DetectorState, policy: Policy) -> Detector:
        """Return the detector as it was when the checkpoint was taken."""
        self = cls(
            version=state["version"],
            old=state["old"],
            deployed_at=state["deployed_at"],
            split=state["split"],
            baseline=(),
            policy=policy,
            healthy_after_s=state["healthy_after_s"],
            watch_s=state["watch_s"],
            unseen=state.get("unseen", ""),
            can_ask=state.get("can_ask", False),
        )
        self._splits = [(at, share) for at, share in state["splits"]]
        edges = state["edges"]
        self._edges = (edges[0], edges[1], edges[2], edges[3]) if edges else None
        self._learning = dict(state["learning"])
        self._has_baseline = state["has_baseline"]
        self._streams = tuple(Stream.from_state(stream) for stream in state["streams"])
        self._repeats = Repeats.from_state(state["repeats"])
        self._log_e = self._most = None
        self._probes.restore(state["probes"])
        self._occupancy.restore(state["occupancy"])
        self._synthetic.restore(state["synthetic"])
        self._requests, self._errors = state["requests"], state["errors"]
        self._beside = list(state["beside"])
        self._restore_waits(state)
        self._answers = Shifts.from_state(state["shifts"], policy.guard, can_ask=self._can_ask)
        return self


def _unproven(shift: Shift, asked: str) -> str:
    """Return why a shift that asking both versions could tell of does not carry a rollback by itself, "" for another.

    Args:
        asked: what asking both versions the same came to, "" where nobody did.
    """
    if not is_asked_about(shift):
        return ""
    by_visitors = shift.kind is not ShiftKind.CREDENTIALS
    why = "whether the version or its visitors are behind it is not shown" if by_visitors else ""
    return "; ".join(filter(None, (why, asked)))


def _slower(latency: Mapping[int, int], edge: int) -> int:
    """Return how many latencies are in buckets above the edge."""
    return sum(number for bucket, number in latency.items() if bucket > edge)
