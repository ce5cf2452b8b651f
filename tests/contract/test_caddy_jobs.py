"""Job workers of releases behind a real Caddy: real processes, which run for the live release alone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from caddy_home import caddy_home, get_last

from backout import config
from backout.errors import BackoutError, ProviderUnavailable
from backout.model.clock import to_utc
from backout.model.jobs import RunningJobs
from backout.model.release import MAINTENANCE, ReleaseNote
from backout.model.secrets import SecretValues
from backout.plan.jobs import name_lane
from backout.providers.caddy.hosts import Host
from backout.providers.caddy.jobs import HostJobs
from backout.providers.caddy.ledger import Ledger
from backout.providers.caddy.processes import CommandProcesses
from backout.providers.caddy.releases import ReleaseFolder
from backout.providers.caddy.slots import LiveSlots
from backout.wiring.caddy import open_home

from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from caddy_home import CaddyShop

_JOBS = """import os, pathlib, signal, subprocess, sys
what, folder, release = sys.argv[1:]
place = pathlib.Path(folder, release)
pid = int(place.read_text()) if place.exists() else 0
alive = pid and pathlib.Path(f"/proc/{pid}").exists()
if what == "start" and not alive:
    worker = [sys.executable, "-S", "-E", "-c", "import time; time.sleep(600)"]
    place.write_text(str(subprocess.Popen(worker, start_new_session=True).pid))
    with open(place.with_name("log"), "a") as log:
        log.write(f"start {release}\\n")
elif what == "stop" and alive:
    if not place.with_name("stuck").exists():
        os.kill(pid, signal.SIGKILL)
    with open(place.with_name("log"), "a") as log:
        log.write(f"stop {release}\\n")
elif what == "show":
    print(2 if alive else "stopped")
"""
"""Starts, stops and shows the worker of a release: a process whose id is in a file; it has two jobs."""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[CaddyShop]:
    """Return an environment with job workers."""
    folder = tmp_path / "jobs"
    folder.mkdir()
    kept = folder / "workers"
    kept.mkdir()
    (folder / "jobs.py").write_text(_JOBS)
    with caddy_home(folder) as home:
        line = f"{sys.executable} -S -E {folder / 'jobs.py'} {{}} {kept} {{{{release}}}}"
        table = "".join(f'{each} = "{line.format(each)}"\n' for each in ("start", "stop", "show"))
        settings = folder / "backout.toml"
        settings.write_text(
            f"{settings.read_text()}[environments.production.platform.caddy.jobs]\nwithin = '2s'\n{table}"
        )
        try:
            yield home
        finally:
            for each in kept.iterdir():
                if each.name not in ("log", "stuck"):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(each.read_text()), signal.SIGKILL)


@pytest.mark.long
@pytest.mark.rotating("job workers", 2)
def test_workers_follow_each_push_and_each_rollback(shop: CaddyShop) -> None:
    """Those of the release before end first; what runs is read back, and the list shows it."""
    one = get_last(shop.push("good one"))
    first = one["release"]["id"]  # type: ignore[index]
    assert (one["jobs"]["problem"], bool(one["jobs"]["run_id"])) == (None, True)  # type: ignore[index]
    second = get_last(shop.push("good two"))["release"]["id"]  # type: ignore[index]
    third = get_last(shop.push("good three", "--traffic", "10"))
    assert third["jobs"] is None  # another release has most of the visitors, and the workers
    log = shop.host.folder / "workers/log"
    assert log.read_text().split("\n")[:-1] == [f"start {first}", f"stop {first}", f"start {second}"]
    assert list_working(shop) == {second: {"localhost": 2}}

    plan = json.loads(shop.run("rollback", first, "-m", "back", "--accept-unproven", "--dry-run", "--json").out)
    titles = [step["title"] for step in plan["plan"]["steps"]]
    assert f"stop the job workers of every version but {first[:8]}; what is in flight has 2.0 s" in titles
    equivalents = [step["equivalent"] for step in plan["plan"]["steps"] if step["action"] == "start_jobs"]
    assert equivalents[0].endswith(f"jobs.py start {shop.host.folder / 'workers'} {first}")
    shop.run("rollback", first, "-m", "back", "--accept-unproven", "--no-wait", "--yes", "--json", code=None)
    assert list_working(shop) == {first: {"localhost": 2}}
    assert log.read_text().split("\n")[-3:-1] == [f"stop {second}", f"start {first}"]


@pytest.mark.long
@pytest.mark.rotating("job workers", 2)
def test_a_recovery_ends_workers_behind_its_page_and_starts_those_of_the_code_of_then(shop: CaddyShop) -> None:
    """Also where there is no page; `--undo` has those of the release of before run again."""
    first, then = shop.push("good one").json["live"], time.time()
    second = shop.push("good two").json["live"]
    log = shop.host.folder / "workers/log"
    log.unlink()
    words = ("recover", "--to", to_utc(then).isoformat(), "-m", "back", "--confirm", "production", "--no-wait")
    steps = json.loads(shop.run(*words, "--dry-run", "--json").out)["plan"]["steps"]
    assert not log.exists()  # no command is run for a plan that moves one
    typed = {step["action"]: step["equivalent"] for step in steps}
    assert typed["stop_jobs"].endswith(f"jobs.py stop {shop.host.folder / 'workers'} {second}")
    assert typed["start_jobs"].endswith(f"jobs.py start {shop.host.folder / 'workers'} RELEASE")
    shop.run(*words, "--json")
    live = shop.tools().deployments.history()[0].main
    assert live not in (first, second)
    assert log.read_text().split("\n")[:-1] == [f"stop {second}", f"start {live}"]
    assert list_working(shop) == {live: {"localhost": 2}}
    shop.run("recover", "--undo", "-m", "it was wrong", "--confirm", "production", "--no-wait", "--json")
    assert list_working(shop) == {second: {"localhost": 2}}


def list_working(shop: CaddyShop) -> dict[str, object]:
    """Return the releases whose workers run."""
    listed = json.loads(shop.run("release", "list", "--json").out)["releases"]
    return {each["id"]: each["jobs"] for each in listed if each["jobs"]}


@pytest.mark.long
@pytest.mark.rotating("job workers", 2)
def test_workers_that_do_not_end_leave_a_run_to_resume(shop: CaddyShop) -> None:
    """Exit code 5, with the number of their jobs; those of the new release are not started beside them."""
    stuck = shop.host.folder / "workers/stuck"
    shop.push("good one")
    before = list_working(shop)
    stuck.touch()
    pushed = get_last(shop.push("good four", ends=5))
    assert pushed["live"] == pushed["release"]["id"]  # type: ignore[index]
    assert "2 jobs in flight still run" in pushed["jobs"]["problem"]  # type: ignore[index]
    assert list_working(shop) == before
    stuck.unlink()
    run = pushed["jobs"]["run_id"]  # type: ignore[index]
    shop.run("runs", "resume", run)
    assert list_working(shop) == {pushed["live"]: {"localhost": 2}}
    kept = shop.run("release", "prune", "--keep", "0", "--dry-run", "--json")
    assert pushed["live"] not in [each["id"] for each in json.loads(kept.out)["removed"]]


@pytest.mark.long
@pytest.mark.rotating("job workers", 2)
def test_a_push_whose_run_is_ended_meanwhile_does_not_say_that_the_workers_followed(shop: CaddyShop) -> None:
    """What was not read back is not said: exit code 5, and what to type."""
    settings = shop.host.folder / "backout.toml"
    settings.write_text(settings.read_text().replace("within = '2s'", "within = '60s'"))
    shop.push("good one")
    (shop.host.folder / "workers/stuck").touch()
    lane, runs = name_lane("production"), shop.tools().runs
    before = runs.runs(lane)[0].id

    def end_run() -> None:
        until(lambda: runs.runs(lane)[0].id != before, 120, "the run that moves the workers")
        runs.ask(runs.runs(lane)[0].id, "abort", actor="ops@host", reason="another way")

    ending = threading.Thread(target=end_run)
    ending.start()
    try:
        pushed = get_last(shop.push("good two", ends=5))
    finally:
        ending.join()
    assert "is aborted: which job workers run was not read back" in pushed["jobs"]["problem"]  # type: ignore[index]


def test_a_command_that_shows_nonsense_is_not_believed(tmp_path: Path) -> None:
    """Neither as a number nor as an end of the workers."""
    folder = ReleaseFolder(tmp_path / "releases", (9100, 9199))
    folder.prepare()
    (tmp_path / "code").mkdir()
    (tmp_path / "code/page").write_text("x")
    made = folder.push(tmp_path / "code", ReleaseNote(), SecretValues({}), 1.0)
    host = Host(folder, Ledger(folder.folder), LiveSlots(folder.folder), CommandProcesses(folder, "true", "true"))

    def read(script: str) -> tuple[RunningJobs, ...]:
        show = f'{sys.executable} -S -E -c "{script}"'
        return HostJobs((host,), start="true", stop="true", show=show, within_s=1.0).read().running

    assert read("print(7)") == (RunningJobs(made.id, "localhost", 7),)
    assert read("print('stopped')") == ()
    asked = tmp_path / "asked"
    jobs = HostJobs((host,), start="true", stop="true", show=f"touch {asked}", within_s=1.0)
    assert jobs.read(["another"]).running == ()
    assert not asked.exists()  # only those of the releases that are waited for
    for script, said in (
        ("print('many')", "says 'many'"),
        ("raise SystemExit(3)", "exit code 3"),
        ("print(-1)", "says '-1'"),
    ):
        with pytest.raises(ProviderUnavailable, match=said):
            read(script)


def test_a_maintenance_page_has_no_workers(tmp_path: Path) -> None:
    """No command is run for it: its address is a socket, which no port can be read from."""
    folder = ReleaseFolder(tmp_path / "releases", (9100, 9199))
    folder.prepare()
    (tmp_path / "code").mkdir()
    (tmp_path / "code/page").write_text("x")
    page = folder.push(tmp_path / "code", ReleaseNote(), SecretValues({}), 1.0, source=MAINTENANCE)
    host = Host(folder, Ledger(folder.folder), LiveSlots(folder.folder), CommandProcesses(folder, "true", "true"))
    jobs = HostJobs((host,), start="false {port}", stop="false {port}", show="echo 1", within_s=1.0)
    assert jobs.read().running == ()
    jobs.stop(page.id)
    jobs.start(page.id)


def test_without_their_commands_nothing_is_known_and_nothing_moved(tmp_path: Path) -> None:
    """`--no-commands`: a plan then has a note in place of the steps."""
    text = """[app]\nname = "shop"\n[environments.production.platform]\nprovider = "caddy"
[environments.production.platform.caddy]\nreleases = "releases"\nrun = "true"
[environments.production.platform.caddy.jobs]\nstart = "a"\nstop = "b"\nshow = "c"\n"""
    (tmp_path / "backout.toml").write_text(text)
    loaded = config.load(config.Environment(), start=tmp_path, environment="production", no_commands=True)
    jobs = open_home(loaded).make_jobs()
    assert jobs is not None
    assert jobs.setup.withheld
    assert jobs.read().problem
    with pytest.raises(BackoutError, match="no-commands"):
        jobs.stop("v1")
    loaded = config.load(config.Environment(), start=tmp_path, environment="production")
    assert isinstance(open_home(loaded).make_jobs(), HostJobs)
