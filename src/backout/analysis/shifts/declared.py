"""Shifts in the answers to guard's own requests: the version before, asked the same, decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.analysis.detector.wording import format_odds
from backout.model.guard.probes import Compared
from backout.model.guard.shift import Outcome, Shift, ShiftKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.analysis.shifts.pairs import Pairs

DECLARED = "declared"
"""The stratum of the requests that the team declares."""


def find_worse(pairs: Pairs, enough: float) -> Shift | None:
    """Return the shift that pairs alone show: it needs no requests but guard's own.

    Args:
        enough: log evidence that carries a rollback.
    """
    if pairs.log_e() < enough:
        return None
    bad = pairs.number(Compared.NEW_WORSE)
    sentence = (
        f"{bad} of {pairs.asked} requests that both versions were asked side by side (first: {pairs.first}) are "
        f"answered worse by this version; evidence {format_odds(pairs.log_e())} that it is the deployment"
    )
    old = pairs.number(Compared.OLD_WORSE)
    return Shift(
        ShiftKind.ANSWERS,
        DECLARED,
        None,
        Outcome.ROLL_BACK,
        bad,
        pairs.asked,
        old,
        pairs.asked,
        pairs.log_e(),
        sentence,
    )


def judge_own_shifts(shifts: Sequence[Shift], pairs: Pairs) -> tuple[Shift, ...]:
    """Return the shifts of guard's own requests with what follows from them beside the version before."""
    return tuple(
        replace(each, outcome=Outcome.TOLD) if pairs.are_alike_on(each.stratum.removeprefix("GET ")) else each
        for each in shifts
    )


def is_asked_about(shift: Shift) -> bool:
    """Whether asking both versions the same could tell what is behind a shift that is held."""
    return shift.kind in (ShiftKind.ANSWERS, ShiftKind.EXTINCTION, ShiftKind.CREDENTIALS)
