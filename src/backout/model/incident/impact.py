"""What an incident did: numbers, each with how it is known."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import field

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping


class Exactness(StrEnum):
    """How a number is known; the values are part of the JSON."""

    EXACT = "exact"  # everything was counted
    SAMPLED = "sampled"  # the source of counts keeps a part, and multiplies
    ESTIMATED = "estimated"  # a part of the time was not counted, or the source guesses


class Impact(Value, frozen=True):
    """The numbers of one incident; None where nothing tells.

    Args:
        requests_failed: answers of the bad version that were errors, of all versions where none is known.
        share: of all requests of that time that failed.
        duration_s: from the first failed request to when all was shown to be well, or until now.
        rows_lost, rows_rescued: of the database.
        objects_lost, objects_rescued: of the bucket.
        exactness: {name of a number: how it is known}, of those that are not None.
    """

    requests_failed: int | None = None
    share: float | None = None
    duration_s: float | None = None
    rows_lost: int | None = None
    rows_rescued: int | None = None
    objects_lost: int | None = None
    objects_rescued: int | None = None
    exactness: Mapping[str, Exactness] = field(default_factory=dict)
