"""Port Identities where the platform has no accounts: the application's own tag, and the other configured resources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.identity import Identity
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable


class Beside(Value, frozen=True):
    """What identifies an environment apart from its application.

    Args:
        database: asks the database for its identity.
        bucket, health_host: as configured.
    """

    database: Callable[[], str | None] | None = None
    bucket: str | None = None
    health_host: str | None = None


class TaggedIdentities:
    """Port Identities.

    Args:
        find_tag: returns what never changes of the application, None: it is not there.
    """

    def __init__(self, find_tag: Callable[[], str | None], beside: Beside) -> None:
        self._find_tag = find_tag
        self._beside = beside

    def read(self) -> Identity:
        """Return the parts; None: not set up, not there, or (a database) not to be asked now."""
        database = self._beside.database
        return Identity(
            script_tag=self._find_tag(),
            database_system_identifier=database() if database is not None else None,
            bucket=self._beside.bucket,
            health_host=self._beside.health_host,
        )
