"""The evidence, and the number of requests, that exclude a share of failures."""

from __future__ import annotations

import math


def log_e_below(hits: int, total: int, p0: float, limit: float) -> float:
    """Return the log evidence against "the share is at least `limit`", best when the share is p0 < limit.

    >>> log_e_below(0, 572, 0.0005, 0.01) > math.log(100) > log_e_below(0, 460, 0.0005, 0.01)
    True
    """
    return hits * math.log(p0 / limit) + (total - hits) * math.log((1 - p0) / (1 - limit))


def estimate_requests(log_e: float, p0: float, limit: float, beta: float) -> int | None:
    """Return about how many more requests exclude `limit` when the share is p0; None when they never would."""
    gain = log_e_below(1, 1, p0, limit) * p0 + log_e_below(0, 1, p0, limit) * (1 - p0)
    return max(0, math.ceil((-math.log(beta) - log_e) / gain)) if gain > 0 else None
