"""The verdict on all the evidence of a watch, with its reason."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.analysis.detector.confirmation import Confirmation
from backout.analysis.detector.measures import Against, Measure
from backout.analysis.detector.wording import count, format_odds, format_percent
from backout.analysis.shifts import PAIRS_PART
from backout.analysis.shifts.declared import find_worse, is_asked_about, judge_own_shifts
from backout.analysis.statistics.rates import mix
from backout.model.guard.shift import Outcome, ShiftKind
from backout.model.guard.verdict import Cause, Verdict

if TYPE_CHECKING:
    from backout.analysis.detector.connections import Occupancy
    from backout.analysis.detector.counted import CountedTraffic
    from backout.analysis.detector.probes import Probes
    from backout.analysis.detector.synthetic import Synthetic
    from backout.analysis.shifts import Shifts
    from backout.model.guard.policy import Policy
    from backout.model.guard.shift import Shift

_GRAVEST = (Outcome.ROLL_BACK, Outcome.HOLD, Outcome.TOLD)
_COMPARED = (Against.BEFORE, Against.BESIDE, Against.EXTREME)
"""What is held against the version before; all else against a limit, which an outage exceeds with every version."""
_ALIKE = 2
"""The old version fails much as often where its share of errors is at least one in so many of the new one's."""
QUIET_LOG_E = 1.0
"""No version is called healthy while any evidence against it is above this."""


@dataclass(slots=True)
class Judge:
    """Judges counts, answers and looks; its only state is what a verdict waits for.

    Args:
        deployed_at: Unix seconds.
        start: the whole second of it.
        healthy_after_s: earliest moment of a verdict "healthy", in seconds after the deployment.
        unseen: what the source of counts does not see, said with "healthy".
        confirming: the evidence that waits to be confirmed.
        shifted_since: since when a shift does (Unix seconds).
    """

    counted: CountedTraffic
    answers: Shifts
    probes: Probes
    occupancy: Occupancy
    synthetic: Synthetic
    policy: Policy
    deployed_at: float
    start: int
    healthy_after_s: float
    unseen: str
    confirming: Confirmation | None = None
    shifted_since: float | None = None

    def shifts(self, now: float) -> tuple[Shift, ...]:
        """Return the shifts, most serious first; those that a person accepts are only reported."""
        pairs, accepted = self.answers.pairs, self.answers.accepted
        lone = (find_worse(pairs, self._enough_of_pairs()), self.probes.health_lost())
        found = [shift for shift in lone if shift is not None]
        found += judge_own_shifts(self.synthetic.shifts(), pairs)
        found = [replace(s, outcome=Outcome.TOLD) if s.name in accepted else s for s in found]
        every = sorted((*self.answers.judge(now).shifts, *found), key=lambda shift: _GRAVEST.index(shift.outcome))
        # Visitors' requests and guard's own may show the same: told once, by the gravest.
        return tuple({shift.name: shift for shift in reversed(every)}.values())[::-1]

    def _enough_of_pairs(self) -> float:
        return -math.log(self.policy.guard.alpha * PAIRS_PART)

    @property
    def asked_otherwise(self) -> bool:
        """Whether guard's own requests are answered differently from before, so that the old one should be asked."""
        pairs, accepted = self.answers.pairs, self.answers.accepted
        return not (pairs.are_alike or pairs.both_fail) and any(
            shift.outcome is Outcome.HOLD and shift.name not in accepted for shift in self.synthetic.shifts()
        )

    def _held(self, now: float) -> Shift | None:
        """Return the gravest shift that a person has to decide about."""
        return next((shift for shift in self.shifts(now) if shift.outcome is Outcome.HOLD), None)

    def judge(self, now: float) -> tuple[Verdict, Cause, str]:
        """Return verdict, cause and reason alone, without the evidence lines."""
        return self._judge_trouble(now) or self._not_regressed(now)

    def has_regressed(self, now: float) -> bool:
        """Whether the verdict is `REGRESSED`, without what the other verdicts take."""
        found = self._judge_trouble(now)
        return found is not None and found[0] is Verdict.REGRESSED

    def _judge_trouble(self, now: float) -> tuple[Verdict, Cause, str] | None:
        """Return the verdict that trouble leads to, or that nothing could be measured; None where there is neither."""
        looked = self._by_looking()
        if looked is not None:
            return Verdict.REGRESSED, *looked
        if not (self.counted.requests or self.probes.measured or self.counted.probed or self._held(now)):
            return Verdict.UNMEASURED, Cause.NONE, self._nothing_seen()
        shifted = self._judge_shift(now)
        if shifted is not None:
            return shifted
        log_e = self._log_e()
        if log_e < self.counted.threshold:
            self.confirming = None
            return None
        return self._against(now, log_e)

    def _log_e(self) -> float:
        """Return the log evidence of the streams, or a bound of it, where it is far below all that matters."""
        most = self.counted.most_log_evidence()
        return most if most < min(QUIET_LOG_E, self.counted.threshold) else self.counted.log_evidence()

    def _against(self, now: float, log_e: float) -> tuple[Verdict, Cause, str]:
        """Return what follows from evidence of the streams that would carry a rollback."""
        threshold = self.counted.threshold
        acting = [stream for stream in self.counted.streams if stream.weight and stream.agrees]
        shared = mix([(stream.weight, stream.log_e()) for stream in acting]) < threshold
        lead = self.counted.lead(acting if not shared else self.counted.weighed)
        reason = f"{lead.sentence()}; evidence {format_odds(log_e)} against healthy"
        failing = self.answers.failing(self.counted.errors) if lead.cause is Cause.ERRORS else ""
        if failing:  # what people could not do comes first
            reason = f"{failing}; {reason}"
        own = self.synthetic.describe_worst() if lead.measure is Measure.PROBES else ""
        reason += f"; {own}" if own else ""
        if shared:
            return (
                Verdict.INCONCLUSIVE,
                Cause.OUTSIDE,
                f"{lead.sentence()}, but so far the old version beside it does much the same",
            )
        outside = self._excuse_requests(now)
        if outside is not None:
            self.confirming = None
            return Verdict.INCONCLUSIVE, Cause.OUTSIDE, f"{outside}; {reason}"
        doubt = self.probes.doubt_requests(now) if self.counted.is_cut_over else None
        apart = [stream for stream in acting if stream.expected_from in _COMPARED]
        if doubt is not None and mix([(stream.weight, stream.log_e()) for stream in apart]) < threshold:
            self.confirming = None
            why = f"{doubt}: nothing tells this version from the one before it"
            return Verdict.INCONCLUSIVE, Cause.NONE, f"{why}; {reason}"
        crowd = self.answers.crowd if self.counted.is_cut_over and lead.cause is Cause.LATENCY else 0.0
        if crowd and lead.expected_from is not Against.EXTREME:
            more = f"{crowd:.1f} times as many requests come as before, which alone makes answers slower"
            return Verdict.INCONCLUSIVE, Cause.NONE, f"{reason}, but {more}"
        if lead.bad < self.policy.guard.min_bad:
            missing = self.policy.guard.min_bad - lead.bad
            return Verdict.INCONCLUSIVE, Cause.NONE, f"{reason}, but {missing} more must be seen before that counts"
        if self.confirming is None:
            self.confirming = Confirmation(lead.name, now)
        left_s = self.confirming.left_s(now, self.counted.streams, self.policy.guard.confirm_s)
        if self.confirming.half is None and self.confirming.since == now:  # it begins anew, or just began
            self.confirming.stream = lead.name
        if left_s > 0:
            return Verdict.INCONCLUSIVE, Cause.NONE, f"{reason}, to be confirmed for {left_s:.0f} s more"
        return Verdict.REGRESSED, lead.cause, reason

    def _by_looking(self) -> tuple[Cause, str] | None:
        """Return the cause and the reason of what guard saw itself, which needs no visitors' requests."""
        down = self.probes.find_regression(endpoint=not self._fails_beside())
        full = self.occupancy.find_regression()
        if down or full:
            return Cause.HEALTH if down else Cause.CONNECTIONS, str(down or full)
        declared = find_worse(self.answers.pairs, self._enough_of_pairs())
        if declared is None or declared.name in self.answers.accepted:
            return None
        return Cause.ANSWERS, declared.sentence

    def _fails_beside(self) -> bool:
        """Whether the old version beside this one fails much as often: a look at /health meets either of them."""
        counted, (requests, errors) = self.counted, self.counted.beside
        if errors * counted.requests * _ALIKE < counted.errors * requests:
            return False
        both = ((counted.errors, counted.requests), (errors, requests))
        return counted.get_noninferiority().find_shared_trouble(*both) is not None

    def _excuse_requests(self, now: float) -> str | None:
        """Return what requests may fail for in a cut-over, None for nothing; a split has both versions to compare."""
        return self.probes.excuse_requests(now) if self.counted.is_cut_over else None

    def _judge_shift(self, now: float) -> tuple[Verdict, Cause, str] | None:
        """Return the verdict that a shift alone leads to, or None."""
        worst = next(iter(self.answers.judge(now).of(Outcome.ROLL_BACK)), None)
        if worst is None:
            self.shifted_since = None
            return None
        reason = f"{worst.sentence}; evidence {format_odds(worst.log_evidence)} against healthy"
        outside = self._excuse_requests(now) if worst.kind is ShiftKind.ANSWERS and worst.to is None else None
        if outside is not None:
            self.shifted_since = None
            return Verdict.INCONCLUSIVE, Cause.OUTSIDE, f"{outside}; {reason}"
        self.shifted_since = now if self.shifted_since is None else self.shifted_since
        left_s = self.policy.guard.confirm_s - (now - self.shifted_since)
        if left_s > 0:
            return Verdict.INCONCLUSIVE, Cause.NONE, f"{reason}, to be confirmed for {left_s:.0f} s more"
        return Verdict.REGRESSED, Cause.ANSWERS, reason

    def _nothing_seen(self) -> str:
        if self.probes.unreadable:
            return f"no request was seen, and {count(self.probes.unreadable, 'health answer')} could not be read"
        return "no request and no health answer was seen"

    def _not_regressed(self, now: float) -> tuple[Verdict, Cause, str]:
        beside = (self.counted.beside[1], self.counted.beside[0])
        shared = self.counted.get_noninferiority().find_shared_trouble(
            (self.counted.errors, self.counted.requests), beside
        )
        outside = self.probes.not_the_deployment() or self.occupancy.not_the_deployment() or shared
        if self.answers.pairs.both_fail and self.synthetic.shifts():
            outside = outside or "not the deployment: the version before it, asked the same, fails as well"
        excuse = outside or self.probes.doubtful() or self.occupancy.doubtful(now)
        seen = f"{self.counted.errors:,} of {count(self.counted.requests, 'request')} failed"
        held = self._held(now)
        if held is not None:  # whatever else is well, and whatever the policy makes of a watch without a verdict
            not_ours = self.answers.judge(now).outside
            why = not_ours or _explain_unproven(held, self.answers.pairs.sentence) or seen
            return Verdict.INCONCLUSIVE, Cause.OUTSIDE if not_ours else Cause.ANSWERS, f"{held.sentence}; {why}"
        if excuse is not None:
            return Verdict.INCONCLUSIVE, Cause.OUTSIDE if outside else Cause.NONE, f"{excuse}; {seen}"
        open_point = (
            self.counted.get_noninferiority().above_slo()
            or self.counted.slow_for_now()
            or self.counted.describe_uncompared(much=True)
            or self._open_point(self._log_e(), now)
        )
        if open_point is not None:
            failing = self.answers.failing(self.counted.errors)  # what people could not do comes first
            return Verdict.INCONCLUSIVE, Cause.NONE, "; ".join(filter(None, (failing, seen, open_point)))
        limit = format_percent(self.counted.get_noninferiority().error_rate)
        unseen = "" if self.counted.has_times else "; response times could not be compared"
        uncompared = self.counted.describe_uncompared(much=False)
        unseen += f"; {uncompared}" if uncompared else ""
        guesses, asked = self.answers.unmatched
        if 2 * guesses > asked:
            unseen += f"; {guesses:,} of {count(asked, 'request')} asked for what was not known before"
        fell = self.answers.goodness(now).fell
        unseen += (
            f"; for about {count(fell, 'minute')} fewer answers were good than before, which is over" if fell else ""
        )
        unseen += f"; {self.unseen}" if self.unseen else ""
        reason = f"{seen}; an error rate of {limit} is excluded (99 % sure){unseen}"
        early_s = self.healthy_after_s - (now - self.deployed_at)
        if early_s > 0:
            return Verdict.INCONCLUSIVE, Cause.NONE, f"{reason}, watched for {early_s:.0f} s more"
        return Verdict.HEALTHY, Cause.NONE, reason

    def _open_point(self, log_e: float, now: float) -> str | None:
        """Return what is still missing for "healthy", or None when nothing is."""
        if not self.counted.requests:
            return "without a request nothing is excluded"
        if self.counted.has_times and now <= self.counted.slow_from:
            return f"response times count from {self.counted.slow_from - self.start:.0f} s after the deployment on"
        missing = self.answers.goodness(now).missing
        fall = self.answers.describe_fall(now) if missing else ""
        if fall:  # however many requests more, it would be none that is healthy
            return f"{fall}; too little was seen to tell whether the version or its visitors are behind it"
        needed = self.counted.get_noninferiority().requests_missing() or missing
        if needed:
            return f"about {count(needed, 'more request')} would tell"
        if log_e > QUIET_LOG_E:
            return (
                f"evidence {format_odds(log_e)} against healthy is too much to call it healthy and too "
                "little to call it bad"
            )
        return None


def _explain_unproven(shift: Shift, asked: str) -> str:
    """Return why a shift that asking both versions could confirm does not alone justify a rollback, "" for another.

    Args:
        asked: the result of asking both versions the same, "" where that was not done.
    """
    if not is_asked_about(shift):
        return ""
    by_visitors = shift.kind is not ShiftKind.CREDENTIALS
    why = "whether the version or its visitors are behind it is not shown" if by_visitors else ""
    return "; ".join(filter(None, (why, asked)))
