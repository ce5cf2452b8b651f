"""The rollback target when the provider does not answer: by the card, the marks, the health endpoint; pure.

With the provider, `plan.rollback` chooses; the card keeps what it chose, so that both name the same version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.analysis.history.failed_proof import describe_failed_proof, find_failed_proof
from backout.analysis.history.stability import find_quarantine_in, find_questioned
from backout.escaping import shorten
from backout.model.clock import to_utc
from backout.model.value import Value
from backout.model.version import Mark

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.model.incident.card import CardFacts
    from backout.model.situation import FailedProof
    from backout.model.version import VersionMark


class WayBack(Value, frozen=True):
    """A version to roll back to by hand.

    Args:
        why: the reason for it, without a final stop.
        only_if: the condition, "" where nothing is in doubt.
    """

    version: str
    why: str
    only_if: str = ""


class Remembered(Value, frozen=True):
    """The facts available without the provider.

    Args:
        card: the contents of the newest card, None without one.
        marks: oldest first.
        failed_proofs: the newest of each version.
        live: what is live as far as is known, "" for nothing.
        is_sure: it says so.
    """

    card: CardFacts | None
    marks: Sequence[VersionMark]
    failed_proofs: Mapping[str, FailedProof]
    live: str
    is_sure: bool = False


def list_ways_back(known: Remembered) -> tuple[WayBack, ...]:
    """Return the versions to go back to, best first; () where nothing is known, or the card says that there is none.

    What the card chose counts where it was written about what is live; the last stable version counts otherwise.
    """
    card, found = known.card, []
    is_about_it = card is not None and (not known.live or known.live in card.live)
    if card is not None and is_about_it and card.target and not _is_doubted(known, card.target):
        when = f", when {' and '.join(card.live)} was live" if card.live else ""
        found.append(WayBack(card.target, f"the card chose it at {to_utc(card.read_at):%Y-%m-%d %H:%M:%SZ}{when}"))
    stable = find_last_stable(known.marks, known.failed_proofs)
    if stable is None or stable.version in (way.version for way in found):
        return tuple(found)
    why = f"proven stable at {to_utc(stable.at):%Y-%m-%d %H:%M:%SZ}"
    if stable.version == known.live:
        found.append(WayBack(stable.version, why, "another version has taken its place, or a part of its traffic"))
    elif not is_about_it:
        found.append(WayBack(stable.version, why))
    elif card is not None and not known.is_sure:
        since = f"{to_utc(card.read_at):%Y-%m-%d %H:%M:%SZ}"
        found.append(WayBack(stable.version, why, f"something was deployed since {since}, when the card was written"))
    return tuple(found)


def find_doubted(known: Remembered) -> WayBack | None:
    """Return the newest version that was stable and is in doubt since, which a person may choose; None for none.

    `only_if`: what speaks against it.
    """
    for mark in reversed(known.marks):
        is_bad = find_quarantine_in(known.marks, mark.version, mark.code_hash, "") is not None
        if mark.mark not in _JUDGED or is_bad or mark.version == known.live:
            continue
        doubt = find_questioned(known.marks, mark.version)
        if doubt is not None:
            against = f"that has been questioned since {to_utc(doubt.at):%Y-%m-%d %H:%M:%SZ}: {shorten(doubt.why)}"
            return WayBack(mark.version, "it was marked stable", against)
        failed = find_failed_proof(known.failed_proofs, mark.version, stable_at=mark.at)
        if failed is not None:
            return WayBack(mark.version, "it was marked stable", describe_failed_proof(failed))
    return None


def _is_doubted(known: Remembered, version: str) -> bool:
    if find_quarantine_in(known.marks, version, None, "") or find_questioned(known.marks, version):
        return True
    stable_at = max((m.at for m in known.marks if m.mark is Mark.STABLE and m.version == version), default=0.0)
    read_at = known.card.read_at if known.card is not None else 0.0  # the card has weighed what was before it
    return find_failed_proof(known.failed_proofs, version, stable_at=max(stable_at, read_at)) is not None


_JUDGED: Final = (Mark.STABLE, Mark.QUESTIONED)
MOST_MARKS: Final = 8
"""The number of versions on a card for each of the two kinds of mark (proof and quarantine)."""


def select_newest_marks(marks: Sequence[VersionMark]) -> tuple[VersionMark, ...]:
    """Return the marks that a page has room for, oldest first: the newest of each kind of each version.

    With the quarantines, however old, of what these marks call stable: a page without them would offer it.
    """
    proofs: dict[str, VersionMark] = {}
    bans: dict[str, VersionMark] = {}
    for mark in reversed(marks):
        (proofs if mark.mark in _JUDGED else bans).setdefault(mark.version, mark)
    newest = list(proofs.values())[:MOST_MARKS]
    banned = [
        find_quarantine_in(marks, each.version, each.code_hash, "") for each in newest if each.mark is Mark.STABLE
    ]
    kept = [*newest, *list(bans.values())[:MOST_MARKS], *filter(None, banned)]
    return tuple(mark for mark in marks if any(mark is each for each in kept))


def find_last_stable(marks: Sequence[VersionMark], failed: Mapping[str, FailedProof]) -> VersionMark | None:
    """Return the newest mark of a version that is stable, and is not quarantined, questioned, or not proved since.

    Args:
        marks: oldest first.
        failed: the newest failed proof of each version.
    """
    for mark in reversed(marks):
        if mark.mark is not Mark.STABLE:
            continue
        bad = find_quarantine_in(marks, mark.version, mark.code_hash, "") or find_questioned(marks, mark.version)
        if bad is None and find_failed_proof(failed, mark.version, stable_at=mark.at) is None:
            return mark
    return None
