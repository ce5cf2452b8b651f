"""Whether the new version is slower, in a sentence; the detector's verdict is separate and stricter; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.model.guard.signals import find_bucket, merge_latency, quantile_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.guard.signals import Counts

_ENOUGH: Final = 100
_RATIO: Final = 2.0
_SLOW: Final = 10
"""The fewest answers that took twice as long: the p99 of a few hundred is that of two or three, and these vary."""
_BY_MS: Final = 50.0


def describe_slower(rows: Sequence[Counts], *, old: str | None, new: str) -> str:
    """Return a sentence when the median or the p99 at least doubled and grew by 50 ms, else "".

    "" as well with fewer than 100 requests of either version, or fewer than ten that took twice as long.
    """
    before = merge_latency(row for row in rows if row.version == old)
    after = merge_latency(row for row in rows if row.version == new)
    if old is None or min(sum(before.values()), sum(after.values())) < _ENOUGH:
        return ""
    for name, q in (("half of the answers take", 0.5), ("one answer in a hundred takes", 0.99)):
        then, now = quantile_ms(before, q), quantile_ms(after, q)
        if then is None or now is None or now < _RATIO * then or now - then < _BY_MS:
            continue
        limit = find_bucket(_RATIO * then)
        if sum(count for bucket, count in after.items() if bucket >= limit) >= _SLOW:
            return f"slower: {name} {now:,.0f} ms or more, {then:,.0f} ms in the version before"
    return ""
