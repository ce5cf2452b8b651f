"""What the tests of the pages have in common: a server that is theirs for a module, and the journal's engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from journal_engines import engine, journal_server, on_postgres
from web_lab import open_lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from web_lab import Lab

__all__ = ["engine", "journal_server", "on_postgres"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Lend a server on a journal in a file, with a night in each environment."""
    with open_lab(tmp_path_factory.mktemp("web")) as made:
        yield made
