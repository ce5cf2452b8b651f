"""Nearly empty bodies of answers with 200 to GET, by content type where the source provides it.

Every release of a front end changes lengths, so only a collapse counts: more than half of them shorter than a tenth of
the shortest hundredth before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from backout.analysis.statistics.baseline import FEW_LATENCIES
from backout.analysis.statistics.quantiles import find_quantile_bucket
from backout.model.guard.bodies import FAMILY, BodyKind

if TYPE_CHECKING:
    from collections.abc import Mapping

_TINY_BUCKETS = 5
"""The powers of two that make less than a tenth, whatever the lengths within their buckets."""
_FEW, _HALF = 20, 0.5

BodiesState = dict[str, tuple[int, int]]


class Shrunk(NamedTuple):
    """The number of nearly empty bodies of a kind, out of all; `UNKNOWN`: of all kinds together."""

    kind: BodyKind
    tiny: int
    sized: int


def find_smallest(sizes: Mapping[int, int]) -> dict[int, int]:
    """Return {kind: bucket of the p1 of the lengths} of the kinds of which enough were measured, 0 for all together.

    Args:
        sizes: {key: bodies}, see `model.guard.bodies`.
    """
    by_kind: dict[int, dict[int, int]] = {0: {}}
    for key, number in sizes.items():
        kind, bucket = divmod(key, FAMILY)
        for each in {0, kind}:
            known = by_kind.setdefault(each, {})
            known[bucket] = known.get(bucket, 0) + number
    found = {}
    for kind, buckets in by_kind.items():
        lowest = find_quantile_bucket(buckets, 0.01) if sum(buckets.values()) >= FEW_LATENCIES else None
        if lowest is not None:
            found[kind] = lowest
    return found


class Bodies:
    """The bodies of one stratum since the deployment.

    Args:
        usual: see `find_smallest`.
    """

    def __init__(self, usual: Mapping[int, int]) -> None:
        self._usual = usual
        self._counted: dict[int, tuple[int, int]] = {}
        self._unlike = 0  # bodies of a kind of which nothing is known from before

    def add(self, sizes: Mapping[int, int]) -> None:
        """Count bodies of the new version."""
        if not self._usual:
            return
        for key, number in sizes.items():
            kind, bucket = divmod(key, FAMILY)
            known = kind != 0 and kind in self._usual
            self._unlike += 0 if known else number
            for each in {0, kind} if known else {0}:
                tiny, sized = self._counted.get(each, (0, 0))
                is_tiny = bucket <= self._usual.get(each, -1) - _TINY_BUCKETS
                self._counted[each] = tiny + number * is_tiny, sized + number

    @property
    def shrunk(self) -> Shrunk | None:
        """The kind with most bodies nearly empty, None where there is none.

        All together are compared only where of most of them nothing is known: else a page that is asked for less often
        than the data that it loads would look like shorter ones.
        """
        _, every = self._counted.get(0, (0, 0))
        for kind, (tiny, sized) in sorted(self._counted.items()):
            compared = kind != 0 or self._unlike > _HALF * every
            if compared and sized >= _FEW and tiny > _HALF * sized:
                return Shrunk(BodyKind(kind), tiny, sized)
        return None

    def state(self) -> BodiesState:
        """Return a checkpoint, plain JSON."""
        return {"unlike": (self._unlike, 0), **{str(kind): counted for kind, counted in self._counted.items()}}

    def restore(self, state: BodiesState) -> None:
        """Go on from a checkpoint."""
        self._unlike = state.get("unlike", (0, 0))[0]
        self._counted = {int(kind): (each[0], each[1]) for kind, each in state.items() if kind != "unlike"}
