"""The cluster that is backed up: how to read its state, and how Postgres' own programs reach it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.ports import LiveCluster
    from backout.providers.postgres.server.binaries import Binaries


class Origin(Value, frozen=True):
    """A cluster.

    Args:
        binaries: returns the programs.
        dsn: returns the connection string that they use, through a proxy where they have no TLS; it is never shown.
    """

    binaries: Callable[[], Binaries]
    dsn: Callable[[], str]
    cluster: LiveCluster
