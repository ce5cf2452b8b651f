"""The chart of the detector's benchmark: the delay for bad deployments against the share of healthy ones lost."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from shared.detect_figures import COLUMNS, EXACT, ORACLE, OURS, median
from shared.detect_report import counted
from shared.detect_scenarios import Family

if TYPE_CHECKING:
    from shared.detect_figures import Figures

WIDTH, HEIGHT = 860, 520
LEFT, RIGHT, TOP, BOTTOM = 80, 250, 50, 70
X_LIMITS = (1.0, 900.0)
Y_LIMITS = (0.0003, 1.0)
X_TICKS = (1, 3, 10, 30, 100, 300, 900)
Y_TICKS = (0.001, 0.01, 0.1, 1.0)
COLOURS = ("#0b7285", "#e8590c", "#5f3dc4", "#2b8a3e", "#c2255c", "#1864ab", "#846358", "#495057")


def chart(figures: Figures) -> str:
    """Return an SVG: x median delay for errors of 1 % and more at 5 requests/s and more, y share of false rollbacks."""
    lines = _frame()
    names = figures.detectors()
    for number, detector in enumerate(names):
        style = _Style(number + 1, COLOURS[number % len(COLOURS)], 7 if detector == OURS else 5)
        for column in COLUMNS:
            delays = figures.delays(figures.judged([Family.ERRORS]), column, detector)
            false = figures.false(column, detector, 900, counted)
            if len(delays) and false.n:
                lines.append(_mark(_x(median(delays)), _y(false.value), style, filled=column == EXACT))
        y = TOP + 22 * number
        lines.append(_mark(WIDTH - RIGHT + 28, y, style, filled=True))
        lines.append(f'<text x="{WIDTH - RIGHT + 48}" y="{y + 4}">{escape(detector)}</text>')
    best = figures.delays(figures.judged([Family.ERRORS]), EXACT, ORACLE)
    if len(best):
        x = _x(median(best))
        lines.append(f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#868e96" stroke-dasharray="4 4"/>')
        lines.append(f'<text x="{x + 5:.1f}" y="{TOP + 12}" fill="#868e96">oracle</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


class _Style(NamedTuple):
    number: int
    colour: str
    radius: int


def _frame() -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
        ' font-size="12" role="img" aria-label="Median delay against false rollbacks of each detector">'
    )
    title = "Errors of 1 % and more, 5 requests/s and more: lower left is better"
    lines = [
        head,
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="28" font-size="15">{title}</text>',
        f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="#343a40"/>',
    ]
    for tick in X_TICKS:
        x = _x(tick)
        lines.append(f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="#e9ecef"/>')
        lines.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{tick}</text>')
    lines.append(f'<text x="{_x(math.inf):.1f}" y="{bottom + 32}" text-anchor="middle">or never</text>')
    for share in Y_TICKS:
        y = _y(share)
        lines.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#e9ecef"/>')
        lines.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{share:g}</text>')
    lines.append(f'<text x="{LEFT - 8}" y="{_y(0) + 4:.1f}" text-anchor="end">0</text>')
    across = "median seconds until the rollback (filled: exact counts, hollow: production-shaped)"
    upwards = "share of healthy deployments rolled back in 15 min"
    lines.append(f'<text x="{LEFT}" y="{HEIGHT - 14}">{across}</text>')
    lines.append(f'<text transform="translate(22 {bottom}) rotate(-90)">{upwards}</text>')
    return lines


def _x(delay: float) -> float:
    low, high = math.log(X_LIMITS[0]), math.log(X_LIMITS[1])
    part = (math.log(min(max(delay, X_LIMITS[0]), X_LIMITS[1])) - low) / (high - low)
    return LEFT + part * (WIDTH - LEFT - RIGHT)


def _y(share: float) -> float:
    low, high = math.log(Y_LIMITS[0]), math.log(Y_LIMITS[1])
    part = (math.log(min(max(share, Y_LIMITS[0]), Y_LIMITS[1])) - low) / (high - low)
    return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)


def _mark(x: float, y: float, style: _Style, *, filled: bool) -> str:
    fill = style.colour if filled else "#fff"
    at = f'x="{x + style.radius + 2:.1f}" y="{y - 3:.1f}" font-size="9" fill="{style.colour}"'
    ring = f'r="{style.radius}" fill="{fill}" stroke="{style.colour}" stroke-width="2"'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" {ring}/><text {at}>{style.number}</text>'
