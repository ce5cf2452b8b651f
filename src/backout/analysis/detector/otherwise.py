"""What the new version answers differently from the one before, in a sentence; it is not the verdict; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.analysis.detector.wording import format_percent
from backout.analysis.statistics.novelty import ALARM, log_factor
from backout.model.guard.answers import AnswerClass

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backout.model.guard.signals import Counts, RouteCounts

_FEW: Final = 5
_ALL, _MORE = 0.95, 0.2
"""The share that counts as everything; the increase in points that counts as different."""


def describe_otherwise(rows: Sequence[Counts], *, old: str | None, new: str) -> str:
    """Return what all requests, or those of one route, are answered now and were not before, "" for nothing.

    The route on which it shows most is named, unless it is all of them; "" as well with fewer than five requests of
    the new version there, or none of the old one.
    """
    if old is None:
        return ""
    before = [row for row in rows if row.version == old]
    after = [row for row in rows if row.version == new]
    whole = _compare_classes("everything", before, after)
    if whole is not None and whole[0] >= _ALL - _MORE:
        return whole[1]
    names = {name for row in after for name in row.routes}
    found = [_compare_classes(name, _select_route(before, name), _select_route(after, name)) for name in sorted(names)]
    return max((each for each in (*found, whole) if each is not None), default=(0.0, ""))[1]


def describe_failing(rows: Sequence[Counts], *, old: str | None, new: str) -> str:
    """Return that more requests fail than before, "" where it is not certain: for a small share, too."""
    if old is None:
        return ""
    before, after = ([row for row in rows if row.version == each] for each in (old, new))
    asked_before, asked = (sum(row.requests for row in each) for each in (before, after))
    failed_before, failed = (sum(row.errors for row in each) for each in (before, after))
    if log_factor(failed_before, asked_before, failed, asked) < ALARM:
        return ""
    then = format_percent(failed_before / asked_before)
    return f"{failed:,} of {asked:,} requests fail ({format_percent(failed / asked)}), {then} in the version before"


def _select_route(rows: Iterable[Counts], name: str) -> list[RouteCounts]:
    return [row.routes[name] for row in rows if name in row.routes]


def _compare_classes(
    where: str, before: Sequence[Counts | RouteCounts], after: Sequence[Counts | RouteCounts]
) -> tuple[float, str] | None:
    """Return (how much the share of one class rose, in words), None where that is little."""
    asked_before, asked = sum(row.requests for row in before), sum(row.requests for row in after)
    if asked < _FEW or not asked_before:
        return None
    best: tuple[float, str] | None = None
    for kind in AnswerClass:
        if kind is AnswerClass.GOOD:
            continue
        then = sum(row.classes.get(kind, 0) for row in before) / asked_before
        number = sum(row.classes.get(kind, 0) for row in after)
        share = number / asked
        if share - then < _MORE or (best is not None and share - then <= best[0]):
            continue
        word = "with a redirect" if kind is AnswerClass.REDIRECT else str(kind)
        much = "" if share >= _ALL else f" for {format_percent(share)}"
        said = (
            f"{where} is answered {word}{much}: {number:,} of {asked:,} requests, {format_percent(then)} in "
            "the version before"
        )
        best = (share - then, said)
    return best
