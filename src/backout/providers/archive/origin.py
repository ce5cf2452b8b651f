"""The cluster that backups are of: how to look at it, and how Postgres' own programs reach it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.ports import LiveCluster
    from backout.providers.postgres.binaries import Binaries


@dataclass(frozen=True, slots=True)
class Origin:
    """A cluster.

    Args:
        binaries: returns the programs. dsn: returns the connection string that they use, through a proxy where they
            have no TLS; it is never shown.
    """

    binaries: Callable[[], Binaries]
    dsn: Callable[[], str]
    cluster: LiveCluster
