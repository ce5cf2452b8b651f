"""The production simulation: production's own rules, from its configuration, hold on the twin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.decoding import decode_toml

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.config import Config

_SERVICES: Final = ("database", "storage", "email")
"""What the sample application reports of."""
_RULES: Final = {
    "criteria": ("error_rate", "latency"),
    "guard": (
        *("alpha", "false_alarms_per_year", "probe_every", "down_probes", "min_bad", "confirm", "warm_up"),
        *("slow_start", "warm_up_errors", "on_inconclusive", "on_unmeasured", "on_shared_outage", "on_secret_change"),
        *("accept_unproven", "prove", "holdback"),
    ),
}
"""What holds for any application. Places, routes and what is expected of them are those of one; how long the past and
the verification are is the drill's, since there is no hour on the twin."""
_CLOCK: Final = "for"
_PRODUCTION: Final = "production"

Table = dict[str, object]


def read_rules(config: Config | None) -> dict[str, Table]:
    """Return production's tables `services`, `criteria` and `guard`, as far as they hold on the twin.

    Args:
        config: None: there is no project, and everything is as by default.
    """
    if config is None:
        return {}
    found = _get_table(_get_table(decode_toml(config.text), "environments"), config.chosen or _PRODUCTION)
    services = {name: how for name, how in _get_table(found, "services").items() if name in _SERVICES}
    rules = {
        table: {name: value for name, value in _get_table(found, table).items() if name in names}
        for table, names in _RULES.items()
    }
    return {**({"services": services} if services else {}), **rules}


def merge_rules(base: Mapping[str, object], rules: Mapping[str, Table]) -> dict[str, object]:
    """Return the tables of an environment with these rules in them; times of the verification stay as they are."""
    merged = dict(base)
    for name, table in rules.items():
        own = _get_table(base, name)
        parts = {
            key: {**_get_table(own, key), **{k: v for k, v in value.items() if k != _CLOCK}}
            if isinstance(value, dict)
            else value
            for key, value in table.items()
        }
        merged[name] = {**own, **parts}
    return merged


def _get_table(of: Mapping[str, object], name: str) -> Table:
    found = of.get(name)
    return found if isinstance(found, dict) else {}
