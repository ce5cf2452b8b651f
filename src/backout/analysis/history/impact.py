"""From counts, and what restores brought back, to the impact of an incident; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.incident.impact import Exactness, Impact
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from backout.model.guard.signals import Counts
    from backout.model.guard.verdict import Decision
    from backout.model.plan import Json


class Counted(Value, frozen=True):
    """The requests of the time of an incident.

    Args:
        requests: of all versions.
        failed: answers of the bad version that were errors, of all versions where none is known.
        first_failed_at: Unix second, None where none failed.
        exactness: of both numbers.
    """

    requests: int
    failed: int
    first_failed_at: float | None
    exactness: Exactness


def count_requests(
    rows: Iterable[Counts], bad: str, began_at: float, ended_at: float, exactness: Exactness = Exactness.EXACT
) -> Counted:
    """Return the sums of the seconds from `began_at` to `ended_at` (Unix seconds); `bad`: the version, "" unknown."""
    window = [row for row in rows if int(began_at) <= row.second <= ended_at]
    failing = [row for row in window if row.errors and row.version == (bad or row.version)]
    first = min((row.second for row in failing), default=None)
    requests = sum(row.requests for row in window)
    return Counted(requests, sum(row.errors for row in failing), first, exactness)


def measure_impact(
    counted: Counted,
    decision: Decision | None,
    began_at: float,
    ended_at: float,
    restored: Sequence[Mapping[str, Json]],
) -> Impact:
    """Return the impact.

    Args:
        decision: of the watch that found it, if one did.
        began_at, ended_at: of the incident, Unix seconds; `ended_at` is now while it is open.
        restored: results of steps that brought rows or objects back.
    """
    first_bad_at = decision.first_bad_at if decision is not None else None
    starts = [at for at in (counted.first_failed_at, first_bad_at) if at is not None]
    if not counted.requests and decision is not None:  # as far as the watch had counted when it decided
        counted = Counted(decision.requests, decision.errors, None, Exactness.ESTIMATED)
    requests, how = counted.requests, counted.exactness
    known = dict.fromkeys(("requests_failed", "share"), how) if requests else {}
    known["duration_s"] = how if requests and starts else Exactness.ESTIMATED
    numbers = _count_restored(restored)
    return Impact(
        requests_failed=counted.failed if requests else None,
        share=counted.failed / requests if requests else None,
        duration_s=round(max(0.0, ended_at - max(began_at, min(starts, default=began_at))), 3),
        **numbers,
        exactness={**known, **dict.fromkeys(numbers, Exactness.EXACT)},
    )


def _count_restored(restored: Sequence[Mapping[str, Json]]) -> dict[str, int]:
    """Return {number: sum} of what the results of rescues and of restores of objects say."""
    found: dict[str, int] = {}

    def add(name: str, value: Json) -> None:
        if isinstance(value, int):
            found[name] = found.get(name, 0) + value

    for result in restored:
        tables = result.get("tables")
        for table in tables if isinstance(tables, list) else ():
            if isinstance(table, dict):
                for name in ("inserted", "updated"):
                    add("rows_rescued", table.get(name, 0))
                add("rows_lost", table.get("unwritten", 0))
        if "undeleted" in result:
            for name in ("undeleted", "changed"):
                add("objects_rescued", result.get(name, 0))
            add("objects_lost", result.get("failures", 0))
    return found
