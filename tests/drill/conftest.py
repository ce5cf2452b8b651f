"""One stage (twin, sample application, visitors) for all the drills of a session, with a proven good version on it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from drillbook import Drillbook

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def drillbook() -> Iterator[Drillbook]:
    with tempfile.TemporaryDirectory(prefix="drill-") as directory:
        book = Drillbook(Path(directory))
        try:
            book.open()
            with book.stage.visitors(150):
                book.prove_good()
                yield book
        finally:
            book.stage.tear_down()
