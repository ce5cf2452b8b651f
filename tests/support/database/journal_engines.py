"""The journal's engines: what is promised of it is tried on a file of SQLite and on a real Postgres."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from journal import toy
from kept import template

from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def journal_server() -> Iterator[str]:
    """Return the connection string of a server for journals, one for all tests; toy makes its databases."""
    with tempfile.TemporaryDirectory(prefix="journals-") as folder:
        server = PostgresServer(Path(folder, "data"), find_binaries(), settings={"fsync": "off"})
        server.create(cache_directory=template())
        try:
            port = server.start(password=toy.PASSWORD).port
            yield f"postgresql://postgres:{toy.PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            server.stop(mode="immediate")


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have the journals of `toy` kept there."""
    if request.param == "postgres":
        monkeypatch.setenv(toy.SERVER, request.getfixturevalue("journal_server"))
    else:
        monkeypatch.delenv(toy.SERVER, raising=False)
    return str(request.param)


_ON_SERVER = pytest.param("postgres", marks=(pytest.mark.long, pytest.mark.rotating("crash sweeps", 6)))


def on_both(test: Callable[..., None]) -> Callable[..., None]:
    """Have a sweep over moments of a crash tried with a file, and in `make test-all` with a server as well."""
    swept = pytest.mark.parametrize("engine", ["sqlite", _ON_SERVER], indirect=True)(test)
    marked: Callable[..., None] = pytest.mark.usefixtures("engine")(swept)
    return marked


@pytest.fixture
def on_postgres(journal_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the journals of `toy` kept on a server."""
    monkeypatch.setenv(toy.SERVER, journal_server)
