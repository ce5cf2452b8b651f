"""How much a run of the tests tries: in `make test` a little of every kind, in `make proof` the full counts."""

from __future__ import annotations

import datetime as dt
import os
import random
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

PROOF = os.environ.get("BACKOUT_PROOF") == "full"
"""Counted claims run with their full counts."""

EVERY = PROOF or os.environ.get("BACKOUT_TESTS") == "every"
"""What rotates by day is run whole."""

ALL = EVERY or os.environ.get("BACKOUT_TESTS") == "all"
"""Nothing may be skipped; of what rotates this day's tests run; seeded counts are larger than in `make test`."""


FILES = pytest.StashKey[dict[Path, Counter[bool]]]()
"""How many tests of each file are marked `long`, and how many are not."""


def by_extent(short: int, everything: int, proof: int | None = None) -> int:
    """Return how often to try: in `make test`, in `make test-all`, in `make proof` (None: as in the second)."""
    if PROOF and proof is not None:
        return proof
    return everything if ALL else short


def sampled(total: int, every: int, everything: int = 1) -> range:
    """Return which of `total` points are tried: every n-th, from another one on each time; in `make proof` all.

    Args:
        every: in `make test`.
        everything: in `make test-all`.
    """
    step = by_extent(every, everything, proof=1)
    return range(random.randrange(min(step, total)), total, step)  # noqa: S311 a sample, no secret


DAY = int(os.environ.setdefault("TESTS_DAY", str(dt.datetime.now(dt.UTC).toordinal())))
"""The day of this run, the same for all of its workers, also at midnight."""


def rotated(cases: Sequence[T], count: int) -> list[T]:
    """Return so many of the cases of one kind, on each day the next ones; all of them where `EVERY`."""
    if EVERY:
        return list(cases)
    first = DAY * count % len(cases)
    return [*cases, *cases][first : first + count]


def is_due(place: int, days: int, day: int = DAY) -> bool:
    """Return whether a test that is marked `rotating` runs on a day: each does on one of so many days in a row.

    Args:
        place: how many of its family come before it.
    """
    return place % days == day % days


def drawn(name: str) -> random.Random:
    """Return where a sample is drawn from: in `make proof` always the same, else another one on each run.

    That one is repeated with the `--randomly-seed` of its header.
    """
    return random.Random(name if PROOF else f"{name} {random.random()}")  # noqa: S311 a sample, no secret


def long(*values: object) -> Any:
    """Return a case of a parametrised test that is left to `make test-all`."""
    return pytest.param(*values, marks=pytest.mark.long)


def examples(count: int, *, proof: int | None = None) -> settings:
    """Return Hypothesis's settings for so many examples where `EVERY`; for a third of them in `make test`.

    Two thirds are tried in `make test-all`: each run has others.
    """
    return settings(max_examples=by_extent(-(-count // 3), count if EVERY else -(-count * 2 // 3), proof))


settings.register_profile(
    "suite",
    max_examples=examples(100).max_examples,
    deadline=None,
    # How quick the machine is says nothing about the code; the fixtures in question are made once for all examples.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("suite")
