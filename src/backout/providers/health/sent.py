"""The requests of this process's own that were answered: what they show, a source of counts has to show as well."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

PROBE_ID_HEADER: Final = "x-backout-probe-id"
_KEPT: Final = 2000


class SentProbes:
    """When requests of this process were answered; they carry its id in a header, so that no other's are meant.

    Attributes:
        id: of this process, drawn at random.
    """

    def __init__(self) -> None:
        self.id = os.urandom(8).hex()
        self._answered: deque[float] = deque(maxlen=_KEPT)

    def note(self, at: float) -> None:
        """Keep that a request was answered at that time (Unix seconds)."""
        self._answered.append(at)

    def list_answered(self, since: float, until: float) -> Sequence[float]:
        """Return the times in [since, until), the earliest first."""
        return sorted(at for at in tuple(self._answered) if since <= at < until)
