"""The outcomes of guard's watches and what people did about them: whether guard may be left to act alone; pure.

A *case* is a deployment that guard wanted rolled back. Several watches of one deployment are one case, by the first.
"""

from __future__ import annotations

from enum import StrEnum
from statistics import median
from typing import TYPE_CHECKING

from backout.analysis.detector.wording import count
from backout.analysis.history.remarks import is_made_by
from backout.escaping import shorten
from backout.model.guard.policy import Mode
from backout.model.remark import RemarkKind
from backout.model.value import Value
from backout.model.version import Mark

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from backout.model.deployment import Deployment
    from backout.model.version import VersionMark

NEEDED = 20
"""Watches that a judgement needs."""
WITHIN_S = 86_400.0
"""Actions of people later than this after the verdict had other reasons."""


class Watched(Value, frozen=True):
    """One finished watch.

    Args:
        since: the start of the watch; for a fresh deployment, its acceptance.
        verdict: as `Verdict`, or "void" when another deployment took its place.
        decided_at: when the verdict was reached.
        action: the consequence, "" when no person was there to be asked.
        rule: the rule that forbade acting, "" for none.
        switched: whether its rollback made another version live.
    """

    run: str
    mode: Mode
    deployment: str
    version: str
    since: float
    verdict: str
    decided_at: float
    first_bad_at: float | None
    reason: str
    action: str = ""
    rule: str = ""
    switched: bool = False

    @property
    def is_alarm(self) -> bool:
        """Whether guard wanted the version gone."""
        return self.verdict == "regressed" or self.action in ("rollback", "refused")


class Outcome(StrEnum):
    """The outcome for the version that guard wanted rolled back."""

    ROLLED_BACK = "rolled_back"  # by guard
    BY_HAND = "by_hand"  # rolled back by a person
    FORWARD = "forward"  # a newer version took its place
    STAYED = "stayed"  # nothing of it, or much later


class Case(Value, frozen=True):
    """One deployment that guard wanted rolled back.

    Args:
        left_at: when its version stopped being live, None while it is.
        until: up to when its requests are of interest.
        false_alarm: why the verdict was wrong, "" when nothing says so.
        requests, errors: what the version answered between the verdict and `until`; None when nothing was counted.
    """

    watch: Watched
    outcome: Outcome
    left_at: float | None
    until: float
    false_alarm: str = ""
    requests: int | None = None
    errors: int | None = None

    @property
    def live_after_verdict_s(self) -> float:
        """How long the version stayed live after the verdict, at most until now."""
        return max(0.0, self.until - self.watch.decided_at)


class Missed(Value, frozen=True):
    """A rollback by a person of a version that guard had watched and not wanted rolled back."""

    version: str
    at: float
    verdict: str
    run: str


class Past(Value, frozen=True):
    """The context of the watches in an environment.

    Args:
        deployments: oldest first, without those that only say something.
        built: when versions were uploaded.
        typed: the runs that a person is known to have typed: what any other run marked is guard's own word.
    """

    deployments: tuple[Deployment, ...]
    built: Mapping[str, float]
    marks: tuple[VersionMark, ...]
    now: float
    typed: frozenset[str] = frozenset()

    def is_by_a_person(self, mark: VersionMark) -> bool:
        """Whether a person made a mark, or typed the rollback that did."""
        return not mark.run or mark.run in self.typed


class Advice(StrEnum):
    """Whether guard may be left to act alone."""

    TOO_FEW = "too_few"
    NOT_YET = "not_yet"
    ARM = "arm"
    ARMED = "armed"


class TrackRecord(Value, frozen=True):
    """The whole report; `unwatched`: rollbacks by a person from versions that were never watched."""

    environment: str
    mode: Mode
    watches: tuple[Watched, ...]
    cases: tuple[Case, ...]
    missed: tuple[Missed, ...]
    unwatched: int
    advice: Advice
    why: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def verdicts(self) -> dict[str, int]:
        """How often each verdict was reached."""
        names = ("healthy", "regressed", "inconclusive", "unmeasured", "void")
        return {name: sum(watch.verdict == name for watch in self.watches) for name in names}

    @property
    def waited(self) -> tuple[Case, ...]:
        """The cases in which guard would have rolled back, and did not."""
        return tuple(case for case in self.cases if not case.watch.switched and case.watch.action != "refused")

    @property
    def acted(self) -> tuple[Case, ...]:
        """The cases in which it did."""
        return tuple(case for case in self.cases if case.watch.switched)

    @property
    def refused(self) -> int:
        """The cases in which there was nothing to roll back to, or more than code to be touched."""
        return sum(case.watch.action == "refused" and not case.watch.switched for case in self.cases)

    @property
    def held_by(self) -> dict[str, int]:
        """What kept guard from acting, by rule, and how often."""
        unruled = {"": "an end before it could act", "hold": "a person who said no"}
        rules = [case.watch.rule or unruled.get(case.watch.action, case.watch.action) for case in self.waited]
        return {rule: rules.count(rule) for rule in dict.fromkeys(rules)}

    @property
    def false_alarms(self) -> tuple[Case, ...]:
        """The cases in which the verdict was wrong, as far as anything says so."""
        return tuple(case for case in self.cases if case.false_alarm)

    @property
    def cost(self) -> tuple[Case, ...]:
        """The cases in which waiting for a person cost something."""
        return tuple(case for case in self.waited if not case.false_alarm)


def list_cases(watches: Sequence[Watched], past: Past) -> tuple[Case, ...]:
    """Return the cases of these watches, oldest first."""
    first: dict[str, Watched] = {}
    for watch in sorted(watches, key=lambda watch: watch.decided_at):
        known = first.get(watch.deployment)
        if watch.is_alarm and watch.verdict != "void" and (known is None or (watch.switched and not known.switched)):
            first[watch.deployment] = watch
    return tuple(_make_case(watch, watches, past) for watch in first.values())


def _make_case(watch: Watched, watches: Sequence[Watched], past: Past) -> Case:
    left = _find_left(watch, past)
    left_at = left.created_at if left else None
    outcome = Outcome.STAYED
    if watch.switched or (left is not None and is_automatic(left)):
        outcome = Outcome.ROLLED_BACK
    elif left is not None and left.created_at <= watch.decided_at + WITHIN_S:
        outcome = Outcome.BY_HAND if went_back(left, watch.version, past) else Outcome.FORWARD
    return Case(
        watch=watch,
        outcome=outcome,
        left_at=left_at,
        until=min(left_at or past.now, watch.decided_at + WITHIN_S),
        false_alarm=_explain_false_alarm(watch, left_at, watches, past),
    )


def _find_left(watch: Watched, past: Past) -> Deployment | None:
    """Return the first deployment after the verdict that does not serve the version."""
    later = (d for d in past.deployments if d.created_at > watch.since and d.id != watch.deployment)
    return next((d for d in later if d.created_at >= watch.decided_at and not d.serves(watch.version)), None)


def is_automatic(deployment: Deployment) -> bool:
    """Whether a guard made a deployment, on whatever machine."""
    return deployment.remark is not None and deployment.remark.auto


def went_back(deployment: Deployment, left: str, past: Past) -> bool:
    """Whether a deployment returned to an older version: by its message, or by the age of what it made live."""
    if is_made_by(deployment, RemarkKind.ROLLBACK):
        return True
    return find_first_seen(deployment.main, past) < find_first_seen(left, past)


def find_first_seen(version: str, past: Past) -> float:
    """Return when a version was uploaded, or first seen with traffic."""
    first = next((d.created_at for d in past.deployments if d.serves(version)), past.now)
    return min(past.built.get(version, first), first)


def _explain_false_alarm(watch: Watched, left_at: float | None, watches: Iterable[Watched], past: Past) -> str:
    for mark in past.marks:
        same = watch.version.startswith(mark.version) or mark.version.startswith(watch.version)
        if mark.mark is Mark.RELEASED and same and mark.at >= watch.decided_at:
            return f"a person released it: {shorten(mark.why)}" if mark.why else "a person released it"
    again = (w for w in watches if w.version == watch.version and w.decided_at > watch.decided_at)
    still_live = (w for w in again if left_at is None or w.since < left_at)
    healthy = next((w for w in still_live if w.verdict == "healthy"), None)
    return f"it stayed live, and run {healthy.run} found it healthy" if healthy else ""


def find_missed(watches: Sequence[Watched], past: Past) -> tuple[tuple[Missed, ...], int]:
    """Return the rollbacks by people that guard had not wanted, and how many left versions that it never watched."""
    found: list[Missed] = []
    unwatched = 0
    begun = min((watch.since for watch in watches), default=past.now)
    for before, after in zip(past.deployments, past.deployments[1:], strict=False):
        version = before.main if before.sole else find_newest(before, past)
        if after.created_at < begun or after.serves(version) or is_automatic(after):
            continue
        if not went_back(after, version, past):
            continue
        seen = [w for w in watches if w.version == version and w.decided_at <= after.created_at and w.verdict != "void"]
        if not seen:
            unwatched += 1
        elif not any(watch.is_alarm for watch in seen) and after.created_at <= seen[-1].decided_at + WITHIN_S:
            found.append(Missed(version, after.created_at, seen[-1].verdict, seen[-1].run))
    return tuple(found), unwatched


def find_newest(deployment: Deployment, past: Past) -> str:
    """Return the version on trial of a split."""
    return max((s.version for s in deployment.shares if s.percentage > 0), key=lambda v: find_first_seen(v, past))


def make_track_record(
    environment: str, mode: Mode, watches: Sequence[Watched], told: Sequence[Case], past: Past
) -> TrackRecord:
    """Return the report with its advice; `watches` oldest first, `told` as `list_cases` returned them, with counts."""
    by_people, unwatched = find_missed(watches, past)
    advice, why = _choose_advice(mode, watches, told, by_people)
    return TrackRecord(environment, mode, tuple(watches), tuple(told), by_people, unwatched, advice, why)


def _choose_advice(
    mode: Mode, watches: Sequence[Watched], told: Sequence[Case], by_people: Sequence[Missed]
) -> tuple[Advice, tuple[str, ...]]:
    done = [watch for watch in watches if watch.verdict != "void"]
    wrong = sum(bool(case.false_alarm) for case in told)
    undecided = sum(watch.verdict in ("inconclusive", "unmeasured") for watch in done)
    why = []
    if wrong:
        why.append(f"{wrong} of {count(len(told), 'alarm')} false, as far as is known")
    if undecided * 2 > len(done):
        why.append(f"{undecided} of {len(done)} watches ended without a verdict")
    if mode is Mode.ACT:
        return Advice.ARMED, tuple(why)
    if len(done) < NEEDED:
        so_far = f"there {'is' if len(done) == 1 else 'are'} {len(done)} so far"
        return Advice.TOO_FEW, (f"{NEEDED} watches are needed for a judgement; {so_far}", *why)
    if why:
        return Advice.NOT_YET, tuple(why)
    right = f"{count(len(told), 'alarm')} in {len(done)} watches, none of them known to be false"
    late = (f"{count(len(by_people), 'rollback')} by a person came without an alarm",) if by_people else ()
    return Advice.ARM, (right, *late)


def compute_median(values: Iterable[float]) -> float | None:
    """Return the median, None of nothing."""
    known = list(values)
    return median(known) if known else None
