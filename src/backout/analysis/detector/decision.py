"""The judgement on one deployment: counts and probes in, a verdict with its reason out, at any number of looks.

`REGRESSED` is wrong with probability at most alpha in a whole watch; `HEALTHY` needs evidence too; what could not be
measured is neither.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.analysis.detector.confirmation import Confirmation
from backout.analysis.detector.connections import SERVICE, Occupancy
from backout.analysis.detector.counted import CountedTraffic
from backout.analysis.detector.failing_spell import Failures
from backout.analysis.detector.judgement import Judge
from backout.analysis.detector.probes import Probes
from backout.analysis.detector.synthetic import Synthetic
from backout.analysis.shifts import Shifts
from backout.analysis.statistics.summary import summarize
from backout.model.guard.probes import ProbesBefore
from backout.model.guard.verdict import Cause, Decision, Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from backout.analysis.detector.checkpoints import DetectorState, LooksState, WaitsState
    from backout.model.guard.connections import ConnectionUse
    from backout.model.guard.policy import Policy
    from backout.model.guard.probes import PairedAnswer, SyntheticAnswer
    from backout.model.guard.signals import Counts, HealthReport


class Detector:
    """Watches one version after its deployment.

    Args:
        version, old: the version judged, and the one before it (None: there was none).
        deployed_at: Unix seconds.
        split: share of the traffic that the new version gets, in (0, 1]; 1 is a full cut-over.
        baseline: counts of the old version before the deployment, an hour if there is one.
        policy: how sure to be, the error rate that is too high, which services are critical.
        health_before: the last look at the health endpoint before the deployment.
        long_down: the services that were down at every look of the baseline's time.
        probed: how backout's own probes ended before, None when none are made: then they have no weight.
        healthy_after_s: earliest moment of a verdict "healthy", in seconds after the deployment.
        watch_s: how long this watch is, None for the policy's.
        unseen: what the source of counts does not see, said with "healthy"; see `unseen.describe_unseen`.
        declared: names of the schedules and queues that the team's own file declares, None where that is not known.
        can_ask: whether the caller sends both versions the same request when `wants_probe`, and calls `add_pairs`.
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
        long_down: Collection[str] = (),
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
        self._accepts: list[tuple[float, str]] = []  # (from that second on, shift): accepted before, see `accept_again`
        self._policy = policy
        self._healthy_after_s = healthy_after_s
        self._watch_s = policy.criteria.watch_s if watch_s is None else watch_s
        normal = summarize(baseline, old, deployed_at, policy.guard.vital)
        self._failures = Failures(
            normal.errors.p0 if normal.errors else policy.criteria.error_rate_below,
            {route.name: route.errors.p0 for route in normal.routes},
        )
        self._counted = CountedTraffic(
            normal,
            split=split,
            start=self._start,
            watch_s=self._watch_s,
            policy=policy,
            probed=probed,
        )
        self._synthetic = Synthetic(probed or ProbesBefore(), policy.guard.expect)
        self._probes = Probes(policy.services, policy.guard.down_probes)
        if health_before is not None:
            self._probes.add_before(health_before, long_down)
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
            streamed={stream.route for stream in self._counted.streams if stream.route},
            watch_s=self._watch_s,
        )
        self._judge = self._make_judge()

    def _make_judge(self) -> Judge:
        return Judge(
            self._counted,
            self._answers,
            self._probes,
            self._occupancy,
            self._synthetic,
            self._policy,
            self._deployed_at,
            self._start,
            self._healthy_after_s,
            self._unseen,
        )

    def set_split(self, at: float, share: float) -> None:
        """Take note that the new version's share is another one from that time on (Unix seconds); in time order.

        The evidence so far stays. Rows of earlier seconds count with the share of their time, as long as they come
        before rows of later ones.
        """
        self._counted.set_split(at, share)

    def add(self, counts: Iterable[Counts]) -> None:
        """Count rows of the seconds since the deployment, each request once; other versions' rows are passed over.

        Rows may be in any order and split into several of the same version and second; a row that is later than its
        minute counts in the minute that is open.
        """
        rows = [row for row in counts if row.second >= self._start and row.version in (self._version, self._old)]
        rows.sort(key=lambda row: row.second)
        for row in rows:
            for at, share in self._counted.step_up(row.second):
                self._answers.set_split(share, math.ceil(at))
            self._accept_due(row.second)
            is_new = row.version == self._version
            if is_new:
                self._failures.add(row)
            self._answers.add(row, is_new=is_new, warming=self._counted.is_warming(row.second))
            if is_new or not self._counted.is_cut_over:
                self._counted.add(row, is_new=is_new)

    def add_health(self, report: HealthReport) -> None:
        """Take one look at the health endpoint; one made before the deployment tells what was up before."""
        if report.at < self._deployed_at:
            self._probes.add_before(report)
        elif report.version in (None, self._version):
            failed = self._probes.has_failed(report)
            if failed is not None:
                self._counted.add_probe(report.at, failed=failed)
            self._probes.add(report)

    def add_usual_health(self, report: HealthReport) -> None:
        """Take a look at the health endpoint of the version before, from any time: whether it answers 200 as a rule."""
        self._probes.add_usual(report)

    def add_synthetic(self, answers: Iterable[SyntheticAnswer]) -> None:
        """Take what synthetic requests were answered since the deployment."""
        since = [each for each in answers if each.at >= self._deployed_at]
        for answer in since:
            if self._counted.is_alone(answer.at):
                self._synthetic.compare(answer)
        for answer in self._synthetic.select_counted(since):
            self._counted.add_probe(answer.at, failed=answer.failed)

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
        return self._counted.is_cut_over and self._answers.judge(self._answers.until).wants_probe

    @property
    def suspected(self) -> frozenset[str]:
        """Names of what is answered otherwise, so that both versions should be asked that first."""
        about = self._answers.judge(self._answers.until).suspected if self._counted.is_cut_over else ()
        return frozenset((*about, *(shift.stratum for shift in self._synthetic.shifts())))

    def add_pairs(self, pairs: Iterable[PairedAnswer]) -> None:
        """Take what both versions answered to the same safe requests, each pair once."""
        self._answers.add_pairs(pairs)

    def accept(self, shift: str) -> None:
        """Take note that a person accepts the shift of that name: it is reported, and no longer holds anything."""
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
        self._failures.note_until(until)

    def log_evidence(self) -> float:
        """Return the log evidence against "healthy" of all streams together."""
        return self._counted.log_evidence()

    @property
    def asked_otherwise(self) -> bool:
        """Whether guard's own requests are answered differently from before, so that the old one should be asked."""
        return self._judge.asked_otherwise

    def judge(self, now: float) -> tuple[Verdict, Cause, str]:
        """Return verdict, cause and reason alone, without the evidence lines."""
        return self._judge.judge(now)

    def has_regressed(self, now: float) -> bool:
        """Whether the verdict is `REGRESSED`, sooner than `judge` says which one it is."""
        return self._judge.has_regressed(now)

    def decide(self, now: float) -> Decision:
        """Return the verdict as of `now` (Unix seconds); it may be asked for as often as one likes."""
        verdict, cause, reason = self.judge(now)
        bad_at = (self._counted.first_bad_at, self._probes.first_bad_at, self._occupancy.first_bad_at)
        looked = (*self._probes.evidence(), *self._occupancy.evidence(), *self._synthetic.evidence())
        return Decision(
            verdict=verdict,
            cause=cause,
            at=now,
            version=self._version,
            reason=reason,
            evidence=(*(stream.evidence() for stream in self._counted.streams), *looked),
            watched_s=max(0.0, now - self._deployed_at),
            requests=self._counted.requests,
            errors=self._counted.errors,
            first_bad_at=min((at for at in bad_at if at is not None), default=None),
            shifts=self._judge.shifts(now),
        )

    def put_off(self, decision: Decision) -> Decision:
        """Return the decision, without its verdict where failures that it rests on may be, or are, over by themselves.

        For a watch that acts and goes on; a recording is judged by the evidence alone.
        """
        if decision.verdict is not Verdict.REGRESSED or decision.cause is not Cause.ERRORS:
            return decision
        why = self._failures.explain_wait(decision.at, is_last=decision.watched_s >= self._watch_s)
        if not why:
            return decision
        return replace(decision, verdict=Verdict.INCONCLUSIVE, cause=Cause.NONE, reason=f"{decision.reason}, {why}")

    def looks(self) -> LooksState:
        """Return a checkpoint of what was seen by looking alone; counts are kept elsewhere and can be fed again."""
        return {
            "probes": self._probes.state(),
            "occupancy": self._occupancy.state(),
            "synthetic": self._synthetic.state(),
            "probed": self._counted.probe_state(),
            "shifts": self._answers.looks(),
            "waits": self.waits(),
        }

    def waits(self) -> WaitsState:
        """Return a checkpoint of what a verdict waits for; it changes without anything seen by looking."""
        return {
            "confirming": self._judge.confirming.state() if self._judge.confirming else None,
            "shifted_since": self._judge.shifted_since,
            "first_bad_at": self._counted.first_bad_at,
        }

    def _restore_waits(self, state: WaitsState) -> None:
        self._judge.confirming = Confirmation.from_state(state["confirming"]) if state["confirming"] else None
        self._judge.shifted_since = state["shifted_since"]
        # What was counted since the checkpoint is fed again.
        bad_at = (self._counted.first_bad_at, state["first_bad_at"])
        self._counted.first_bad_at = min((at for at in bad_at if at is not None), default=None)

    def restore_looks(self, state: LooksState) -> None:
        """Go on from a checkpoint of looks, in a detector made anew for the same watch."""
        self._probes.restore(state["probes"])
        self._occupancy.restore(state["occupancy"])
        self._synthetic.restore(state["synthetic"])
        if "shifts" in state:  # the version before wrote none
            self._answers.restore_looks(state["shifts"])
        if "waits" in state:
            self._restore_waits(state["waits"])
        self._counted.restore_probes(state["probed"])

    def state(self) -> DetectorState:
        """Return a checkpoint; `from_state` goes on with the same decisions."""
        return {
            "version": self._version,
            "old": self._old,
            "deployed_at": self._deployed_at,
            **self._counted.state(),
            "probes": self._probes.state(),
            "occupancy": self._occupancy.state(),
            "synthetic": self._synthetic.state(),
            **self.waits(),
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
        self._counted.restore(state)
        self._probes.restore(state["probes"])
        self._occupancy.restore(state["occupancy"])
        self._synthetic.restore(state["synthetic"])
        self._answers = Shifts.from_state(state["shifts"], policy.guard, can_ask=self._can_ask)
        self._judge = self._make_judge()
        self._restore_waits(state)
        return self
