"""Forecast: what guard would find at today's traffic, from the source's counts or those that watches kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.analysis.attached import list_warnings
from backout.analysis.hindsight.forecast import make_forecast
from backout.analysis.history.remarks import find_underneath
from backout.errors import BackoutError, Unmeasured
from backout.model.guard.forecast import Today
from backout.model.guard.signals import sum_counts
from backout.model.setting import describe_setting
from backout.runbook.rollback.triggers import read_attached

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.guard.forecast import Forecast
    from backout.model.guard.signals import Counts
    from backout.runbook.toolbox import Toolbox

LOOK_BACK_S = 35 * 86_400
"""How far back to look for stored counts when the source tells nothing."""


def foresee(tools: Toolbox, *, synthetic_per_s: float) -> Forecast:
    """Return the forecast for the next deployment; it reads and changes nothing.

    Raises:
        Unmeasured: neither the source nor a watch has counted a request.
    """
    history = tools.deployments.history()
    rows, until = _read_newest(tools)
    version = find_underneath(history).main if history else ""
    since = until - int(tools.policy.guard.baseline_s)
    recent = [row for row in rows if since <= row.second < until and row.requests]
    if not recent:
        raise Unmeasured(
            "no request was counted yet, so nothing can be forecast",
            where=tools.environment,
            hint=f"{describe_setting('environments', tools.environment, 'traffic', provider='tail')}; then: "
            f"backout guard -e {tools.environment}",
        )
    own = tuple(row for row in recent if row.version == version)
    span_s = float(until - min(row.second for row in recent))
    baseline_s = float(until - own[0].second) if own else 0.0
    traits = tools.traffic.traits if tools.traffic is not None else None
    lag_s = traits.lag_s if traits is not None else 0.0
    today = Today(until, sum_counts(recent)[0] / span_s, own, baseline_s, lag_s, traits)
    made = make_forecast(today, tools.policy, synthetic_per_s=synthetic_per_s)
    return replace(made, warnings=_list_warnings(tools, version))


def _list_warnings(tools: Toolbox, version: str) -> tuple[str, ...]:
    if not version:
        return ()
    try:
        live = (tools.versions.detail(version),)
    except BackoutError as error:
        return (f"what is attached to version {version[:8]} is not measured: {error.what}",)
    return list_warnings(read_attached(tools, live), live, is_sticky=tools.policy.guard.sticky)


def _read_newest(tools: Toolbox) -> tuple[Sequence[Counts], int]:
    """Return the newest counts by second, and the Unix second until which they are final."""
    now = int(tools.clock.now())
    since = now - int(tools.policy.guard.baseline_s)
    kept = tools.counts.load_counts(tools.environment, since, now)
    if tools.traffic is not None:
        try:
            page = tools.traffic.read(since, now)
        except BackoutError as error:
            tools.say(f"the source of counts does not answer, so this rests on what watches kept: {error}")
        else:
            rows = {(row.version, row.second): row for row in (*kept, *page.counts)}
            return sorted(rows.values(), key=lambda row: row.second), min(now, page.complete_until)
    kept = kept or tools.counts.load_counts(tools.environment, now - LOOK_BACK_S, now)
    return kept, (kept[-1].second + 1 if kept else now)
