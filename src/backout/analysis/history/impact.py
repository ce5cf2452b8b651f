"""From counts, and what restores brought back, to the impact of an incident; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.guard.signals import sum_counts
from backout.model.incident.impact import Exactness, Impact
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.model.guard.signals import Counts
    from backout.model.incident.incident import Incident
    from backout.model.plan import Json


class Counted(Value, frozen=True):
    """The counts of the time of an incident.

    Args:
        rows: of all versions.
        exactness: of the source.
        until: the second up to which they are complete, None when not known.
    """

    rows: Sequence[Counts]
    exactness: Exactness = Exactness.EXACT
    until: float | None = None


def measure_impact(
    incident: Incident | None,
    counted: Counted,
    *,
    began_at: float,
    ended_at: float,
    restored: Sequence[Mapping[str, Json]] = (),
) -> Impact:
    """Return the impact.

    Args:
        incident: what the journal tells of its runs, None without one.
        began_at, ended_at: of the incident, Unix seconds; `ended_at` is now while it is open.
        restored: results of steps that brought rows or objects back.
    """
    bad = incident.bad_version if incident is not None else ""
    decision = incident.decision if incident is not None else None
    window = [row for row in counted.rows if int(began_at) <= row.second <= ended_at]
    failing = [row for row in window if row.errors and row.version == (bad or row.version)]
    requests, failed = sum_counts(window)[0], sum(row.errors for row in failing)
    how = counted.exactness
    last = failing[-1].second if failing else began_at
    if how is Exactness.EXACT and (counted.until is None or counted.until < last):
        how = Exactness.ESTIMATED
    if not requests and decision is not None:  # as far as the watch had counted when it decided
        requests, failed, how = decision.requests, decision.errors, Exactness.ESTIMATED
    starts = [float(row.second) for row in failing[:1]]
    if decision is not None and decision.first_bad_at is not None:
        starts.append(decision.first_bad_at)
    known = dict.fromkeys(("requests_failed", "share"), how) if requests else {}
    known["duration_s"] = how if requests and starts else Exactness.ESTIMATED
    numbers = _count_restored(restored)
    return Impact(
        requests_failed=failed if requests else None,
        share=failed / requests if requests else None,
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
