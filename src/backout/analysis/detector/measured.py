"""The measurements of a version whose watch ended healthy, kept with its mark: its answers by route; pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backout.model.guard.signals import Counts, RouteCounts
    from backout.model.plan import Json

MOST: Final = 20
"""The number of routes kept, the busiest."""


class _Sum:
    """The number of answers, by kind."""

    def __init__(self) -> None:
        self.requests = self.errors = 0
        self.classes: Counter[str] = Counter()

    def add(self, row: Counts | RouteCounts) -> None:
        self.requests += row.requests
        self.errors += row.errors
        self.classes.update({str(kind): number for kind, number in row.classes.items()})

    @property
    def good_share(self) -> float | None:
        good = self.requests - self.errors - sum(self.classes.values())
        return round(good / self.requests, 6) if self.requests else None


def summarize_version(rows: Iterable[Counts], version: str) -> dict[str, Json]:
    """Return {requests, good_share, errors, classes {class: answers}, routes {name: {requests, good_share}}}.

    A good answer is neither an error nor of a class that is counted apart; `good_share` is None without a request.
    """
    whole, routes = _Sum(), dict[str, _Sum]()
    for row in rows:
        if row.version != version:
            continue
        whole.add(row)
        for name, route in row.routes.items():
            routes.setdefault(name, _Sum()).add(route)
    busiest = sorted(routes, key=lambda name: (-routes[name].requests, name))[:MOST]
    counted: dict[str, Json] = {kind: number for kind, number in sorted(whole.classes.items()) if number}
    return {
        "requests": whole.requests,
        "good_share": whole.good_share,
        "errors": whole.errors,
        "classes": counted,
        "routes": {n: {"requests": routes[n].requests, "good_share": routes[n].good_share} for n in busiest},
    }
