"""What a flight recorder costs a month, by Cloudflare's prices of 2026-12-01 (docs/recorder.md); pure."""

from __future__ import annotations

import math
from typing import Final, Literal

from backout.model.value import Value

Sink = Literal["object", "r2"]

RATES: Final = (10, 100, 1000)
"""Requests a second that the bill is printed for."""
PLAN_USD: Final = 5.0
MONTH_S: Final = 30 * 86_400
FLUSH_S, QUIET_S, HURRY_S = 2, 60, 1200
DEPLOYMENTS: Final = 60
"""Assumed in a month: each makes every isolate store often for `HURRY_S`."""
STARTS: Final = 30
"""Assumed of each isolate in a month: a new one knows no version, and only the object can tell it that none is new."""
CPU_MS: Final = 0.2
"""Of one event, as measured by benchmarks/recorder.py."""
OBJECT_S, OBJECT_GB = 0.01, 0.128  # assumed for one store: how long the object is awake, with the memory that is billed
ROWS: Final = 3
"""That one store writes in the object: to its part, to its isolate, and when they are removed."""


class Bill(Value, frozen=True):
    """US dollars a month: the plan, the recorder's CPU time beyond what the plan includes, and so its stores."""

    plan: float
    cpu: float
    stores: float

    @property
    def total(self) -> float:
        """The sum."""
        return self.plan + self.cpu + self.stores


def estimate_isolates(requests_per_s: float) -> int:
    """Return about how many isolates see so many requests. A guess: nobody publishes it.

    >>> [estimate_isolates(rate) for rate in RATES]
    [20, 64, 200]
    """
    return math.ceil(2 * math.sqrt(10 * requests_per_s))


def count_stores(sink: Sink, requests_per_s: float) -> float:
    """Return how often all isolates store in a month; none stores more often than it sees a request."""
    isolates = estimate_isolates(requests_per_s)
    own_per_s = requests_per_s / isolates
    busy_s = min(HURRY_S * (DEPLOYMENTS + (STARTS if sink == "r2" else 0)), MONTH_S)
    often, rarely = min(1 / FLUSH_S, own_per_s), min(1 / QUIET_S, own_per_s)
    return isolates * (busy_s * often + (MONTH_S - busy_s) * rarely)


def make_bill(sink: Sink, requests_per_s: float) -> Bill:
    """Return the bill of a recorder that counts so many requests a second all month.

    What the plan includes is taken off, as if nothing else on the account used it.
    """
    cpu_ms = requests_per_s * MONTH_S * CPU_MS
    stores = count_stores(sink, requests_per_s)
    if sink == "r2":
        usd = _compute_charge(stores, 1e6, 4.5)
    else:
        awake_gb_s = stores * OBJECT_S * OBJECT_GB
        usd = (
            _compute_charge(stores, 1e6, 0.15)
            + _compute_charge(awake_gb_s, 4e5, 12.5)
            + _compute_charge(stores * ROWS, 5e7, 1.0)
        )
    return Bill(PLAN_USD, max(0.0, cpu_ms - 3e7) / 1e6 * 0.02, usd)


def _compute_charge(used: float, included: float, usd_per_million: float) -> float:
    """Return what is charged: whole millions beyond what is included."""
    return math.ceil(max(0.0, used - included) / 1e6) * usd_per_million
