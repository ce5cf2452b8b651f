"""Where to go back to without the provider: by the card, the marks and what the application says of itself."""

from __future__ import annotations

import pytest
from values import replace

from backout.analysis.history import going_back
from backout.analysis.history.going_back import (
    MOST_MARKS,
    Remembered,
    find_last_stable,
    list_ways_back,
    select_newest_marks,
)
from backout.model.incident.card import CardFacts
from backout.model.situation import FailedProof
from backout.model.version import Mark, VersionId, VersionMark
from backout.report.incident.card_facts import read_facts

A, B, C = (f"{digit}0000000-0000-4000-8000-000000000000" for digit in "abc")


def mark(version: str, at: float, kind: Mark = Mark.STABLE) -> VersionMark:
    """Return a mark."""
    return VersionMark(kind, VersionId(version), f"code-{version}", at, f"run-{at}", "why")


CARD = CardFacts(read_at=100.0, live=(B,), stable=A, target=A)
NO_TARGET = replace(CARD, target="", why="it has the same code")
CASES = {
    "the card is about what is live": (Remembered(CARD, (mark(A, 10),), {}, B, is_sure=True), [(A, False)]),
    "the card does not say what was live": (Remembered(CardFacts(target=A), (), {}, ""), [(A, False)]),
    "nobody knows what is live": (Remembered(CARD, (mark(A, 10),), {}, ""), [(A, False)]),
    "what is live is newer than the card": (
        Remembered(CARD, (mark(A, 10), mark(B, 20)), {}, C, is_sure=True),
        [(B, False)],
    ),
    "what was live last is itself stable": (
        Remembered(CARD, (mark(A, 10), mark(B, 20)), {}, B),
        [(A, False), (B, True)],
    ),
    "the card's choice is quarantined since": (
        Remembered(CARD, (mark(A, 10), mark(A, 200, Mark.QUARANTINED)), {}, B, is_sure=True),
        [],
    ),
    "the card's choice is questioned since": (
        Remembered(CARD, (mark(A, 10), mark(A, 200, Mark.QUESTIONED)), {}, B, is_sure=True),
        [],
    ),
    "the card's choice was not proved since": (
        Remembered(CARD, (mark(A, 10),), {A: FailedProof(200, "down")}, B, is_sure=True),
        [],
    ),
    "the card weighed the failed proof": (
        Remembered(CARD, (mark(A, 10),), {A: FailedProof(50, "down")}, B, is_sure=True),
        [(A, False)],
    ),
    "the card knows no way": (Remembered(NO_TARGET, (mark(A, 10),), {}, B, is_sure=True), []),
    "the card knows no way from what was live last": (Remembered(NO_TARGET, (mark(A, 10),), {}, B), [(A, True)]),
    "there is no card": (Remembered(None, (mark(A, 10), mark(B, 20)), {}, C), [(B, False)]),
    "the newest stable one failed its proof": (
        Remembered(None, (mark(A, 10), mark(B, 20)), {B: FailedProof(30, "down")}, C),
        [(A, False)],
    ),
    "nothing is known": (Remembered(None, (), {}, ""), []),
}


@pytest.mark.parametrize("case", CASES)
def test_where_to_without_the_provider(case: str) -> None:
    """(version, whether it is said to depend on something), the best first."""
    known, expected = CASES[case]
    assert [(way.version, bool(way.only_if)) for way in list_ways_back(known)] == expected


@pytest.mark.parametrize(
    ("known", "against"),
    [
        (Remembered(None, (mark(A, 10), mark(A, 20, Mark.QUESTIONED)), {}, B), "questioned"),
        (Remembered(None, (mark(A, 20, Mark.QUESTIONED),), {}, B), "questioned"),
        (Remembered(None, (mark(A, 10),), {A: FailedProof(30, "down")}, B), "its last proof"),
        (Remembered(None, (mark(A, 10), mark(A, 20, Mark.QUESTIONED)), {}, A), ""),
        (Remembered(None, (mark(A, 10), mark(A, 20, Mark.QUARANTINED)), {A: FailedProof(30, "down")}, B), ""),
    ],
)
def test_the_last_target_is_never_struck_off_silently(known: Remembered, against: str) -> None:
    """What was stable and is in doubt since is named where nothing else is left; what is quarantined is not."""
    found = going_back.find_doubted(known)
    assert list_ways_back(known) == () or known.live == A
    assert (found.only_if if found else "").partition(" since")[0].partition(",")[0].endswith(against)
    assert (found is not None) is bool(against)


def test_a_page_says_why_what_it_calls_stable_is_no_target() -> None:
    """The quarantine of a version that was stable is older than all that a page has room for: it stands there still."""
    others = [mark(f"{number:x}1111111", 20 + number, Mark.QUARANTINED) for number in range(MOST_MARKS + 1)]
    kept = select_newest_marks([mark(A, 10), mark(A, 15, Mark.QUARANTINED), *others])
    assert find_last_stable(kept, {}) is None
    assert [each.version for each in kept] == [A, A, *(each.version for each in others[1:])]


@pytest.mark.parametrize(
    "text", ["", "THE LAST CARD", "### What is known of versions\n\n- x\n- 2026 stable -\n", "- version "]
)
def test_a_page_that_somebody_wrote_on_is_read_as_far_as_it_goes(text: str) -> None:
    """It never raises, and what is no entry is none."""
    assert read_facts(text).marks == ()
