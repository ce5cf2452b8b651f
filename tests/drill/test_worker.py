"""Workers, through the real program: environments are shared, taken over and rolled back once, whoever dies."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from cut_proxy import cut_proxy
from fleet import fleet, load_config
from journal import toy
from journal_engines import journal_server

from backout.model.plan import PlanKind
from backout.providers.child import find_free_ports
from backout.runbook.serve.overviews import note_viewed, read_kept_status
from backout.wiring.records import open_journal
from backout.wiring.serve import Site

from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet import Fleet

    from backout.model.incident.incident import Event

__all__ = ["journal_server"]


def worker_of(process: subprocess.Popen[str]) -> str:
    return f"pid {process.pid} "


def count_guarded(made: Fleet, process: subprocess.Popen[str]) -> int:
    return sum(who.startswith(worker_of(process)) for who in made.read_guards().values())


def await_sharing(made: Fleet, first: subprocess.Popen[str], second: subprocess.Popen[str]) -> str:
    """Wait until each of two workers guards one of two environments, and return the first one's.

    Both are read at once: beside other work a lease may run out between two looks.
    """
    both = [worker_of(first), worker_of(second)]
    found: dict[str, str] = {}

    def look() -> bool:
        guards = made.read_guards()
        found.clear()
        found.update((each, name) for each in both for name, who in guards.items() if who.startswith(each))
        return len(guards) == len(found) == 2

    until(look, 60, "each guards one of them", process=second)
    return found[worker_of(first)]


def start_two(made: Fleet) -> tuple[subprocess.Popen[str], subprocess.Popen[str], str]:
    """Return two workers, one after the other, that share two environments, and the one that the first has kept."""
    first = made.start_worker()
    until(lambda: count_guarded(made, first) == 2, 20, "the first guards both", process=first)
    second = made.start_worker()
    return first, second, await_sharing(made, first, second)


def read_events(made: Fleet) -> list[Event]:
    journal = open_journal(load_config(made.folder, None, made.variables))
    assert journal.verify_chain().is_whole
    try:
        return list(journal.events())
    finally:
        journal.close()


def assert_rolled_back_once(made: Fleet, name: str) -> None:
    """The traffic went back in one switch, by one run that came to its end, and each event had the newest fence."""
    back = [each for each in made.read_switches(name) if " auto " in each["message"]]
    assert len(back) == 1, back
    assert made.read_live(name) == "good-1"
    events = [each for each in read_events(made) if each.environment == name]
    ended = [each for each in events if each.kind == "run.ok" and each.run.startswith("rollback-")]
    assert len(ended) == 1, events
    fences = [int(str(each.data["fence"])) for each in events if each.kind == "run.driven"]
    assert fences == sorted(set(fences)), fences


def is_back(made: Fleet, name: str) -> Callable[[], bool]:
    def look() -> bool:
        return made.read_live(name) == "good-1" and any(
            each.kind == "run.ok" and each.run.startswith("rollback-") for each in read_events(made)
        )

    return look


def has_begun(made: Fleet, name: str, version: str) -> Callable[[], bool]:
    """Whether a watch of that version is under way."""

    def look() -> bool:
        submitted = [each for each in read_events(made) if each.environment == name and each.kind == "run.submitted"]
        return any(version in str(each.data["plan"]) for each in submitted)

    return look


def ask(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_worker_guards_all_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """It rolls a bad deployment back, tells Prometheus how it is, and gives everything back at SIGTERM."""
    (port,) = find_free_ports(1)
    with fleet(tmp_path, 2) as made:
        process = made.start_worker("--json", "--listen", f"127.0.0.1:{port}")
        until(lambda: len(made.read_guards()) == 2, 20, "both are guarded", process=process)
        made.deploy("app-1", "bad-2")
        until(is_back(made, "app-1"), 30, "the bad version is gone", process=process)
        status, health = ask(port, "/healthz")
        assert (status, json.loads(health)["guards"]) == (200, ["app-0", "app-1"]), health
        metrics = ask(port, "/metrics")[1]
        assert 'backout_guarded{environment="app-1"} 1.0' in metrics
        assert "backout_worker_leases_taken_total 2.0" in metrics
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
        assert_rolled_back_once(made, "app-1")
        assert made.read_guards() == {}
        said = [json.loads(line) for line in made.read_log(0).splitlines()]
        assert {each["schema"] for each in said} == {"backout.worker/1"}
        assert [each["type"] for each in said if each["type"] != "line"] == ["started", "took", "took", "stopped"]
        assert any(each["of"] == "app-1" and "quarantine" in str(each.get("text")) for each in said), said


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--listen", "0.0.0.0:9464"), "only a loopback address"),
        (("--listen", "9464"), "it is not ADDRESS:PORT"),
        (("--only", "nowhere"), "there is no environment 'nowhere'"),
    ],
)
def test_what_it_cannot_do_it_says_at_once(tmp_path: Path, words: tuple[str, ...], why: str) -> None:
    with fleet(tmp_path, 1) as made:
        assert made.start_worker(*words).wait(PATIENCE_S) == 2
        assert why in made.read_log(0)
        assert made.read_guards() == {}


@pytest.mark.long
@pytest.mark.rotating("workers", 4)
@pytest.mark.usefixtures("on_server")
@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_another_worker_takes_over_in_the_middle_of_a_watch(tmp_path: Path, how: str) -> None:
    """And rolls back once; the one that was frozen wakes up, and writes nothing to what it had."""
    with fleet(tmp_path, 2, journal_url=toy.url_of(tmp_path), watch="25s") as made:
        first, second, name = start_two(made)
        made.deploy(name, "bad-2")
        until(has_begun(made, name, "bad-2"), 30, "the watch has begun", process=first)
        first.send_signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        stopped_at = time.time()
        until(lambda: count_guarded(made, second) == 2, 30, "it is taken over", process=second)
        until(is_back(made, name), 60, "the bad version is gone", process=second)
        if how == "frozen":
            first.send_signal(signal.SIGCONT)
            until(lambda: "lost" in made.read_log(0), 20, "it knows that it lost", process=first)
            first.send_signal(signal.SIGTERM)
            assert first.wait(PATIENCE_S) == 0
        assert_rolled_back_once(made, name)
        driven = [each for each in read_events(made) if each.environment == name and each.kind == "run.driven"]
        by_first = [each for each in driven if each.data["pid"] == first.pid]
        assert by_first
        assert all(each.at < stopped_at for each in by_first)


@pytest.mark.long
@pytest.mark.rotating("workers", 4)
@pytest.mark.usefixtures("on_server")
@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_another_worker_takes_over_in_the_middle_of_a_rollback(tmp_path: Path, how: str) -> None:
    """The environment's lease runs out before the run's does: the rollback goes on as soon as it may."""
    with fleet(tmp_path, 2, journal_url=toy.url_of(tmp_path), watch="25s") as made:
        first, second, name = start_two(made)
        made.deploy(name, "bad-2")
        journal = open_journal(load_config(made.folder, None, made.variables))
        with closing(journal):
            until(lambda: any(run.plan.kind is PlanKind.ROLLBACK for run in journal.walk_runs(name)), 90, "a rollback")
        first.send_signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        until(is_back(made, name), 60, "the bad version is gone", process=second)
        if how == "frozen":
            first.send_signal(signal.SIGCONT)
            until(lambda: "lost" in made.read_log(0), 20, "it knows that it lost", process=first)
        assert_rolled_back_once(made, name)


@pytest.mark.long
@pytest.mark.rotating("workers", 4)
@pytest.mark.usefixtures("on_server")
def test_a_worker_that_is_cut_off_from_the_journal_changes_nothing(tmp_path: Path) -> None:
    """Another one takes over what it had; when the way is back it knows, and goes on with what it is given."""
    url = toy.url_of(tmp_path)
    port = int(url.rpartition(":")[2].partition("/")[0])
    with fleet(tmp_path, 2, journal_url=url, watch="25s") as made, cut_proxy(port) as way:
        through, made.variables = made.variables, {"BACKOUT_JOURNAL_URL": url.replace(f":{port}/", f":{way.port}/")}
        first = made.start_worker()
        made.variables = through
        until(lambda: count_guarded(made, first) == 2, 20, "the first guards both", process=first)
        second = made.start_worker()
        name = await_sharing(made, first, second)
        way.cut()
        made.deploy(name, "bad-2")
        until(is_back(made, name), 90, "the other one rolled back", process=second)
        way.heal()
        until(lambda: count_guarded(made, first) == 1, 60, "the first one works again", process=first)
        assert_rolled_back_once(made, name)


@pytest.mark.long
@pytest.mark.rotating("workers", 4)
@pytest.mark.usefixtures("on_server")
def test_a_rolling_restart_leaves_nothing_alone(tmp_path: Path) -> None:
    """A new worker first, then the old one is told to stop: by the server's own clock somebody always looks."""
    with fleet(tmp_path, 3, journal_url=toy.url_of(tmp_path), watch="10s") as made:
        first = made.start_worker()
        until(lambda: count_guarded(made, first) == 3, 20, "all are guarded", process=first)
        second = made.start_worker()
        until(lambda: count_guarded(made, second) >= 1, 60, "they share", process=second)
        first.send_signal(signal.SIGTERM)
        assert first.wait(PATIENCE_S) == 0
        until(lambda: count_guarded(made, second) == 3, 20, "the second guards all", process=second)
        took = [each for each in read_events(made) if each.kind == "worker.took"]
        by_name = {name: [each for each in took if each.environment == name] for name in made.names}
        for name, each in by_name.items():
            assert all(int(str(a.data["fence"])) < int(str(b.data["fence"])) for a, b in pairwise(each)), name
            assert all("instead_of" not in event.data for event in each), name  # given back: none ran out


@pytest.mark.long
@pytest.mark.rotating("workers", 4)
@pytest.mark.usefixtures("on_server")
def test_a_worker_has_three_connections_to_the_journal_however_much_it_guards(tmp_path: Path) -> None:
    """Postgres has a hundred by default, for all workers; the queue of ranges has its own."""

    def count() -> int:
        with psycopg.connect(made.variables["BACKOUT_JOURNAL_URL"]) as connection:
            found = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'backout'")
            return int(found.fetchone()[0])  # type: ignore[index]

    with fleet(tmp_path, 5, journal_url=toy.url_of(tmp_path), watch="5s") as made:
        book = open_journal(load_config(made.folder, None, made.variables))
        process = made.start_worker()
        note_viewed(book, made.names, time.time() + 3600)  # somebody looks at each, however slow this machine is
        until(lambda: all(read_kept_status(book, name) for name in made.names), 60, "each was read", process=process)
        until(lambda: count_guarded(made, process) == 5, 30, "all are guarded", process=process)
        book.close()
        gc.collect()  # the test's own connections
        assert 0 < count() <= 3


@pytest.fixture
def on_server(journal_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `toy.url_of` make databases on the server."""
    monkeypatch.setenv(toy.SERVER, journal_server)


@pytest.mark.long
@pytest.mark.rotating("workers", 4)
@pytest.mark.usefixtures("on_server")
def test_whatever_reads_all_environments_does_it_on_one_connection(tmp_path: Path) -> None:
    """`status` of all of them, and the pages; counted by the server, which has no more than a hundred for everybody."""

    def count_sessions() -> int:
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        with psycopg.connect(made.variables["BACKOUT_JOURNAL_URL"], autocommit=True) as connection:
            until(lambda: connection.execute(others).fetchone() == (0,), PATIENCE_S, "all have ended, and are counted")
            query = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()"
            return int(connection.execute(query).fetchone()[0])  # type: ignore[index]

    with fleet(tmp_path, 6, journal_url=toy.url_of(tmp_path)) as made:
        gc.collect()
        before = count_sessions()
        program = str(Path(sys.executable).parent / "backout")
        words, variables = (program, "status", "--json"), {**os.environ, **made.variables}
        shown = subprocess.run(words, cwd=made.folder, env=variables, capture_output=True, text=True, check=False)
        assert len(json.loads(shown.stdout)["environments"]) == 6, shown.stderr
        used_by_status = count_sessions() - before
        site = Site(load_config(made.folder, None, made.variables))
        for name in made.names:
            site.open_journal(name).runs(name)
        site.read_views(made.names)
        site.close()
        used_by_pages = count_sessions() - before - used_by_status
        assert (used_by_status - 1, used_by_pages - 1) == (2, 1)  # but for our own that count
