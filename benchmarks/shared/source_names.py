"""The parts of backout that the simulated watches use, found in the source of this commit or of an earlier one.

`detect_against` runs today's simulation with the source of an earlier commit, whose modules have other names.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def find_name(name: str, *modules: str) -> Any:
    """Return the value of a name from the first of the modules that exists, the newest first.

    Raises:
        ModuleNotFoundError: none of them does.
    """
    for module in modules[:-1]:
        try:
            return getattr(import_module(module), name)
        except ModuleNotFoundError:
            continue
    return getattr(import_module(modules[-1]), name)


_SIGNALS = ("backout.model.guard.signals", "backout.model.signals")
BUCKETS: int = find_name("BUCKETS", *_SIGNALS)
BUCKET_RATIO: float = find_name("BUCKET_RATIO", *_SIGNALS)


def find_slow_start_s() -> float:
    """Return how long the default policy forgives a slow start, in seconds; earlier ones forgive none."""
    policy = find_name("GuardPolicy", "backout.model.guard.policy", "backout.model.policy")()
    return float(getattr(policy, "slow_start_s", 0.0))
