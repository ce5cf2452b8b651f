"""What a watch knows of the answers before it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from backout.model.guard.answers import AnswerClass


class Known(NamedTuple):
    """A name that was known before: its stratum, its own test, the classes that count as good answers."""

    stratum: str
    own: str
    good: frozenset[AnswerClass]
