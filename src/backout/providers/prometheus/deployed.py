"""The versions that served at a time, by the platform's list: a query has to be told whose requests it counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from backout.model.deployment import Deployment
    from backout.ports import Clock

LISTED_AT_MOST_S: Final = 5.0
"""How old a list may be: nothing is final that came after it."""
_AFTER_S: Final = 600.0
"""For so long after its last deployment a version is asked for: that it answers no more is measured, too."""


class DeployedVersions:
    """Lists versions from the platform's deployments, which it reads again every few seconds.

    Args:
        history: lists the deployments, newest first; what it raises is passed on.
    """

    def __init__(self, history: Callable[[], Sequence[Deployment]], clock: Clock) -> None:
        self._history = history
        self._clock = clock
        self._listed: tuple[float, Sequence[Deployment]] | None = None

    def list_served(self, begin: float, until: float) -> tuple[float, Collection[str]]:
        """Return when the list was read, and the versions that were deployed in [begin, until), or shortly before."""
        now = self._clock.now()
        if self._listed is None or now - self._listed[0] > LISTED_AT_MOST_S:
            self._listed = now, self._history()
        listed_at, deployments = self._listed
        found: dict[str, None] = {}
        replaced_at = float("inf")
        for deployment in deployments:
            if deployment.created_at < until and replaced_at >= begin - _AFTER_S:
                every = [deployment.shares, *(cohort.shares for cohort in deployment.cohorts)]
                found.update((str(share.version), None) for shares in every for share in shares)
            replaced_at = deployment.created_at
        return listed_at, tuple(found)
