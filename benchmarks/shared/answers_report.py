"""The results of the watches with shifts in answers: tables, and samples for one record."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from shared.answers_scenarios import Kind, Noise
from shared.detect_figures import median, share

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shared.answers_runs import Found
    from shared.answers_scenarios import Scenario
    from shared.detect_figures import Figure

    Results = Mapping[Scenario, Found]

JUDGED_RATE = 5.0
HEALTHY = "healthy"
_DELAYS_NOTE = (
    "At 5 requests/s and more; the oracle of a split is held to labels, that of an extinction to twenty requests."
)
_NOISES_NOTE = (
    "Rolled back and held: at all rates and modes; asked: cut-overs at all rates; "
    "healthy: at 5 requests/s of the new version and more."
)


def ratios(found: Results, kind: Kind) -> list[float]:
    """Return median delay / the oracle's, for each scenario of a kind at 5 requests/s and more."""
    return [
        median(np.array(runs.delays)) / median(np.array(runs.best))
        for scenario, runs in found.items()
        if scenario.kind is kind and scenario.rate >= JUDGED_RATE and math.isfinite(median(np.array(runs.best)))
    ]


def false(found: Results, noise: Noise) -> Figure:
    """Return the share of healthy watches with a noise that were rolled back."""
    ends = [delay for scenario, runs in _healthy(found, noise) for delay in runs.delays]
    return share(sum(math.isfinite(delay) for delay in ends), len(ends))


def healthy(found: Results, noise: Noise) -> Figure:
    """Return the share of healthy watches with a noise, at 5 requests/s of the new version's, that ended healthy."""
    busy = (runs for scenario, runs in _healthy(found, noise) if scenario.rate * scenario.split >= JUDGED_RATE)
    ends = [end for runs in busy for end in runs.ends]
    return share(ends.count(HEALTHY), len(ends))


def held(found: Results, noise: Noise) -> Figure:
    """Return the share of healthy watches with a noise that ended held for a person."""
    ends = [end for _, runs in _healthy(found, noise) for end in runs.ends]
    return share(sum("held" in end for end in ends), len(ends))


def asked(found: Results, noise: Noise) -> Figure:
    """Return the share of healthy cut-overs with a noise in which both versions were asked side by side."""
    every = [each for scenario, runs in _healthy(found, noise) if scenario.split == 1 for each in runs.asked]
    return share(sum(every), len(every))


def shifting(found: Results) -> Figure:
    """Return the share of healthy watches that ended healthy, of all noises in which answers shift together."""
    figures = [healthy(found, noise) for noise in Noise if noise is not Noise.NONE]
    return share(round(sum(each.value * each.n for each in figures if each.n)), sum(each.n for each in figures))


def _healthy(found: Results, noise: Noise) -> Iterable[tuple[Scenario, Found]]:
    return ((s, runs) for s, runs in found.items() if s.bad is None and s.noise is noise)


def samples(found: Results) -> dict[str, list[float | None]]:
    """Return per kind the ratios, per noise 0 or 1 for each watch, and per bad scenario all delays, null for never."""
    kept: dict[str, list[float | None]] = {f"answers, {kind}": [*map(_number, ratios(found, kind))] for kind in Kind}
    for noise in Noise:
        delays = [delay for _, runs in _healthy(found, noise) for delay in runs.delays]
        kept[f"answers, healthy, {noise}"] = [int(math.isfinite(delay)) for delay in delays]
        kept[f"answers, asked, {noise}"] = [int(each) for _, runs in _healthy(found, noise) for each in runs.asked]
    for scenario, runs in found.items():
        if scenario.bad is not None:
            kept[f"answers, {scenario.name}"] = [_number(delay) for delay in runs.delays]
    return kept


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def text(found: Results) -> str:
    """Return both tables as Markdown."""
    return f"{_delays(found)}\n\n{_noises(found)}"


def _delays(found: Results) -> str:
    lines = [
        f"**Answered otherwise: median delay / the oracle's.** {_DELAYS_NOTE}",
        "",
        "| what | median ratio | scenarios | rolled back | held |",
        "|---|---|---|---|---|",
    ]
    for kind in Kind:
        known = sorted(ratios(found, kind))
        if not known:
            continue
        runs = [runs for scenario, runs in found.items() if scenario.kind is kind and scenario.rate >= JUDGED_RATE]
        ends = [end for each in runs for end in each.ends]
        hits = share(sum(end == "regressed" for end in ends), len(ends))
        middle = known[len(known) // 2]
        ratio = f"{middle:.2f} ({known[0]:.2f} to {known[-1]:.2f})" if math.isfinite(middle) else "never"
        waits = sum("held" in end for end in ends)
        lines.append(f"| {kind} | {ratio} | {len(known)} | {_percent(hits)} | {waits / len(ends):.2%} |")
    return "\n".join(lines)


def _noises(found: Results) -> str:
    lines = [
        f"**Healthy deployments while answers shift.** {_NOISES_NOTE}",
        "",
        "| noise | rolled back | held for a person | both asked | ends healthy |",
        "|---|---|---|---|---|",
    ]
    for noise in Noise:
        figures = (false(found, noise), held(found, noise), asked(found, noise), healthy(found, noise))
        if figures[0].n:
            lines.append(f"| {noise} | {' | '.join(map(_percent, figures))} |")
    if any(shifts := [noise for noise in Noise if noise is not Noise.NONE and false(found, noise).n]):
        lines.append(f"| all {len(shifts)} in which answers shift | | | | {_percent(shifting(found))} |")
    return "\n".join(lines)


def _percent(figure: Figure) -> str:
    return f"{figure.value:.2%} ({figure.low:.2%} to {figure.high:.2%}; n {figure.n:,})"
