"""The card: one page of commands for the day when backout itself is gone (safety rule 20)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.deployment import Deployment, VersionMark
    from backout.model.situation import FailedProof


@dataclass(frozen=True, slots=True)
class CardLines:
    """The lines of a card that do not change from deployment to deployment; no secret stands in them.

    Args:
        setup: what a shell needs first. live, health, secrets, database: lines that only look; () when not set up.
        deploy: templates with `{words}` (VERSION@PERCENT ...) and `{shares}` (JSON) of what is to get traffic, and
            `{message}`; each of them alone does it. places: (what, where) of files. people: (who, how to reach them).
    """

    application: str = ""
    setup: tuple[str, ...] = ()
    live: tuple[str, ...] = ()
    deploy: tuple[str, ...] = ()
    health: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    database: tuple[str, ...] = ()
    places: tuple[tuple[str, str], ...] = ()
    people: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Card:
    """What a card says of one environment.

    Args:
        read_at: when its ids were read from the provider, Unix seconds. stable: the newest version that was proven, or
            "". target: where a rollback would go now, or "". why: what speaks for it, or what forbids any.
        notes: what must be known, one sentence each. marks: the newest of each version, oldest first. failed_proofs:
            the newest failed proof of each version. Both are read again when the journal is lost.
    """

    environment: str
    read_at: float
    live: Deployment
    stable: str
    target: str
    why: str
    lines: CardLines
    notes: tuple[str, ...] = ()
    marks: tuple[VersionMark, ...] = ()
    failed_proofs: Mapping[str, FailedProof] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card that was written earlier tells; empty for what does not stand there: anybody may have written on it.

    Args:
        read_at: Unix seconds. live: the versions that had traffic. stable, target: version ids. why: why there was no
            target. marks, failed_proofs: as far as they stand there.
    """

    read_at: float = 0.0
    live: tuple[str, ...] = ()
    stable: str = ""
    target: str = ""
    why: str = ""
    marks: tuple[VersionMark, ...] = ()
    failed_proofs: Mapping[str, FailedProof] = field(default_factory=dict)
