"""The one object of Caddy's configuration that says which releases are live: made from shares, and read back; pure.

It holds a route for each release that runs, taken by requests that name it in a header, and behind them one that shares
all other requests out by weight. So the split and the way to a release at 0 % are one object, and replacing it is one
step.

Source: Caddy documentation (2.11), "JSON config": `reverse_proxy` with `weighted_round_robin`, `vars`, `log_append`,
and `map`, whose value is looked up when the log line is written. Tried on Caddy 2.11.7.
"""

from __future__ import annotations

from fractions import Fraction
from math import gcd
from typing import TYPE_CHECKING, Final

import msgspec

from backout.decoding import decode_json
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VERSION_HEADER: Final = "X-Backout-Version"
LOGGED_VERSION: Final = "version"
LOGGED_PROBE: Final = "backout_probe"
"""The fields that a line of the access log gets: which release answered, and whether it was asked for by name."""
_LOOKED_UP: Final = "{backout.release}"
_FINEST: Final = 1000


class Live(Value, frozen=True):
    """What a route says.

    Args:
        deployment: the id of the deployment that it was made for, "" where backout did not make it.
        shares: the percentage of each address, largest first; () where it passes nothing on.
        named: the address of each release that is reached by its name.
    """

    deployment: str = ""
    shares: tuple[tuple[str, float], ...] = ()
    named: Mapping[str, str] = {}


def make_route(name: str, deployment: str, shares: Sequence[tuple[str, float]], named: Mapping[str, str]) -> object:
    """Return the route.

    Args:
        name: its `@id`.
        shares: the percentage of each address; those at 0 are left out.
        named: the address of each release that is to be reached by its name.
    """
    taken = [(address, percentage) for address, percentage in shares if percentage > 0]
    by_name = [
        {
            "match": [{"header": {VERSION_HEADER: [release]}}],
            "terminal": True,
            "handle": [{"handler": "log_append", "key": LOGGED_PROBE, "value": release}, _pass_on({address: 1})],
        }
        for release, address in sorted(named.items())
    ]
    logged = [{"input": _format_logged(address), "outputs": [release]} for release, address in sorted(named.items())]
    weights = weigh([percentage for _, percentage in taken])
    others = _pass_on(dict(zip((address for address, _ in taken), weights, strict=True)))
    return {
        "@id": name,
        "handle": [
            {"handler": "vars", "backout_deployment": deployment},
            {
                "handler": "map",
                "source": "{http.reverse_proxy.upstream.address}",
                "destinations": [_LOOKED_UP],
                "mappings": logged,
                "defaults": [""],
            },
            {"handler": "log_append", "key": LOGGED_VERSION, "value": _LOOKED_UP},
            {"handler": "subroute", "routes": [*by_name, {"handle": [others]}]},
        ],
    }


def _format_logged(address: str) -> str:
    return address if "/" in address else f"tcp/{address}"


def _pass_on(weights: Mapping[str, int]) -> dict[str, object]:
    handler: dict[str, object] = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": address} for address in weights],
        "stream_close_delay": "5m",  # websockets outlive the switch: Caddy would close them with the old route
    }
    if len(weights) > 1:
        policy = {"policy": "weighted_round_robin", "weights": list(weights.values())}
        handler["load_balancing"] = {"selection_policy": policy}
    return handler


def weigh(percentages: Sequence[float]) -> list[int]:
    """Return whole weights in the same proportion, as small as they can be: Caddy deals each one's turns in a row.

    >>> weigh([90.0, 10.0]), weigh([99.5, 0.5]), weigh([100.0]), weigh([33.3, 66.7])
    ([9, 1], [199, 1], [1], [333, 667])
    """
    exact = [Fraction(percentage).limit_denominator(_FINEST) for percentage in percentages]
    whole = [max(1, round(each * _FINEST)) for each in exact]
    divisor = gcd(*whole) if whole else 1
    return [each // divisor for each in whole]


class _Policy(msgspec.Struct):
    weights: tuple[float, ...] = ()


class _Balancing(msgspec.Struct):
    selection_policy: _Policy | None = None


class _Dial(msgspec.Struct):
    dial: str = ""


class _Match(msgspec.Struct):
    header: dict[str, tuple[str, ...]] = {}


class _Handler(msgspec.Struct):
    handler: str = ""
    backout_deployment: str = ""
    upstreams: tuple[_Dial, ...] = ()
    load_balancing: _Balancing | None = None
    routes: tuple[_Route, ...] = ()


class _Route(msgspec.Struct):
    handle: tuple[_Handler, ...] = ()
    match: tuple[_Match, ...] = ()


def read_route(raw: msgspec.Raw, name: str) -> Live:
    """Return what a route says, whoever wrote it. Raises Undecodable: it is no route.

    Args:
        name: its `@id`.
    """
    route = decode_json(raw, _Route, what="the route", where=name)
    deployment = next((each.backout_deployment for each in route.handle if each.backout_deployment), "")
    named: dict[str, str] = {}
    shares: tuple[tuple[str, float], ...] = ()
    for handlers, release in _walk(route):
        proxy = next((each for each in handlers if each.handler == "reverse_proxy"), None)
        if proxy is not None and release:
            named[release] = proxy.upstreams[0].dial if proxy.upstreams else ""
        elif proxy is not None and not shares:
            shares = _read_shares(proxy)
    return Live(deployment, shares, named)


def _walk(route: _Route) -> list[tuple[tuple[_Handler, ...], str]]:
    """Return the handlers of a route and of those inside it, each with the release whose name leads there."""
    releases = [release for match in route.match for release in match.header.get(VERSION_HEADER, ())]
    found = [(route.handle, releases[0] if releases else "")]
    inner = [each for handler in route.handle for each in handler.routes]
    return found + [line for each in inner for line in _walk(each)]


def _read_shares(proxy: _Handler) -> tuple[tuple[str, float], ...]:
    policy = proxy.load_balancing.selection_policy if proxy.load_balancing else None
    addresses = [each.dial for each in proxy.upstreams]
    weights = list(policy.weights) if policy and len(policy.weights) == len(addresses) else [1.0] * len(addresses)
    total = sum(weights) or 1.0
    shares = [(address, round(100 * weight / total, 4)) for address, weight in zip(addresses, weights, strict=True)]
    return tuple(sorted(shares, key=lambda each: -each[1]))
