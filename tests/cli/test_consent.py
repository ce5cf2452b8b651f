"""A person's yes during a watch, on a real terminal: asked once, read when a line is there, waited for by nobody."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from backout.cli.guard.consent import Consent

from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO


@pytest.fixture
def terminal() -> Iterator[tuple[int, TextIO]]:
    """Return where a person types, and the terminal that a program reads."""
    person, program = os.openpty()
    with os.fdopen(program, "r") as read:
        yield person, read
    os.close(person)


@pytest.mark.parametrize(
    ("typed", "answer"), [(b"ask\n", True), (b"\n ASK \n", True), (b"y\n", False), (b"\x04", False)]
)
def test_consent_is_a_word_that_somebody_types(terminal: tuple[int, TextIO], typed: bytes, answer: bool) -> None:
    """Nothing typed and an empty line are no answer; the end of the input, and any other word, are a no."""
    person, read = terminal
    said: list[str] = []
    consent = Consent(read, said.append)
    assert consent("Deploy it?", "ask") is None
    assert consent("Deploy it?", "ask") is None
    os.write(person, typed)
    answers: list[bool | None] = []

    def answered() -> bool:
        answers.append(consent("Deploy it?", "ask"))
        return answers[-1] is not None

    until(answered)
    assert answers[-1] is answer
    (once,) = said
    assert once.startswith("Deploy it? Type ask and Enter for yes; anything else is no")
