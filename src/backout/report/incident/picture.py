"""The picture of an incident: failed requests and slow answers per version over time, with what was done; pure.

One SVG for white and black pages: each of its colours has a contrast of at least 4.3 to both. Versions differ by their
stroke as well, marks by their number; it can be read at 400 pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.escaping import escape_html
from backout.model.guard.signals import merge_latency, quantile_ms, sum_counts
from backout.model.value import Value
from backout.report.times import format_clock, format_percent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from backout.model.guard.signals import Counts

_INK: Final = "#767676"
_BAD: Final = ("#d93a2b", "")
_OTHERS: Final = (("#2a78c8", "9 5"), ("#6f7d1a", "3 4"), ("#8a63d2", "14 4 3 4"))
"""Colour and dashes of the bad version, and of others."""
_WIDTH, _LEFT, _RIGHT = 600, 74, 590
_PANEL: Final = 110
_BINS: Final = 120
_MOST_VERSIONS: Final = 4
_APART: Final = 26
"""Pixels between the numbers of two marks."""
_ID: Final = 8


class Mark(Value, frozen=True):
    """A moment to show: Unix seconds, and what happened in one word."""

    at: float
    text: str


class Point(Value, frozen=True):
    """What one version answered in one stretch: requests, failed ones, and its p95 in milliseconds (None: unknown)."""

    at: float
    requests: int
    errors: int
    p95_ms: float | None

    @property
    def share(self) -> float:
        """Of the requests that failed."""
        return self.errors / self.requests


class Picture(Value, frozen=True):
    """What is drawn.

    Args:
        since, until: Unix seconds.
        bad: the version that failed, "" for none.
        series: {version: points in order}, the busiest versions.
        marks: in order.
    """

    environment: str
    since: float
    until: float
    bad: str
    series: dict[str, tuple[Point, ...]]
    marks: tuple[Mark, ...]


def make_picture(environment: str, rows: Iterable[Counts], bad: str, marks: Iterable[Mark]) -> Picture | None:
    """Return what is drawn of the counts of an incident's time; None where nothing was counted."""
    counted = [row for row in rows if row.requests]
    if not counted:
        return None
    since, until = min(row.second for row in counted), max(row.second for row in counted) + 1
    size = max(1, -(-(until - since) // _BINS))
    bins: dict[str, dict[int, list[Counts]]] = {}
    for row in counted:
        bins.setdefault(row.version, {}).setdefault((row.second - since) // size, []).append(row)
    busiest = sorted(bins, key=lambda version: (version != bad, -sum(len(each) for each in bins[version].values())))
    series = {
        version: tuple(
            _make_point(since + (number + 0.5) * size, each) for number, each in sorted(bins[version].items())
        )
        for version in busiest[:_MOST_VERSIONS]
    }
    shown = [mark for mark in marks if since - size <= mark.at <= until + size]
    return Picture(environment, since, until, bad, series, tuple(sorted(shown, key=lambda mark: mark.at)))


def _make_point(at: float, rows: Sequence[Counts]) -> Point:
    requests, errors = sum_counts(rows)
    return Point(at, requests, errors, quantile_ms(merge_latency(rows), 0.95))


def describe_picture(picture: Picture) -> str:
    """Return what the picture shows in words: its alternative text."""
    said = []
    for version, points in picture.series.items():
        worst = max(point.share for point in points)
        slow = max((point.p95_ms for point in points if point.p95_ms is not None), default=None)
        late = f", and its p95 reached {slow:,.0f} ms" if slow is not None else ""
        said.append(f"Version {version[:_ID]} failed up to {format_percent(worst)} of its requests{late}.")
    marks = ", ".join(f"{mark.text} {format_clock(mark.at)}" for mark in picture.marks)
    span = f"{format_clock(picture.since)} to {format_clock(picture.until)} UTC"
    done = f" Marked: {marks}." if marks else ""
    return f"Failed requests and slow answers of {picture.environment} by version, {span}. {' '.join(said)}{done}"


def draw(picture: Picture) -> str:
    """Return the picture as SVG, which names no other file and runs nothing."""
    versions = list(picture.series)
    legend_rows = len(versions) + len(picture.marks)
    top, middle = 62, 62 + _PANEL + 60
    below = middle + _PANEL + 34
    height = below + 25 * legend_rows + 6
    text = escape_html(describe_picture(picture))
    how = f'role="img" aria-labelledby="t d" font-family="sans-serif" font-size="18" fill="{_INK}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" {how}>',
        f'<title id="t">{escape_html(f"Incident of {picture.environment}")}</title><desc id="d">{text}</desc>',
    ]
    shares = [point.share for points in picture.series.values() for point in points]
    slow = [p.p95_ms for points in picture.series.values() for p in points if p.p95_ms is not None]
    most_share, most_ms = _round_up(max(shares) * 100, 1.0), _round_up(max(slow, default=1.0), 10.0)
    parts += _draw_panel(picture, top, "failed requests, %", most_share, lambda point: point.share * 100)
    parts += _draw_panel(picture, middle, "p95, ms", most_ms, lambda point: point.p95_ms)
    parts += _draw_axis(picture, middle + _PANEL)
    parts += _draw_marks(picture, top - 30, middle + _PANEL)
    parts += _draw_legend(picture, below)
    return "\n".join([*parts, "</svg>\n"])


def _round_up(value: float, least: float) -> float:
    """Return the next of 1, 2, 5, 10, 20 ... times `least` that is not less."""
    step = least
    while True:
        for factor in (1, 2, 5):
            if step * factor >= value:
                return step * factor
        step *= 10


def _place(picture: Picture, at: float) -> float:
    share = (at - picture.since) / (picture.until - picture.since)
    return _LEFT + (_RIGHT - _LEFT) * min(1.0, max(0.0, share))


def _draw_panel(
    picture: Picture, top: int, title: str, most: float, value_of: Callable[[Point], float | None]
) -> Iterator[str]:
    bottom = top + _PANEL
    yield f'<text x="{_LEFT}" y="{top - 8}">{title}</text>'
    for height, label in ((bottom, "0"), (top, f"{most:,.0f}")):
        yield f'<path d="M{_LEFT} {height}H{_RIGHT}" stroke="{_INK}" stroke-width="1"/>'
        yield f'<text x="{_LEFT - 8}" y="{height + 6}" text-anchor="end">{label}</text>'
    for version, (colour, dashes) in reversed(list(_choose_strokes(picture))):
        path, last = "", None
        points = picture.series[version]
        gap = 3 * max(1.0, (picture.until - picture.since) / _BINS)
        for point in points:
            value = value_of(point)
            if value is None:
                continue
            pen = "M" if last is None or point.at - last > gap else "L"
            path += f"{pen}{_place(picture, point.at):.1f} {bottom - _PANEL * min(1.0, value / most):.1f}"
            last = point.at
        if path:
            dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
            rest = f'stroke="{colour}" stroke-width="3" stroke-linecap="round"{dashed}'
            yield f'<path d="{path}" fill="none" {rest}/>'


def _choose_strokes(picture: Picture) -> Iterator[tuple[str, tuple[str, str]]]:
    others = iter(_OTHERS)
    bad = picture.bad if picture.bad in picture.series else ""
    for number, version in enumerate(picture.series):
        is_bad = version == bad or (not bad and number == _MOST_VERSIONS - 1)
        yield version, _BAD if is_bad else next(others)


def _draw_axis(picture: Picture, bottom: int) -> Iterator[str]:
    for at, anchor in ((picture.since, "start"), (picture.until, "end")):
        place = _place(picture, at)
        yield f'<text x="{place:.0f}" y="{bottom + 24}" text-anchor="{anchor}">{format_clock(at)}</text>'


def _draw_marks(picture: Picture, top: int, bottom: int) -> Iterator[str]:
    """Yield a numbered line for each mark; those that are close to one another share the height above in turns."""
    for number, (mark, label) in enumerate(zip(picture.marks, _place_labels(picture), strict=True), 1):
        place = _place(picture, mark.at)
        yield f'<path d="M{place:.1f} {top}V{bottom}" stroke="{_INK}" stroke-width="2" stroke-dasharray="2 4"/>'
        yield f'<circle cx="{label:.1f}" cy="{top - 14}" r="12" fill="none" stroke="{_INK}" stroke-width="2"/>'
        yield f'<text x="{label:.1f}" y="{top - 8}" font-size="16" text-anchor="middle">{number}</text>'


def _place_labels(picture: Picture) -> list[float]:
    """Return where the number of each mark stands: above its line, beside its neighbours, and within the picture."""
    places: list[float] = []
    for mark in picture.marks:
        places.append(max(_place(picture, mark.at), places[-1] + _APART if places else 0.0))
    last = len(places) - 1
    return [min(place, _WIDTH - _APART / 2 - 1 - _APART * (last - number)) for number, place in enumerate(places)]


def _draw_legend(picture: Picture, top: int) -> Iterator[str]:
    row = top + 16
    for version, (colour, dashes) in _choose_strokes(picture):
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        yield f'<path d="M10 {row - 6}H64" stroke="{colour}" stroke-width="4"{dashed}/>'
        what = " (bad)" if version == picture.bad else ""
        yield f'<text x="{_LEFT}" y="{row}">{escape_html(version[:_ID])}{what}</text>'
        row += 25
    for number, mark in enumerate(picture.marks, 1):
        yield f'<circle cx="37" cy="{row - 6}" r="11" fill="none" stroke="{_INK}" stroke-width="2"/>'
        yield f'<text x="37" y="{row}" font-size="16" text-anchor="middle">{number}</text>'
        yield f'<text x="{_LEFT}" y="{row}">{format_clock(mark.at)} {escape_html(mark.text)}</text>'
        row += 25
