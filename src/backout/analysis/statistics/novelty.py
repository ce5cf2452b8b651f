"""Is an error new in this version? A Bayes factor on counts: "the rates differ" against "one rate"; pure.

Counts are taken for Poisson with a rate that a Gamma distribution describes. Under "one rate" both counts share a draw;
under "they differ" each has its own. What is left of the marginal likelihoods is `_mass`; terms that both hypotheses
have in common cancel. The factor is one-sided: a rate that fell is never evidence.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

ALARM: Final = 5.0
"""The log Bayes factor from which an error counts as new: odds of 148 to 1."""
_SHAPE: Final = 0.5
_INVOCATIONS: Final = 100.0
"""The prior: half an error in a hundred invocations, with a long tail."""
_MOST_CLUMPING: Final = 20.0
_MINUTES_TO_TELL: Final = 5


def log_factor(old: float, old_invocations: float, new: float, new_invocations: float) -> float:
    """Return the natural logarithm of the Bayes factor of "the new rate is higher"; below 0 when it is not.

    >>> round(log_factor(0, 18_000, 20, 2_000), 1) > 30
    True
    >>> log_factor(270, 9_000, 30, 1_000) < 0
    True
    """
    if new_invocations <= 0 or old_invocations <= 0 or new <= 0:
        return 0.0
    apart = _mass(old, old_invocations) + _mass(new, new_invocations)
    together = _mass(old + new, old_invocations + new_invocations)
    factor = apart - together
    if new / new_invocations <= old / old_invocations:
        return -abs(factor)
    return factor


def _mass(count: float, invocations: float) -> float:
    return (
        math.lgamma(_SHAPE + count)
        - math.lgamma(_SHAPE)
        + _SHAPE * math.log(_INVOCATIONS)
        - (_SHAPE + count) * math.log(_INVOCATIONS + invocations)
    )


def measure_clumping(minutes: Mapping[int, int], span: int) -> float:
    """Return how unevenly counts fall on `span` minutes: variance over mean, at least 1; a Poisson's is 1.

    Errors that come in bunches (one client that tries again and again) are worth fewer than they are.
    """
    if span < _MINUTES_TO_TELL or not minutes:
        return 1.0
    total = sum(minutes.values())
    mean = total / span
    squares = sum(count * count for count in minutes.values())
    variance = (squares - total * mean) / (span - 1)
    return min(max(variance / mean, 1.0), _MOST_CLUMPING)


def describe_novelty(old: float, old_invocations: float, new: float, new_invocations: float) -> str:
    """Return how new it is, in words.

    >>> describe_novelty(0, 900, 12, 100), describe_novelty(9, 900, 12, 100), describe_novelty(9, 900, 1, 100)
    ('never before', '12.0 times the rate before', 'as often as before')
    """
    if not old:
        return "never before" if old_invocations else ""
    if not new_invocations or not old_invocations:
        return ""
    ratio = (new / new_invocations) / (old / old_invocations)
    if ratio < 1.5:
        return "as often as before" if ratio > 0.5 else f"{ratio:.1f} times the rate before"
    return f"{ratio:,.1f} times the rate before"
