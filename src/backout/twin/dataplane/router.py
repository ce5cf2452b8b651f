"""Chooses the version for a request: by override, cohort, sticky key and split; pure."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from msgspec import field

from backout.model.guard.chosen import COHORT_HEADER, KEY_HEADER, OVERRIDES_HEADER
from backout.model.value import Value

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

Shares = tuple[tuple[str, float], ...]
"""(version id, percentage) in the order in which the versions were created."""
_LOCAL_SUFFIXES = (".localhost",)
_ENTRY = re.compile(r'\s*([^\s=,"]+)\s*=\s*"([^"]*)"\s*(?:,|$)')
_HASH_RANGE = 1 << 64


class Split(Value, frozen=True):
    """The live deployment of one script: (version id, percentage) in the order in which the versions were created.

    The order matters to sticky keys: when the newer version's share grows, keys already on it stay on it.

    Args:
        cohorts: {lower-case name: shares} for requests that name a cohort.
    """

    script: str
    shares: Shares
    cohorts: Mapping[str, Shares] = field(default_factory=dict)

    def of(self, cohort: str) -> Split:
        """Return the split for requests of a cohort; this one where there is none of that name."""
        shares = self.cohorts.get(cohort.lower())
        return self if shares is None else Split(self.script, shares)

    def at(self, point: float) -> str:
        """Return the version at `point` in [0, 1) of the split."""
        passed = 0.0
        for version, percentage in self.shares:
            passed += percentage
            if point * 100.0 < passed:
                return version
        return max(self.shares, key=lambda share: share[1])[0]


def choose(split: Split, headers: Mapping[str, str], random_source: random.Random) -> str:
    """Return the id of the version that answers.

    An override names a version of the deployment, 0 % included, and wins; one that is not in it is ignored.
    A cohort has a split of its own. A key always gives the same version of the same split. Everything else is drawn
    per request.
    Source: Cloudflare documentation, "Gradual deployments", version affinity and version overrides; "Cohort-based
    deployments" (read 2026-12-01).
    """
    overrides = headers.get(OVERRIDES_HEADER)
    if overrides:
        wanted = parse_overrides(overrides).get(split.script)
        if any(wanted == version for version, _ in split.shares):
            return wanted or ""
    key = headers.get(KEY_HEADER)
    return split.of(headers.get(COHORT_HEADER, "")).at(hash_key(key) if key else random_source.random())


def parse_overrides(header: str) -> dict[str, str]:
    """Return {script: version id} of a structured dictionary; a malformed one is empty, as the edge ignores it.

    >>> parse_overrides('shop="11111111-0000-4000-8000-000000000000", mail="x"')
    {'shop': '11111111-0000-4000-8000-000000000000', 'mail': 'x'}
    >>> parse_overrides("shop=oops")
    {}
    """
    entries: dict[str, str] = {}
    position = 0
    while position < len(header):
        found = _ENTRY.match(header, position)
        if found is None:
            return {}
        entries[found[1]] = found[2]
        position = found.end()
    return entries


def find_script(host: str, domains: Mapping[str, str]) -> str | None:
    """Return the script that a Host header names: `<script>.localhost[:port]` or a custom domain.

    >>> find_script("shop.localhost:8787", {}), find_script("a.example.com", {"a.example.com": "shop"})
    ('shop', 'shop')
    """
    name = host.rsplit(":", 1)[0] if host.rsplit(":", 1)[-1].isdigit() else host
    name = name.lower().rstrip(".")
    if name in domains:
        return domains[name]
    for suffix in _LOCAL_SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix) or None
    return None


def hash_key(key: str) -> float:
    """Return the point in [0, 1) that a key always has in a split."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") / _HASH_RANGE
