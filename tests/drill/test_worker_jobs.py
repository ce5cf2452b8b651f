"""What a worker runs beside guarding: on a real store, with the real program; and a child ends with its worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fleet import fleet, load_config
from store_lab import open_store

from backout.config import Environment, load
from backout.model.drill import DrillPlace
from backout.providers.child import find_free_ports, is_running
from backout.runbook.backup.proof import PROOF_FAILED, PROVED
from backout.runbook.incident.drills import record_start
from backout.runbook.worker.job_runner import KIND
from backout.wiring.records import open_journal
from backout.wiring.worker_child import WorkerChild
from backout.wiring.worker_jobs import ConfiguredJobs

from polling import PATIENCE_S, until
from private import write_private
from streamed import await_line

if TYPE_CHECKING:
    from fleet import Fleet
    from store_lab import Store

PARENT = """
import sys, time
from backout.wiring.worker_child import WorkerChild
waits = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
child = WorkerChild((sys.executable, "-c", waits), ".", print, "x")
while child.wait(0.1) is None:
    sys.stdout.flush()
"""


def add_bucket(made: Fleet, store: Store) -> str:
    """Give the fleet's application a bucket with a history; return the history's."""
    bucket, history = store.make(versions=False), store.make(versions=False)
    store.boto.put_object(Bucket=bucket, Key="a", Body=b"one")
    write_private(made.folder / "access.json", json.dumps(store.access))
    write_private(made.folder / "key", "k" * 40)
    with (made.folder / "backout.toml").open("a") as file:
        file.write(
            f'[environments.app-0.storage]\nprovider = "s3"\nbucket = "{bucket}"\nhistory = "{history}"\n'
            'credentials_file = "access.json"\nhistory_key_file = "key"\n'
        )
    return history


def read_outcomes(made: Fleet) -> list[dict[str, object]]:
    journal = open_journal(load_config(made.folder, None, made.variables))
    try:
        return [dict(each.data) for each in journal.events(environment="app-0", kind=KIND)]
    finally:
        journal.close()


def test_a_worker_takes_the_snapshots_that_are_due(tmp_path: Path) -> None:
    """One is in the bucket of the history, the journal and the metrics know of it."""
    (port,) = find_free_ports(1)
    (tmp_path / "s3").mkdir()
    (tmp_path / "fleet").mkdir()
    with open_store(tmp_path / "s3") as store, fleet(tmp_path / "fleet", 1) as made:
        history = add_bucket(made, store)
        process = made.start_worker("--json", "--listen", f"127.0.0.1:{port}")
        until(lambda: len(read_outcomes(made)) == 2, 150, "a snapshot was taken", process=process)
        began, ended = read_outcomes(made)
        assert (began["outcome"], ended["outcome"], ended["exit_code"]) == ("began", "done", 0), made.read_log(0)
        assert [key for key in store.list_live(history) if "/manifests/" in key]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            metrics = answer.read().decode()
        assert 'backout_job_done_seconds{environment="app-0",job="snapshot"}' in metrics
        assert 'backout_job_failures{environment="app-0",job="snapshot"} 0.0' in metrics
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
        said = [json.loads(line) for line in made.read_log(0).splitlines()]
        told = [each for each in said if each["type"] == "job"]
        assert {(each["of"], each["job"]) for each in told} == {("app-0", "snapshot")}
        assert told[0]["text"] == "begins"
        assert told[-1]["text"].startswith("is done after")
        assert "k" * 40 not in made.read_log(0)


def test_drills_and_guard_only_exclude_each_other(tmp_path: Path) -> None:
    with fleet(tmp_path, 1) as made:
        assert made.start_worker("--drills", "--guard-only").wait(PATIENCE_S) == 2
        assert "drills are jobs, too" in made.read_log(0)


def test_a_job_hears_sigterm_and_its_lines_are_passed_on(tmp_path: Path) -> None:
    heard: list[str] = []
    waits = (sys.executable, "-c", "import time; print('one', flush=True); print(); time.sleep(600)")
    child = WorkerChild(waits, str(tmp_path), heard.append, "x")
    until(lambda: heard == ["one"], PATIENCE_S, "it is at work")
    assert child.wait(0.01) is None
    child.terminate()
    assert child.wait(PATIENCE_S) == -signal.SIGTERM
    child.kill()


@pytest.mark.skipif(not Path("/proc").exists(), reason="only Linux ends a child with its parent")
def test_a_killed_worker_takes_its_job_with_it(tmp_path: Path) -> None:
    with subprocess.Popen(
        (sys.executable, "-c", PARENT), cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as parent:
        pid = int(await_line(parent, ""))
        assert is_running(pid)
        parent.kill()
        until(lambda: not is_running(pid), PATIENCE_S, "the job has ended")


class Jobs:
    """The jobs of a configuration, with its journal."""

    def __init__(self, folder: Path, **database: str) -> None:
        more = "".join(f"{name} = {value}\n" for name, value in database.items())
        write_private(folder / "backout.toml", CONFIG.format(more=more))
        self.config = load(Environment({}), start=folder)
        self.journal = open_journal(self.config)
        self.work = ConfiguredJobs(self.config, self.journal, lambda *_: None, {"throws": 604_800.0}, ())

    def names(self, environment: str) -> list[str]:
        return [job.name for job in self.work.list_jobs(environment)]


CONFIG = """[app]
name = "shop"
[environments.staging.platform]
provider = "cloudflare"
script = "shop-staging"
account_id = "0123456789abcdef0123456789abcdef"
[environments.production.platform]
provider = "cloudflare"
script = "shop"
account_id = "0123456789abcdef0123456789abcdef"
[environments.production.database]
provider = "postgres"
url_env = "DATABASE_URL"
[environments.production.database.backup]
{more}"""


def test_the_configuration_says_which_jobs_there_are(tmp_path: Path) -> None:
    """Backups where they are set up or there were some; drills with the first environment alone."""
    assert Jobs(tmp_path).names("production") == []
    assert Jobs(tmp_path).names("staging") == ["drill throws"]
    assert Jobs(tmp_path, wal='"stream"').names("production") == ["backup", "proof"]
    assert Jobs(tmp_path, wal='"stream"', prove_within='"0s"').names("production") == ["backup"]
    (tmp_path / ".backout" / "backups" / "production").mkdir(parents=True, mode=0o700)
    (tmp_path / ".backout").chmod(0o700)
    assert Jobs(tmp_path).names("production") == ["backup", "proof"]


def test_proofs_and_drills_of_a_person_count(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, wal='"stream"')
    _, proof = jobs.work.list_jobs("production")
    (drill,) = jobs.work.list_jobs("staging")
    assert jobs.work.find_elsewhere(proof) is jobs.work.find_elsewhere(drill) is None
    jobs.journal.note("production", PROVED, "1", {"at": 1_800_000_000.0}, actor="me")
    assert jobs.work.find_elsewhere(proof) == 1_800_000_000.0
    jobs.journal.note("production", PROOF_FAILED, "2", {"why": "damaged"}, actor="me")
    assert jobs.work.find_elsewhere(proof) is None
    record_start(jobs.journal, "r", "throws", DrillPlace.TWIN, actor="me")
    assert jobs.work.find_elsewhere(drill) is None
    assert not jobs.work.is_run_under_way("production")
    jobs.journal.close()
