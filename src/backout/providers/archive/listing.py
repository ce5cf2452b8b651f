"""The WAL in a store, by key: a full listing now and then, and in between only what follows the known keys.

An archive of some weeks is a hundred thousand objects, and the WAL receiver looks at it every 20 seconds.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from backout.model.names import is_segment

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.providers.archive.stores import Store

WHOLE_EVERY_S: Final = 600.0
_BEHIND_ALL: Final = "~"
"""Sorts behind every digit and letter of a name."""
_TIMELINE: Final = 8


class Listing:
    """The keys under the prefix of a cluster's WAL.

    Segments come in the order of their names, timeline by timeline; what is stored of one before it is whole sorts
    after it and is looked for anew each time. Objects removed or stored in between show in the next full listing.

    Args:
        whole_every_s: the maximum age of the last full listing.
        ticks: a monotonic clock in seconds.
    """

    def __init__(
        self, store: Store, prefix: str, *, whole_every_s: float = WHOLE_EVERY_S,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._store = store
        self._prefix = prefix
        self._whole_every_s = whole_every_s
        self._ticks = ticks
        self._names: set[str] = set()
        self._last: dict[str, str] = {}
        self._whole_at: float | None = None

    def forget(self) -> None:
        """List the whole the next time: something was removed, or what is known does not fit."""
        self._whole_at = None

    def names(self) -> tuple[str, ...]:
        """Return the names without the prefix, sorted."""
        now = self._ticks()
        if self._whole_at is None or now - self._whole_at > self._whole_every_s:
            self._names, self._last = set(), {}
            self._take(self._store.keys(self._prefix))
            self._whole_at = now
            return tuple(sorted(self._names))
        for timeline, last in sorted(self._last.items()):
            self._names = {name for name in self._names if name[:_TIMELINE] != timeline or name <= last}
            self._take(self._store.keys(self._prefix + timeline, after=self._prefix + last))
        newest = max(self._last, default="")
        self._take(self._store.keys(self._prefix, after=self._prefix + newest + (_BEHIND_ALL if newest else "")))
        return tuple(sorted(self._names))

    def _take(self, found: tuple[tuple[str, int], ...]) -> None:
        for key, _ in found:
            name = key.removeprefix(self._prefix)
            self._names.add(name)
            if is_segment(name):
                timeline = name[:_TIMELINE]
                self._last[timeline] = max(self._last.get(timeline, ""), name)
