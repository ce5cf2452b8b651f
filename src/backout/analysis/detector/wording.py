"""Numbers in the words of a reason: shares, counts, odds of the evidence."""

from __future__ import annotations

import math

_MOST = 9


def format_percent(share: float) -> str:
    """Return a share in [0,1] as a percentage with two or three significant digits.

    >>> format_percent(0.0005), format_percent(0.002), format_percent(0.0117), format_percent(0.5), format_percent(1.0)
    ('0.05 %', '0.2 %', '1.2 %', '50 %', '100 %')
    """
    value = 100 * share
    if value <= 0:
        return "0 %"
    digits = max(0, 1 - math.floor(math.log10(value)))
    text = f"{value:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def format_odds(log_evidence: float) -> str:
    """Return the evidence as odds, to two significant digits.

    >>> format_odds(math.log(5213)), format_odds(0.0), format_odds(-2.0), format_odds(80.0)
    ('5,200:1', '1:1', 'none', 'over 1,000,000,000:1')
    """
    if log_evidence < 0:
        return "none"
    size = log_evidence / math.log(10)
    if size >= _MOST:
        return "over 1,000,000,000:1"
    number = math.exp(log_evidence)
    unit = 10 ** max(0, math.floor(size) - 1)
    return f"{round(number / unit) * unit:,.0f}:1"


def count(number: int, noun: str) -> str:
    """Return a count with its noun.

    >>> count(1, "request"), count(5204, "request")
    ('1 request', '5,204 requests')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
