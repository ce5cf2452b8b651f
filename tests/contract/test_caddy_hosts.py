"""Two hosts of releases behind Caddy that fail at a chosen question: what was done is said, and no lock is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from caddy_lab import Failing, caddy_host

from backout.errors import BackoutError, PartlyDone, ProviderRejected, ProviderUnavailable, SecretsChanged
from backout.model.release import ReleaseNote
from backout.model.secrets import SecretValues
from backout.providers.caddy import agent
from backout.providers.caddy.deployments import CaddyDeployments
from backout.providers.caddy.host import HostReleases
from backout.providers.caddy.hosts import Host
from backout.providers.caddy.ledger import Ledger
from backout.providers.caddy.releases import ReleaseFolder
from backout.providers.caddy.route import LIVE, name_slot
from backout.providers.caddy.slots import LiveSlots
from backout.providers.clock import SystemClock

from streamed import await_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from caddy_lab import CaddyHost

    from backout.providers.caddy.machine import LocalMachine


class Two:
    """The hosts web1 and web2."""

    def __init__(self, folder: Path, labs: Sequence[CaddyHost]) -> None:
        self.folder = folder
        self.labs = labs
        self.machines = [Failing(f"web{number}") for number in (1, 2)]
        self.hosts = [self._open(lab, machine) for lab, machine in zip(labs, self.machines, strict=True)]

    @staticmethod
    def _open(lab: CaddyHost, machine: LocalMachine) -> Host:
        folder = lab.releases.folder
        releases = ReleaseFolder(folder, lab.ports, machine)
        return Host(releases, Ledger(folder, machine), LiveSlots(folder, machine), lab.processes)

    def open_ports(self, hosts: Sequence[Host] | None = None) -> tuple[CaddyDeployments, HostReleases]:
        """Return the ports."""
        hosts = self.hosts if hosts is None else hosts
        releases = HostReleases(hosts, SystemClock(), author="lab", starts_within_s=60)
        return CaddyDeployments(hosts, releases, SystemClock(), author="lab"), releases

    def push(self, code: str, hosts: Sequence[Host] | None = None) -> str:
        """Push a release, and return its id."""
        source = self.folder / "source"
        source.mkdir(exist_ok=True)
        (source / "server.py").write_text(SERVER)
        (source / "code.txt").write_text(code)
        made = self.open_ports(hosts)[1].push(source, ReleaseNote(tag=code))
        for lab in self.labs:
            lab.made.append(made)
        return made.id

    def switch(self, release: str) -> None:
        """Make a release live, as it is done after a look."""
        deployments, _ = self.open_ports()
        deployments.history()
        deployments.activate(release, message="switch")

    def list_live(self) -> list[str | None]:
        """Return the release that each host shows."""
        return [self.open_ports([host])[0].history()[0].sole for host in self.hosts]


SERVER = """import http.server, os
http.server.ThreadingHTTPServer(
    ("127.0.0.1", int(os.environ["PORT"])), http.server.SimpleHTTPRequestHandler
).serve_forever()
"""


@contextmanager
def two_hosts(folder: Path) -> Iterator[Two]:
    """Run the hosts, with no release yet."""
    with ExitStack() as ends:
        labs = []
        for name in ("web1", "web2"):
            (folder / name).mkdir()
            labs.append(ends.enter_context(caddy_host(folder / name, prepared=False)))
        yield Two(folder, labs)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    with two_hosts(tmp_path) as running:
        yield running


AWAY = ProviderUnavailable("the host was not reached", where="host web2")


def test_a_host_that_was_switched_is_said_to_be_though_its_disk_is_full(two: Two) -> None:
    """What follows the switch is not needed for it: the line that it was confirmed, and the slots of long ago."""
    releases = [two.push(code) for code in ("one", "two")]
    two.switch(releases[0])

    def fail(deed: str, arguments: Mapping[str, object]) -> Exception | None:
        if deed == "append" and '"live"' in str(arguments["line"]):
            return OSError(28, os.strerror(28))
        return AWAY if deed == "forget_slots" else None

    two.machines[1].fails = fail
    two.switch(releases[1])
    assert two.list_live() == [releases[1]] * 2


def damage_slots(lab: CaddyHost) -> None:
    """Have what is live be unreadable, as after a disk that failed; Caddy still says which deployment it is."""
    slot = lab.releases.folder / LIVE / name_slot(7)
    slot.unlink()
    slot.write_bytes(b"127.0.0.1:\xff")


@pytest.mark.parametrize("hosts", [1, 2])
def test_a_switch_needs_nothing_that_is_for_the_history_alone(two: Two, hosts: int) -> None:
    """Which shares visitors have that a person gave them: where that cannot be read, the way back is taken."""
    first, second = two.push("one"), two.push("two")
    two.switch(first)
    two.switch(second)
    for lab in two.labs[:hosts]:
        lab.make_live_by_hand(second)
    deployments, _ = two.open_ports(two.hosts[:hosts])
    deployments.history()
    for lab in two.labs[:hosts]:
        damage_slots(lab)
    assert deployments.activate(first, message="back").sole == first
    assert two.list_live()[:hosts] == [first] * hosts


def test_a_host_whose_slots_cannot_be_read_is_not_said_to_be_live_and_is_switched(two: Two) -> None:
    """Its Caddy says which deployment it is, so nobody else can have moved it; where visitors go is not known there."""
    first, second = two.push("one"), two.push("two")
    two.switch(first)
    two.switch(second)
    damage_slots(two.labs[1])
    deployments, _ = two.open_ports()
    live = deployments.history()[0]
    assert (live.sole, live.triggered_by) == (second, "deployment")
    assert [(each.name, each.sole, each.is_read) for each in live.hosts] == [
        ("web1", second, True),
        ("web2", None, False),
    ]
    assert "web2 was not read (the live slots cannot be read" in live.describe_hosts()
    assert deployments.activate(first, message="back").sole == first
    assert two.list_live() == [first, first]


@pytest.mark.parametrize("damage", ["", "{", '{"id": "0123456789abcdef"}', "another's", "none"])
def test_a_damaged_record_takes_its_release_out_and_nothing_else(two: Two, damage: str) -> None:
    """What is live is still named, its port is not given away, and the host where it lies well knows it."""
    first, second = two.push("one"), two.push("two")
    two.switch(first)
    two.switch(second)
    record = two.labs[1].releases.folder / second / "release.json"
    text = record.with_name("..").joinpath(first, "release.json").read_text() if damage == "another's" else damage
    record.unlink()
    if damage != "none":
        record.write_text(text)
    deployments, releases = two.open_ports()
    live = deployments.history()[0]
    assert (live.sole, live.hosts) == (second, ())
    known = releases.read()
    assert [(each.id, each.number, bool(each.damage)) for each in known] == [(second, 2, True), (first, 1, False)]
    assert f"web2/releases/{second}/release.json" in known[0].damage
    assert deployments.activate(first, message="back").sole == first
    with pytest.raises(BackoutError, match="record cannot be read"):
        deployments.activate(second, message="forward")
    assert two.list_live() == [first, first]
    with pytest.raises(BackoutError, match="the newest variables are not known"):
        two.push("three")
    third = releases.add(two.folder / "source", ReleaseNote(), SecretValues({}))
    assert third.number == 3
    for lab in two.labs:
        addresses = [each.address for each in lab.releases.list()]
        assert len(addresses) == len(set(addresses)) == 3


def test_a_value_that_changed_with_a_release_whose_record_is_damaged_is_not_overlooked(two: Two) -> None:
    """Of the newest one: whoever goes back is asked; of an older one it does not matter."""
    two.push("code")
    _, releases = two.open_ports()
    made = []
    for value in ("old", "same", "same", "new"):
        made.append(releases.add(two.folder / "source", ReleaseNote(), SecretValues({"TOKEN": value})))
        for lab in two.labs:
            lab.made.append(made[-1])
    old, target, live, new = (two.labs[0].releases.folder / each.id / "release.json" for each in made)
    removed = two.labs[0].releases.folder / "removed"
    new.parent.rename(removed)
    old.write_text("")
    for release in (live, target):
        two.open_ports(two.hosts[:1])[0].activate(release.parent.name, message="as before")
    removed.rename(new.parent)
    new.write_text("")
    with pytest.raises(SecretsChanged) as caught:
        two.open_ports(two.hosts[:1])[0].activate(live.parent.name, message="back")
    assert caught.value.names == ("TOKEN",)


def test_a_host_that_goes_away_under_its_lock_leaves_the_others_switched(two: Two) -> None:
    """It is named, and the other one is switched."""
    releases = [two.push(code) for code in ("one", "two")]
    two.switch(releases[0])
    locked: list[str] = []

    def fail(deed: str, arguments: Mapping[str, object]) -> Exception | None:
        locked.extend([deed] if deed == "lock" else [])
        return AWAY if locked and deed == "read" and str(arguments["path"]).endswith("ledger.jsonl") else None

    two.machines[1].fails = fail
    with pytest.raises(PartlyDone, match=r"web1 switched .* web2 is not"):
        two.switch(releases[1])
    two.machines[1].fails = lambda _deed, _arguments: None
    assert two.list_live() == [releases[1], releases[0]]


@pytest.mark.long
def test_a_release_that_a_new_host_lacks_is_made_live_on_the_others(two: Two) -> None:
    """The host that lacks it is named with what to do; one that no host has is refused."""
    old = two.push("old", two.hosts[:1])
    new = two.push("new")
    two.switch(new)
    with pytest.raises(PartlyDone, match=r"web1 switched .* web2 is not: it does not have this release") as caught:
        two.switch(old)
    assert "push" in str(caught.value.hint)
    assert two.list_live() == [old, new]
    with pytest.raises(ProviderRejected, match="no release of that id"):
        two.switch("0" * 16)


@pytest.mark.long
def test_no_lock_is_held_while_code_is_sent(two: Two) -> None:
    """So a rollback need not wait for a slow upload; and what was sent is removed where another host fails."""
    first = two.push("one")
    free: list[bool] = []

    def look(deed: str, _arguments: Mapping[str, object]) -> Exception | None:
        if deed == "put":
            for lab in two.labs:
                name = agent.lock(str(lab.releases.folder / ".lock"))
                free.append(name is not None)
                if name is not None:
                    agent.release_lock(name)
            return AWAY
        return None

    two.machines[1].fails = look
    with pytest.raises(ProviderUnavailable):
        two.push("two")
    assert free == [True, True]
    two.machines[1].fails = lambda _deed, _arguments: None
    assert [each.id for each in two.open_ports()[1].list()] == [first]
    assert not [each for lab in two.labs for each in lab.releases.folder.glob(".incoming-*")]


def test_a_lock_ends_when_nothing_is_asked_any_more(tmp_path: Path) -> None:
    """The network of whoever holds it is gone, and nobody closes the connection: the next one need not wait hours."""
    text = Path(agent.__file__).read_text().replace("LEASE_S = 600", "LEASE_S = 1")
    start = f"import sys; exec(sys.stdin.buffer.read({len(text.encode())}).decode())"
    lock = tmp_path / ".lock"
    words = [sys.executable, "-I", "-c", start]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as held:
        assert held.stdin is not None
        held.stdin.write(text + json.dumps({"do": "lock", "with": {"path": str(lock)}}) + "\n")
        held.stdin.flush()
        assert json.loads(await_line(held, '"done"'))["done"] is not None
        try:
            assert held.wait(60) == -signal.SIGALRM
        finally:
            held.kill()
    name = agent.lock(str(lock))
    assert name is not None
    agent.release_lock(name)
