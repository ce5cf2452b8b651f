"""A server that commands start and stop: whether it runs is read from its lock file, and never guessed."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from backout.errors import BackoutError, Refused
from backout.providers.postgres.server.own_server import CommandedServer
from backout.runbook.recovery.restore import release
from backout.runbook.recovery.tools import RELEASED, SWAPPED

if TYPE_CHECKING:
    from pathlib import Path


def server_in(folder: Path) -> CommandedServer:
    return CommandedServer(folder, "false", "false")


@pytest.mark.parametrize("content", ["", "\n", "garbled\n/data\n"])
def test_a_lock_file_that_names_no_process_is_no_stopped_server(tmp_path: Path, content: str) -> None:
    """Postgres refuses to start beside it, and asks a person; data directories are exchanged where none runs."""
    (tmp_path / "postmaster.pid").write_text(content, encoding="utf-8")
    with pytest.raises(BackoutError, match=r"its lock file, postmaster\.pid, names no process"):
        server_in(tmp_path).running()


def test_a_server_that_starts_has_not_written_into_it_yet(tmp_path: Path) -> None:
    """The file is made first."""
    file = tmp_path / "postmaster.pid"
    file.touch()
    later = threading.Timer(0.3, file.write_text, [f"{os.getpid()}\n"])
    later.start()
    assert server_in(tmp_path).running()
    later.join()


def test_without_a_lock_file_none_runs(tmp_path: Path) -> None:
    """Nor without the directory."""
    assert not server_in(tmp_path).running()
    assert not server_in(tmp_path / "missing").running()


def test_only_what_lies_beside_the_data_directory_is_removed(tmp_path: Path) -> None:
    """Anything else is refused, never passed over: who asked would say that it is gone."""
    data, kept, other = tmp_path / "data", tmp_path / "data.before", tmp_path / "elsewhere" / "data.before"
    for folder in (data, kept, other):
        folder.mkdir(parents=True)
    server = server_in(data)
    for refused in (data, other):
        with pytest.raises(Refused, match="it is not beside the data directory"):
            server.discard(str(refused))
    server.discard(str(kept))
    server.discard(str(kept))
    assert (data.exists(), other.exists(), kept.exists()) == (True, True, False)


def test_what_lies_elsewhere_keeps_nothing_else_from_being_released(tmp_path: Path) -> None:
    """A swap of a data directory that was configured earlier: it is refused and stays kept, the newer one goes."""
    older, newer = tmp_path / "elsewhere" / "data.before", tmp_path / "data.before"
    noted = []
    for folder in (older, newer):
        folder.mkdir(parents=True)

    def list_events(*, environment: str, kind: str) -> list[SimpleNamespace]:
        swaps = [SimpleNamespace(data={"kept": str(each), "incoming": ""}) for each in (older, newer)]
        return swaps if kind == SWAPPED else []

    journal = SimpleNamespace(events=list_events, note=lambda *told, actor: noted.append(told))
    bases, server = SimpleNamespace(release=lambda: None), server_in(tmp_path / "data")
    tools: Any = SimpleNamespace(
        environment="lab", actor="ann", journal=journal, bases=bases, server=server, has_server_withheld=False
    )
    with pytest.raises(Refused, match="it is not beside the data directory"):
        release(tools)
    assert (older.exists(), newer.exists()) == (True, False)
    assert noted == [("lab", RELEASED, str(newer), {"kept": str(newer)})]
