"""Strata: groups of requests by names that the version before knew; frozen when a watch begins.

A stratum is a route template with its method, as in "GET /api/orders". A name with another query shape behind `?` is
of the same stratum, as far as it was seen before. What was not requested before, a crawler's guesses or a new release's
pages, is in none and is never evidence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.detector.stream_set import VITAL
from backout.model.guard.routes import OTHER, add_up, select_nameless
from backout.model.guard.shift import SITE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from backout.model.guard.signals import Counts, RouteCounts

BUSIEST = 20
"""The most strata followed separately, beside the vital ones; the others are `REST`."""
REST = "rest"
_MUCH, _WELL = 0.1, 0.9
"""The share of all requests, and the share of them answered well, from which it is not a crawler's."""
_SITE_PART = 0.4
"""The site as a whole has so much of the weight of all strata."""


def get_stratum(name: str) -> str:
    """Return the stratum of a route's name: without its query shape.

    >>> get_stratum("GET /search?page&q"), get_stratum("/app")
    ('GET /search', '/app')
    """
    return name.partition("?")[0]


def fold_by_stratum(routes: Mapping[str, RouteCounts]) -> Mapping[str, RouteCounts]:
    """Return the counts by stratum, whatever the query shapes."""
    if not any("?" in name for name in routes):
        return routes
    parts: dict[str, list[RouteCounts]] = {}
    for name, route in routes.items():
        parts.setdefault(get_stratum(name), []).append(route)
    return {name: found[0] if len(found) == 1 else add_up(found) for name, found in parts.items()}


def freeze(asked: Mapping[str, int], vital: Collection[str] = ()) -> dict[str, str]:
    """Return {name: stratum} of the names that were asked for, `REST` for those that are not followed by themselves.

    Args:
        vital: strata that are followed however few requests they get.

    >>> freeze({"GET /": 9, "GET /a?q": 5, "GET /a": 2})
    {'GET /': 'GET /', 'GET /a?q': 'GET /a', 'GET /a': 'GET /a'}
    """
    requests: dict[str, int] = {}
    for name, number in asked.items():
        requests[get_stratum(name)] = requests.get(get_stratum(name), 0) + number
    busiest = sorted(requests, key=lambda name: (-requests[name], name))
    followed = {*busiest[:BUSIEST], *(name for name in busiest if name in vital)}
    return {name: get_stratum(name) if get_stratum(name) in followed else REST for name in asked}


def is_much(nameless: int, well: int, requests: int) -> bool:
    """Return whether requests without a route's name, so many of them answered well, are visitors' and no guesses."""
    return 0 < _MUCH * requests <= nameless and well >= _WELL * nameless


def measure_guesses(rows: Iterable[Counts]) -> float:
    """Return the share of all requests that have no name and are not answered well."""
    bad = total = 0
    for row in rows:
        total += row.requests
        other = row.routes.get(OTHER)
        bad += sum(other.classes.values()) if other is not None else 0
    return bad / total if total else 0.0


def list_routes(row: Counts) -> Iterator[tuple[str, RouteCounts]]:
    """Yield the routes of a row by name, and what has none as `OTHER`."""
    named = 0
    for name, route in row.routes.items():
        named += route.requests
        if name != OTHER:
            yield name, route
    if named < row.requests or OTHER in row.routes:
        other = select_nameless(row)
        if other is not None:
            yield OTHER, other


def compute_weights(names: Sequence[str], vital: Iterable[str], site: float = _SITE_PART) -> dict[str, float]:
    """Return each stratum's part, the site's included; they sum to 1."""
    if not names:
        return {SITE: 1.0}
    favoured = frozenset(vital)
    counts = {name: VITAL if name in favoured else 1 for name in names}
    whole = sum(counts.values())
    return {SITE: site} | {name: (1 - site) * number / whole for name, number in counts.items()}
