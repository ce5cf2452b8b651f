"""The engine of `backout doctor`: lanes side by side, a deadline for each question, an answer whatever is raised."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from backout.errors import AuthError, ConfigError, ProviderUnavailable, Unmeasured
from backout.model.checkup import Check, CheckState, Level, must
from backout.model.hint import Hint, suggest_words
from backout.runbook.incident.checkup import Question, examine

if TYPE_CHECKING:
    from collections.abc import Iterator


def fine(name: str) -> Question:
    return Question(name, Level.MUST, lambda: [must(name).ok("it is")])


LOOK = suggest_words("look")


def raising(error: Exception, *, next: Hint = LOOK) -> Question:  # noqa: A002 - the field's name
    def ask() -> list[Check]:
        raise error

    return Question("asked", Level.MUST, ask, next)


def states(checks: tuple[Check, ...]) -> dict[str, CheckState]:
    return {check.name: check.state for check in checks}


def test_a_question_that_hangs_costs_its_deadline_and_the_rest_of_its_lane_alone() -> None:
    """Whatever still uses the connection, nobody else does; the other lanes are answered in full, in their order."""
    never = threading.Event()

    def hang() -> Iterator[Check]:
        never.wait()
        yield must("hanging").ok("at last")

    hanging = Question("hanging", Level.MUST, hang, suggest_words("look at it"), within_s=0.2)
    found = examine(((fine("a"), hanging, fine("b")), (fine("c"), fine("d"))), "staging")
    try:
        assert [check.name for check in found] == ["a", "hanging", "b", "c", "d"]
        unmeasured = CheckState.UNMEASURED
        assert states(found) == {
            "a": CheckState.OK,
            "hanging": unmeasured,
            "b": unmeasured,
            "c": CheckState.OK,
            "d": CheckState.OK,
        }
        assert found[1].why == "no answer within 0.2 s"
        assert str(found[1].next) == "look at it"
        assert found[2].why == "not asked: hanging did not answer"
    finally:
        never.set()


def test_a_lane_as_a_whole_has_a_deadline_too() -> None:
    """Many questions that each take nearly too long end together."""
    never = threading.Event()

    def wait() -> list[Check]:
        never.wait()
        return []

    slow = tuple(Question(name, Level.SHOULD, wait, within_s=60.0) for name in "ab")
    found = examine((slow,), "staging", within_s=0.1)
    never.set()
    assert states(found) == {"a": CheckState.UNMEASURED, "b": CheckState.UNMEASURED}


@pytest.mark.parametrize(
    ("error", "state", "why", "next"),
    [
        (AuthError("no token", hint="set TOKEN"), CheckState.MISSING, "no token", "set TOKEN"),
        (Unmeasured("x", hint="backout runs list"), CheckState.UNMEASURED, "x", "backout runs list -e staging"),
        (ConfigError(("a: wrong", "b: wrong")), CheckState.MISSING, "a: wrong; b: wrong", "look"),
        (ProviderUnavailable("it answered 503"), CheckState.UNMEASURED, "it answered 503", "look"),
        (Unmeasured("not asked: no token"), CheckState.UNMEASURED, "not asked: no token", "look"),
        (ValueError("x"), CheckState.UNMEASURED, "a mistake in backout itself: ValueError: x", "look"),
    ],
)
def test_whatever_is_raised_is_an_answer(error: Exception, state: CheckState, why: str, next: str) -> None:  # noqa: A002
    """What is not there is missing, what did not answer is not measured; the lane goes on."""
    found = examine(((raising(error), fine("after")),), "staging")
    assert (found[0].name, found[0].level, found[0].state) == ("asked", Level.MUST, state)
    assert (found[0].why, str(found[0].next)) == (why, next)
    assert found[1].state is CheckState.OK
