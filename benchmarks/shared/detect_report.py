"""The detector's benchmark as tables, as `backout.benchmark/1`, and as the figures of docs/research/detection.md."""

from __future__ import annotations

import math
import os
import platform
from typing import TYPE_CHECKING

import numpy as np
from shared.detect_figures import COLUMNS, EXACT, ORACLE, OURS, Figure, median, quantile, share
from shared.detect_scenarios import MODES, RATES, Family, Noise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from shared.detect_figures import Figures
    from shared.detect_scenarios import Scenario

CLASSES = {"errors": Family.ERRORS, "latency": Family.LATENCY, "tail": Family.TAIL, "leak": Family.LEAK}
OTHERS = {"errors 0.5 %": Family.SMALL_ERRORS, "latency x1.2": Family.SMALL_LATENCY, "one route": Family.ROUTE}
MINUTES_15, HOUR = 900, 3600
PICTURE = "![Median delay against false rollbacks](detection.svg)"
BEGIN, END = "<!-- measured: benchmarks/detect.py --write-docs -->", "<!-- end of what was measured -->"


def is_exception(scenario: Scenario) -> bool:
    """Return whether nothing can tell the noise from a bad deployment: a shared outage in a cut-over."""
    return scenario.noise is Noise.OUTAGE and scenario.split == 1


def counted(scenario: Scenario) -> bool:
    """Return whether a healthy watch counts as such."""
    return not is_exception(scenario)


def record(figures: Figures) -> dict[str, object]:
    """Return a `backout.benchmark/1`.

    Samples: per class the ratios to the oracle, one for each scenario; 0 or 1 for each healthy watch; all delays by
    scenario, detector and column, null where a run was never rolled back.
    """
    samples: dict[str, list[float | None]] = {}
    ratios: dict[str, float | None] = {}
    n: dict[str, int] = {}
    bounds: dict[str, list[float | None]] = {}

    def put(key: str, values: Iterable[float], figure: Figure) -> None:
        samples[key] = [_number(value) for value in values]
        ratios[key] = _number(figure.value)
        n[key], bounds[key] = figure.n, [_number(figure.low), _number(figure.high)]

    for key, family in CLASSES.items():
        put(key, figures.ratios([family], EXACT, OURS), figures.ratio([family], EXACT, OURS))
    healthy = figures.scenarios(lambda s: s.bad is None and counted(s) and s.watch_s <= MINUTES_15)
    false = figures.delays(healthy, EXACT, OURS) <= MINUTES_15
    put("false_rollback_share", [int(hit) for hit in false], share(int(false.sum()), len(false)))
    outage = figures.delays(_outages(figures, 5.0), EXACT, OURS)
    put("outage_5rps_s", [float(value) for value in outage], quantile(outage, 0.5))
    for (scenario, column, detector), runs in figures.runs.items():
        if scenario.bad is not None:
            delays = np.concatenate([part.delay_s for part in runs])
            samples[f"{detector} | {column} | {scenario.name}"] = [_number(float(value)) for value in delays]
        else:
            key = f"healthy | {detector} | {column} | {scenario.watch_s // 60} min | {scenario.name}"
            hits = sum(int(np.isfinite(part.delay_s).sum()) for part in runs)
            samples[key] = [hits, sum(len(part.delay_s) for part in runs)]
    return {
        "schema": "backout.benchmark/1",
        "name": "detect",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "samples": samples,
        "ratios": ratios,
        "n": n,
        "bound95": bounds,
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _outages(figures: Figures, rate: float) -> list[Scenario]:
    return figures.scenarios(
        lambda s: s.bad is not None and s.bad.errors == 1 and s.rate == rate and s.baseline_s == HOUR
    )


def text(figures: Figures) -> str:
    """Return all tables as Markdown, which reads well on a terminal too."""
    parts = [_ratios(figures), _false_by_detector(figures), _false_by_noise(figures), _outage_table(figures)]
    parts += [_found(figures), _kinds(figures), _duels(figures)]
    return "\n\n".join(parts)


def write_into(page: Path, tables: str, part: str, how: str) -> None:
    """Replace a measured part of a page.

    Args:
        part: "" for the first one, or the flag that measures another.
        how: counts and seed.
    """
    flag = f" --{part}" if part else ""
    begin = BEGIN.replace(" --write", f"{flag} --write")
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    if not found:
        raise LookupError(f"{page.name} has no line {begin}")
    _, _, after = rest.partition(END)
    written = f"Written by `benchmarks/detect.py{flag} --write-docs` ({how}); do not edit."
    page.write_text(f"{before}{begin}\n{written}\n\n{tables}\n{END}{after}", encoding="utf-8")


def answers_record(samples: Mapping[str, Sequence[float | None]]) -> dict[str, object]:
    """Return a `backout.benchmark/1` of shifts in what is answered: medians of ratios, shares of false rollbacks."""
    ratios: dict[str, float | None] = {}
    for key, values in samples.items():
        known = sorted(math.inf if value is None else value for value in values)
        if known:
            is_share = key.startswith("answers, healthy")
            ratios[key] = _number(sum(known) / len(known) if is_share else known[len(known) // 2])
    return {
        "schema": "backout.benchmark/1",
        "name": "detect-answers",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "samples": dict(samples),
        "ratios": ratios,
        "n": {key: len(samples[key]) for key in ratios},
    }


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]], note: str = "") -> str:
    cells = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join([f"**{title}**" + (f" {note}" if note else ""), "", *lines])


def _times(figure: Figure) -> str:
    if not figure.n:
        return ""
    if math.isinf(figure.value):
        return f"never (n {figure.n})"
    return f"{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f}; n {figure.n})"


def _percent(figure: Figure) -> str:
    if not figure.n:
        return ""
    return f"{figure.value:.2%} ({figure.low:.2%} to {figure.high:.2%}; n {figure.n:,})"


def _seconds(figure: Figure) -> str:
    if not figure.n:
        return ""
    ends = ["never" if math.isinf(value) else f"{value:.0f}" for value in figure[0:1] + figure[2:4]]
    return ends[0] if ends[0] == ends[1] == ends[2] else f"{ends[0]} ({ends[1]} to {ends[2]})"


def _ratios(figures: Figures) -> str:
    classes = {**CLASSES, **OTHERS}
    rows = [
        [detector, column, *(_times(figures.ratio([family], column, detector)) for family in classes.values())]
        for detector in figures.detectors()
        for column in COLUMNS
    ]
    note = "Median over scenarios of 5 requests/s and more; in brackets the 95 % interval and the number of scenarios."
    return _table("Median delay / the oracle's.", ["detector", "counts", *classes], rows, note)


def _false_by_detector(figures: Figures) -> str:
    rows = [
        [
            detector,
            *(_percent(figures.false(column, detector, t, counted)) for column in COLUMNS for t in (MINUTES_15, HOUR)),
        ]
        for detector in figures.detectors()
    ]
    head = ["detector", *(f"{column}, {t // 60} min" for column in COLUMNS for t in (MINUTES_15, HOUR))]
    note = "All noise, traffic, modes and baselines, without the shared outage in a cut-over."
    return _table("Healthy deployments rolled back.", head, rows, note)


def _false_by_noise(figures: Figures) -> str:
    def row(name: str, chosen: Callable[[Scenario], bool]) -> list[str]:
        every = [figures.false(column, OURS, t, chosen) for column in COLUMNS for t in (MINUTES_15, HOUR)]
        return [name, *(_percent(figure) for figure in every)]

    rows = [row(noise.value, lambda s, noise=noise: s.noise is noise and counted(s)) for noise in Noise]  # type: ignore[misc]
    rows.append(row("shared outage in a cut-over", is_exception))
    head = ["noise", *(f"{column}, {t // 60} min" for column in COLUMNS for t in (MINUTES_15, HOUR))]
    return _table("Healthy deployments that backout would roll back.", head, rows)


_NOISE_NOTE = "With the default `slow_start`; a shared outage in a cut-over is shown apart and counts nowhere else."


def noise_text(figures: Figures) -> str:
    """Return how many healthy watches of each noise are rolled back, exactly counted, as Markdown."""
    rows = []
    for noise in Noise:
        chosen = [counted, *(lambda s, split=split: s.split == split for split in MODES)]  # type: ignore[misc]
        each = [
            figures.false(EXACT, OURS, MINUTES_15, lambda s, noise=noise, is_of=is_of: s.noise is noise and is_of(s))  # type: ignore[misc]
            for is_of in chosen
        ]
        if each[0].n:
            rows.append([noise.value, f"{each[0].value * each[0].n:.0f} of {each[0].n:,}", *map(_percent, each)])
    head = ["noise", "rolled back", "share", *MODES.values()]
    return _table("Healthy deployments rolled back within 15 minutes.", head, rows, _NOISE_NOTE)


def noise_record(figures: Figures) -> dict[str, object]:
    """Return a `backout.benchmark/1`: by noise the share of healthy watches that are rolled back."""
    samples = {
        noise.value: [float(delay <= MINUTES_15) for delay in figures.delays(found, EXACT, OURS)]
        for noise in Noise
        if (found := figures.scenarios(lambda s, noise=noise: s.noise is noise and counted(s)))  # type: ignore[misc]
    }
    return {
        "schema": "backout.benchmark/1",
        "name": "detect-noise",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "samples": samples,
        "ratios": {name: sum(values) / len(values) for name, values in samples.items()},
        "n": {name: len(values) for name, values in samples.items()},
    }


def _outage_table(figures: Figures) -> str:
    rows = []
    for rate in RATES:
        for split, mode in MODES.items():
            chosen = [s for s in _outages(figures, rate) if s.split == split]
            found = [quantile(figures.delays(chosen, column, OURS), q) for column in COLUMNS for q in (0.5, 0.9)]
            rows.append([f"{rate:g}/s", mode, *map(_seconds, found), f"{found[0].n}"])
    head = ["traffic", "mode", *(f"{column}, {q}" for column in COLUMNS for q in ("median", "p90")), "n"]
    return _table("A total outage: seconds until backout rolls back.", head, rows)


def _row(figures: Figures, chosen: Sequence[Scenario], column: str, detector: str) -> list[str]:
    found = [runs for s in chosen if (runs := figures.get(s, column, detector)) is not None]
    if not found:
        return ["cannot be used", "", "", "", "", ""]
    delay, requests, bad = (np.concatenate([getattr(r, k) for r in found]) for k in ("delay_s", "requests", "bad"))
    until = np.where(np.isinf(delay), np.inf, requests)
    middle = [quantile(values, q) for values in (delay, until) for q in (0.5, 0.9)]
    served = quantile(bad, 0.5)
    return [_percent(share(int(np.isfinite(delay).sum()), len(delay))), *map(_seconds, middle), _seconds(served)]


_FOUND = ["found", "median s", "p90 s", "median requests", "p90 requests", "median bad requests"]


def _found(figures: Figures) -> str:
    rows: list[list[str]] = []
    for kind in ("errors 1 %", "errors 5 %", "latency x1.5", "one route fails"):
        chosen = _of_kind(figures, kind, 5.0)
        seen = [(detector, column) for detector in figures.detectors() for column in COLUMNS] + [(ORACLE, EXACT)]
        rows += [[kind, detector, column, *_row(figures, chosen, column, detector)] for detector, column in seen]
    note = "At 5 requests/s, every mode and usual error rate. Bad requests: failures, or answers above the usual p95."
    return _table("Found within 15 minutes, beside the others.", ["what", "detector", "counts", *_FOUND], rows, note)


def _of_kind(figures: Figures, kind: str, rate: float) -> list[Scenario]:
    return figures.scenarios(lambda s: s.bad is not None and (s.bad.name, s.rate, s.baseline_s) == (kind, rate, HOUR))


def _kinds(figures: Figures) -> str:
    rows: list[list[str]] = []
    named = dict.fromkeys(s.bad.name for s in figures.scenarios(lambda s: s.bad is not None) if s.bad is not None)
    for kind in named:
        for rate in RATES:
            chosen = _of_kind(figures, kind, rate)
            rows += [[kind, f"{rate:g}/s", c, *_row(figures, chosen, c, OURS)] for c in COLUMNS if chosen]
    note = "Every mode and usual error rate together, an hour of baseline. The 30 s blip is shown, not scored."
    return _table("Found by backout within 15 minutes.", ["what", "traffic", "counts", *_FOUND], rows, note)


def _duels(figures: Figures) -> str:
    rows = []
    lost = []
    beyond = 0
    for column in COLUMNS:
        duels = figures.duels(column)
        for peer in figures.detectors():
            mine = [(ours, theirs) for _, name, ours, theirs in duels if name == peer]
            if mine:
                faster = share(sum(ours < theirs for ours, theirs in mine), len(mine))
                rows.append([peer, column, _percent(faster), str(sum(ours == theirs for ours, theirs in mine))])
        for scenario, peer, ours, theirs in duels:
            if ours > theirs:
                best = median(figures.delays([scenario], EXACT, ORACLE))
                false = figures.pooled(column, peer, scenario.rate, scenario.split).value
                lost.append([scenario.name, peer, column, _delay(ours), _delay(theirs), _delay(best), f"{false:.1%}"])
                beyond += theirs <= best
    note = (
        "Scenarios in which the peer's false rollbacks, pooled over baselines and noise of the same traffic and mode,"
        " are below 5 %."
    )
    head = ["peer", "counts", "scenarios in which backout is faster", "equal"]
    first = _table("Where backout is faster.", head, rows, note)
    head = ["scenario", "peer", "counts", "backout", "peer's", "oracle's", "peer's false rollbacks"]
    note = (
        f"In {beyond} of {len(lost)} rows the peer is as fast as the oracle, which no test with alpha = 0.001 can be."
    )
    second = _table("Where a peer is faster: median s.", head, lost, note)
    return f"{first}\n\n{second}"


def _delay(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.0f}"
