"""Builds shifts with their numbers and the sentence that says what users could not do."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from backout.analysis.detector.wording import count
from backout.analysis.shifts.strata import REST
from backout.analysis.shifts.volume import SURE
from backout.analysis.statistics.beta import beta_tails
from backout.model.guard.answers import AnswerClass
from backout.model.guard.probes import Compared
from backout.model.guard.routes import OTHER
from backout.model.guard.shift import SITE, UNMATCHED, Outcome, Shift, ShiftKind

if TYPE_CHECKING:
    from backout.analysis.shifts.bodies import Shrunk
    from backout.analysis.shifts.collapse import Collapse
    from backout.analysis.shifts.pairs import Pairs
    from backout.analysis.shifts.signs import Left, Signs
    from backout.analysis.shifts.stratum import Stratum
    from backout.analysis.shifts.tally import Tally

_NOT_ROUTES = {REST: "routes that are seldom asked for", OTHER: "requests without a route of their own"}
_SURE = -math.log(SURE)
"""Log evidence shown where a law of counts excludes that all is as usual."""


def make_answered_shift(stratum: Stratum, kind: AnswerClass, outcome: Outcome, log_evidence: float) -> Shift:
    """Return that a stratum is answered in another class."""
    before = stratum.before
    bad, total = stratum.new.classes.get(kind, 0), stratum.new.requests
    bad_before, total_before = before.classes.get(kind, 0), before.requests
    said = (
        f"{_describe_where(stratum.name)}{bad:,} of {count(total, 'request')} were answered {kind.words}, "
        f"{bad_before:,} of {total_before:,} {_describe_when(is_split=before is stratum.old)}"
    )
    return Shift(
        ShiftKind.ANSWERS, stratum.name, kind, outcome, bad, total, bad_before, total_before, log_evidence, said
    )


def make_fallen_shift(stratum: Stratum) -> Shift | None:
    """Return the class that a stratum's good answers went to, whatever is behind it; None where they did not."""
    moved = [kind for kind in stratum.tests if stratum.has_moved(kind)]
    if not moved:
        return None
    kind = max(moved, key=lambda each: stratum.new.classes.get(each, 0))
    return make_answered_shift(stratum, kind, Outcome.TOLD, 0.0)


def make_extinct(site: Stratum, seen: Tally, outcome: Outcome) -> Shift:
    """Return that next to nothing of what was seen is answered well any more."""
    before = site.normal.tally
    kind = max(seen.classes, key=lambda each: seen.classes[each])
    good = "none" if not seen.good else f"{seen.good:,}"
    usual = f"{before.good:,} of {before.requests:,} before" if before.requests else "with nothing to compare with"
    said = (
        f"{good} of {count(seen.requests, 'request')} were answered well, {usual}: "
        f"{seen.classes[kind]:,} were answered {kind.words}"
    )
    evidence = _weigh_against_half(seen.good, seen.requests)
    return Shift(
        ShiftKind.EXTINCTION, SITE, None, outcome, seen.bad, seen.requests, before.bad, before.requests, evidence, said
    )


def make_collapsed_shift(test: Collapse, outcome: Outcome, *, is_split: bool) -> Shift:
    """Return that nearly everything of a small stratum fails that worked before."""
    new, before = test.tail, test.old if is_split and test.old.requests else test.normal.tally
    kind = max(new.classes, key=lambda each: new.classes[each], default=None)
    if kind is None or new.classes[kind] <= new.errors:
        kind, verb, bad, bad_before = None, "failed", new.errors, before.errors
    else:
        verb, bad, bad_before = f"were answered {kind.words}", new.classes[kind], before.classes.get(kind, 0)
    lately = "the last " if new.requests < test.new.requests else ""
    said = (
        f"{_describe_where(test.normal.name)}{bad:,} of {lately}{count(new.requests, 'request')} {verb}, "
        f"{bad_before:,} of {before.requests:,} {_describe_when(is_split=before is test.old)}"
    )
    return Shift(
        ShiftKind.ANSWERS,
        test.normal.name,
        kind,
        outcome,
        bad,
        new.requests,
        bad_before,
        before.requests,
        test.log_e(),
        said,
    )


def make_looping(pairs: Pairs) -> Shift:
    """Return that redirects lead round and round."""
    said = f"{pairs.first}: a redirect leads round and round ({pairs.loops} of {pairs.asked} times), and not before"
    return Shift(
        ShiftKind.REDIRECTS,
        SITE,
        AnswerClass.REDIRECT,
        Outcome.ROLL_BACK,
        pairs.loops,
        pairs.asked,
        pairs.number(Compared.OLD_WORSE),
        pairs.asked,
        pairs.log_e(),
        said,
    )


def make_guessed_shift(unmatched: Tally, kind: AnswerClass, outcome: Outcome) -> Shift:
    """Return how those are answered who ask for what was not known before."""
    bad, total = unmatched.classes[kind], unmatched.requests
    said = f"{bad:,} of {count(total, 'request')} for what was not known before were answered {kind.words}"
    if outcome is Outcome.HOLD:
        said += ", and what was known is answered well far less often"
    return Shift(ShiftKind.ANSWERS, UNMATCHED, kind, outcome, bad, total, 0, 0, 0.0, said)


def make_thinned_shift(site: Stratum, seen: int, minutes: float) -> Shift:
    """Return that far fewer requests come than before."""
    usual = round(site.normal.asked.mean * minutes)
    said = f"{count(seen, 'request')} came in {60 * minutes:.0f} s, where about {usual:,} were usual before"
    before: Tally = site.normal.tally
    return Shift(ShiftKind.TRAFFIC, SITE, None, Outcome.HOLD, 0, seen, 0, before.requests, _SURE, said)


def make_shrunk(stratum: Stratum, found: Shrunk) -> Shift:
    """Return that bodies are nearly empty."""
    said = (
        f"{_describe_where(stratum.name)}{found.tiny:,} of {found.sized:,} {found.kind.words}answers are "
        "shorter than a tenth "
        "of the shortest hundredth before"
    )
    evidence = _weigh_against_half(found.sized - found.tiny, found.sized)
    return Shift(ShiftKind.SIZE, stratum.name, None, Outcome.HOLD, found.tiny, found.sized, 0, 0, evidence, said)


def make_hanging(signs: Signs, number: int) -> Shift:
    """Return that requests begin and do not end."""
    said = f"{number:,} of {count(signs.started, 'request')} began and have not ended"
    return Shift(ShiftKind.HANGING, SITE, None, Outcome.HOLD, number, signs.started, 0, 0, _SURE, said)


def make_given_up_shift(left: Left) -> Shift:
    """Return that who asked gave up before an answer came."""
    when = "after longer than nearly every answer of their route took" if left.is_timed else "before an answer came"
    said = f"{left.number:,} of {count(left.ended, 'request')} were given up {when}, about {left.usual:.1%} were before"
    return Shift(ShiftKind.HANGING, SITE, None, Outcome.HOLD, left.number, left.ended, 0, 0, _SURE, said)


def _weigh_against_half(hits: int, total: int) -> float:
    """Return the log evidence against a share of a half or more: minus the logarithm of the chance of so few hits."""
    chance = beta_tails(0.5, total - hits, hits + 1.0)[0] if hits < total else 1.0
    return -math.log(chance) if chance > 0 else total * math.log(2)


def _describe_where(stratum: str) -> str:
    if stratum == SITE:
        return ""
    return f"{_NOT_ROUTES.get(stratum, stratum)}: "


def _describe_when(*, is_split: bool) -> str:
    return "by the version beside it" if is_split else "before"
