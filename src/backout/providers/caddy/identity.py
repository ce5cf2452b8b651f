"""Port Identities: the folder of releases, which has an id of its own, and the other configured resources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.identity import Identity
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.providers.caddy.releases import ReleaseFolder


class Beside(Value, frozen=True):
    """What identifies an environment apart from its releases.

    Args:
        database: asks the database for its identity.
        bucket, health_host: as configured.
    """

    database: Callable[[], str | None] | None = None
    bucket: str | None = None
    health_host: str | None = None


class CaddyIdentities:
    """Port Identities."""

    def __init__(self, releases: ReleaseFolder, beside: Beside) -> None:
        self._releases = releases
        self._beside = beside

    def read(self) -> Identity:
        """Return the parts; None: not set up, not there, or (a database) not to be asked now."""
        database = self._beside.database
        return Identity(
            script_tag=self._releases.find_tag(),
            database_system_identifier=database() if database is not None else None,
            bucket=self._beside.bucket,
            health_host=self._beside.health_host,
        )
