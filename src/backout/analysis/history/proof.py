"""Judges the answers of a target at 0 % of the traffic, compared with the current version; pure (safety rule 6).

It must be known which version answered: until an override has reached the whole edge, the current one may answer.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from backout.analysis.detector.expectations import find_unmet
from backout.model.guard.answers import AnswerClass
from backout.model.guard.signals import Reach, ServiceState, sum_counts
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from backout.model.guard.fetched import Fetched
    from backout.model.guard.policy import Policy, SyntheticCheck
    from backout.model.guard.signals import Counts, HealthReport

ENOUGH_REQUESTS, NEARLY_ALL = 10, 0.95
"""The answers of the last seconds that make a total outage, if nearly all are errors."""


class Said(StrEnum):
    """The meaning of one answer."""

    GOOD = "good"
    BAD = "bad"
    ELSEWHERE = "elsewhere"  # another version answered: the override is not there yet
    HIDDEN = "hidden"  # which version answered is unknown
    ALIKE = "alike"  # as bad as the current version, and neither names a service: no judgement on the target


class Look(Value, frozen=True):
    """One answer, judged; `why` in one sentence without a final stop."""

    said: Said
    why: str


class _Trouble(Value, frozen=True):
    """The faults in one answer: critical services that are down, and others, "" for none."""

    services: frozenset[str] = frozenset()
    other: str = ""

    def __bool__(self) -> bool:
        return bool(self.services or self.other)


def is_total_outage(counts: Iterable[Counts]) -> bool | None:
    """Whether nearly all answers were errors; None when there were too few to say, and not a good one among them."""
    requests, errors = sum_counts(counts)
    if errors < requests * NEARLY_ALL:
        return False
    return True if requests >= ENOUGH_REQUESTS else None


def is_clear(report: HealthReport, target: str, policy: Policy) -> bool:
    """Whether an answer alone is good: it came from the target, and nothing critical is down."""
    return report.version == target and not _find_trouble(report, policy)


def describe_trouble(report: HealthReport, policy: Policy) -> str:
    """Return what is wrong in an answer of what is live, in words; "" when nothing critical is."""
    trouble = _find_trouble(report, policy)
    return _are_down(trouble.services) if trouble.services else trouble.other


def judge(
    report: HealthReport, target: str, serving: Collection[str], current: HealthReport | None, policy: Policy
) -> Look:
    """Return what an answer to a request for the target says.

    Args:
        serving: the versions with traffic, of which one may have answered instead.
        current: an answer of the version being left, asked for just now; None when it could not be asked.
    """
    names_versions = current is not None and current.version in serving
    if report.version not in (None, target) and (report.version in serving or names_versions):
        return Look(Said.ELSEWHERE, f"version {report.version} answered in its place")
    trouble = _find_trouble(report, policy)
    beside = _find_trouble(current, policy) if current is not None else _Trouble()
    if report.version != target and not _differs(trouble, serving, current, beside):
        return Look(Said.HIDDEN, "the application does not say which version answered")
    own = trouble.services - beside.services
    if own:
        return Look(Said.BAD, f"{_are_down(own)} on it, and not on the current version")
    if trouble.other:
        if trouble.other == beside.other:
            return Look(Said.ALIKE, f"{trouble.other}, and so does the current version")
        return Look(Said.BAD, trouble.other)
    if trouble.services:
        return Look(Said.GOOD, f"it answers; {_are_down(trouble.services)} on the current version as well")
    return Look(Said.GOOD, "it answers, and nothing critical is down")


def explain_wrong_answer(check: SyntheticCheck, answer: Fetched, current: Fetched | None, was: str | None) -> str:
    """Return what is wrong with a target's answer to a request, in words, "" for nothing.

    It is compared by its class, by what is declared of it, and by its content type; never by bytes. What was bad of the
    target before, and is bad of the current version as well, tells nothing.

    Args:
        current: the answer of the version being left, None where it was not asked.
        was: the content type with which the target answered well when it was live, None where that is not known.
    """
    wrong = find_unmet(check, answer)
    if answer.kind is AnswerClass.DENIED and check.credentials and current is not None and current.kind is answer.kind:
        return ""  # no version accepts our credentials any more
    if wrong:
        return "does not answer" if answer.status is None else f"answers {wrong}"
    if answer.is_good:
        differs = was and answer.media_type and answer.media_type != was
        return f"answers {answer.media_type}, and {was} when it was live" if differs else ""
    if was is not None and not answer.moved_well:
        return f"answers {answer.status}, and answered well when it was live"
    if current is not None and current.is_good and not check.statuses:
        return f"answers {answer.status}, and the current version answers well"
    return ""


def _differs(trouble: _Trouble, serving: Collection[str], current: HealthReport | None, beside: _Trouble) -> bool:
    """Whether an answer without a name cannot be the current version's: that one names itself, or is well."""
    if current is None or not current.measured:
        return False
    return len(serving) == 1 and (current.version in serving or (bool(trouble) and not beside))


def _find_trouble(report: HealthReport, policy: Policy) -> _Trouble:
    if report.reach is Reach.TIMED_OUT:
        return _Trouble(other="it does not answer in time")
    if report.reach is Reach.UNREACHABLE:
        return _Trouble(other="it cannot be reached")
    if not report.measured:
        return _Trouble(other=f"it answers {report.status or 'something'} that is no health report")
    down = frozenset(s.name for s in report.services if s.state is ServiceState.DOWN and policy.is_critical(s.name))
    if not down and (report.is_down or report.overall is ServiceState.DOWN):
        return _Trouble(other=f"it answers {report.status} and names no critical service that is down")
    return _Trouble(down)


def _are_down(services: Collection[str]) -> str:
    return f"{' and '.join(sorted(services))} {'is' if len(services) == 1 else 'are'} down"
