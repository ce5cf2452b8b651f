"""The normal state of a stratum before a deployment: its classes of answers, their scatter, and the rate a minute."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from msgspec import field

from backout.analysis.shifts.bodies import find_smallest
from backout.analysis.shifts.strata import get_stratum
from backout.analysis.shifts.tally import Tally, make_piece
from backout.analysis.shifts.volume import NOTHING, Volume, estimate_volume
from backout.analysis.statistics.baseline import CV_ERRORS, Law, Minute, estimate_law
from backout.model.guard.answers import AnswerClass, classify
from backout.model.guard.shift import SITE
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from backout.analysis.shifts.cells import Cells
    from backout.analysis.shifts.tally import TallyState
    from backout.model.guard.policy import Expectation

_USUAL_REDIRECTS = 0.5
"""Where so large a share was a redirect before, a redirect is a good answer."""


class NormalState(TypedDict):
    """Checkpoint of a `Normal`."""

    name: str
    tally: TallyState
    laws: dict[str, tuple[float, int, float, float]]
    unseen: tuple[float, int, float, float] | None
    bad: tuple[float, int, float, float] | None
    asked: tuple[float, float]
    well: tuple[float, float]
    smallest: dict[str, int] | int
    age_h: float


class Normal(Value, frozen=True):
    """One stratum's hour (or less) before a deployment.

    Args:
        laws: of the share of each class that was seen, among it and the good answers, in a healthy minute.
        unseen: of a class that was not.
        bad: of all that was not good, among all answers.
        asked, well: how many requests, and good answers, a minute had.
        smallest: p1 of its bodies' lengths by kind, see `find_smallest`.
        age_h: the hours from the middle of the baseline to the deployment.
    """

    name: str
    tally: Tally
    laws: Mapping[AnswerClass, Law] = field(default_factory=dict)
    unseen: Law | None = None
    bad: Law | None = None
    asked: Volume = NOTHING
    well: Volume = NOTHING
    smallest: Mapping[int, int] = field(default_factory=dict)
    age_h: float = 0.0

    def law_of(self, kind: AnswerClass) -> Law | None:
        """Return the law of a class, None where nothing can be said of it."""
        return self.laws.get(kind) if kind in self.tally.classes else self.unseen

    def state(self) -> NormalState:
        """Return a checkpoint, plain JSON."""
        return {
            "name": self.name,
            "tally": self.tally.state(),
            "laws": {str(kind): _store_law(each) for kind, each in self.laws.items()},
            "unseen": _store_law(self.unseen) if self.unseen else None,
            "bad": _store_law(self.bad) if self.bad else None,
            "asked": (self.asked.mean, self.asked.size),
            "well": (self.well.mean, self.well.size),
            "smallest": {str(kind): bucket for kind, bucket in self.smallest.items()},
            "age_h": self.age_h,
        }

    @classmethod
    def from_state(cls, state: NormalState) -> Normal:
        """Return it as it was when the checkpoint was taken."""
        return cls(
            state["name"],
            Tally.from_state(state["tally"]),
            {AnswerClass(kind): Law(*each) for kind, each in state["laws"].items()},
            Law(*state["unseen"]) if state["unseen"] else None,
            Law(*state["bad"]) if state["bad"] else None,
            Volume(*state["asked"]),
            Volume(*state["well"]),
            _read_smallest(state),
            state["age_h"],
        )


def _read_smallest(state: NormalState) -> dict[int, int]:
    known = state["smallest"]
    if isinstance(known, int):  # the version before told no kinds apart
        return {0: known} if known >= 0 else {}
    return {int(kind): bucket for kind, bucket in known.items()}


def _store_law(known: Law) -> tuple[float, int, float, float]:
    return known.hits, known.total, known.p0, known.phi


def find_expected_classes(name: str, expectations: Iterable[Expectation]) -> frozenset[AnswerClass]:
    """Return the classes that are declared to be good answers to what has this name.

    >>> from backout.model.guard.policy import Expectation
    >>> old = [Expectation("GET", "/api/v1/*", (410,))]
    >>> names = ("GET /api/v1/users?page", "POST /api/v1/users", "GET /api")
    >>> [sorted(find_expected_classes(name, old)) for name in names]
    [[<AnswerClass.GONE: '410'>], [], []]
    """
    method, _, path = get_stratum(name).rpartition(" ")
    found: set[AnswerClass] = set()
    for each in expectations:
        if each.covers(method or each.method, path):
            found.update(kind for kind in map(classify, each.statuses) if kind is not None)
    return frozenset(found)


class Before:
    """The baseline by stratum and minute.

    Args:
        known: {name: stratum}.
        expected: {name: classes that are good answers to it}.
    """

    def __init__(self, cells: Cells, known: Mapping[str, str], expected: Mapping[str, frozenset[AnswerClass]]) -> None:
        self._minutes: dict[str, dict[int, Tally]] = {}
        self._sizes: dict[str, dict[int, int]] = {}
        self._age_h, self._span, self._unseen = cells.age_h, cells.span, cells.unseen
        parts = [
            (minute, known[name], name, cell)
            for name, minutes in cells.by_name.items()
            for minute, cell in minutes.items()
        ]
        self.usual = _find_usual_redirects(
            (stratum, make_piece(cell, expected[name])) for _, stratum, name, cell in parts
        )
        for minute, stratum, name, cell in parts:
            piece = make_piece(cell, expected[name] | self.usual.get(stratum, frozenset()))
            self._at(stratum, minute).add(piece)
            self._at(SITE, minute).add(piece)
        for name, sizes in cells.sizes.items():
            mine = self._sizes.setdefault(known[name], {}) if name in known else {}
            for bucket, number in sizes.items():
                mine[bucket] = mine.get(bucket, 0) + number
        if not parts:
            for minute, cell in cells.whole.items():
                self._at(SITE, minute).add(make_piece(cell, ()))

    def _at(self, stratum: str, minute: int) -> Tally:
        return self._minutes.setdefault(stratum, {}).setdefault(minute, Tally())

    @property
    def names(self) -> list[str]:
        """The strata that were asked for, and `SITE`."""
        return list(self._minutes)

    def normal(self, stratum: str, *, by_class: bool = True) -> Normal:
        """Return what was normal of a stratum.

        Args:
            by_class: whether the law of each class is needed.
        """
        minutes = self._minutes[stratum]
        whole = Tally()
        for tally in minutes.values():
            whole.add(tally)
        seen = self._minutes[SITE]  # a minute without any request was not seen: the watch had not begun
        every = [minutes.get(minute, Tally()) for minute in self._span if minute in seen]
        laws: dict[AnswerClass, Law] = {}
        for kind in whole.classes if by_class else ():
            known = estimate_law(_list_minutes(minutes, kind), CV_ERRORS)
            if known is not None:
                laws[kind] = known
        return Normal(
            stratum,
            whole,
            laws,
            estimate_law(_list_minutes(minutes, None), CV_ERRORS) if by_class else None,
            None
            if by_class
            else estimate_law((Minute(t.bad, t.requests) for _, t in sorted(minutes.items())), CV_ERRORS),
            estimate_volume([tally.requests for tally in every], self._unseen),
            estimate_volume([tally.good for tally in every], self._unseen),
            find_smallest(self._sizes.get(stratum, {})),
            self._age_h,
        )


def _list_minutes(minutes: Mapping[int, Tally], kind: AnswerClass | None) -> Iterable[Minute]:
    """Return answers of a class, None for one that never came, among them, the good ones and what is gone for good."""
    for _, tally in sorted(minutes.items()):
        hits = tally.classes.get(kind, 0) if kind is not None else 0
        gone = tally.classes.get(AnswerClass.GONE, 0) if kind not in (None, AnswerClass.GONE) else 0
        yield Minute(hits, hits + tally.good + gone)


def _find_usual_redirects(parts: Iterable[tuple[str, Tally]]) -> dict[str, frozenset[AnswerClass]]:
    """Return the strata that are answered with a redirect as a rule."""
    whole: dict[str, Tally] = {}
    for stratum, piece in parts:
        whole.setdefault(stratum, Tally()).add(piece)
    redirect = AnswerClass.REDIRECT
    return {
        name: frozenset({redirect})
        for name, tally in whole.items()
        if tally.classes.get(redirect, 0) > _USUAL_REDIRECTS * (tally.good + tally.classes.get(redirect, 0))
    }
