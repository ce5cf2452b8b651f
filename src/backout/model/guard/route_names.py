"""Choice of the routes that are counted by name in a stream of answers: the busiest and the vital, in bounded space.

Source of `RouteNames`: Misra and Gries, "Finding repeated elements", Science of Computer Programming 2 (1982).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.model.guard.routes import ID, MANY, MOST_ROUTES, OTHER

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_NAMES: Final = 2 * MOST_ROUTES
"""The number of routes with names at a time: every route with more than one of 257 answers is among them."""
MOST_WORDS: Final = 16
"""The number of words distinguished at one place of a path; further ones are ids, until they are used a lot."""
_MOST_SHAPES: Final = 8
_MOST_PLACES: Final = 512
_MOST_KNOWN: Final = 4096
_MOST_RARE: Final = 1024
_FEWEST: Final = 4
_ONE_OF: Final = 400
_READS: Final = frozenset(("", "GET ", "HEAD ", "OPTIONS "))


class RouteNames:
    """Chooses the route name under which an answer is counted.

    A route that has more than one of 257 answers in the long run has a name, whatever else is asked for. Only an answer
    of the application itself gives a route its name: what it does not know (4xx) is a visitor's guess. Where many words
    stand at one place of a path (articles, users), they are one route, apart from those that have a four-hundredth of
    all answers each. What is only read does not crowd out what is sent: a crawler sends nothing.
    """

    def __init__(self) -> None:
        self._used: dict[str, int] = {}
        self._rare: dict[str, int] = {}  # folded ones that may yet get a name, counted as `_used` are
        self._words: dict[str, set[str]] = {}  # by place: the path above it
        self._known: set[str] = set()  # folded ones that the application answered
        self._answers = 0

    def choose(self, route: str, status: int | None, number: int = 1) -> str:
        """Return the name to count a number of answers under; status None or 0: unknown."""
        self._answers += number
        used = self._used
        if route in used:
            used[route] += number
            return route
        if route == OTHER:
            return OTHER
        if status is not None and 400 <= status < 500:
            return self._count(self._fold(route), number) if route in self._known else OTHER
        name = self._fold(route, learn=True)
        if name != route and self._is_used_a_lot(route, number):
            self._learn(route)
            name = route
        elif name != route and len(self._known) < _MOST_KNOWN:
            self._known.add(route)
        if name not in used and len(used) < MOST_NAMES:
            used[name] = 0
        if name not in used:
            self._used = _drop_smallest(used)
        return self._count(name, number)

    def learn(self, names: Iterable[str]) -> None:
        """Take names that are known from elsewhere, the most used first: who begins now may see nothing but 404s."""
        for name in names:
            if name != OTHER and len(self._used) < MOST_NAMES:
                self._used.setdefault(name, 1)
                self._learn(name)

    def find(self, route: str) -> str:
        """Return the name that the route has so far, `OTHER` where it has none; nothing is counted."""
        if route in self._used:
            return route
        name = self._fold(route) if route in self._known else OTHER
        return name if name in self._used else OTHER

    def _count(self, name: str, number: int) -> str:
        if name not in self._used:
            return OTHER
        self._used[name] += number
        return name

    def _is_used_a_lot(self, route: str, number: int) -> bool:
        rare = self._rare
        if route not in rare and len(rare) >= _MOST_RARE:
            self._rare = _drop_smallest(rare)
            return False
        rare[route] = rare.get(route, 0) + number
        return rare[route] >= max(_FEWEST, self._answers / _ONE_OF)

    def _fold(self, route: str, *, learn: bool = False) -> str:
        """Return the route with `ID` for each word that is one of many at its place."""
        verb, path, shape = _split_route(route)
        if not path.startswith("/"):
            return route
        place, words = _find_root(verb), []
        for written in path[1:].split("/"):
            word = written if self._is_told_apart(place, written, MOST_WORDS, learn=learn) else ID
            words.append(word)
            place = f"{place}/{word}"
        if shape and not self._is_told_apart(f"{place}?", shape, _MOST_SHAPES, learn=learn):
            shape = MANY
        return f"{verb}/{'/'.join(words)}{'?' if shape else ''}{shape}"

    def _is_told_apart(self, place: str, word: str, most: int, *, learn: bool) -> bool:
        if word in ("", MANY) or word.startswith(ID):
            return True
        known = self._words.get(place)
        if known is None:
            if not learn or len(self._words) >= _MOST_PLACES:
                return False
            known = self._words[place] = set()
        if word not in known and learn and len(known) < most:
            known.add(word)
        return word in known

    def _learn(self, route: str) -> None:
        """Tell the words of a route apart from now on: it is used a lot."""
        verb, path, _ = _split_route(route)
        place = _find_root(verb)
        for word in path[1:].split("/"):
            if word and not word.startswith(ID) and len(self._words.get(place, ())) < MOST_NAMES:
                self._words.setdefault(place, set()).add(word)
            place = f"{place}/{word}"


def _split_route(route: str) -> tuple[str, str, str]:
    """Return (method with the space after it, path, shape of the query); the first and the last may be empty."""
    written, _, shape = route.partition("?")
    verb, space, path = written.rpartition(" ")
    return verb + space, path, shape


def _find_root(verb: str) -> str:
    """Return the place above all paths, one for what is read and one for what is sent."""
    return "" if verb in _READS else "!"


def _drop_smallest(counts: dict[str, int]) -> dict[str, int]:
    return {name: number - 1 for name, number in counts.items() if number > 1}
