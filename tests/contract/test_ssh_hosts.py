"""Releases on two hosts behind a real sshd each: pushed to both, switched one after the other, read back on each."""

from __future__ import annotations

import socket
import subprocess
import urllib.request
from typing import TYPE_CHECKING

import pytest
from ssh_lab import make_key, need_sshd, ssh_hosts

from backout.errors import AuthError, PartlyDone, ProviderUnavailable, Refused, WorldMoved
from backout.model.deployment import OnHost, Share
from backout.model.release import ReleaseNote
from backout.model.version import VersionId
from backout.providers.caddy.lines import Place, make_card_lines, make_equivalents
from backout.providers.caddy.ssh import SshMachine
from backout.providers.line_templates import HealthQuestion

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ssh_lab import SshHosts

SERVER = """import http.server, os, pathlib
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        answer = pathlib.Path("code.txt").read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


pytestmark = pytest.mark.rotating("hosts behind ssh", 3)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[SshHosts]:
    """Two hosts without any release."""
    with ssh_hosts(tmp_path) as running:
        yield running


def push(hosts: SshHosts, code: str) -> str:
    """Push a release to all hosts, and return its id."""
    source = hosts.folder / "source"
    source.mkdir(exist_ok=True)
    (source / "server.py").write_text(SERVER)
    (source / "code.txt").write_text(code)
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    _, releases = hosts.ports
    return releases.push(source, ReleaseNote(tag=code)).id


def switch(hosts: SshHosts, release: str, message: str = "") -> None:
    """Make a release live, as it is done after a look."""
    deployments, _ = hosts.ports
    deployments.history()
    deployments.activate(release, message=message)


def switch_anew(hosts: SshHosts, release: str, message: str = "") -> None:
    """Make a release live, as another process does."""
    deployments, _ = hosts.open_ports()
    deployments.history()
    deployments.activate(release, message=message)


def ask(hosts: SshHosts) -> list[str]:
    """Return what a visitor of each host gets."""
    found = []
    for host in hosts.hosts.values():
        with urllib.request.urlopen(host.caddy.url, timeout=60) as answer:
            found.append(answer.read().decode())
    return found


def two_releases(hosts: SshHosts) -> tuple[str, str]:
    """Have one live after the other; return both."""
    first, second = push(hosts, "one"), push(hosts, "two")
    for release in (first, second):
        switch(hosts, release, f"deploy {release}")
    return first, second


@pytest.mark.long
def test_a_release_is_pushed_to_every_host_and_switched_on_each(hosts: SshHosts) -> None:
    """The same id, number and code on both; the ledgers have the same lines; nothing else was put on a host."""
    first, second = two_releases(hosts)
    assert ask(hosts) == ["two", "two"]
    deployments, releases = hosts.open_ports()
    assert [(each.id, each.number, each.hosts) for each in releases.list()] == [
        (second, 2, {"web1": True, "web2": True}),
        (first, 1, {"web1": True, "web2": True}),
    ]
    live, past = deployments.history()
    assert (live.sole, past.sole, live.hosts) == (second, first, ())
    ledgers = [(host.releases / "ledger.jsonl").read_text() for host in hosts.hosts.values()]
    assert ledgers[0].count('"intended"') == ledgers[1].count('"intended"') == 2
    assert {(host.releases / ".tag").read_text() for host in hosts.hosts.values()} == {
        (hosts.hosts["web1"].releases / ".tag").read_text()
    }
    for host in hosts.hosts.values():
        assert (host.releases / second / "app" / "run.sh").stat().st_mode & 0o111
        assert (host.releases / second / "environment").stat().st_mode & 0o077 == 0
        left = {each.name for each in host.releases.iterdir()} - {first, second}
        assert left == {".tag", ".lock", ".show.sock", ".503.sock", ".deployments", "live", "ledger.jsonl"}


@pytest.mark.long
def test_the_lines_to_type_by_hand_reach_every_host(hosts: SshHosts) -> None:
    """Typed as they stand on a card and in a plan: asked at 0 %, switched on each, and shown by each."""
    first, _ = two_releases(hosts)
    places = [Place(host.releases, name, str(hosts.config)) for name, host in hosts.hosts.items()]
    lines = make_equivalents(places, HealthQuestion("https://shop.example.com/health?all"), ("echo stop {release}", ""))

    def type_line(line: str) -> list[str]:
        ended = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True)
        return ended.stdout.splitlines()

    assert type_line(lines.prove.format(version=first, leaving="")) == ["oneone"]
    assert type_line(lines.stop_jobs.format(version=first)) == [f"stop {first}"] * 2
    (card,) = make_card_lines(places, HealthQuestion()).deploy
    assert lines.activate == card
    type_line(card.format(version=first, message=""))
    assert ask(hosts) == ["one", "one"]
    assert type_line(f"set -e\n{lines.live}") == [f"{first}-by-hand"] * 2
    assert len(type_line(make_card_lines(places, HealthQuestion()).live[-1])) == 4


@pytest.mark.long
def test_hosts_that_differ_are_shown_as_they_are_and_stop_a_decision(hosts: SshHosts) -> None:
    """No version is live then; what was looked at before is void, and no host is switched."""
    first, second = two_releases(hosts)
    looked, _ = hosts.open_ports()
    before = looked.history()[0]
    hosts.hosts["web2"].caddy.make_live_by_hand(first)
    assert ask(hosts) == ["two", "one"]
    with pytest.raises(WorldMoved):
        looked.activate(first, message="as looked at before")
    assert ask(hosts) == ["two", "one"]
    now, _ = hosts.open_ports()
    live = now.history()[0]
    assert (live.sole, live.triggered_by) == (None, "differ")
    assert {(share.version, share.percentage) for share in live.shares} == {(first, 50.0), (second, 50.0)}
    assert [(each.name, each.is_read) for each in live.hosts] == [("web1", True), ("web2", True)]
    assert live.hosts[0].deployment == before.id
    assert now.activate(second, message="the same everywhere").sole == second
    assert ask(hosts) == ["two", "two"]
    assert now.history()[0].hosts == ()


@pytest.mark.long
def test_a_host_that_is_not_reached_is_not_read_and_the_others_are_switched(hosts: SshHosts) -> None:
    """It is said which; the same once more, when it is back, ends the same everywhere."""
    first, second = two_releases(hosts)
    looked, _ = hosts.open_ports()
    looked.history()
    looked_early, _ = hosts.open_ports()
    hosts.hosts["web2"].stop_ssh()
    live = looked_early.history()[0]
    assert live.sole == second
    assert live.hosts == (OnHost("web1", live.id, second), OnHost("web2", None, is_read=False))
    with pytest.raises(PartlyDone, match=r"web1 switched .* web2 is not"):
        looked_early.activate(first, message="back")
    assert ask(hosts) == ["one", "two"]
    with pytest.raises(PartlyDone, match=r"web2 is not"):
        switch_anew(hosts, first, "back")
    hosts.hosts["web2"].start_ssh()
    again, _ = hosts.open_ports()
    assert again.history()[0].sole is None
    assert again.activate(first, message="back").sole == first
    assert ask(hosts) == ["one", "one"]
    assert again.history()[0].hosts == ()


@pytest.mark.long
def test_marks_are_the_union_of_every_hosts_ledger(hosts: SshHosts) -> None:
    """A remark that one host missed is read from the other, and moves nothing; a ledger that is lost is made up for."""
    first, second = two_releases(hosts)
    hosts.hosts["web2"].stop_ssh()
    deployments, _ = hosts.open_ports()
    deployments.history()
    remark = f"[backout guard-1a2b3c4d stable={second[:8]}//] well"
    marked = deployments.activate(second, message=remark)
    hosts.hosts["web2"].start_ssh()
    again, _ = hosts.open_ports()
    live = again.history()[0]
    assert (live.id, live.message, live.hosts) == (marked.id, remark, ())
    (hosts.hosts["web1"].releases / "ledger.jsonl").unlink()
    assert [each.sole for each in hosts.open_ports()[0].history()] == [second, first]


@pytest.mark.long
def test_a_push_reaches_every_host_or_none(hosts: SshHosts) -> None:
    """One that is away, or is of another application: nothing is left on the first."""
    two_releases(hosts)
    hosts.hosts["web2"].stop_ssh()
    with pytest.raises(ProviderUnavailable, match="not reached"):
        push(hosts, "three")
    hosts.hosts["web2"].start_ssh()
    assert len(hosts.open_ports()[1].list()) == 2
    (hosts.hosts["web2"].releases / ".tag").write_text("another\n")
    with pytest.raises(Refused, match="more than one application"):
        push(hosts, "three")


@pytest.mark.long
def test_a_new_host_gets_what_is_pushed_next(hosts: SshHosts) -> None:
    """Before that nothing is live there, and the hosts differ."""
    web2 = hosts.hosts.pop("web2")
    two_releases(hosts)
    hosts.hosts["web2"] = web2
    del hosts.ports
    third = push(hosts, "three")
    deployments, _ = hosts.open_ports()
    live = deployments.history()[0]
    assert [each.deployment is None for each in live.hosts] == [False, True]
    deployments.deploy((Share(VersionId(third), 100.0),), message="three")
    assert ask(hosts) == ["three", "three"]


@pytest.mark.long
def test_a_lock_that_went_with_its_connection_is_not_thought_to_be_held(hosts: SshHosts) -> None:
    """Nothing more is done under it; afterwards the host is reached again, and the lock is free."""
    web1 = hosts.hosts["web1"]
    machine = hosts.open_hosts()[0].releases.machine
    with machine.hold(web1.releases / ".lock"):
        web1.stop_ssh()
        web1.start_ssh()
        with pytest.raises(ProviderUnavailable, match="not reached"):
            machine.make_folder(web1.releases / "one")
        with pytest.raises(ProviderUnavailable, match="the lock was lost with the connection"):
            machine.make_folder(web1.releases / "two")
    machine.make_folder(web1.releases / "three")
    with machine.hold(web1.releases / ".lock"):
        assert {each.name for each in web1.releases.iterdir() if each.is_dir()} == {"three"}


@pytest.mark.long
def test_a_host_that_cannot_write_what_is_sent_says_so_and_is_still_reached(hosts: SshHosts, tmp_path: Path) -> None:
    """A full disk is no lost host."""
    web1 = hosts.hosts["web1"]
    machine = hosts.open_hosts()[0].releases.machine
    big = tmp_path / "big"
    big.mkdir()
    (big / "zeros").write_bytes(bytes(8 << 20))
    with pytest.raises(FileNotFoundError):
        machine.put(big, web1.releases / "missing" / "app")
    machine.put(big, web1.releases / "app")
    assert (web1.releases / "app" / "zeros").stat().st_size == 8 << 20


def test_a_host_where_nobody_listens_was_not_reached(tmp_path: Path) -> None:
    """It is named, with what to type; neither a key nor a server is needed for that."""
    need_sshd()
    (tmp_path / "config").write_text("Host away\n  HostName 127.0.0.1\n  Port 9\n")
    with pytest.raises(ProviderUnavailable, match=r"host web1 .*not reached") as caught:
        SshMachine("web1", "away", config=tmp_path / "config", answer_s=60).read(tmp_path / "any")
    assert caught.value.hint == "ssh away true"


@pytest.mark.long
@pytest.mark.parametrize("trouble", ["key", "host key", "silent", "no python"])
def test_ssh_in_trouble_is_named_and_never_waits_for_ever(hosts: SshHosts, tmp_path: Path, trouble: str) -> None:
    """A password that would be asked for, another host's key, a port that says nothing, no python3."""
    host = hosts.hosts["web1"]
    config = hosts.config.read_text()
    expected: type[Exception] = ProviderUnavailable
    with socket.create_server(("127.0.0.1", 0)) as silent:
        if trouble == "key":
            make_key(tmp_path / "other")
            config, expected = config.replace(f"{tmp_path}/key", f"{tmp_path}/other"), AuthError
        elif trouble == "host key":
            make_key(tmp_path / "stranger")
            public = (tmp_path / "stranger.pub").read_text()
            (host.folder / "known_hosts").write_text(f"[127.0.0.1]:{host.port} {public}")
            expected = AuthError
        elif trouble == "silent":
            port = silent.getsockname()[1]
            config = config.replace(f"Port {host.port}", f"Port {port}\n  ConnectTimeout 1", 1)
        else:
            (tmp_path / "programs" / "python3").unlink()
        chosen = tmp_path / "chosen"
        chosen.write_text(config)
        machine = SshMachine("web1", "web1", config=chosen, answer_s=3 if trouble == "silent" else 60)
        with pytest.raises(expected, match="no python3" if trouble == "no python" else "host web1"):
            machine.read(host.releases / ".tag")
