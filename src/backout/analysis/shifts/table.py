"""The decision table of docs/research/detection.md: what follows from a shift."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from backout.analysis.shifts.collapse import NEARLY_ALL, WORKED
from backout.analysis.shifts.declared import is_asked_about
from backout.analysis.shifts.evidence import LIKELY
from backout.analysis.shifts.pairs import FEW
from backout.analysis.shifts.sentences import (
    make_answered_shift,
    make_collapsed_shift,
    make_extinct,
    make_given_up_shift,
    make_guessed_shift,
    make_hanging,
    make_looping,
    make_shrunk,
    make_thinned_shift,
)
from backout.analysis.shifts.stratum import Flow
from backout.analysis.statistics.beta import log_sum
from backout.model.guard.answers import AnswerClass
from backout.model.guard.probes import Compared
from backout.model.guard.shift import SITE, Outcome, Shift

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from backout.analysis.shifts.collapse import Collapse
    from backout.analysis.shifts.evidence import Evidence
    from backout.analysis.shifts.pairs import Pairs
    from backout.analysis.shifts.signs import Signs
    from backout.analysis.shifts.stratum import Stratum
    from backout.analysis.shifts.tally import Tally
    from backout.analysis.shifts.triggers import TriggerRuns

_ALL_GOOD = 0.01
"""A shift takes at least so large a part of all good answers, or nearly all of its stratum's."""
_EXTINCT, _EXTINCT_REQUESTS = 0.02, 20
_THIRD = 1 / 3
_HALF = 0.5
_FEW_GUESSES, _MANY_GUESSES = 20, 0.1
_LEAST_MINUTES = 0.5
_FEWEST = 2
"""How many answers that are not good are worth asking about."""
_MOST_SHOWN = 8
_MOST_OF_IT = 0.8
_GRAVEST = (Outcome.ROLL_BACK, Outcome.HOLD, Outcome.TOLD)
_NOT_THE_DEPLOYMENT = "not the deployment: the version before it, asked the same, fails as well"


class Case(NamedTuple):
    """The input of a judgement.

    Args:
        until: Unix seconds up to which all was counted, `minutes` after the deployment.
        hours: the age of the baseline.
        threshold: log evidence that carries a rollback.
        is_sticky: labels of a split are not random.
        waits: probes are tried.
        crowd: the factor of requests over before, 0 for about as many.
        unmatched: what was asked for by names that were not known before.
        guesses: the share of all requests that were such before, and not answered well.
    """

    strata: Mapping[str, Stratum]
    collapses: Sequence[Collapse]
    pairs: Pairs
    signs: Signs
    triggers: TriggerRuns
    unmatched: Tally
    guesses: float
    accepted: frozenset[str]
    share: float
    until: float
    minutes: float
    hours: float
    threshold: float
    min_bad: int
    is_sticky: bool
    waits: bool
    crowd: float


class Judged(NamedTuple):
    """The result of a judgement.

    Args:
        shifts: the gravest first.
        wants_probe: both versions should be asked the same.
        is_extinct: next to nothing is answered well.
        outside: why it is not the deployment, "" where nothing says so.
        suspected: the strata that both versions should be asked for.
    """

    shifts: tuple[Shift, ...] = ()
    wants_probe: bool = False
    is_extinct: bool = False
    outside: str = ""
    suspected: tuple[str, ...] = ()

    def of(self, outcome: Outcome) -> tuple[Shift, ...]:
        """Return the shifts with that outcome."""
        return tuple(shift for shift in self.shifts if shift.outcome is outcome)


def judge(case: Case) -> Judged:
    """Return the shifts of a case with their outcomes."""
    extinction = _find_extinction(case)
    moved = _drop_wholes(list(_find_moved(case)))
    found = [*([extinction] if extinction else []), *moved, *_find_collapsed(case, moved), *_find_other(case)]
    shifts = [_apply_acceptance(shift, case.accepted) for shift in found]
    shifts.sort(key=lambda shift: (_GRAVEST.index(shift.outcome), shift.stratum != SITE, -shift.log_evidence))
    held = any(shift.outcome is Outcome.HOLD for shift in shifts)
    fails = held and case.pairs.both_fail
    asked_for = [shift.stratum for shift in shifts if shift.outcome is Outcome.HOLD and is_asked_about(shift)]
    suspected = tuple(dict.fromkeys((*asked_for, *_find_doubted(case)))) if case.share >= 1 else ()
    return Judged(
        tuple(shifts[:_MOST_SHOWN]),
        bool(suspected) and not case.pairs.are_alike and not fails,
        extinction is not None,
        _NOT_THE_DEPLOYMENT if fails else "",
        suspected,
    )


def _apply_acceptance(shift: Shift, accepted: frozenset[str]) -> Shift:
    return replace(shift, outcome=Outcome.TOLD) if shift.name in accepted else shift


def _find_moved(case: Case) -> Iterator[Shift]:
    """Yield the strata that are answered in another class."""
    likely = [
        (stratum, test)
        for stratum in case.strata.values()
        for test in stratum.tests.values()
        if test.is_likely and _is_large(case, stratum, test.kind)
    ]
    if not likely:
        return
    is_split = case.share < 1
    labelled = log_sum([test.weigh(test.log_labels()) for _, test in likely]) >= case.threshold
    together = log_sum([test.weigh(test.log_e()) for _, test in likely])
    several = case.pairs.is_discordant and case.pairs.number(Compared.NEW_WORSE) >= FEW
    proven = several and together + case.pairs.log_e() >= case.threshold
    for stratum, test in likely:
        is_randomised = labelled and test.weigh(test.log_labels()) >= LIKELY
        if is_split and not is_randomised:
            continue  # the labels are to decide, and more of them come
        outcome = _judge_by_labels(case, test) if is_randomised else _judge_cut_over(case, stratum, test, proven=proven)
        if outcome is Outcome.ROLL_BACK and stratum.new.classes.get(test.kind, 0) < case.min_bad:
            outcome = Outcome.HOLD
        yield make_answered_shift(stratum, test.kind, outcome, test.log_e())


def _drop_wholes(shifts: list[Shift]) -> list[Shift]:
    """Return the shifts without those of the whole site that one stratum alone explains."""
    return [
        shift
        for shift in shifts
        if shift.stratum != SITE
        or not any(
            part.stratum != SITE and part.to is shift.to and part.bad >= _MOST_OF_IT * shift.bad for part in shifts
        )
    ]


def _is_large(case: Case, stratum: Stratum, kind: AnswerClass) -> bool:
    if not stratum.has_moved(kind):
        return False
    site = case.strata[SITE]
    worked, good = stratum.before.good_share, site.normal.tally.good_share
    parts = (
        (stratum.new, site.new),
        (stratum.recent(), site.recent()),
    )  # one that broke late shows in the last minutes
    return any(
        now.requests
        and (
            (now.good_share <= 1 - NEARLY_ALL and worked >= WORKED)
            or (worked - now.good_share) * now.requests >= _ALL_GOOD * good * of.requests
        )
        for now, of in parts
    )


def _judge_by_labels(case: Case, test: Evidence) -> Outcome:
    if test.kind is AnswerClass.GONE and not _is_extinct(case):
        return Outcome.TOLD
    return Outcome.HOLD if case.is_sticky else Outcome.ROLL_BACK


def _is_extinct(case: Case) -> bool:
    """Whether almost no request has been answered well of late: a whole site is not taken away on purpose."""
    new = case.strata[SITE].recent()
    return new.requests >= _EXTINCT_REQUESTS and new.good <= _EXTINCT * new.requests


def _judge_cut_over(case: Case, stratum: Stratum, test: Evidence, *, proven: bool) -> Outcome:
    if test.kind is AnswerClass.GONE and not _is_extinct(case):
        return Outcome.TOLD
    if test.kind is AnswerClass.REDIRECT and case.pairs.only_moved(stratum.name):
        return Outcome.TOLD
    flow = stratum.flow(case.until, case.hours)
    if flow is Flow.KEPT:
        return Outcome.TOLD
    limited = test.kind is AnswerClass.LIMITED  # no pair tells whether the version or its visitors reached the limit
    return Outcome.ROLL_BACK if flow is Flow.FELL and proven and not limited else Outcome.HOLD


def _find_extinction(case: Case) -> Shift | None:
    """Return that next to nothing of the site is answered well any more, in a cut-over."""
    site = case.strata.get(SITE)
    if site is None or case.share < 1:
        return None
    seen, before = site.recent(), site.normal.tally
    failed = seen.bad - seen.errors  # errors have their own streams
    if not before.requests:
        # Nothing says that it was better before; where few come, two minutes of them say nothing, the whole watch does.
        lately = seen.requests >= _EXTINCT_REQUESTS and seen.good < WORKED * seen.requests and 2 * failed >= seen.bad
        found = seen if lately else site.new
        is_bad = found.requests >= _EXTINCT_REQUESTS and found.good < WORKED * found.requests
        return (
            make_extinct(site, found, Outcome.HOLD) if is_bad and 2 * (found.bad - found.errors) >= found.bad else None
        )
    few = seen.requests < _EXTINCT_REQUESTS or before.good_share < WORKED
    if few or seen.good > _EXTINCT * seen.requests or 2 * failed < seen.bad:
        return None
    minutes = site.minutes(case.until)
    if site.normal.asked.rose(site.both().requests, minutes, case.hours):
        return None
    if site.flow(case.until, case.hours) is not Flow.FELL:
        return None
    if case.pairs.both_fail or case.pairs.are_alike:
        outcome = Outcome.HOLD
    else:
        outcome = Outcome.HOLD if case.waits and not case.pairs.is_discordant else Outcome.ROLL_BACK
    return make_extinct(site, seen, outcome)


def _find_doubted(case: Case) -> Iterator[str]:
    """Yield the strata on which nearly everything fails that worked before, though for too few to act, or to hold.

    To ask costs little, and who is asked decides: a question needs no more than its 20:1.
    """
    for each in case.collapses:
        if not each.is_nearly_all or each.tail.bad < _FEWEST or 2 * each.tail.errors >= each.tail.bad:
            continue
        if each.weigh() < LIKELY or each.was_added(case.minutes, case.hours):
            continue
        stratum = case.strata.get(each.normal.name)
        if stratum is not None and stratum.flow(case.until, case.hours) is Flow.KEPT:
            continue
        shift = make_collapsed_shift(each, Outcome.HOLD, is_split=False)
        if shift.to is not AnswerClass.GONE and shift.name not in case.accepted:
            yield each.normal.name


def _find_collapsed(case: Case, moved: Sequence[Shift]) -> Iterator[Shift]:
    """Yield the small strata on which nearly everything fails that worked before, but for what `moved` names."""
    named = {shift.stratum for shift in moved}
    acting = [each for each in case.collapses if each.is_nearly_all and each.agrees]
    likely = [each for each in acting if each.weigh() >= LIKELY]
    if not likely:
        return
    enough = log_sum([each.weigh() for each in acting]) >= case.threshold
    for each in likely:
        fails = 2 * each.tail.errors >= each.tail.bad  # of server errors no crowd of clients is the cause
        stratum = case.strata.get(each.normal.name)
        if not fails and stratum is not None and case.share >= 1:
            only_added = stratum.flow(case.until, case.hours) is Flow.KEPT
            if only_added or each.normal.name in named:  # there the tests of its classes have decided
                continue
        is_asked_about = not fails and case.share >= 1  # which takes less than acting
        if each.tail.bad < case.min_bad or not (enough or is_asked_about):
            continue
        added = is_asked_about and each.was_added(case.minutes, case.hours)
        if added or _is_harmless(case, each):
            outcome = Outcome.TOLD
        elif fails:
            outcome = Outcome.ROLL_BACK
        else:
            outcome = Outcome.HOLD if case.share >= 1 or case.is_sticky else Outcome.ROLL_BACK
        yield make_collapsed_shift(each, outcome, is_split=case.share < 1)


def _is_harmless(case: Case, each: Collapse) -> bool:
    """Whether most of it is gone on purpose, or moved for good to pages that are there, as asking has shown."""
    most = each.tail.bad / 2
    if each.tail.classes.get(AnswerClass.GONE, 0) > most:
        return True
    moved = case.share >= 1 and case.pairs.only_moved(each.normal.name)
    return moved and each.tail.classes.get(AnswerClass.REDIRECT, 0) > most


def _find_other(case: Case) -> Iterator[Shift]:
    """Yield what is no class of answers: triggers that fail, loops, less traffic, empty bodies, requests that hang."""
    yield from case.triggers.shifts()
    yield from _find_guessed(case)
    if case.pairs.loops >= FEW and case.pairs.is_discordant:
        yield make_looping(case.pairs)
    site = case.strata.get(SITE)
    if site is None:
        return
    minutes, seen = site.minutes(case.until), site.both().requests
    if minutes >= _LEAST_MINUTES and site.normal.asked.fell_below(_THIRD, seen, minutes, case.hours):
        yield make_thinned_shift(site, seen, minutes)
    for stratum in case.strata.values():
        found = stratum.bodies.shrunk
        if found is not None:
            yield make_shrunk(stratum, found)
    if number := case.signs.hanging(case.crowd):
        yield make_hanging(case.signs, number)
    elif left := case.signs.left:
        yield make_given_up_shift(left)


def _find_guessed(case: Case) -> Iterator[Shift]:
    """Yield that what was not known before is mostly answered in one class that is not good, far more than usual.

    That is reported. Where it replaces what was known, a version may have lost its routes' names with the routes.
    """
    unmatched, site = case.unmatched, case.strata.get(SITE)
    kind = max(unmatched.classes, key=lambda each: unmatched.classes[each], default=None)
    if kind is None or unmatched.requests < _FEW_GUESSES or unmatched.share(kind) < _HALF:
        return
    whole = unmatched.requests + (site.new.requests if site is not None else 0)
    if unmatched.classes[kind] >= max(_MANY_GUESSES, 2 * case.guesses) * whole:
        yield make_guessed_shift(unmatched, kind, Outcome.HOLD if _take_place(case, site) else Outcome.TOLD)


def _take_place(case: Case, site: Stratum | None) -> bool:
    """Whether good answers are lacking in a cut-over, and what was not known before is at least half of that many."""
    if site is None or case.share < 1 or site.flow(case.until, case.hours) is not Flow.FELL:
        return False
    return case.unmatched.bad >= _HALF * (site.normal.well.mean * case.minutes - site.new.good)
