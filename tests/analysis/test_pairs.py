"""Paired probes: what two versions answered to the same requests is a fair coin while both are alike."""

from __future__ import annotations

import json
import math
from itertools import product

import pytest

from backout.analysis.shifts import Pairs
from backout.model.guard.probes import Compared, PairedAnswer, VersionAnswer

GOOD, NOT_FOUND, DOWN = VersionAnswer(200), VersionAnswer(404), VersionAnswer(None)
LOGIN = VersionAnswer(302, "/login", ends_well=True)
MOVED = VersionAnswer(301, "/new", ends_well=True)
LOST = VersionAnswer(301, "/gone", ends_well=False)
LOOP = VersionAnswer(302, "/", ends_well=False, loops=True)
EMPTY = VersionAnswer(200, has_words=False)
LIMITED, FORBIDDEN = VersionAnswer(429), VersionAnswer(403)


def pair(new: VersionAnswer, old: VersionAnswer = GOOD) -> PairedAnswer:
    return PairedAnswer(0.0, "/app", new, old)


@pytest.mark.parametrize(
    ("new", "old", "compared"),
    [
        (GOOD, GOOD, Compared.BOTH_WELL),
        (NOT_FOUND, GOOD, Compared.NEW_WORSE),
        (GOOD, NOT_FOUND, Compared.OLD_WORSE),
        (DOWN, DOWN, Compared.BOTH_FAIL),
        (NOT_FOUND, DOWN, Compared.BOTH_FAIL),
        (LOGIN, GOOD, Compared.NEW_WORSE),
        (LOGIN, LOGIN, Compared.BOTH_WELL),
        (MOVED, GOOD, Compared.BOTH_WELL),
        (LOST, GOOD, Compared.NEW_WORSE),
        (LOOP, LOGIN, Compared.NEW_WORSE),
        (EMPTY, GOOD, Compared.NEW_WORSE),
        (VersionAnswer(503), GOOD, Compared.NEW_WORSE),
        (VersionAnswer(410), GOOD, Compared.GONE),
        (VersionAnswer(410), NOT_FOUND, Compared.BOTH_FAIL),
        (GOOD, VersionAnswer(200, has_words=True), Compared.BOTH_WELL),
        (VersionAnswer(401), GOOD, Compared.NEW_WORSE),
        (LIMITED, GOOD, Compared.REFUSED),
        (FORBIDDEN, GOOD, Compared.REFUSED),
        (GOOD, LIMITED, Compared.REFUSED),
        (LIMITED, NOT_FOUND, Compared.BOTH_FAIL),
    ],
)
def test_who_answered_worse(new: VersionAnswer, old: VersionAnswer, compared: Compared) -> None:
    """A page that has moved and is there is no worse; a login wall, a loop, a missing word and an error are."""
    assert pair(new, old).compared is compared


def test_one_version_alone_that_refuses_is_no_evidence() -> None:
    """A limit of robots refuses whom it likes; but nothing else does where our credentials are turned down."""
    pairs = Pairs()
    pairs.add([pair(LIMITED), pair(FORBIDDEN)] * 20)
    assert (pairs.log_e(), pairs.is_discordant, pairs.are_alike, pairs.both_fail) == (0.0, False, False, False)
    assert pairs.sentence.endswith("one version alone refused 40 of them (403 or 429), as what limits robots does, too")
    pairs.add([pair(MOVED)])
    assert not pairs.only_moved("site")
    known = [PairedAnswer(0.0, "GET /account with credentials", new, GOOD) for new in (FORBIDDEN, LIMITED)]
    assert [each.compared for each in known] == [Compared.NEW_WORSE, Compared.REFUSED]


def test_eleven_discordant_pairs_are_a_thousand_to_one() -> None:
    """Ten are less; one the other way takes a factor of 19 away."""
    pairs = Pairs()
    pairs.add([pair(NOT_FOUND)] * 10)
    assert math.exp(pairs.log_e()) < 1000
    pairs.add([pair(NOT_FOUND)])
    assert math.exp(pairs.log_e()) == pytest.approx(1165, rel=0.01)
    pairs.add([pair(GOOD, NOT_FOUND)])
    assert math.exp(pairs.log_e()) == pytest.approx(116.5, rel=0.01)


@pytest.mark.parametrize("chance", [0.0, 0.3, 1.0])
def test_the_mean_of_the_evidence_while_both_are_alike(chance: float) -> None:
    """Whatever share of pairs differs: the mean over all outcomes of six pairs is 1."""
    mean = 0.0
    for outcome in product(
        [(1 - chance, GOOD, GOOD), (chance / 2, NOT_FOUND, GOOD), (chance / 2, GOOD, DOWN)], repeat=6
    ):
        pairs = Pairs()
        pairs.add(pair(new, old) for _, new, old in outcome)
        mean += math.prod(each for each, _, _ in outcome) * math.exp(pairs.log_e())
    assert mean == pytest.approx(1.0)


def test_what_the_pairs_say_survives_a_checkpoint() -> None:
    """Both fail; a page that only moved; a loop; and the path that was worse first."""
    down, moved, looping = Pairs(), Pairs(), Pairs()
    down.add([pair(DOWN, DOWN)] * 3)
    moved.add([pair(MOVED)] * 11)
    looping.add([pair(GOOD), PairedAnswer(0.0, "/loop", LOOP, GOOD)])
    assert (down.both_fail, down.is_discordant) == (True, False)
    assert (moved.only_moved("GET /app"), moved.are_alike, moved.both_fail) == (True, True, False)
    assert (moved.only_moved("/app"), moved.only_moved("site"), moved.only_moved("GET /")) == (True, True, False)
    assert (looping.loops, looping.is_discordant, looping.first) == (1, True, "/loop")
    for pairs in (down, moved, looping):
        again = Pairs()
        again.restore(json.loads(json.dumps(pairs.state())))
        assert again.state() == pairs.state()
        assert (again.log_e(), again.asked) == (pairs.log_e(), pairs.asked)
        assert again.only_moved("GET /app") is pairs.only_moved("GET /app")
