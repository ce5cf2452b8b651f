"""The sides that the contract suites of the platform's ports run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backout.twin import lifecycle

from platform_sides import MemorySide, Side, TwinSide
from twin_harness import running_api

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backout.twin.lifecycle import TwinStatus


@pytest.fixture(params=["memory", "cloudflare"])
def side(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Side]:
    """An application without any version yet."""
    if request.param == "memory":
        yield MemorySide()
        return
    with running_api(tmp_path) as api:
        yield TwinSide(api)


@pytest.fixture(scope="session")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwinStatus]:
    """A real twin: its API, its workerd processes, its Postgres."""
    directory = tmp_path_factory.mktemp("contract") / "twin"
    running = lifecycle.up(directory)
    try:
        yield running
    finally:
        lifecycle.down(directory)
