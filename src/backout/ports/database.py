"""Ports on the live database: its schema, its current content, a role's rights, and trials of statements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.model.database.backups import Cluster
    from backout.model.database.capability import ServerFacts
    from backout.model.database.catalog import Catalog
    from backout.model.database.recovery import (
        ClusterThings,
        DatabaseFacts,
        DropClue,
        MigrationClue,
        RestorePoint,
    )
    from backout.model.database.sequences import PlacedSequence
    from backout.model.database.statements import Answer, ParameterUse, Statement


class SchemaCatalog(Protocol):
    """A database's schema, object by object."""

    def read(self) -> Catalog:
        """Return it, in the order of its creation. Raises AuthError, or ProviderUnavailable when it does not answer."""
        ...


class PointMarker(Protocol):
    """Writes a moment into the database's own log."""

    def mark(self, name: str) -> RestorePoint:
        """Write a restore point and return it; its `why` and what it belongs to are the caller's."""
        ...


class LiveDatabase(Protocol):
    """The live database's catalog."""

    def facts(self, *, within_s: float = 0.0) -> DatabaseFacts:
        """Return its identity and WAL position; a server that does not answer is asked again for that long.

        Raises AuthError, ProviderUnavailable.
        """
        ...

    def cluster(self) -> ClusterThings:
        """Return what the cluster has beside the application's logged rows. Raises AuthError, ProviderUnavailable."""
        ...

    def sequences(self) -> Mapping[str, tuple[PlacedSequence, ...]]:
        """Return the sequences of each database that the role is let into. Raises AuthError, ProviderUnavailable."""
        ...

    def mark(self, name: str) -> RestorePoint:
        """Write a restore point and return it; its `why` and what it belongs to are the caller's."""
        ...

    def find_drop(self, relation: str) -> DropClue:
        """Return what the catalog shows of the columns that a table lost, or that the table is gone."""
        ...

    def relations(self) -> Mapping[tuple[int, int], str]:
        """Return every relation by (database, file node): `schema.table` for a table, "" for anything else."""
        ...

    def tables(self) -> Mapping[tuple[int, int], str]:
        """Return the names of the application's tables by (database, file node)."""
        ...

    def find_migration(self, name: str) -> MigrationClue | None:
        """Return which transaction last wrote the row of a migration, and where; None when there is none."""
        ...

    def find_commit_time(self, xid: int) -> float | None:
        """Return when a transaction was committed (Unix seconds), None where the server does not record it."""
        ...

    def schema_changes(self, since: float, until: float) -> tuple[float, ...]:
        """Return when transactions that wrote to the catalog were committed, in order; () where it is not recorded."""
        ...


class Statements(Protocol):
    """The statements that the application sends."""

    def read(self) -> tuple[Statement, ...]:
        """Return the different ones, most called first. Raises UsageError when they are not kept."""
        ...


class Trials(Protocol):
    """A database beside the live one, on which statements are tried."""

    def run(self, statement: Statement, uses: Sequence[ParameterUse]) -> Answer:
        """Return what the database says to it; nothing of it stays. Raises AuthError, ProviderUnavailable."""
        ...


class LiveCluster(Protocol):
    """The running cluster, with what a backup needs to know."""

    def read(self) -> Cluster:
        """Return its state. Raises AuthError, or ProviderUnavailable when it does not answer."""
        ...


class ServerCheck(Protocol):
    """The database's server, as far as the role may see it."""

    def read(self) -> ServerFacts:
        """Return it; what is refused is named in it. Raises AuthError, ProviderUnavailable when it does not answer."""
        ...
