"""Routes: the subject of a request, in so few and so plain names that no visitor can inflate the counts.

A template has as many words as tell handlers apart, and none that may be secret or personal: whatever is not a plain
word is an id. `route_names` then folds the words that are many, as those of articles are.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from backout.model.guard.signals import RouteCounts, merge_counts, merge_latency

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from backout.model.guard.signals import Counts

OTHER: Final = "other"
"""The route of everything that has no name of its own."""
MOST_ROUTES: Final = 128
"""The most routes of one row with a name; the rest is added up under `OTHER`."""
LONGEST: Final = 64
ID: Final = "{id}"
"""Stands for a part of a path that is no word."""
MANY: Final = "*"
"""Stands for a query's parameters that are many or odd, and for the rest of a path that is too long."""
METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
MOST_PARAMETERS: Final = 3
_PLAIN = re.compile(r"[A-Za-z0-9_./:{}()*+~ -]+")  # nothing that a terminal, a page or a chat would obey
_PLACEHOLDER: Final = str.maketrans("<>[]", "{}{}")
_TEMPLATE = re.compile(
    r"(?:(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) )?/[A-Za-z0-9_./{}*,-]*"
    r"(?:\?(?:\*|[A-Za-z][A-Za-z_]*(?:&[A-Za-z][A-Za-z_]*)*))?"
)
_TARGET = re.compile(r"(?P<origin>[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*)?(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?")
_LONGEST_TARGET: Final = 2048
_MOST_PARTS: Final = 12
"""The most parts of a path that are looked at: six resources within each other, with their ids."""
_LONGEST_PART: Final = 255
"""The longest part that may be a file: no file system has longer names."""
_LETTERS = re.compile(r"[A-Za-z][A-Za-z_-]{0,23}")
_VERSION = re.compile(r"v[0-9]{1,2}")
_FILE = re.compile(
    r"(?P<stem>.+)\.(?P<kind>html?|php|aspx?|jsp|txt|xml|json|m?js|css|map|ico|png|jpe?g|gif|svg|webp|avif|woff2?|ttf|pdf"
    r"|zip|csv|rss|atom|webmanifest|wasm|mp[34]|webm)"
)
_CALLS = re.compile(r"[A-Za-z][A-Za-z_-]*(?:[.,][A-Za-z][A-Za-z_-]*)+")
"""Procedures as RPC writes them: "orders.create", several by commas."""
_LONGEST_CALLS: Final = 40
_UNPRONOUNCEABLE = re.compile(r"[bcdfghjklmnpqrstvwxz]{6}|[a-f]{8,}", re.IGNORECASE)
_JOINTS = re.compile(r"[_-]+")
_WORDS = re.compile(r"[A-Z]{1,5}|[A-Z]?[a-z]*(?:[A-Z][a-z]{2,}|(?:By|Id|In|Of|On|To)(?![a-z]))*(?:[A-Z]{2,4})?")
"""What stands between joints, written as people do: "getUserById", "FAQ"; a capital within begins a word.

Joints are split off first: a pattern for all of it could divide them among its repetitions in 2^n ways.
"""
_ALONE = re.compile(r"\.well-known|oauth2|2fa")
_OF_PEOPLE = re.compile(r"accounts?|authors?|customers?|members?|people|persons?|profiles?|u|users?", re.IGNORECASE)
_OF_SECRETS = re.compile(
    r"activat(?:e|ion)|confirm(?:ation)?|invit(?:es?|ations?)|keys?|magic(?:-link)?|password-reset|reset(?:-password)?|s"
    r"|secrets?|shared?|tokens?|unsubscribe|verify",
    re.IGNORECASE,
)
_HANDLERS = re.compile(
    r"all|check|complete|count|create|current|delete|edit|email|export|find|import|index|list|log(?:in|out)|me|new|password"
    r"|phone|profile|refresh|register|request|resend|search|self|sessions?|settings|sign(?:in|out|up)|start|status|update"
    r"|verify",
    re.IGNORECASE,
)
_PARAMETER = re.compile(r"[A-Za-z][A-Za-z_]{0,15}")
_TRACKING = re.compile(
    r"utm_.*|[a-z]*clid|mc_[ce]id|_ga|_gl|_hs.*|hsa_.*|igshid|srsltid|[gw]braid|ref(?:_src)?|source|_|t|ts|cb|nocache|rand"
    r"|timestamp",
    re.IGNORECASE,
)


def make_template(method: str, target: str) -> str:
    """Return the template of a request, `OTHER` where it has none.

    Args:
        method: as it was sent; "" where it is not known: the name then has none.
        target: a path, or an absolute URL.

    >>> make_template("post", "/api/orders"), make_template("GET", "https://shop.example/users/4711/cart?page=2&utm_id=7")
    ('POST /api/orders', 'GET /users/{id}/cart?page')
    >>> make_template("", "/assets/app.3f2a91.js"), make_template("BREW", "/pot"), make_template("GET", "pot")
    ('/assets/{id}.js', 'other', 'other')
    """
    verb = method.upper()
    if verb and verb not in METHODS:
        return OTHER
    found = _TARGET.match(target[:_LONGEST_TARGET])
    if found is None or (found["path"] is None and found["origin"] is None):
        return OTHER
    path = _make_path_template(found["path"] or "/")
    if path == OTHER:
        return OTHER
    shape = _describe_query(found["query"]) if found["query"] else ""
    return _shorten_name(f"{verb} {path}" if verb else path, shape)


@lru_cache(4096)
def _make_path_template(path: str) -> str:
    parts = path.split("/")[1:]
    if "" in parts[:-1]:
        return OTHER
    before = ""
    folded = []
    for part in parts[:_MOST_PARTS]:
        word = _fold_part(part, before)
        folded.append(word)
        before = part
    if len(parts) > _MOST_PARTS:
        folded.append(MANY)
    return "/" + "/".join(folded)


def _fold_part(part: str, before: str) -> str:
    """Return a part of a path as written in a name; `before`: the part before it."""
    if len(part) > _LONGEST_PART:
        return ID
    if not part or _ALONE.fullmatch(part) or _VERSION.fullmatch(part):
        return part
    if (_OF_PEOPLE.fullmatch(before) or _OF_SECRETS.fullmatch(before)) and not _HANDLERS.fullmatch(part):
        return ID
    if _is_word(part):
        return part
    file = _FILE.fullmatch(part)
    if file:
        return part if _is_word(file["stem"]) else f"{ID}.{file['kind']}"
    if before.lower().endswith("rpc") and len(part) <= _LONGEST_CALLS and _CALLS.fullmatch(part):
        return part
    return ID


def _is_word(text: str) -> bool:
    """Whether letters are a word that names a handler, and not a token made of letters."""
    if not _LETTERS.fullmatch(text) or _UNPRONOUNCEABLE.search(text):
        return False
    return all(_WORDS.fullmatch(words) for words in _JOINTS.split(text))


@lru_cache(4096)
def _describe_query(query: str) -> str:
    """Return the names of a query's parameters, sorted; `MANY` for more than three, or any that is no plain name."""
    names = {pair.partition("=")[0].removesuffix("[]") for pair in query.split("&") if pair}
    plain = sorted(name for name in names if not _TRACKING.fullmatch(name))
    if not all(_PARAMETER.fullmatch(name) for name in plain) or len(plain) > MOST_PARAMETERS:
        return MANY
    return "&".join(plain)


def _shorten_name(name: str, shape: str) -> str:
    """Return a name that is no longer than it may be: without its query, else with fewer words."""
    whole = f"{name}?{shape}" if shape else name
    if len(whole) <= LONGEST:
        return whole
    if len(name) + 2 <= LONGEST:
        return f"{name}?{MANY}" if shape else name
    kept = name[: LONGEST - 1].rpartition("/")[0]
    return f"{kept}/{MANY}"


@lru_cache(4096)
def _make_plain(name: str) -> str:
    name = re.split(r"[?#]", name, maxsplit=1)[0].translate(_PLACEHOLDER).strip()
    return name if "//" not in name and _PLAIN.fullmatch(name) else OTHER


def parse_route_name(name: str, method: str = "") -> str:
    """Return the route that an application's own name of it (a pattern, a handler) stands for.

    Args:
        method: of the request, "" where it is not known or the name has it.

    >>> [parse_route_name(name) for name in ("/users/<int:id>", "GET /app?x=1", "show", "a`b", "x" * 65)]
    ['/users/{int:id}', 'GET /app', 'show', 'other', 'other']
    >>> parse_route_name("/users/:id", "get"), parse_route_name("GET /users/:id", "GET")
    ('GET /users/:id', 'GET /users/:id')
    """
    verb = method.upper()
    if verb in METHODS and not name.startswith(f"{verb} "):
        name = f"{verb} {name}"
    return _make_plain(name) if len(name) <= LONGEST else OTHER


def parse_template_name(name: str) -> str:
    """Return the template that another process gave this name, else what `parse_route_name` does.

    >>> parse_template_name("GET /search?page&q"), parse_template_name("GET /search?q=secret")
    ('GET /search?page&q', 'GET /search')
    """
    return name if len(name) <= LONGEST and _TEMPLATE.fullmatch(name) and "//" not in name else parse_route_name(name)


def has_method(name: str) -> bool:
    """Whether a route's name has the method of its requests.

    >>> has_method("GET /app"), has_method("/app")
    (True, False)
    """
    return name.partition(" ")[0] in METHODS


def rename_routes(routes: Iterable[tuple[str, RouteCounts]]) -> dict[str, RouteCounts]:
    """Return the counts of what another process calls by these names under ours; equal ones are added up."""
    found: dict[str, RouteCounts] = {}
    for written, counts in routes:
        name = parse_template_name(written)
        found[name] = add_up((found[name], counts)) if name in found else counts
    return found


def select_nameless(row: Counts) -> RouteCounts | None:
    """Return the requests of a row that have no route of their own, `OTHER` included; None where there are none.

    Their latency and sizes are left out, but for those of `OTHER`.
    """
    other = row.routes.get(OTHER)
    requests = row.requests - sum(route.requests for route in row.routes.values())
    if requests <= 0:
        return other
    errors = max(0, row.errors - sum(route.errors for route in row.routes.values()))
    named = merge_counts(route.classes for route in row.routes.values())
    left = {kind: number - named.get(kind, 0) for kind, number in row.classes.items() if number > named.get(kind, 0)}
    rest = RouteCounts(requests, errors, classes=left)
    return add_up((other, rest)) if other is not None else rest


def select_most_used(routes: Mapping[str, RouteCounts]) -> dict[str, RouteCounts]:
    """Return the 128 most used routes, and the rest as one."""
    if len(routes) <= MOST_ROUTES:
        return dict(routes)
    names = sorted((name for name in routes if name != OTHER), key=lambda name: (-routes[name].requests, name))
    found = {name: routes[name] for name in names[:MOST_ROUTES]}
    rest = [routes[name] for name in names[MOST_ROUTES:]] + ([routes[OTHER]] if OTHER in routes else [])
    return {**found, OTHER: add_up(rest)} if rest else found


def add_up(routes: Iterable[RouteCounts]) -> RouteCounts:
    """Return the counts of several routes as those of one."""
    parts = tuple(routes)
    return RouteCounts(
        sum(part.requests for part in parts),
        sum(part.errors for part in parts),
        merge_latency(parts),
        merge_counts(part.classes for part in parts),
        merge_counts(part.sizes for part in parts),
        sum(part.started for part in parts),
    )
