"""The limit of API calls, as Cloudflare documents it; on while the fault `api-limit` is.

Source: Cloudflare documentation, "Rate limits" (2026-04-20): 1,200 calls in a period of five minutes for each user,
the dashboard's included; who exceeds that is answered 429 for the next five minutes. Each answer tells what is left:
`Ratelimit: "default";r=50;t=30`. "GraphQL Analytics API, Limits" (2026-08-25): by default 300 queries in five minutes.
"""

from __future__ import annotations

import math

CALLS, GRAPHQL_CALLS = 1200, 300
PERIOD_S = 300.0

UNCOUNTED = {"Ratelimit": f'"default";r={CALLS};t=1', "Ratelimit-Policy": f'"default";q={CALLS};w={PERIOD_S:.0f}'}
"""What an answer tells while no call is counted: a period that ends at once, without any call in it."""


class Limiter:
    """Counts the calls of one user in periods that begin with a first call."""

    def __init__(self, calls: int) -> None:
        self._calls = calls
        self._begin = -PERIOD_S
        self._used = 0
        self._blocked_until = 0.0

    def take(self, now: float) -> float:
        """Count a call; return for how many seconds it is refused, 0 where it is let through."""
        if now - self._begin >= PERIOD_S:
            self._begin, self._used = now, 0
        self._used += 1
        if self._used > self._calls and now >= self._blocked_until:
            self._blocked_until = now + PERIOD_S
        return max(0.0, self._blocked_until - now)

    def headers(self, now: float) -> dict[str, str]:
        """Return what an answer tells of the period."""
        left, resets_s = max(0, self._calls - self._used), max(0, math.ceil(self._begin + PERIOD_S - now))
        return {
            "Ratelimit": f'"default";r={left};t={resets_s}',
            "Ratelimit-Policy": f'"default";q={self._calls};w={PERIOD_S:.0f}',
        }
