"""Port Logs on what the processes of releases write: by release, with their times where they say them."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from backout.analysis.diagnosis.templates import Templates
from backout.errors import ProviderUnavailable
from backout.model.release import ReleaseNote
from backout.model.secrets import SecretValues
from backout.providers.caddy.hosts import Host
from backout.providers.caddy.ledger import Ledger
from backout.providers.caddy.processes import OwnProcesses
from backout.providers.caddy.release_logs import ReleaseLogs
from backout.providers.caddy.releases import ReleaseFolder
from backout.providers.caddy.slots import LiveSlots

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.incident.events import EventCounts

THROWN = """listening
TypeError: Cannot read properties of undefined (reading 'price')
    at listModels (/srv/shop/app/server.cjs:10:3)
    at process.processTicksAndRejections (node:internal/process/task_queues:105:5)
"""


@pytest.fixture
def releases(tmp_path: Path) -> ReleaseFolder:
    """A folder with two releases."""
    folder = ReleaseFolder(tmp_path / "releases", (9100, 9199))
    folder.prepare()
    code = tmp_path / "code"
    code.mkdir()
    (code / "server.py").write_text("pass")
    for _ in range(2):
        folder.push(code, ReleaseNote(), SecretValues({}), time.time())
    return folder


def read(releases: ReleaseFolder, since: float, until: float) -> EventCounts:
    place = releases.folder
    host = Host(releases, Ledger(place), LiveSlots(place), OwnProcesses(releases, "true"))
    return ReleaseLogs((host,), Templates()).read(since, until).counts


def test_what_a_process_throws_is_its_releases(releases: ReleaseFolder) -> None:
    """A line without a time is as old as the newest one of its file; a release without a log says nothing."""
    new, _ = (each.id for each in releases.list())
    (releases.folder / new / "log").write_text(2 * THROWN)
    now = time.time()
    (template,) = read(releases, now - 60, now + 1).templates
    assert template.sample.startswith("TypeError: Cannot read properties of undefined")
    assert {version: seen.invocations for version, seen in template.by_version.items()} == {new: 2}
    os.utime(releases.folder / new / "log", (now - 3600, now - 3600))
    assert read(releases, now - 60, now + 1).templates == ()


def test_a_line_that_says_its_time_counts_then(releases: ReleaseFolder) -> None:
    """However new the file is."""
    old = releases.list()[1].id
    (releases.folder / old / "log").write_text("2026-12-01T10:00:00Z ERROR cannot connect\n")
    at = 1_796_119_200.0
    (template,) = read(releases, at - 60, at + 60).templates
    assert template.first_seen == at
    assert read(releases, at + 60, time.time()).templates == ()


def test_a_log_that_may_not_be_read_is_no_silence(releases: ReleaseFolder) -> None:
    """It is said."""
    (releases.folder / releases.list()[0].id / "log").mkdir()
    with pytest.raises(ProviderUnavailable, match="the log cannot be read"):
        read(releases, 0.0, time.time())
