"""The shifts of one watch: counts and pairs in, shifts and their consequences out."""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING

from backout.analysis.shifts.cells import Cells
from backout.analysis.shifts.collapse import WORKED, Collapse
from backout.analysis.shifts.evidence import CLASS_WEIGHTS, LIKELY
from backout.analysis.shifts.goodness import Goodness, weigh
from backout.analysis.shifts.known import Known
from backout.analysis.shifts.normal import Before, Normal, find_expected_classes
from backout.analysis.shifts.pairs import Pairs
from backout.analysis.shifts.sentences import make_collapsed_shift, make_fallen_shift
from backout.analysis.shifts.signs import Signs
from backout.analysis.shifts.strata import compute_weights, freeze, get_stratum, list_routes, measure_guesses
from backout.analysis.shifts.stratum import ENOUGH_BESIDE, Stratum
from backout.analysis.shifts.table import Case, Judged, judge
from backout.analysis.shifts.tally import Tally, make_piece
from backout.analysis.shifts.triggers import TriggerRuns
from backout.analysis.statistics.baseline import MINUTE_S
from backout.model.guard.answers import AnswerClass
from backout.model.guard.shift import SITE, Outcome

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from backout.analysis.shifts.checkpoints import LooksOfShiftsState, ShiftsState
    from backout.model.guard.policy import GuardPolicy
    from backout.model.guard.probes import PairedAnswer
    from backout.model.guard.signals import Counts, RouteCounts

PART, PAIRS_PART = 0.1, 0.02
"""The part of alpha for shifts, and within it for pairs alone; the other streams share the rest."""
_CLASSES, _COLLAPSES = 0.7, 0.3
CROWD, KNOWN_CROWD = 1.5, 200
"""The factor of requests that makes a crowd, and the requests needed to know what is usual."""
USUAL_WATCH_S = 900.0
_MOST_STRETCHES = 30
"""The most stretches of a watch, of whole minutes: they show whether a fall is over."""
ASKING_S = 5.0
"""How long a probe is tried before an extinction decides without one."""


class Shifts:
    """Compares what users get with what they got before, while a version is watched.

    Args:
        baseline: counts of the old version before the deployment.
        start: Unix second of the deployment.
        split: share of the new version, in (0, 1].
        policy: what is expected, what is vital, how sure to be.
        can_ask: whether the caller sends both versions the same request when `wants_probe`.
        declared: see `TriggerRuns`.
        streamed: routes whose errors have a stream of their own already.
        watch_s: how long this watch is.
    """

    def __init__(
        self,
        *,
        baseline: Sequence[Counts],
        start: int,
        split: float,
        policy: GuardPolicy,
        can_ask: bool = False,
        declared: Collection[str] | None = None,
        streamed: Collection[str] = (),
        watch_s: float = USUAL_WATCH_S,
    ) -> None:
        self._policy = policy
        self._start = start
        self._share = split
        self._can_ask = can_ask
        self._until = float(start)
        self._stretch = max(1, math.ceil(watch_s / MINUTE_S / _MOST_STRETCHES))
        self._pairs = Pairs()
        self._accepted: dict[str, float] = {}
        """{name: Unix seconds up to which all was counted when a person accepted it}."""
        self._extinct_since: float | None = None
        self._unmatched = Tally()
        self._guesses = measure_guesses(baseline)
        rows = [row for row in baseline if row.requests]
        cells = Cells(rows, start)
        asked, self._hours = cells.asked, cells.age_h
        strata = freeze(asked, policy.vital)
        expected = {name: find_expected_classes(name, policy.expect) for name in asked}
        followed = Before(cells, strata, expected)
        by_name = Before(cells, {name: get_stratum(name) for name in asked}, expected)
        # Labels need nothing to compare with: without a baseline the site is one stratum.
        self._normals = [followed.normal(name) for name in followed.names] or [Normal(SITE, Tally())]
        small = (name for name in by_name.names if name != SITE and name not in streamed)
        self._names = [by_name.normal(name, by_class=False) for name in small]
        self._known = {
            name: Known(stratum, get_stratum(name), expected[name] | followed.usual.get(stratum, frozenset()))
            for name, stratum in strata.items()
        }
        weights = compute_weights([normal.name for normal in self._normals if normal.name != SITE], policy.vital)
        self._strata = {
            normal.name: Stratum(normal, _CLASSES * weights[normal.name], start, split, self._stretch)
            for normal in self._normals
        }
        own = compute_weights([normal.name for normal in self._names], policy.vital, site=0.0)
        self._collapses = {
            normal.name: Collapse(normal, _COLLAPSES * own[normal.name], split) for normal in self._names
        }
        self._signs = Signs(baseline)
        self._triggers = TriggerRuns(baseline, declared)
        self._judged: Judged | None = None
        self._weighed: tuple[Judged, Goodness] | None = None

    @property
    def _site(self) -> Stratum | None:
        return self._strata.get(SITE)

    def add(self, row: Counts, *, is_new: bool, warming: bool) -> None:
        """Count a row of a second since the deployment.

        Args:
            warming: a declared warm-up goes on, in which some errors are granted.
        """
        self._judged = None
        self._until = max(self._until, row.second + 1.0)
        minute = (row.second - self._start) // MINUTE_S
        site = self._site
        if is_new:
            self._triggers.add(row)
        if site is None:
            return
        if is_new:
            self._signs.add(row)
        if not row.routes or not self._known:
            site.add(minute, make_piece(row, ()), is_new=is_new)
            return
        whole = Tally()
        for name, route in list_routes(row):
            known = self._known.get(name)
            if known is None:
                if is_new:
                    self._unmatched.add(make_piece(route, ()))
                continue
            self._add_route(minute, known, route, whole, is_new=is_new, warming=warming)
        if whole.requests:
            site.add(minute, whole, is_new=is_new)

    def _add_route(
        self, minute: int, known: Known, route: RouteCounts, whole: Tally, *, is_new: bool, warming: bool
    ) -> None:
        piece = make_piece(route, known.good)
        whole.add(piece)
        stratum = self._strata[known.stratum]
        stratum.add(minute, piece, is_new=is_new)
        collapse = self._collapses.get(known.own)
        if collapse is not None and not warming and (is_new or self._share < 1):
            collapse.add(minute, piece, is_new=is_new)
        if is_new and route.sizes:
            stratum.bodies.add(route.sizes)

    @property
    def until(self) -> float:
        """Unix seconds up to which all was counted."""
        return self._until

    def note_until(self, until: float) -> None:
        """Take note that all that was answered before that time (Unix seconds) has been counted."""
        if until > self._until:
            self._judged = None
            self._until = until

    def set_split(self, share: float, second: int) -> None:
        """Go on with another share of the new version from that Unix second on."""
        self._judged = None
        self._share = share
        for stratum in self._strata.values():
            stratum.set_split(share, second)
        for collapse in self._collapses.values():
            collapse.set_split(share)

    def add_pairs(self, pairs: Iterable[PairedAnswer]) -> None:
        """Take what both versions answered to the same safe requests."""
        self._judged = None
        self._pairs.add(pairs)

    def accept(self, shift: str) -> None:
        """Take note that a person accepts the shift of that name: such answers are good from now on.

        Once: to forgive what was counted again would forget what the same class of answers shows elsewhere.
        """
        if shift in self._accepted:
            return
        self._judged = None
        self._accepted[shift] = self._until
        where, _, to = shift.rpartition(":")
        if to not in CLASS_WEIGHTS:
            return
        kind, site = AnswerClass(to), self._site
        for name, stratum in self._strata.items():
            if name == SITE or where not in (SITE, name.replace(" ", ":")):
                continue
            if site is not None:
                site.forgive(kind, stratum)
            stratum.forgive(kind)
            self._known = {
                each: known._replace(good=known.good | {kind}) if known.stratum == name else known
                for each, known in self._known.items()
            }
        if site is not None and where == SITE:
            site.forgive(kind)

    @property
    def unmatched(self) -> tuple[int, int]:
        """How many requests asked for what was not known before, and how many there were in all."""
        site = self._site
        return self._unmatched.requests, self._unmatched.requests + (site.new.requests if site is not None else 0)

    @property
    def pairs(self) -> Pairs:
        """What both versions answered to the same requests."""
        return self._pairs

    @property
    def accepted(self) -> frozenset[str]:
        """The names of shifts that a person accepts."""
        return frozenset(self._accepted)

    def judge(self, now: float) -> Judged:
        """Return the shifts and their consequences, as of `now` (Unix seconds)."""
        if self._judged is None or self._extinct_since is not None:
            case = Case(
                strata=self._strata,
                collapses=[each for each in self._collapses.values() if each.has_begun],
                pairs=self._pairs,
                signs=self._signs,
                triggers=self._triggers,
                unmatched=self._unmatched,
                guesses=self._guesses,
                accepted=self.accepted,
                share=self._share,
                until=self._until,
                minutes=(self._until - self._start) / MINUTE_S,
                hours=self._hours + (self._until - self._start) / 3600,
                threshold=-math.log((PART - PAIRS_PART) * self._policy.alpha),
                min_bad=self._policy.min_bad,
                is_sticky=self._policy.sticky,
                waits=self._can_ask and (self._extinct_since is None or now - self._extinct_since < ASKING_S),
                crowd=self.crowd,
            )
            self._judged = judge(case)
            self._extinct_since = (self._extinct_since or now) if self._judged.is_extinct else None
        return self._judged

    @property
    def crowd(self) -> float:
        """How many times as many requests come as before, 0 where that is less than half as many again, or not known.

        A crowd alone makes answers slower, whatever the version.
        """
        site = self._site
        if site is None or site.normal.tally.requests < KNOWN_CROWD:
            return 0.0
        usual = site.normal.asked.mean * site.minutes(self._until)
        times = site.both().requests / usual if usual else 0.0
        return times if times >= CROWD else 0.0

    def failing(self, errors: int) -> str:
        """Return what people could not do where nearly all errors fall on one small stratum, "" where they do not.

        Args:
            errors: of the new version since its deployment.
        """
        likely = [
            each
            for each in self._collapses.values()
            if each.has_begun and each.is_nearly_all and 2 * each.tail.errors > errors and each.log_e() >= LIKELY
        ]
        if not likely:
            return ""
        worst = max(likely, key=lambda each: each.tail.errors)
        return make_collapsed_shift(worst, Outcome.TOLD, is_split=self._share < 1).sentence

    @property
    def tells_classes(self) -> bool:
        """Whether any answer was neither good nor an error, before or since: then the good share is judged."""
        site = self._site
        return site is not None and bool(site.normal.tally.classes or site.new.classes)

    def goodness(self, now: float) -> Goodness:
        """Return how sure it is, as of `now` (Unix seconds), that the good share has not fallen, or not to stay.

        In strata whose shift is only told what was added is no fall.
        """
        judged = self.judge(now)
        if self._weighed is None or self._weighed[0] is not judged:
            told = (shift.stratum for shift in judged.of(Outcome.TOLD))
            self._weighed = judged, self._goodness(frozenset(told))
        return self._weighed[1]

    def describe_fall(self, now: float) -> str:
        """Return where the good share is much lower than before, though no shift is shown; "" where it is not.

        So short a watch of a cut-over cannot show one: any single minute may be an attack's.
        """
        shown = {shift.stratum for shift in self.judge(now).shifts}
        found = (make_fallen_shift(each) for name, each in self._strata.items() if name not in shown | {SITE})
        fallen = [each for each in found if each is not None]
        return max(fallen, key=lambda each: each.bad).sentence if fallen else ""

    def _goodness(self, left_out: frozenset[str]) -> Goodness:
        if not self.tells_classes:
            return Goodness(0)
        strata = [each for name, each in self._strata.items() if name != SITE] or list(self._strata.values())
        strata = [each for each in strata if each.name not in left_out and each.new.requests]
        known = [each for each in map(Stratum.count_answered, strata) if each is not None]
        if known:
            found = weigh(known)
            if found.missing:  # it may have fallen for a while
                by_time = (each.count_answered(by_time=True) for each in strata)
                found = weigh(each for each in by_time if each is not None)
            return found._replace(fell=found.fell * self._stretch)
        # Nothing says what was usual: that most is not answered well is no sign of health, until enough is seen beside.
        site = self._strata[SITE]
        is_poor = bool(strata) and site.new.good < WORKED * site.new.requests
        return Goodness(max(1, ENOUGH_BESIDE - site.old.requests) if is_poor else 0)

    def looks(self) -> LooksOfShiftsState:
        """Return a checkpoint of what counts cannot bring back."""
        return {
            "pairs": self._pairs.state(),
            "accepted": sorted(self._accepted),
            "accepted_at": dict(self._accepted),
            "extinct_since": self._extinct_since,
        }

    def restore_looks(self, state: LooksOfShiftsState) -> None:
        """Go on from a checkpoint of `looks`."""
        self._judged = None
        self._pairs.restore(state["pairs"])
        for shift in state["accepted"]:
            self.accept(shift)
        self._extinct_since = state["extinct_since"]

    def state(self) -> ShiftsState:
        """Return a checkpoint, plain JSON."""
        return {
            "start": self._start,
            "share": self._share,
            "hours": self._hours,
            "until": self._until,
            "normals": [normal.state() for normal in chain(self._normals, self._names)],
            "known": {name: (each.stratum, each.own, sorted(each.good)) for name, each in self._known.items()},
            "strata": [stratum.state() for stratum in self._strata.values()],
            "collapses": [each.state() for each in self._collapses.values()],
            "unmatched": self._unmatched.state(),
            "guesses": self._guesses,
            "signs": self._signs.state(),
            "triggers": self._triggers.state(),
            "looks": self.looks(),
            "stretch": self._stretch,
        }

    @classmethod
    def from_state(cls, state: ShiftsState, policy: GuardPolicy, *, can_ask: bool = False) -> Shifts:
        """Return it as it was when the checkpoint was taken."""
        self = cls(baseline=(), start=state["start"], split=state["share"], policy=policy, can_ask=can_ask)
        self._hours, self._until = state["hours"], state["until"]
        self._stretch = state.get("stretch", 1)
        normals = [Normal.from_state(each) for each in state["normals"]]
        self._normals, self._names = normals[: len(state["strata"])], normals[len(state["strata"]) :]
        self._known = {
            name: Known(stratum, own, frozenset(map(AnswerClass, good)))
            for name, (stratum, own, good) in state["known"].items()
        }
        followed: Mapping[str, Normal] = {normal.name: normal for normal in self._normals}
        by_name: Mapping[str, Normal] = {normal.name: normal for normal in self._names}
        self._strata = {
            each["name"]: Stratum.from_state(each, followed[each["name"]], self._start, self._share, self._stretch)
            for each in state["strata"]
        }
        self._collapses = {
            each["name"]: Collapse.from_state(each, by_name[each["name"]], self._share) for each in state["collapses"]
        }
        self._unmatched = Tally.from_state(state["unmatched"])
        self._guesses = state["guesses"]
        self._signs.restore(state["signs"])
        self._triggers = TriggerRuns.from_state(state["triggers"])
        looks = state["looks"]
        self._pairs.restore(looks["pairs"])
        accepted_at = looks.get("accepted_at", {})
        self._accepted = {name: accepted_at.get(name, 0.0) for name in looks["accepted"]}
        self._extinct_since = looks["extinct_since"]
        return self
