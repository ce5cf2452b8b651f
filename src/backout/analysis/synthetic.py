"""backout's own probes as counts: which of them count, and the share of failures that is granted to them.

They are apart from the visitors' requests: the sources of counts leave them out, and they have a test of their own, so
that a version that hardly anybody asks is judged too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from backout.analysis.baseline import SURE
from backout.analysis.beta import beta_quantile

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backout.model.probes import ProbesBefore, SyntheticAnswer

GRANTED = 0.01
"""So many probes may fail on their way, whatever was seen before: networks lose some."""
MOST_GRANTED = 0.9
"""Of what failed more often than this before, nothing can be said."""


def granted(before: ProbesBefore, errors: float) -> float:
    """Return the share of failing probes that is no evidence, in [GRANTED, MOST_GRANTED].

    The `SURE` quantile of what the share before may be (Jeffreys' prior) where some failed, and never less than the
    share of requests that fails anyway.

    Args:
        errors: the baseline's bound of the share of errors, 0 when nobody counted.
    """
    ended = [(made, failed) for made, failed in before.ended.values() if failed < made]
    made, failed = sum(number for number, _ in ended), sum(number for _, number in ended)
    share = beta_quantile(SURE, failed + 0.5, made - failed + 0.5) if failed else 0.0
    return min(max(GRANTED, errors, share), MOST_GRANTED)


class SyntheticState(TypedDict):
    """Checkpoint of a `Synthetic`."""

    answered: list[str]


class Synthetic:
    """Decides which synthetic requests count: a path counts from its first good answer on, before or in the watch.

    A path that never answered well may have failed before the deployment as well.
    """

    def __init__(self, before: ProbesBefore) -> None:
        self._answered = {what for what in before.ended if before.answered(what)}

    def counted(self, answers: Iterable[SyntheticAnswer]) -> list[SyntheticAnswer]:
        """Return those that count."""
        found = []
        for answer in answers:
            if not answer.failed:
                self._answered.add(answer.path)
            if answer.path in self._answered:
                found.append(answer)
        return found

    def state(self) -> SyntheticState:
        """Return a checkpoint, plain JSON."""
        return {"answered": sorted(self._answered)}

    def restore(self, state: SyntheticState) -> None:
        """Go on from a checkpoint."""
        self._answered = set(state["answered"])
