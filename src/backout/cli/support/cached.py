"""What a command that wrote to the database says of Hyperdrive's cache, which knows nothing of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backout.model.plan import Plan


def describe_cache(plan: Plan, now: float) -> tuple[str | None, list[str]]:
    """Return until when the Worker may be answered with rows from before (None: no such cache is known), and the words.

    Args:
        now: when the database was last written to, at the latest.
    """
    from backout.plan.query_cache import CACHE_S, says_cached

    return tell_cache(now + CACHE_S) if says_cached(plan) else (None, [])


def tell_cache(until: float) -> tuple[str, list[str]]:
    """Return the moment, and the words."""
    from backout.report.times import format_time

    at = format_time(until)
    return at, [f"until {at} a look through the Worker can show rows from before: Hyperdrive caches reads"]
