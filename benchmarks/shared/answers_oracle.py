"""The oracle for shifts in answers: it knows the routes, the class, and both shares.

In a cut-over it multiplies the likelihood ratios of the new version's answers. In a split only the labels of answers
are random, whatever is requested, so it may use only them, like every test that must resist attacks; it knows their
odds. For an extinction it is granted the twenty requests that the decision table requires.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from shared.answers_scenarios import NAMES, Kind
from shared.answers_traffic import CLASSES, usual
from shared.detect_oracle import ALPHA, FLOOR

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from shared.answers_scenarios import Scenario
    from shared.answers_traffic import Side, Watch

    Floats = NDArray[np.float64]

_TINY = 1e-12
_GRANTED = 20


def oracle(scenario: Scenario, watch: Watch) -> float:
    """Return after how many seconds a bad deployment is found, infinity for never."""
    bad = scenario.bad
    if bad is None:
        raise ValueError("an oracle for a healthy deployment knows that it is healthy")
    gain = np.zeros(scenario.watch_s)
    kind = CLASSES.index(bad.to)
    for place, name in enumerate(NAMES):
        share = bad.moves(name)
        if not share:
            continue
        p0 = max(usual(name, bad.to), FLOOR)
        p1 = min(p0 + share * (1 - p0), 1 - _TINY)
        if watch.old is None:
            hits, others = _counted(watch.new, place, kind)
            gain += hits * math.log(p1 / p0) + others * math.log((1 - p1) / (1 - p0))
            continue
        for side, own, hit_share in ((watch.new, p1, scenario.split), (watch.old, p0, scenario.split)):
            hits, others = _counted(side, place, kind)
            both = hit_share * p1 + (1 - hit_share) * p0
            gain += hits * math.log(own / both) + others * math.log((1 - own) / (1 - both))
    reached = np.cumsum(gain) >= math.log(1 / ALPHA)
    if scenario.kind is Kind.EXTINCTION:
        reached &= np.cumsum(watch.new.requests.sum(axis=1)) >= _GRANTED
    return float(reached.argmax() + 1) if reached.any() else math.inf


def _counted(side: Side, place: int, kind: int) -> tuple[Floats, Floats]:
    """Return answers of the class, and good ones, by second."""
    hits = side.classes[:, place, kind]
    good = side.requests[:, place] - side.errors[:, place] - side.classes[:, place].sum(axis=1)
    return hits.astype(float), good.astype(float)
