"""One stage (twin, sample application) for all the drills of a session; visitors come while a module needs them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from drillbook import Drillbook

if TYPE_CHECKING:
    from collections.abc import Iterator

VISITORS_PER_S = 150


@pytest.fixture(scope="session")
def open_drillbook() -> Iterator[Drillbook]:
    """Return the stage with a good version on it that guard has marked stable."""
    with tempfile.TemporaryDirectory(prefix="drill-") as directory:
        book = Drillbook(Path(directory))
        try:
            book.open()
            with book.stage.visitors(VISITORS_PER_S):
                book.prove_good()
            yield book
        finally:
            book.stage.tear_down()


@pytest.fixture(scope="module")
def drillbook(open_drillbook: Drillbook) -> Iterator[Drillbook]:
    """Return the stage with visitors; other modules of a long session are not slowed by them."""
    with open_drillbook.stage.visitors(VISITORS_PER_S):
        open_drillbook.await_visitors(VISITORS_PER_S)
        yield open_drillbook
