"""What the charts of a run are drawn from: counts by version and moment, and how the evidence grew."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from backout.analysis.statistics.beta import bound_share
from backout.errors import BackoutError
from backout.model.guard.signals import merge_latency, quantile_ms, sum_counts
from backout.model.steps.guard import WatchStep
from backout.report.guard.explain import make_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.guard.signals import Counts
    from backout.model.incident.incident import Run
    from backout.wiring.serve import Site

MOST_POINTS: Final = 240
_BEFORE_S, _LONGEST_S = 300, 2 * 3600
_ALPHA: Final = 0.01
"""With 99 % confidence the true share lies in the band."""
_QUANTILES: Final = (("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99))


def read_series(site: Site, run: Run) -> dict[str, object]:
    """Return the points of each version around a run, and the data of its decision where it has one.

    Times are Unix seconds; shares are in [0, 1], response times in milliseconds; None where nothing was counted.
    """
    since, deployed_at = _find_beginning(site, run)
    related = _list_related(site, run)
    ended_at = max(each.ended_at or site.clock.now() for each in related)
    until = int(min(ended_at, since + _LONGEST_S)) + 30
    rows = [row for row in site.journal.load_counts(run.environment, since - _BEFORE_S, until) if row.requests]
    size = max(1, -(-(until - since + _BEFORE_S) // MOST_POINTS))
    versions: dict[str, dict[int, list[Counts]]] = {}
    for row in rows:
        versions.setdefault(row.version, {}).setdefault(row.second // size, []).append(row)
    return {
        "environment": run.environment,
        "run_id": run.id,
        "deployed_at": deployed_at,
        "blamed": _find_blamed(run),
        "bin_s": size,
        "error_rate_below": site.choose(run.environment.partition("/")[0]).policy.criteria.error_rate_below,
        "versions": {name: _make_points(bins, size) for name, bins in versions.items()},
        "marks": _list_marks(site, related, deployed_at),
        "evidence": _read_evidence(site, run),
    }


def _find_blamed(run: Run) -> str | None:
    """Return the version that a run is about: the one that was watched, or that a rollback left; None for none."""
    for step in run.plan.steps:
        if found := step.args.get("leaving") if step.action == "activate" else None:
            return str(found)
    return str(run.plan.arguments(WatchStep).version) if run.plan.has(WatchStep) else None


def _make_points(bins: dict[int, list[Counts]], size: int) -> dict[str, list[float | int | None]]:
    points: dict[str, list[float | int | None]] = {
        name: [] for name in ("at", "requests", "errors", "share", "low", "high", *(name for name, _ in _QUANTILES))
    }
    for number, rows in sorted(bins.items()):
        requests, errors = sum_counts(rows)
        points["at"].append(number * size)
        points["requests"].append(requests)
        points["errors"].append(errors)
        points["share"].append(round(errors / requests, 6))
        low, high = bound_share(errors, requests, _ALPHA)
        points["low"].append(round(low, 6))
        points["high"].append(round(high, 6))
        _add_quantiles(points, rows)
    return points


def _add_quantiles(points: dict[str, list[float | int | None]], rows: Sequence[Counts]) -> None:
    latency = merge_latency(rows)
    for name, q in _QUANTILES:
        found = quantile_ms(latency, q)
        points[name].append(None if found is None else round(found, 1))


def _find_beginning(site: Site, run: Run) -> tuple[int, int | None]:
    """Return from when on there is something to see, and when the bad version was deployed, None: that is not known.

    A rollback is looked at from the deployment on that it undoes.
    """
    chain, seen = run, {run.id}
    while True:
        if chain.plan.has(WatchStep):
            at = int(chain.plan.arguments(WatchStep).since)
            return at, at
        before = site.journal.find(chain.plan.cause) if chain.plan.cause else None
        if before is None or before.id in seen:
            break
        seen.add(before.id)
        chain = before
    for step in run.plan.steps:
        since = step.args.get("leaving_since") if step.action == "activate" else None
        if isinstance(since, int | float):
            return max(int(since), int(run.started_at) - _LONGEST_S // 2), int(since)
    return int(run.started_at), None


def _list_related(site: Site, run: Run) -> list[Run]:
    """Return a run, and those of its incident: what a person did about a watch that only observed is seen, too."""
    name = run.environment.partition("/")[0]
    ids = next((each.runs for each in site.incidents.list_incidents(name) if run.id in each.runs), ())
    found = (site.find_run(name, each) for each in ids if each != run.id)
    return [run, *(each for each in found if each is not None)]


def _list_marks(site: Site, runs: Sequence[Run], deployed_at: int | None) -> list[dict[str, object]]:
    """Return when what was done, for the lines in the charts."""
    marks: list[dict[str, object]] = [] if deployed_at is None else [{"at": deployed_at, "text": "deployed"}]
    marks += [
        {"at": int(event.at), "text": "rolled back"}
        for each in runs
        for event in site.journal.events(run=each.id, kind="step.ok")
        if event.step is not None and each.plan.steps[event.step].action == "activate"
    ]
    return marks


def _read_evidence(site: Site, run: Run) -> dict[str, object] | None:
    """Return how the evidence of the watch grew, and from where on it decides; None while it has not."""
    from backout.runbook.hindsight.explain import explain

    with suppress(BackoutError):
        found = make_record(explain(site.journal, site.journal, site.choose(run.environment).policy, run.id))
        return {name: found[name] for name in ("since", "decided_at", "verdict", "threshold", "chart")}
    return None
