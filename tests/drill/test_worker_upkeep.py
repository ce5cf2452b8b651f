"""A worker keeps a real database backed up: it begins a base backup, a proof that it can be restored, and a drill."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from backout.config import Environment, load
from backout.providers.child import tie_to_parent
from backout.runbook.worker.job_runner import KIND
from backout.twin.stage import Pace, Stage
from backout.wiring.records import open_journal

from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = str(Path(sys.executable).with_name("backout"))
LONG_S = 8 * PATIENCE_S
ENV = "production"
BACKED_UP = ', migrations = "prisma", backup = { wal = "stream" } }'


def type_line(stage: Stage, *words: str) -> Any:
    """Return what a command answers."""
    argv = (PROGRAM, *words, "-e", ENV, "--json")
    done = subprocess.run(argv, cwd=stage.directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Lend the sample application on a twin, with a database whose changes are kept."""
    made = Stage(tmp_path / "shop", Pace(watch_s=25, error_rate_for_s=8, quiet_s=2), tied=True)
    made.set_up()
    try:
        text = made.config_file.read_text(encoding="utf-8")
        assert ', migrations = "prisma" }' in text
        made.config_file.write_text(text.replace(', migrations = "prisma" }', BACKED_UP), encoding="utf-8")
        made.query("ALTER SYSTEM SET max_slot_wal_keep_size = '1GB'")
        made.query("SELECT pg_reload_conf()")
        made.deploy("good")
        type_line(made, "db", "wal", "start")
        yield made
        subprocess.run((PROGRAM, "db", "wal", "stop", "-e", ENV), cwd=made.directory, capture_output=True, check=False)
    finally:
        made.tear_down()


def read_jobs(stage: Stage) -> dict[str, list[str]]:
    """Return the outcomes of each job, as the journal has them, in order."""
    journal = open_journal(load(Environment({}), start=stage.directory, environment=ENV))
    try:
        found: dict[str, list[str]] = {}
        for each in journal.events(environment=ENV, kind=KIND):
            found.setdefault(str(each.data["job"]), []).append(str(each.data["outcome"]))
        return found
    finally:
        journal.close()


@pytest.mark.long
@pytest.mark.rotating("workers and requests", 6)
def test_a_worker_backs_up_proves_and_drills(stage: Stage) -> None:
    """In that order; each is read back by the command that lists its kind, and the backup's files are there."""
    log_file = stage.directory / "worker.log"
    with log_file.open("w") as log:
        argv = tie_to_parent((PROGRAM, "worker", "--drills"), signal.SIGKILL)
        worker = subprocess.Popen(argv, cwd=stage.directory, stdout=log, stderr=log)

    def has_done_all() -> bool:
        done = {job.partition(" ")[0] for job, outcomes in read_jobs(stage).items() if "done" in outcomes}
        return {"backup", "proof", "drill"} <= done

    try:
        until(has_done_all, LONG_S, "a backup, a proof and a drill are done", 1.0)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(LONG_S) == 0, log_file.read_text()
    finally:
        worker.kill()
        worker.wait()
    jobs = read_jobs(stage)
    assert list(jobs)[:2] == ["backup", "proof"]
    assert jobs["backup"] == jobs["proof"] == ["began", "done"], log_file.read_text()
    listed = type_line(stage, "db", "backups", "list")
    (backup,) = listed["backups"]
    assert any(backup["id"] in each.name for each in Path(listed["store"]).rglob("*"))
    assert backup["ended_at"] < listed["protection"]["proved_at"]
    passed = [each["name"] for each in type_line(stage, "drill", "history")["drills"]]
    assert {f"drill {name}" for name in passed} == {job for job in jobs if "done" in jobs[job]} - {"backup", "proof"}
