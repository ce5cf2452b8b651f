"""The steps that watch what was made live: by the success criteria, or by the health endpoint alone."""

from __future__ import annotations

from typing import ClassVar

from backout.model.guard.verdict import Verification
from backout.model.steps.base import Arguments


class VerifyStep(Arguments[Verification], frozen=True, kw_only=True):
    """Watch until the criteria are decided, and as long as somebody asked.

    Args:
        version: the one that was made live, "" where a later step of the run tells.
        left: the version that was left, None for none.
        baseline_until: the end of the baseline's traffic, in Unix seconds; None: the start of this step.
        cache_s: it begins so many seconds later: before, a cache can answer with what the database no longer has.
        for_s: it goes on for so long although all is decided, and keeps what was seen; a failed criterion ends it.
    """

    action: ClassVar[str] = "verify"
    omitted: ClassVar[frozenset[str]] = frozenset({"version", "cache_s", "for_s"})
    version: str = ""
    left: str | None = None
    baseline_until: float | None = None
    cache_s: float = 0.0
    for_s: float = 0.0


class VerifyHealthStep(Arguments[Verification], frozen=True, kw_only=True):
    """Ask the health endpoint until it is well."""

    action: ClassVar[str] = "verify_health"
