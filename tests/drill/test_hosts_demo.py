"""`backout demo --home hosts`: the whole sequence on a host with Caddy, by the command as a person types it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backout.cli.demo import DIRECTORY
from backout.providers.child import is_running
from backout.twin.hosts.leftovers import find_running
from backout.twin.lifecycle import read_status

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.rotating("nights on hosts", 3)

KEYS = {
    "schema", "home", "run_id", "deployed_good_version", "deployed_bad_version", "live_version", "detected_after_s",
    "rolled_back_after_s", "requests_seen_by_bad_version", "bad_requests_served", "verified", "criteria", "results",
    "report_path",
}  # fmt: skip


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder with a short path, for Caddy's socket."""
    with tempfile.TemporaryDirectory(prefix="demo-") as made:
        yield Path(made)


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "backout", *words]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "LANG": "C.UTF-8"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=2 * PATIENCE_S
    )


def test_a_bad_release_is_found_and_rolled_back(folder: Path) -> None:
    """The record is the one that `backout.demo/1` promises; nothing runs afterwards, and the report is there.

    The folder lies in a working copy, as that of `make demo` does: no release is of a commit that it lacks.
    """
    for words in (
        ("init", "-q"),
        ("-c", "user.name=dev", "-c", "user.email=d@e", "commit", "-q", "--allow-empty", "-m", "a"),
    ):
        subprocess.run((shutil.which("git") or "git", *words), cwd=folder, check=True, timeout=PATIENCE_S)
    done = run(folder, "demo", "--home", "hosts", "--json")
    (line,) = done.stdout.splitlines() or [done.stderr]
    record = json.loads(line)
    assert set(record) == KEYS, done.stderr
    assert (record["schema"], record["home"]) == ("backout.demo/1", "hosts")
    assert record["live_version"] == record["deployed_good_version"] != record["deployed_bad_version"]
    assert 0 < record["detected_after_s"] <= record["rolled_back_after_s"]
    assert 0 < record["bad_requests_served"] < record["requests_seen_by_bad_version"]
    assert done.returncode == (0 if record["verified"] else 1), done.stderr  # a busy machine may not verify it in time
    for said in ("Starting a host: Caddy, Postgres, S3, email", "backout release push: a bad version", "✓ read back"):
        assert said in done.stderr
    report = Path(record["report_path"])
    assert record["deployed_bad_version"][:8] in report.read_text(encoding="utf-8")
    twin = folder / DIRECTORY / "twin"
    assert (read_status(twin).running, find_running(twin / "releases")) == (False, {})


@pytest.mark.long
def test_what_is_kept_can_be_looked_at_and_taken_down(folder: Path) -> None:
    """After `--keep` every command that is named works on it; `twin down` ends the releases as well."""
    done = run(folder, "demo", "--home", "hosts", "--bad", "errors-all", "--keep")
    assert "errors-all" in done.stderr
    try:
        named = [line.removeprefix("next:").split("#")[0].split() for line in done.stderr.splitlines()]
        for words in [each for each in named if each[:1] == ["backout"]][:-1]:
            assert run(folder, *words[1:]).returncode in {0, 1}, words
        where = ("--config", f"{DIRECTORY}/backout.toml", "-e", "production")
        shown = json.loads(run(folder, "release", "list", *where, "--json").stdout)
        assert [each["share"] for each in shown["releases"]] == [0.0, 100.0]
        listed = run(folder, "twin", "status", "--dir", f"{DIRECTORY}/twin", "--json").stdout
        pids = json.loads(listed)["pids"]
        assert sum(name.startswith("release-") for name in pids) == 2
    finally:
        run(folder, "twin", "down", "--dir", f"{DIRECTORY}/twin")
    assert not any(is_running(pid) for pid in pids.values())
