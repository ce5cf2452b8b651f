"""Routes: what an answer was about, in so few and so plain names that no visitor can blow the counts up.

Source of `RouteNames`: Misra and Gries, "Finding repeated elements", Science of Computer Programming 2 (1982).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from backout.model.signals import RouteCounts, merge_latency

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

OTHER: Final = "other"
"""The route of everything that has no name of its own."""
MOST_ROUTES: Final = 32
"""So many routes of one row have a name; the rest is added up under `OTHER`."""
LONGEST: Final = 64
_WORD = re.compile(r"/(?:[A-Za-z][A-Za-z_-]{0,23})?(?=[/?#]|\Z)")  # as `routeOf` of the flight recorder
_PLAIN = re.compile(r"[A-Za-z0-9_./:{}()*+~ -]+")  # nothing that a terminal, a page or a chat would obey
_PLACEHOLDER: Final = str.maketrans("<>[]", "{}{}")


def route_of_path(path: str) -> str:
    """Return the route of a request's path: its first word, for what follows may be an id or a secret.

    >>> [route_of_path(path) for path in ("/app/7?key=x", "/", "/4711/app", "/.env")]
    ['/app', '/', 'other', 'other']
    """
    found = _WORD.match(path)
    return found[0] if found else OTHER


def route_of_url(url: str) -> str | None:
    """Return the route of an absolute URL; None when it is none.

    >>> [route_of_url(url) for url in ("https://example.com/app?key=x", "https://example.com", "")]
    ['/app', '/', None]
    """
    _, absolute, rest = url.partition("://")
    return route_of_path("/" + rest.partition("/")[2]) if absolute else None


@lru_cache(4096)
def _plain(name: str) -> str:
    name = re.split(r"[?#]", name, maxsplit=1)[0].translate(_PLACEHOLDER).strip()
    return name if "//" not in name and _PLAIN.fullmatch(name) else OTHER


def route_named(name: str) -> str:
    """Return the route that an application's own name of it (a pattern, a handler) stands for.

    >>> [route_named(name) for name in ("/users/<int:id>", "GET /app?x=1", "show", "a`b", "x" * 65)]
    ['/users/{int:id}', 'GET /app', 'show', 'other', 'other']
    """
    return _plain(name) if len(name) <= LONGEST else OTHER


def renamed(routes: Iterable[tuple[str, RouteCounts]]) -> dict[str, RouteCounts]:
    """Return what an application calls by these names, under the names that we give; equal ones are added up."""
    found: dict[str, RouteCounts] = {}
    for written, counts in routes:
        name = route_named(written)
        found[name] = added((found[name], counts)) if name in found else counts
    return found


def most_used(routes: Mapping[str, RouteCounts]) -> dict[str, RouteCounts]:
    """Return the 32 most used routes, and the rest as one."""
    if len(routes) <= MOST_ROUTES:
        return dict(routes)
    names = sorted((name for name in routes if name != OTHER), key=lambda name: (-routes[name].requests, name))
    found = {name: routes[name] for name in names[:MOST_ROUTES]}
    rest = [routes[name] for name in names[MOST_ROUTES:]] + ([routes[OTHER]] if OTHER in routes else [])
    return {**found, OTHER: added(rest)} if rest else found


def added(routes: Iterable[RouteCounts]) -> RouteCounts:
    """Return the counts of several routes as those of one."""
    parts = tuple(routes)
    return RouteCounts(sum(part.requests for part in parts), sum(part.errors for part in parts), merge_latency(parts))


class RouteNames:
    """Chooses which routes have names where answers come one by one: the most used, in bounded space.

    A route that has more than one of 33 answers in the long run is among them, whatever else is asked for. Only an
    answer of the application itself gives a route its name: what it does not know (4xx) is somebody's guess.
    """

    def __init__(self) -> None:
        self._used: dict[str, int] = {}

    def choose(self, route: str, status: int | None) -> str:
        """Return the name to count an answer under; status None or 0: not known."""
        if route == OTHER:
            return OTHER
        used = self._used
        if route in used:
            used[route] += 1
            return route
        if status is not None and 400 <= status < 500:  # noqa: PLR2004 the client's mistakes
            return OTHER
        if len(used) < MOST_ROUTES:
            used[route] = 1
            return route
        self._used = {name: number - 1 for name, number in used.items() if number > 1}
        return OTHER
