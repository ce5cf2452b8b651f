"""Turns: which declared request both versions are asked next, and how soon."""

from __future__ import annotations

from random import Random

import pytest

from backout.analysis.shifts.turns import EVERY_S, QUICK, Turns
from backout.model.guard.policy import SyntheticCheck
from backout.model.guard.probes import PairedAnswer, VersionAnswer

PATHS = ("/", "/account", "/app?tab=a", "/search", "/assets/app.css")
GOOD, NOT_FOUND = VersionAnswer(200), VersionAnswer(404)


def turns_of(*paths: str) -> Turns:
    return Turns([SyntheticCheck(path) for path in paths], Random(1).shuffle)  # noqa: S311 - it only orders requests


def asked(turns: Turns, number: int, worse: str = "", old: VersionAnswer = GOOD) -> list[str]:
    """Return what was asked in so many turns, where the new version answers that path with 404."""
    found = []
    for _ in range(number):
        check = turns.take()
        turns.note(check, PairedAnswer(0.0, check.path, NOT_FOUND if check.path == worse else GOOD, old))
        found.append(check.path)
    return found


def test_all_are_asked_in_rounds() -> None:
    """While both answer alike each has its turn."""
    turns = turns_of(*PATHS)
    assert sorted(asked(turns, 5)) == sorted(PATHS) == sorted(asked(turns, 5))


def test_what_is_answered_worse_is_asked_until_its_pairs_speak_against_it() -> None:
    """And again for all, once the old version does no better."""
    turns = turns_of(*PATHS)
    found = asked(turns, 12, "/search")
    first = found.index("/search")
    assert found[first:] == ["/search"] * (12 - first)
    turns.note(SyntheticCheck("/search"), PairedAnswer(0.0, "/search", GOOD, NOT_FOUND))
    for _ in range(4):
        turns.note(SyntheticCheck("/search"), PairedAnswer(0.0, "/search", GOOD, NOT_FOUND))
    assert len(set(asked(turns, 5))) > 1


@pytest.mark.parametrize("suspected", ["GET /app", "/app", "GET /app?tab=a"])
def test_every_second_turn_is_of_what_is_suspected(suspected: str) -> None:
    """A stratum with its method or without, or one of guard's own requests by its name; the others keep their turns."""
    turns = turns_of(*PATHS)
    turns.suspected = {suspected}
    found = asked(turns, 10)
    assert found[::2] == ["/app?tab=a"] * 5
    assert sorted(found[1::2]) == sorted(PATHS)


def test_nothing_is_about_what_nobody_may_ask() -> None:
    """A route that takes a login: all have their turns."""
    turns = turns_of(*PATHS)
    turns.suspected = {"POST /login"}
    assert sorted(asked(turns, 5)) == sorted(PATHS)


def test_it_is_quick_while_answers_differ_and_not_for_long() -> None:
    """Half a second between pairs that are alike, nothing between those that are not, up to 24 in all."""
    alike, unlike = turns_of("/", "/app"), turns_of("/app")
    asked(alike, 3)
    assert alike.pace_s == EVERY_S
    for _ in range(QUICK):
        assert unlike.pace_s == 0.0
        asked(unlike, 1, "/app")
    assert unlike.pace_s == EVERY_S
    unlike.note(SyntheticCheck("/app"), None)
    assert unlike.pace_s == EVERY_S
