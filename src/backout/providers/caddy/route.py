"""The route that an application has in Caddy, written once, and the slots that say which release takes a request; pure.

Caddy takes the address for each request out of a file: of so many slots the next one, in turn. All slots lie in one
folder, and a link leads to the folder that is live. To put another one in its place is one rename, Caddy's
configuration stays the same, and no connection is closed. (A change of the configuration closes the listeners: 300
changes under load lost 16 to 48 of 1,200 requests, with a socket that Caddy inherits as well.)

Source: Caddy documentation (2.11), "JSON config": `reverse_proxy` with placeholders in `dial`, the placeholder
`{file.*}`, `header_regexp`, `log_append`. Tried on Caddy 2.11.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import PurePath

SLOTS: Final = 200
LIVE, SHOWN, SOCKET, ADMIN_SOCKET = "live", "deployment", ".show.sock", ".admin.sock"
"""In the folder of releases: the link to the live slots; beside these the deployment's id; the socket that shows it.

And the socket of Caddy's admin API, where backout writes the whole configuration; backout itself never uses it.
"""
MAINTENANCE_SOCKET: Final = ".503.sock"
"""There as well: where Caddy itself answers as a maintenance page does."""
RETRY_AFTER_S: Final = 60
_PAGE: Final = "Maintenance: this service is being restored. Please try again in a few minutes.\n"
ADDRESS_HEADER: Final = "X-Backout-Address"
_ACCESS: Final = "backout"
LOGGED_ADDRESS, LOGGED_PROBE = "backout_upstream", "backout_probe"
"""The fields that a line of the access log gets: where the request went, and whether an address was asked for."""


def make_route(name: str, releases: PurePath, ports: tuple[int, int]) -> dict[str, object]:
    """Return the application's route, for the `routes` of its site in Caddy.

    Args:
        name: its `@id`.
        releases: the folder of releases, an absolute path.
        ports: the first and the last port of releases: a request may name one of these addresses, and no other.
    """
    first, last = ports
    numbers = "|".join(str(port) for port in range(first, last + 1))
    match = {"header_regexp": {ADDRESS_HEADER: {"name": "backout", "pattern": rf"^127\.0\.0\.1:({numbers})$"}}}
    by_address = [
        {"handler": "log_append", "key": LOGGED_PROBE, "value": "1"},
        _pass_on(["127.0.0.1:{http.regexp.backout.1}"]),
    ]
    in_turn = _pass_on([f"{{file.{releases / LIVE / name_slot(slot)}}}" for slot in range(SLOTS)])
    in_turn["load_balancing"] = {"selection_policy": {"policy": "round_robin"}}
    routes = [{"match": [match], "terminal": True, "handle": by_address}, {"handle": [in_turn]}]
    logged = {"handler": "log_append", "key": LOGGED_ADDRESS, "value": "{http.reverse_proxy.upstream.hostport}"}
    return {"@id": name, "handle": [logged, {"handler": "subroute", "routes": routes}]}


def make_show_server(releases: PurePath) -> dict[str, object]:
    """Return the server that says which deployment Caddy passes requests on to, for the `servers` beside the site.

    Args:
        releases: the folder of releases, an absolute path.
    """
    shown = {"handler": "static_response", "body": f"{{file.{releases / LIVE / SHOWN}}}"}
    return {"listen": [f"unix/{releases / SOCKET}|0600"], "routes": [{"handle": [shown]}]}


def make_maintenance_server(releases: PurePath) -> dict[str, object]:
    """Return the server that answers 503 while a maintenance page is live, for the `servers` beside the site.

    Args:
        releases: the folder of releases, an absolute path.
    """
    headers = {
        "Content-Type": ["text/plain; charset=utf-8"],
        "Retry-After": [str(RETRY_AFTER_S)],
        "Cache-Control": ["no-store"],
    }
    unavailable = {"handler": "static_response", "status_code": "503", "headers": headers, "body": _PAGE}
    return {"listen": [f"unix/{releases / MAINTENANCE_SOCKET}|0600"], "routes": [{"handle": [unavailable]}]}


def make_config(
    site: str, route: dict[str, object], beside: Mapping[str, dict[str, object]], access_log: PurePath
) -> dict[str, object]:
    """Return a whole configuration of Caddy: one site with the route and its access log, and the servers beside it.

    Args:
        site: "HOST:PORT" or ":PORT" to listen there; a name alone is served by HTTPS, with certificates by Caddy.
        route: as `make_route` returns it.
        beside: {name: server}, as `make_show_server` and `make_maintenance_server` return them.
        access_log: an absolute path.
    """
    is_address = ":" in site
    served = {"listen": [site if is_address else ":443"], "logs": {"default_logger_name": _ACCESS}}
    own = {} if is_address else {"match": [{"host": [site]}], "terminal": True}
    include = f"http.log.access.{_ACCESS}"
    access = {
        "writer": {"output": "file", "filename": str(access_log)},
        "encoder": {"format": "json"},
        "include": [include],
    }
    servers = {"site": {**served, "routes": [{**own, **route}]}, **beside}
    return {
        "logging": {"logs": {"default": {"exclude": [include]}, "access": access}},
        "apps": {"http": {"servers": servers}},
    }


def _pass_on(addresses: Sequence[str]) -> dict[str, object]:
    return {"handler": "reverse_proxy", "upstreams": [{"dial": address} for address in addresses]}


def name_slot(slot: int) -> str:
    """Return the name of a slot's file.

    >>> name_slot(7)
    '007'
    """
    return f"{slot:03d}"


def share_slots(shares: Mapping[str, float]) -> list[str]:
    """Return whose each slot is, spread evenly; whoever has a share at all gets one slot at least.

    Args:
        shares: percentages, more than 0 and 100 in all.

    >>> [share_slots({"a": 90.0, "b": 10.0})[:20].count(each) for each in "ab"]
    [18, 2]
    >>> share_slots({"a": 99.9, "b": 0.1}).count("b")
    1
    """
    counts = {each: max(1, round(SLOTS * share / 100)) for each, share in shares.items()}
    largest = max(counts, key=lambda each: counts[each])
    counts[largest] += SLOTS - sum(counts.values())
    dealt: dict[str, int] = dict.fromkeys(counts, 0)
    slots = []
    for turn in range(1, SLOTS + 1):
        next_one = max(counts, key=lambda each: counts[each] * turn / SLOTS - dealt[each])
        dealt[next_one] += 1
        slots.append(next_one)
    return slots


def measure_shares(slots: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """Return the percentage of each address, largest first.

    >>> measure_shares(["a", "a", "b", "a"])
    (('a', 75.0), ('b', 25.0))
    """
    shares = [(each, 100 * slots.count(each) / len(slots)) for each in dict.fromkeys(slots)]
    return tuple(sorted(shares, key=lambda share: -share[1]))
