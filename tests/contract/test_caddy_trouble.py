"""Trouble on a host of releases, an item each: what is said, and that nothing is claimed which was not read back.

A release that is dead on start, a port that is taken and a folder that was changed after the push are in
test_caddy.py; ssh in trouble is in test_ssh_hosts.py; logs that are rotated, also elsewhere, in test_logs.py and
test_remote_log.py.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from caddy_lab import caddy_host, find_caddy, running_caddy

from backout.errors import BackoutError, ProviderUnavailable, WorldMoved
from backout.providers.caddy.access_log import FIELDS
from backout.providers.caddy.agent import accepts
from backout.providers.caddy.deployments import CaddyDeployments
from backout.providers.caddy.host import HostReleases
from backout.providers.caddy.hosts import Host
from backout.providers.caddy.ledger import Ledger
from backout.providers.caddy.machine import LocalMachine
from backout.providers.caddy.releases import ReleaseFolder
from backout.providers.caddy.route import LIVE, LOGGED_ADDRESS, SOCKET
from backout.providers.caddy.slots import LiveSlots
from backout.providers.clock import SystemClock
from backout.providers.logs.growing import GrowingFile
from backout.providers.logs.traffic import Log, LogTraffic
from backout.providers.memory import WorldClock

from polling import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from caddy_lab import CaddyHost

    from backout.ports import Clock


@pytest.fixture
def host(tmp_path: Path) -> Iterator[CaddyHost]:
    """Return a host with two releases, the second of which is live."""
    with caddy_host(tmp_path) as running:
        for code in ("one", "two"):
            running.deployments.activate(running.push(code).id, message=code)
        yield running


class Failing(LocalMachine):
    """A host whose deeds fail as the test says."""

    def __init__(self, fails: Callable[[str, dict[str, object]], None]) -> None:
        super().__init__()
        self._fails = fails

    def _do(self, deed: str, /, **arguments: object) -> Any:
        self._fails(deed, arguments)
        return super()._do(deed, **arguments)


def open_deployments(
    host: CaddyHost,
    *,
    fails: Callable[[str, dict[str, object]], None] = lambda _deed, _arguments: None,
    clock: Clock | None = None,
) -> CaddyDeployments:
    """Return the port of a host in trouble, after a look."""
    machine, place = Failing(fails), host.releases.folder
    folder = ReleaseFolder(place, host.ports, machine)
    hosts = (Host(folder, Ledger(place, machine), LiveSlots(place, machine), host.processes),)
    clock = clock or SystemClock()
    deployments = CaddyDeployments(hosts, HostReleases(hosts, clock, starts_within_s=60), clock, author="lab")
    deployments.history()
    return deployments


def list_releases(host: CaddyHost) -> tuple[str, str]:
    """Return the ids of both releases, the older one first."""
    second, first = host.releases.list()
    return first.id, second.id


def test_a_socket_that_is_closed_is_named(tmp_path: Path) -> None:
    """As Caddy leaves it when it is killed: the file is there, and nobody listens."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / SOCKET))
    releases = ReleaseFolder(tmp_path, (9100, 9199))
    releases.prepare()
    host = Host(releases, Ledger(tmp_path), LiveSlots(tmp_path), None)  # type: ignore[arg-type]
    with pytest.raises(ProviderUnavailable, match="Caddy does not listen there") as caught:
        host.read()
    assert "systemctl status caddy" in str(caught.value.hint)


@pytest.mark.parametrize("answer", [b"", b"no HTTP at all\r\n\r\n", b"HTTP/1.1 412 No\r\nContent-Length: 0\r\n\r\n"])
def test_a_socket_that_gives_no_usable_answer_is_named(tmp_path: Path, answer: bytes) -> None:
    """Another program's, or a Caddy without our server there."""
    releases = ReleaseFolder(tmp_path, (9100, 9199))
    releases.prepare()
    host = Host(releases, Ledger(tmp_path), LiveSlots(tmp_path), None)  # type: ignore[arg-type]
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / SOCKET))
        other.listen()
        if (pid := os.fork()) == 0:
            connection, _ = other.accept()
            connection.recv(4096)
            connection.sendall(answer)
            connection.close()
            os._exit(0)
        with pytest.raises(ProviderUnavailable, match=r"Caddy (gives no answer|shows no deployment)"):
            host.read()
        os.waitpid(pid, 0)


@pytest.mark.long
def test_a_compare_that_fails_each_time_ends_with_world_moved(host: CaddyHost) -> None:
    """Whoever switches in between wins each time: nothing is tried for ever, and nothing of theirs undone."""
    first, second = list_releases(host)
    by_hand = [first, second]

    def move(deed: str, arguments: dict[str, object]) -> None:
        if deed == "lock":
            by_hand.reverse()
            host.make_live_by_hand(by_hand[0])

    deployments = open_deployments(host, fails=move)
    for _ in range(3):
        with pytest.raises(WorldMoved, match="by now"):
            deployments.activate(first, message="switch")
        assert host.deployments.history()[0].sole == by_hand[0]
        deployments.history()


@pytest.mark.long
def test_a_caddy_that_was_killed_is_not_read_and_nothing_is_switched(host: CaddyHost) -> None:
    """Neither what was live nor what should be is said to be live."""
    first, _ = list_releases(host)
    deployments = open_deployments(host)
    before = (host.releases.folder / LIVE).readlink()
    host.caddy.kill()
    host.caddy.wait()
    for ask in (deployments.history, lambda: deployments.activate(first, message="back")):
        with pytest.raises(ProviderUnavailable, match="Caddy does not listen there"):
            ask()
    assert (host.releases.folder / LIVE).readlink() == before


@contextmanager
def resumed(host: CaddyHost, saved: str | None) -> Iterator[None]:
    """Run Caddy with `--resume`, with what it saved itself, None: that is lost."""
    kept = host.folder / "resumed"
    (kept / "caddy").mkdir(parents=True)
    if saved is not None:
        (kept / "caddy/autosave.json").write_text(saved)
    environment = {"HOME": str(kept), "XDG_CONFIG_HOME": str(kept), "XDG_DATA_HOME": str(kept), "PATH": os.defpath}
    admin = kept / "admin.sock"
    with (
        (kept / "log").open("w") as log,
        subprocess.Popen(
            [str(find_caddy()), "run", "--resume"],
            env={**environment, "CADDY_ADMIN": f"unix/{admin}"},
            cwd=kept,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
        ) as caddy,
    ):
        try:
            ready = f"unix/{host.releases.folder / SOCKET if saved is not None else admin}"
            until(lambda: accepts(ready), 20, "Caddy")
            yield
        finally:
            caddy.terminate()


@pytest.mark.long
@pytest.mark.parametrize("saved", ["lost", "old"])
def test_a_caddy_that_is_restarted_in_mid_switch(host: CaddyHost, saved: str) -> None:
    """Where what it saved is lost, nothing was read back; with what it saved before the switch, the new one is live."""
    first, second = list_releases(host)
    text = (host.folder / "caddy.json").read_text() if saved == "old" else None
    running: list[Any] = []

    def restart(deed: str, _arguments: dict[str, object]) -> None:
        if deed == "ask" and (host.releases.folder / LIVE).resolve() != before and not running:
            host.stop_caddy()
            running.append(resumed(host, text))
            running[0].__enter__()

    before = (host.releases.folder / LIVE).resolve()
    deployments = open_deployments(host, fails=restart)
    try:
        if saved == "old":
            assert deployments.activate(first, message="back").sole == first
        else:
            with pytest.raises(ProviderUnavailable, match="Caddy does not listen there"):
                deployments.activate(first, message="back")
            with pytest.raises(ProviderUnavailable, match="Caddy does not listen there"):
                deployments.history()
    finally:
        running[0].__exit__(None, None, None)
    with running_caddy(host.folder):
        assert [each.sole for each in host.deployments.history()[:2]] == [first, second]


@pytest.mark.long
def test_a_ledger_on_a_full_disk_switches_nothing(host: CaddyHost) -> None:
    """The line is written before the switch; half a line that came to be costs that line alone."""
    first, second = list_releases(host)

    def fill(deed: str, arguments: dict[str, object]) -> None:
        if deed == "append":
            with host.ledger.path.open("a") as file:
                file.write(str(arguments["line"])[:20])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments["path"]))

    with pytest.raises(BackoutError, match="the ledger cannot be written, so nothing is switched: No space") as caught:
        open_deployments(host, fails=fill).activate(first, message="back")
    assert str(caught.value.hint).startswith("df -h ")
    assert host.deployments.history()[0].sole == second
    assert host.deployments.activate(first, message="back").sole == first
    assert [each.sole for each in host.deployments.history()] == [first, second, first]


@pytest.mark.long
@pytest.mark.parametrize("off_s", [-86_400.0, 86_400.0])
def test_a_wrong_clock_mixes_nothing_up(host: CaddyHost, off_s: float) -> None:
    """The history is in the order of the switches, whatever this machine takes the time for."""
    first, second = list_releases(host)
    clock = WorldClock(SystemClock().now() + off_s)
    open_deployments(host, clock=clock).activate(first, message="wrong clock")
    open_deployments(host).activate(second, message="right clock")
    history = host.deployments.history()
    assert [each.sole for each in history] == [second, first, second, first]
    assert [each.created_at for each in history] == sorted((each.created_at for each in history), reverse=True)


def make_line(**values: object) -> dict[str, object]:
    """Return a line as Caddy writes it; a value None: without it."""
    line = {"ts": SystemClock().now() - 5, "status": 200, LOGGED_ADDRESS: "127.0.0.1:9100", "duration": 0.01, **values}
    return {name: value for name, value in line.items() if value is not None}


def write_line(path: Path, **values: object) -> None:
    """Append a line."""
    with path.open("a") as log:
        log.write(f"{json.dumps(make_line(**values))}\n")


def count(traffic: LogTraffic) -> tuple[int, dict[str, int]]:
    """Return how many requests were counted, and why lines were not."""
    page = traffic.read(0, 2**40)
    return sum(row.requests for row in page.counts), dict(page.unreadable)


def test_an_access_log_that_is_deleted_is_counted_on(tmp_path: Path) -> None:
    """Caddy goes on to write into it until it opens a new one; whoever begins to read in between is told."""
    path = tmp_path / "access.log"
    write_line(path)
    traffic = LogTraffic([Log(GrowingFile(path))], FIELDS)
    assert count(traffic) == (1, {})
    with path.open("a") as kept:
        path.unlink()
        kept.write(f"{json.dumps(make_line())}\n")
        kept.flush()
        assert count(traffic) == (2, {})
        with pytest.raises(ProviderUnavailable, match=r"access\.log"):
            LogTraffic([Log(GrowingFile(path))], FIELDS).read(0, 2**40)
    write_line(path)
    until(lambda: count(traffic) == (3, {}), 10, "the new file")


def test_an_access_log_full_of_foreign_lines_counts_what_is_ours(tmp_path: Path) -> None:
    """Other loggers' lines are no requests; what may be one and cannot be counted is told by its reason."""
    path = tmp_path / "access.log"
    write_line(path)
    write_line(path, status=None, msg="certificate obtained successfully")
    write_line(path, **{LOGGED_ADDRESS: None})  # answered by Caddy itself, such as a file
    for foreign in (b"GET / HTTP/1.1\n", b"\xff\xfe\n", b"[]\n", b'{"ts": "never"}\n', b"\n"):
        with path.open("ab") as log:
            log.write(foreign)
    requests, reasons = count(LogTraffic([Log(GrowingFile(path))], FIELDS))
    assert requests == 1
    assert sorted(reasons.values()) == [1, 1, 1, 2]
    assert any(why.startswith(f"no text in the field '{LOGGED_ADDRESS}'") for why in reasons)
