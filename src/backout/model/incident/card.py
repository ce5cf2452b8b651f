"""The card: one page of commands for the day when backout itself is gone (safety rule 20)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import field

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.deployment import Deployment
    from backout.model.situation import FailedProof
    from backout.model.version import VersionMark


class CardLines(Value, frozen=True):
    """The lines of a card that stay the same for all deployments; they contain no secrets.

    Args:
        setup: lines to prepare the shell.
        live, health, secrets, database: read-only lines; () when not set up.
        deploy: templates with `{words}` (VERSION@PERCENT ...) and `{shares}` (JSON) of what is to get traffic, and
            `{message}`; each of them alone does it. One with `{version}` is for a version at 100 %.
        put_back: templates with `{deployment}`, which make live again what was; for shares that no line of `deploy`
            can give.
        caution: what to know before a version is made live by them.
        fence: commands that open the database where a fence stands around it.
        places: (what, where) of files.
        people: (who, how to reach them).
    """

    application: str = ""
    setup: tuple[str, ...] = ()
    live: tuple[str, ...] = ()
    deploy: tuple[str, ...] = ()
    put_back: tuple[str, ...] = ()
    caution: str = ""
    health: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    database: tuple[str, ...] = ()
    fence: tuple[str, ...] = ()
    places: tuple[tuple[str, str], ...] = ()
    people: tuple[tuple[str, str], ...] = ()


class Card(Value, frozen=True):
    """The content of a card for one environment.

    Args:
        read_at: when its ids were read from the provider, Unix seconds.
        stable: the newest version that was proven, or "".
        target: where a rollback would go now, or "".
        why: the reason for it, or what forbids any.
        notes: important facts, one sentence each.
        marks: the newest of each version, oldest first.
        failed_proofs: the newest failed proof of each version. Both are read again when the journal is lost.
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


class CardFacts(Value, frozen=True):
    """The contents of an earlier card; empty for what it lacks: it may have been edited by hand.

    Args:
        read_at: Unix seconds.
        live: the versions that had traffic.
        stable, target: version ids.
        why: why there was no target.
        marks, failed_proofs: as far as the card has them.
    """

    read_at: float = 0.0
    live: tuple[str, ...] = ()
    stable: str = ""
    target: str = ""
    why: str = ""
    marks: tuple[VersionMark, ...] = ()
    failed_proofs: Mapping[str, FailedProof] = field(default_factory=dict)
