"""Recovery points: one moment of a whole application, as a vector of where each of its parts was."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import field

from backout.model.steps.base import Record
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping


class PointPart(StrEnum):
    """The parts of an application, in the order in which they are shown."""

    CODE = "code"
    MIGRATIONS = "migrations"
    DATABASE = "database"
    OBJECTS = "objects"
    SECRETS = "secrets"
    CONFIGURATION = "configuration"


class NotedPoint(Record, frozen=True, kw_only=True):
    """What was noted at the moment itself; the rest is known from elsewhere, and does not change any more.

    Args:
        at: Unix seconds; took_s: what is noted lies between `at` and so many seconds later.
        why: as of a restore point, whose name is the same.
        version: the version with the largest share of the traffic, "" where that was not known.
        problem: why the database has no restore point of that name, "" where it has, or where there is no database.
        fingerprints: of the configured source's secrets, by name; {} where it was not asked.
    """

    name: str
    at: float
    why: str
    version: str = ""
    took_s: float = 0.0
    problem: str = ""
    fingerprints: dict[str, str] = field(default_factory=dict)


class Coordinate(Value, frozen=True):
    """Where one part was.

    Args:
        value: version id, migration, position in the WAL, RFC 3339, or a digest; "" where it is missing.
        error_s: by how many seconds the part may be off the moment; None: that is not known.
        missing: why the part cannot be brought back to the moment, "" where it can.
        detail: more of it, by name: of secrets their fingerprints, "" for a value that backout did not set.
    """

    value: str = ""
    error_s: float | None = 0.0
    missing: str = ""
    detail: Mapping[str, str] = field(default_factory=dict)


class RecoveryPoint(Value, frozen=True):
    """One moment.

    Args:
        name: "" for a moment that was given as a time.
        at: Unix seconds.
        parts: those that the application has.
        losses: what a return to it would lose now, a sentence for each part that would lose something.
    """

    name: str
    at: float
    why: str
    parts: Mapping[PointPart, Coordinate]
    losses: Mapping[PointPart, str] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether every part can be brought back to it."""
        return all(not each.missing for each in self.parts.values())

    @property
    def version(self) -> str:
        """The version that was live, "" where that is not known."""
        return self.parts[PointPart.CODE].value
