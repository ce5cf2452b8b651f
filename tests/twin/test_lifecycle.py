"""A twin comes up, stays itself over restarts and kill -9, and leaves no process and no secret behind."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kept import furnish

from backout.errors import BackoutError, UsageError
from backout.providers.child import is_running
from backout.twin import lifecycle
from backout.twin.home import Home, Note, ProcessMark, read_start_tick

from polling import PATIENCE_S, until
from twin_harness import multipart

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.twin.lifecycle import TwinStatus

CANARY = "canary-secret-5f1d"
HELLO = """export default { fetch(request, env) { return new Response("TEXT " + (env.S ?? "")) } };"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A twin's folder, whatever runs there at the end stopped."""
    directory = furnish(tmp_path / "twin")
    yield directory
    lifecycle.stop_twin(directory)


def upload(twin: TwinStatus, name: str, text: str) -> Any:
    binding = {"name": "S", "type": "secret_text", "text": CANARY}
    metadata = {"main_module": "index.js", "compatibility_date": "2026-10-01", "bindings": [binding]}
    body, content_type = multipart(metadata, {"index.js": HELLO.replace("TEXT", text)})
    token = Path(str(twin.api_token_file)).read_text()
    request = urllib.request.Request(
        f"{twin.api_base_url}/accounts/{twin.account_id}/workers/scripts/{name}",
        data=body,
        method="PUT",
        headers={"Content-Type": content_type, "Authorization": f"Bearer {token}"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
        return json.load(response)


def answer(twin: TwinStatus, name: str) -> str:
    request = urllib.request.Request(str(twin.ingress_url), headers={"Host": twin.workers[name]})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
        return str(response.read().decode())


def all_gone(twin: TwinStatus) -> bool:
    return not any(is_running(pid) for pid in twin.pids.values())


def test_up_is_complete_and_down_leaves_no_process(folder: Path) -> None:
    """`up` answers with every part running; `down` ends all of them, and both can be repeated."""
    assert lifecycle.read_status(folder).running is False
    twin = lifecycle.start_twin(folder)
    assert twin.running
    shown = twin.as_json()
    assert shown["schema"] == "backout.twin/1"
    assert None not in shown.values()
    assert {"twin", "postgres"} <= twin.pids.keys()
    assert lifecycle.start_twin(folder).pids == twin.pids, "a running twin is answered, not started again"
    assert lifecycle.stop_twin(folder).running is False
    assert all_gone(twin)
    assert lifecycle.stop_twin(folder).running is False


@pytest.mark.rotating("lives of a twin", 3)
@pytest.mark.long
def test_a_restart_is_the_same_twin_with_the_same_worker(folder: Path) -> None:
    """Port, account, token and the live deployment outlive a stop."""
    first = lifecycle.start_twin(folder)
    token = Path(str(first.api_token_file)).read_text()
    upload(first, "fm5", "one")
    lifecycle.stop_twin(folder)
    again = lifecycle.start_twin(folder)
    assert (again.api_base_url, again.account_id) == (first.api_base_url, first.account_id)
    assert Path(str(again.api_token_file)).read_text() == token
    assert again.workers == {"fm5": "fm5.localhost"}
    assert answer(again, "fm5") == f"one {CANARY}"


@pytest.mark.long
def test_a_killed_daemon_leaves_nothing_and_the_next_up_works(folder: Path) -> None:
    """After kill -9 every child ends by itself, and `up` brings the live Worker back."""
    twin = lifecycle.start_twin(folder)
    upload(twin, "fm5", "one")
    twin = lifecycle.read_status(folder)
    until(lambda: len(known_children(folder)) == len(twin.pids) - 1, what="the note of the Worker's process")
    os.kill(twin.pids["twin"], signal.SIGKILL)
    assert lifecycle.read_status(folder).running is False
    until(lambda: all_gone(twin), 5.0, "the end of the children")
    again = lifecycle.start_twin(folder)
    assert answer(again, "fm5") == f"one {CANARY}"
    assert again.pids["twin"] != twin.pids["twin"]


@pytest.mark.rotating("lives of a twin", 3)
@pytest.mark.long
def test_killed_at_any_moment_the_last_accepted_deployment_is_live(folder: Path) -> None:
    """Kill -9 in the middle of uploads: afterwards the last accepted one is live, or one begun after it."""
    draw = random.Random(20261125)  # noqa: S311 - repeatable moments
    number = accepted = 0
    for _ in range(3):
        twin = lifecycle.start_twin(folder)
        killer = threading.Timer(draw.uniform(0.05, 1.0), os.kill, (twin.pids["twin"], signal.SIGKILL))
        killer.start()
        with contextlib.suppress(OSError, http.client.HTTPException):
            while killer.is_alive() or is_running(twin.pids["twin"]):
                number += 1
                upload(twin, "fm5", f"number {number}")
                accepted = number
        killer.join()
        again = lifecycle.start_twin(folder)
        if accepted:
            live = int(answer(again, "fm5").split()[1])
            assert accepted <= live <= number
            accepted = live
        assert again.failed == ()
        lifecycle.stop_twin(folder)


def known_children(folder: Path) -> dict[str, ProcessMark]:
    note = Home(folder).note()
    return note.children if note else {}


@pytest.mark.rotating("lives of a twin", 3)
@pytest.mark.long
def test_a_restarting_worker_is_missed_by_nobody(folder: Path) -> None:
    """A killed workerd is started again by the daemon; the Worker answers as before."""
    twin = lifecycle.start_twin(folder)
    upload(twin, "fm5", "one")
    twin = lifecycle.read_status(folder)
    (pid,) = (pid for name, pid in twin.pids.items() if name.startswith("fm5 "))
    os.kill(pid, signal.SIGKILL)

    def is_back() -> bool:
        pids = lifecycle.read_status(folder).pids
        return any(name.startswith("fm5 ") and other != pid for name, other in pids.items())

    until(is_back, 10.0, "a new process of the Worker")
    assert answer(twin, "fm5") == f"one {CANARY}"


@pytest.mark.rotating("lives of a twin", 3)
@pytest.mark.long
def test_two_twins_from_two_folders(folder: Path, tmp_path: Path) -> None:
    """Each has its own ports, account and Workers."""
    other_folder = furnish(tmp_path / "other")
    one = lifecycle.start_twin(folder)
    try:
        other = lifecycle.start_twin(other_folder)
        upload(one, "fm5", "one")
        upload(other, "fm5", "other")
        assert answer(lifecycle.read_status(folder), "fm5").startswith("one")
        assert answer(lifecycle.read_status(other_folder), "fm5").startswith("other")
        assert one.api_base_url != other.api_base_url
        assert one.account_id != other.account_id
    finally:
        lifecycle.stop_twin(other_folder)
    assert lifecycle.read_status(folder).running


@pytest.mark.rotating("lives of a twin", 3)
@pytest.mark.long
def test_a_folder_deeper_than_a_sockets_name_can_be(tmp_path: Path) -> None:
    """A unix socket's path holds 107 bytes at most; a twin's folder may be longer, and have spaces."""
    folder = tmp_path / ("deep folder " * 6) / ("d" * 60)
    try:
        twin = lifecycle.start_twin(folder)
        upload(twin, "fm5", "one")
        assert answer(lifecycle.read_status(folder), "fm5").startswith("one")
    finally:
        lifecycle.stop_twin(folder)


@pytest.mark.rotating("lives of a twin", 3)
@pytest.mark.long
def test_two_ups_at_once_start_one_twin(folder: Path) -> None:
    """The second waits for the first and answers the same twin."""
    found: list[TwinStatus] = []
    threads = [threading.Thread(target=lambda: found.append(lifecycle.start_twin(folder))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len({status.pids["twin"] for status in found}) == 1
    assert len(found) == 2


@pytest.mark.rotating("lives of a twin", 3)
@pytest.mark.long
def test_a_taken_port_is_an_error_when_it_was_asked_for(folder: Path) -> None:
    """An explicit port that is taken is refused with the reason; a remembered one is replaced."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BackoutError, match=f"port {port} is taken"):
            lifecycle.start_twin(folder, port)
        Home(folder).remember_port(port)
        assert lifecycle.start_twin(folder).ingress_url != f"http://127.0.0.1:{port}"
    with pytest.raises(UsageError):
        lifecycle.start_twin(folder, 70_000)


@pytest.mark.rotating("lives of a twin", 3)
@pytest.mark.long
def test_secrets_are_in_one_private_file_only(folder: Path) -> None:
    """The value of a Worker's secret and the API's token are in no log, no configuration, no status."""
    twin = lifecycle.start_twin(folder)
    upload(twin, "fm5", "one")
    assert answer(lifecycle.read_status(folder), "fm5").endswith(CANARY)
    token = Path(str(twin.api_token_file)).read_text()
    assert CANARY not in json.dumps(lifecycle.read_status(folder).as_json())
    files = [path for path in folder.rglob("*") if path.is_file()]
    holders = {path.name for path in files if CANARY.encode() in path.read_bytes()}
    assert holders <= {"state.sqlite", "state.sqlite-wal"}
    assert {path.name for path in files if token.encode() in path.read_bytes()} == {"api-token"}
    private = [folder, folder / "state.sqlite", folder / "api-token"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in private] == [0o700, 0o600, 0o600]


def test_only_the_very_processes_that_were_recorded_are_ended(tmp_path: Path) -> None:
    """A process that got the number of a recorded one later is left alone."""
    home = Home(tmp_path / "twin")
    home.create()
    argv = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(argv) as ours, subprocess.Popen(argv) as stranger:
        marks = {
            "ours": ProcessMark(ours.pid, read_start_tick(ours.pid)),
            "stranger": ProcessMark(stranger.pid, read_start_tick(stranger.pid) - 1),
        }
        home.write_note(Note(ProcessMark(2**22 + 1, 1), 1, ready=True, children=marks))
        assert home.sweep() == (ours.pid,)
        assert ours.wait(PATIENCE_S) == -signal.SIGKILL
        assert stranger.poll() is None
        stranger.kill()
    assert home.note() is None
