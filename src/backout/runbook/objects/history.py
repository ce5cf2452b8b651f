"""When objects were written and deleted, from the versions of a bucket."""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import TYPE_CHECKING, Final

from backout.errors import UsageError
from backout.model.objects.progress import ObjectProgress
from backout.model.objects.versions import Moment
from backout.model.value import Value
from backout.plan.target import parse_time

if TYPE_CHECKING:
    from backout.runbook.objects.tools import ObjectTools

_SPANS_S: Final = (1, 10, 60, 600, 3600, 6 * 3600, 86_400, 7 * 86_400, 30 * 86_400)
_MOST_ROWS: Final = 40
_EVERY: Final = 1000


class HistoryEntry(Value, frozen=True):
    """What happened within a stretch of time.

    Args:
        at: its beginning, in Unix seconds by the store's clock.
        kind: "written", "deleted", or "snapshot" of all that was there.
    """

    at: float
    kind: str
    objects: int
    size_bytes: int


def count_by_time(tools: ObjectTools, since: str | None, prefix: str) -> tuple[HistoryEntry, ...]:
    """Return what was written and deleted, oldest first, in stretches long enough that the list stays short.

    Of a bucket that keeps no versions, the snapshots that were taken of it.

    Args:
        since: as a person types it; None: all.

    Raises:
        UsageError: that is no time.
    """
    begin = float("-inf") if since is None else parse_time(since, tools.clock.now())
    if begin is None:
        raise UsageError("--since is no time", where=since or "", hint='"14:03" (UTC), "2 hours ago"')
    if tools.snapshots is not None:
        taken = (each for each in tools.snapshots.list_manifests() if each.at >= begin)
        return tuple(HistoryEntry(each.at, "snapshot", each.objects, each.size_bytes) for each in taken)
    numbers: Counter[tuple[int, str]] = Counter()
    sizes: Counter[tuple[int, str]] = Counter()
    for place, each in enumerate(tools.versions(prefix, Moment(0.0, inf)).versions(), start=1):
        if place % _EVERY == 0:
            tools.progress(ObjectProgress("listing", place, of="versions"))
        if each.at >= begin:
            stretch = (int(each.at), "deleted" if each.is_marker else "written")
            numbers[stretch] += 1
            sizes[stretch] += each.size_bytes
    span = next((span for span in _SPANS_S if len({at // span for at, _ in numbers}) <= _MOST_ROWS), _SPANS_S[-1])
    found: Counter[tuple[int, str]] = Counter()
    moved: Counter[tuple[int, str]] = Counter()
    for (at, kind), number in numbers.items():
        found[at // span, kind] += number
        moved[at // span, kind] += sizes[at, kind]
    return tuple(
        HistoryEntry(float(stretch * span), kind, number, moved[stretch, kind])
        for (stretch, kind), number in sorted(found.items(), key=lambda item: (item[0][0], item[0][1] == "deleted"))
    )
