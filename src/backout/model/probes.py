"""backout's own requests: what a synthetic one was answered, and how those of a version ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

HEALTH = "health"
"""The name under which looks at the health endpoint stand beside paths, which begin with a slash."""


@dataclass(frozen=True, slots=True)
class SyntheticAnswer:
    """What one synthetic request got.

    Args:
        at: Unix seconds. path: on the host of the health endpoint. status: HTTP status, None without a whole answer.
    """

    at: float
    path: str
    status: int | None

    @property
    def failed(self) -> bool:
        """Whether a visitor would have seen an error: 5xx, or no answer in time.

        >>> [SyntheticAnswer(0.0, "/", status).failed for status in (200, 404, 503, None)]
        [False, False, True, True]
        """
        return self.status is None or self.status >= 500  # noqa: PLR2004


@dataclass(frozen=True, slots=True)
class ProbesBefore:
    """How backout's probes of a version ended before a deployment: {`HEALTH` or path: (made, failed)}."""

    ended: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def answered(self, what: str) -> bool:
        """Whether a probe of that was ever answered well."""
        made, failed = self.ended.get(what, (0, 0))
        return failed < made
