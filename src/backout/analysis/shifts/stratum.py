"""One stratum of a watch: its counts since the deployment, its tests, and the rate of its good answers."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NotRequired, TypedDict

from backout.analysis.shifts.bodies import Bodies
from backout.analysis.shifts.evidence import CLASS_WEIGHTS, POINTS, Evidence, EvidenceState
from backout.analysis.shifts.goodness import Answered
from backout.analysis.shifts.tally import Recent, Tally
from backout.model.guard.answers import AnswerClass

if TYPE_CHECKING:
    from backout.analysis.shifts.bodies import BodiesState
    from backout.analysis.shifts.normal import Normal
    from backout.analysis.shifts.tally import RecentState, TallyState

ENOUGH_BESIDE = 50
"""How many answers of the old version beside it show what affects both."""
_FEW = 20
"""How many answers of the old version beside it show what is usual now."""
_KEPT = 0.95
"""The part of the usual good answers a minute that counts as all of them."""
_MINUTE_S = 60


class Flow(StrEnum):
    """The change in good answers a minute: attacks add bad ones, a broken version takes good ones away."""

    FELL = "fell"
    KEPT = "kept"
    UNCLEAR = "unclear"


class StratumState(TypedDict):
    """Checkpoint of a `Stratum`."""

    name: str
    weight: float
    new: TallyState
    old: TallyState
    recent: RecentState
    both: RecentState
    last: int
    minute: NotRequired[int]
    opened: tuple[int, int, int, int]
    tests: list[EvidenceState]
    sizes: NotRequired[tuple[int, int]]
    bodies: NotRequired[BodiesState]
    added: int
    parts: NotRequired[list[tuple[int, TallyState, int]]]


def _read_bodies(state: StratumState) -> BodiesState:
    if "bodies" in state:
        return state["bodies"]
    tiny, sized = state.get("sizes", (0, 0))  # the version before told no kinds apart
    return {"0": (tiny, sized), "unlike": (sized, 0)}


class Stratum:
    """The requests under one name since the deployment.

    Args:
        normal: what was usual.
        weight: its part in the average of the evidence.
        start: Unix second from which minutes are counted.
        share: the new version's part of the traffic, in (0, 1].
        stretch: the minutes of each part of the watch, see `count_answered`.
    """

    def __init__(self, normal: Normal, weight: float, start: int, share: float, stretch: int = 1) -> None:
        self.normal = normal
        self.tests: dict[AnswerClass, Evidence] = {}
        self.new = Tally()
        self.old = Tally()
        self.added = 0  # bad answers of the new version to what was asked on top of what is usual
        self.bodies = Bodies(normal.smallest)
        self._weight = weight
        self._stretch = stretch
        self._parts: dict[int, tuple[Tally, int]] = {}  # by stretch that is over: what was counted then, and added
        self._before_part = (Tally(), 0)  # their sum
        self._fallen: list[tuple[int, int, int]] = []  # of each: its number, how many were bad, of how many
        self._minute = -1  # the newest in which anything was counted, whatever the split has been since
        self._start = start
        self._share = share
        self._recent = Recent(start)  # of the new version
        self._both = Recent(start)
        self._last = -1  # the last minute before the open one in which the new version was asked
        # The open minute, what the new version was asked in it, and the good answers of the new and of the old one.
        self._opened = (-1, 0, 0, 0)

    @property
    def name(self) -> str:
        """The stratum's name."""
        return self.normal.name

    @property
    def is_split(self) -> bool:
        """Whether an old version serves beside the new one."""
        return self._share < 1

    def add(self, minute: int, piece: Tally, *, is_new: bool) -> None:
        """Count what was answered in a minute after the deployment; in a cut-over the old version's only as volume."""
        if minute > self._both.minute:
            self._close(minute)
        self._minute = max(self._minute, minute)
        self._both.add(minute, piece)
        if not is_new and not self.is_split:
            return
        for kind in piece.classes:
            if kind not in self.tests:
                self._begin(kind, max(minute, self._opened[0]))
        good = piece.good
        # What is gone for good is no lack of good answers: without any, two of another class would be all there is.
        meant = good + piece.classes.get(AnswerClass.GONE, 0)
        for kind, test in self.tests.items():
            others = good if kind is AnswerClass.GONE else meant
            test.add(minute, piece.classes.get(kind, 0), others, is_new=is_new)
        if minute > self._opened[0]:
            self._last = self._opened[0] if self._opened[1] else self._last
            self._opened = (minute, 0, 0, 0)
        at, asked, new_good, old_good = self._opened
        if is_new:
            self.new.add(piece)
            self._recent.add(minute, piece)
            self._opened = (at, asked + piece.requests, new_good + meant, old_good)
        else:
            self.old.add(piece)
            self._opened = (at, asked, new_good, old_good + meant)

    def _close(self, minute: int) -> None:
        """Take bad answers of the minute that ends for added ones, where more was asked and no good one is lacking."""
        seen, normal = self._recent.parts[1], self.normal
        hours = normal.age_h + self._both.minute / 60
        usual = normal.tally.bad / max(1, normal.tally.good)
        more = seen.bad - round(usual * seen.good)
        if more > 0 and not self.is_split and self._recent.minute == self._both.minute:
            both = self._both.parts[1]
            if normal.asked.rose(both.requests, 1.0, hours) and not normal.well.fell(both.good, 1.0, hours):
                self.added += more
        self._keep_part(minute)

    def _keep_part(self, minute: int) -> None:
        """Keep what was counted in the stretch that ends with the open minute, if it does."""
        number = self._minute // self._stretch
        if self._minute < 0 or minute // self._stretch <= number:
            return
        counted, added = self._parts[number] = self._open_part()
        whole, more = self._before_part
        whole.add(counted)  # one more: to add all of them up each time would cost ever more in a long watch
        self._before_part = whole, more + added
        self._fallen.append((number, *_count_bad(counted, added)))

    def _add_up(self) -> None:
        """Add up the stretches that are over, whenever other answers are good."""
        whole, more = Tally(), 0
        for part, added in self._parts.values():
            whole.add(part)
            more += added
        self._before_part = whole, more
        self._fallen = [(number, *_count_bad(*part)) for number, part in self._parts.items()]

    def _open_part(self) -> tuple[Tally, int]:
        """Return what was counted, and added, since the last stretch that is over."""
        before, added = self._before_part
        classes = {kind: number - before.classes.get(kind, 0) for kind, number in self.new.classes.items()}
        counted = Tally(self.new.requests - before.requests, self.new.errors - before.errors, classes)
        return counted, self.added - added

    def _begin(self, kind: AnswerClass, minute: int) -> None:
        """Begin the test of a class with its first answer, of either version."""
        test = self.tests[kind] = Evidence(self.name, kind, self._weight * CLASS_WEIGHTS[kind])
        at, asked, new_good, old_good = self._opened
        last = at if at < minute and asked else self._last
        if self.is_split:
            test.begin_labels(self.normal.law_of(kind), self._share, minute, nothing_since=last + 1)
        else:
            test.begin_law(self.normal.law_of(kind), minute, nothing_since=last + 1)
        if at == minute:
            test.add(minute, 0, new_good, is_new=True)
            test.add(minute, 0, old_good, is_new=False)

    def set_split(self, share: float, second: int) -> None:
        """Go on with another share of the new version from that Unix second on."""
        self._share = share
        minute = (second - self._start) // _MINUTE_S
        for kind, test in self.tests.items():
            if self.is_split:
                test.begin_labels(self.normal.law_of(kind), share, minute, nothing_since=minute)
            else:
                test.begin_law(self.normal.law_of(kind), minute, nothing_since=minute)
        self._recent = Recent(second)
        self._both = Recent(second)

    def forgive(self, kind: AnswerClass, part: Stratum | None = None) -> None:
        """Count answers of a class as good from now on: all of them, or those that a part of this stratum has."""
        self.tests.pop(kind, None)
        for mine, theirs in zip(self.counted, part.counted if part else (None, None), strict=True):
            mine.forgive(kind, None if theirs is None else theirs.classes.get(kind, 0))
        for number, (mine, _) in self._parts.items():
            theirs, _ = part._parts.get(number, (Tally(), 0)) if part else (None, 0)  # noqa: SLF001 of the same class
            mine.forgive(kind, None if theirs is None else theirs.classes.get(kind, 0))
        self._add_up()
        for window, of_part in zip(self.windows, part.windows if part else (None, None), strict=True):
            window.forgive(kind, of_part)

    @property
    def counted(self) -> tuple[Tally, Tally]:
        """What the new and the old version answered since the deployment."""
        return self.new, self.old

    @property
    def windows(self) -> tuple[Recent, Recent]:
        """What the new version, and both, answered in the last two minutes."""
        return self._recent, self._both

    @property
    def before(self) -> Tally:
        """What the old version answered: beside the new one where that says enough, else before the deployment."""
        return self.old if self.is_split and self.old.requests >= _FEW else self.normal.tally

    def recent(self) -> Tally:
        """Return what the new version answered in the last two minutes."""
        return self._recent.tally()

    def both(self) -> Tally:
        """Return what both versions answered in the last two minutes."""
        return self._both.tally()

    def minutes(self, until: float) -> float:
        """Return how many minutes `both` covers, up to that time (Unix seconds)."""
        return self._both.minutes(self._start, until)

    def count_answered(self, *, by_time: bool = False) -> Answered | None:
        """Return what the good share is judged by, None where nothing says what was usual.

        What is gone for good, and what was added, is no fall by itself.

        Args:
            by_time: whether each stretch of time is counted separately.
        """
        known = [self.normal.tally] if self.normal.tally.requests else []
        if (self.is_split or not known) and self.old.requests >= ENOUGH_BESIDE:
            known.append(self.old)  # an attack, or a wave of logouts, falls on both
        if not known:
            return None
        usual = max(1 - each.good_share for each in known)
        bad, total = _count_bad(self.new, self.added)
        if not by_time:
            return Answered(usual, bad, total)
        now = (self._minute // self._stretch, *_count_bad(*self._open_part()))
        return Answered(usual, bad, total, (*self._fallen, now))

    def has_moved(self, kind: AnswerClass) -> bool:
        """Whether at least five points of this stratum went from good answers to that class."""
        before = self.before
        usual, usual_good = before.share(kind), before.good_share
        return any(
            now.share(kind) - usual >= POINTS and usual_good - now.good_share >= POINTS
            for now in (self.new, self.recent())
            if now.requests
        )

    def flow(self, until: float, hours: float) -> Flow:
        """Return the change in good answers a minute, for both versions together.

        Args:
            until: Unix seconds, up to which all was counted.
            hours: the age of the baseline.
        """
        seen, minutes, normal = self.both(), self.minutes(until), self.normal
        if not normal.well.mean or not minutes:
            return Flow.UNCLEAR
        if normal.well.fell(seen.good, minutes, hours):
            return Flow.FELL
        is_kept = seen.good >= _KEPT * normal.well.mean * minutes
        return Flow.KEPT if is_kept or normal.asked.rose(seen.requests, minutes, hours) else Flow.UNCLEAR

    def state(self) -> StratumState:
        """Return a checkpoint, plain JSON; what was normal is kept elsewhere."""
        return {
            "name": self.name,
            "weight": self._weight,
            "new": self.new.state(),
            "old": self.old.state(),
            "recent": self._recent.state(),
            "both": self._both.state(),
            "last": self._last,
            "minute": self._minute,
            "opened": self._opened,
            "tests": [test.state() for test in self.tests.values()],
            "bodies": self.bodies.state(),
            "added": self.added,
            "parts": [(number, counted.state(), added) for number, (counted, added) in self._parts.items()],
        }

    @classmethod
    def from_state(cls, state: StratumState, normal: Normal, start: int, share: float, stretch: int = 1) -> Stratum:
        """Return the stratum as it was when the checkpoint was taken."""
        self = cls(normal, state["weight"], start, share, stretch)
        self.new, self.old = Tally.from_state(state["new"]), Tally.from_state(state["old"])
        self._recent, self._both = Recent.from_state(state["recent"]), Recent.from_state(state["both"])
        self._last = state["last"]
        self._minute = state.get("minute", self._both.minute)
        minute, asked, new_good, old_good = state["opened"]
        self._opened = (minute, asked, new_good, old_good)
        tests = (Evidence.from_state(each, is_split=share < 1) for each in state["tests"])
        self.tests = {test.kind: test for test in tests}
        self.bodies.restore(_read_bodies(state))
        self.added = state["added"]
        parts = state.get("parts", [])  # the version before wrote none
        self._parts = {number: (Tally.from_state(counted), added) for number, counted, added in parts}
        self._add_up()
        return self


def _count_bad(counted: Tally, added: int) -> tuple[int, int]:
    """Return how many answers were bad, of how many, but for what is gone for good and what was added."""
    bad = counted.bad - counted.classes.get(AnswerClass.GONE, 0) - added
    return max(0, bad), counted.requests - added
