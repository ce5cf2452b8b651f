"""Releases behind a real Caddy: what is live is what Caddy says, and a switch happens only where nothing moved."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from caddy_lab import caddy_host, running_caddy

from backout.errors import (
    BackoutError,
    ProviderUnavailable,
    Refused,
    SecretsChanged,
    UsageError,
    WorldMoved,
)
from backout.model.deployment import Share
from backout.model.release import ReleaseNote, ReleaseProcess
from backout.model.secrets import SecretValues
from backout.model.version import VersionId
from backout.providers.caddy import memory
from backout.providers.caddy.agent import accepts
from backout.providers.caddy.machine import LocalMachine
from backout.providers.caddy.processes import CommandProcesses, OwnProcesses, find_supervisor
from backout.providers.caddy.releases import ReleaseFolder, hash_code
from backout.providers.caddy.route import ADDRESS_HEADER, LIVE, LOGGED_ADDRESS, LOGGED_PROBE, name_slot
from backout.providers.caddy.show import ask_caddy
from backout.wiring.caddy import find_commit

from extent import by_extent
from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from caddy_lab import CaddyHost

    from backout.model.deployment import Deployment

    from conftest import Record


@pytest.fixture
def host(tmp_path: Path) -> Iterator[CaddyHost]:
    """A host without any release."""
    with caddy_host(tmp_path) as running:
        yield running


def whole(release: str) -> tuple[Share, ...]:
    return (Share(VersionId(release), 100.0),)


def ask(host: CaddyHost, version: str = "") -> str:
    headers = {ADDRESS_HEADER: host.releases.get(version).address} if version else {}
    request = urllib.request.Request(host.url, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(answer.read().decode())


def two_releases(host: CaddyHost) -> tuple[str, str]:
    """Have one live after the other; return both."""
    first, second = (host.push(code).id for code in ("one", "two"))
    for release in (first, second):
        host.deployments.activate(release, message=f"deploy {release}")
    return first, second


# --- the switch ------------------------------------------------------------------------------------------------------


def test_a_split_is_what_visitors_get_and_a_name_leads_to_a_release_at_0_percent(host: CaddyHost) -> None:
    """Nine of ten, exactly; the release that nobody else gets answers whoever names it."""
    first, second = two_releases(host)
    third = host.push("three").id
    shares = [(first, 90.0), (second, 10.0), (third, 0.0)]
    host.deployments.deploy([Share(VersionId(each), part) for each, part in shares], message="split")
    assert Counter(ask(host) for _ in range(50)) == {"one": 45, "two": 5}
    assert ask(host, third) == "three"
    assert [(share.version, share.percentage) for share in host.deployments.history()[0].shares] == shares


@pytest.mark.long
def test_the_log_says_which_release_answered_and_which_requests_were_ours(host: CaddyHost) -> None:
    """One line a request, with the release that Caddy passed it on to."""
    first, second = two_releases(host)
    host.deployments.deploy([Share(VersionId(first), 50.0), Share(VersionId(second), 50.0)], message="split")
    answers = Counter(ask(host) for _ in range(10))
    ask(host, second)

    def read() -> list[dict[str, object]]:
        return [json.loads(line) for line in (host.folder / "access.log").read_text().splitlines()]

    until(lambda: len(read()) == 11, 10, "a line for each request")
    ports = {host.releases.get(each).address: each for each in (first, second)}
    visitors = Counter(ports[str(line[LOGGED_ADDRESS])] for line in read() if LOGGED_PROBE not in line)
    assert visitors == {first: answers["one"], second: answers["two"]} == {first: 5, second: 5}
    assert [ports[str(line[LOGGED_ADDRESS])] for line in read() if LOGGED_PROBE in line] == [second]


@pytest.mark.long
def test_no_request_is_lost_in_a_switch(host: CaddyHost) -> None:
    """Visitors ask all the time while it goes back and forth."""
    first, second = two_releases(host)
    ended, answers = threading.Event(), list[str]()

    def visit() -> None:
        while not ended.is_set():
            answers.append(ask(host))

    visitors = [threading.Thread(target=visit) for _ in range(3)]
    for each in visitors:
        each.start()
    try:
        for _ in range(by_extent(5, 20)):
            for release in (first, second):
                host.deployments.activate(release, message="switch")
    finally:
        ended.set()
        for each in visitors:
            each.join()
    assert set(answers) == {"one", "two"}


@pytest.mark.proof
@pytest.mark.parametrize("seed", range(by_extent(1, 5, 200)))
def test_of_operators_who_switch_at_once_one_wins_and_each_is_told_the_truth(
    host: CaddyHost, seed: int, proof: Record
) -> None:
    """Each looked at the same deployment before."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    two_releases(host)
    targets = [host.push(f"hotfix {number}").id for number in range(3)]
    before = host.deployments.history()[0]
    operators = [host.deployments for _ in targets]
    for each in operators:
        assert each.history()[0] == before
    ready = threading.Barrier(len(operators))
    told: list[Deployment | WorldMoved] = []

    def switch(number: int) -> None:
        ready.wait()
        threading.Event().wait(dice.random() * 0.01)
        try:
            told.append(operators[number].deploy(whole(targets[number]), message=f"operator {number}"))
        except WorldMoved as error:
            told.append(error)

    threads = [threading.Thread(target=switch, args=(number,)) for number in range(len(operators))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    (won,) = [each for each in told if not isinstance(each, WorldMoved)]
    live, next_one = host.deployments.history()[:2]
    assert live == won
    assert next_one == before
    assert ask(host) == f"hotfix {targets.index(str(won.sole))}"
    claim = "of three operators who switch at once behind Caddy one wins, and each is told what happened"
    proof(claim, trials=1, failures=0, note="tests/contract/test_caddy.py")


# --- what others did -------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_switch_by_hand_is_shown_as_it_is_and_stops_a_decision(host: CaddyHost) -> None:
    """The line on the card works; what was looked at before it is void, and the history says that it was a hand."""
    first, second = two_releases(host)
    looked = host.deployments
    before = looked.history()[0]
    host.make_live_by_hand(first)
    assert ask(host) == "one"
    with pytest.raises(WorldMoved):
        looked.activate(second, message="as looked at before")
    live, past = host.deployments.history()[:2]
    assert (live.triggered_by, live.sole, live.message) == ("hand", first, "")
    assert past == before
    assert live.created_at > past.created_at
    assert host.deployments.activate(second, message="on purpose").sole == second
    assert host.deployments.history()[1] == live, "it was live, and only Caddy said so until it was left"
    host.make_live_by_hand(first)
    again = host.deployments.history()[0]
    assert again.id != live.id
    host.deployments.activate(second, message="on purpose")
    assert [each.id for each in host.deployments.history()].count(again.id) == 1
    assert [each.triggered_by == "hand" for each in host.deployments.history()[:5]] == [False, True, False, True, False]


@pytest.mark.long
def test_a_switch_by_hand_is_written_down_by_the_next_operator_where_one_was_killed_meanwhile(host: CaddyHost) -> None:
    """Between the two lines that say it; the second switch by hand to a release, which has no id of its own."""
    first, second = two_releases(host)
    host.make_live_by_hand(first)
    host.deployments.activate(second, message="back")
    host.make_live_by_hand(first)
    by_hand, before = host.deployments.history()[0], host.ledger.path.read_bytes()
    host.deployments.activate(second, message="is killed")
    written = host.ledger.path.read_bytes().removeprefix(before).splitlines(keepends=True)
    assert json.loads(written[0])["id"] == by_hand.id
    for kept in (0, 1, 2):
        host.make_live_by_hand(first)
        host.ledger.path.write_bytes(before + b"".join(written[:kept]))
        again = host.deployments.history()[0]
        assert (again.id, again.shares) == (by_hand.id, by_hand.shares)  # the link is another one, and so is its time
        host.deployments.activate(second, message="again")
        live, past, *_ = host.deployments.history()
        assert (live.message, past.id, past.shares) == ("again", again.id, again.shares)


def test_a_switch_by_hand_has_the_time_at_which_it_was_made(host: CaddyHost) -> None:
    """Not that of the newest one before it: a watch would take it for an old deployment."""
    first, _ = two_releases(host)
    before = host.deployments.history()[0].created_at
    time.sleep(1.1)
    since = time.time()
    host.make_live_by_hand(first)
    at = host.deployments.history()[0].created_at
    assert before + 1 < since - 0.1 <= at <= time.time()


@pytest.mark.long
def test_an_address_that_belongs_to_no_release_is_named_as_it_is(host: CaddyHost) -> None:
    """Whoever wrote it into the slots; nothing is guessed."""
    two_releases(host)
    for slot in range(100):
        path = host.releases.folder / LIVE / name_slot(slot)
        path.unlink()
        path.write_text("127.0.0.1:9")
    live = host.deployments.history()[0]
    assert live.triggered_by == "hand"
    assert ("127.0.0.1:9", 50.0) in [(share.version, share.percentage) for share in live.shares]


@pytest.mark.long
def test_a_ledger_that_is_lost_or_torn_is_not_believed(host: CaddyHost) -> None:
    """What is live is known without it; a torn line costs that line alone, and the next one begins behind it."""
    first, second = two_releases(host)
    with host.ledger.path.open("ab") as ledger:
        ledger.write(b'{"kind":"intended","id":"torn')
    assert host.ledger.read().damaged == (5,)
    host.deployments.activate(first, message="behind the torn line")
    assert [each.sole for each in host.deployments.history()] == [first, second, first]
    host.ledger.path.unlink()
    (live,) = host.deployments.history()
    assert (live.sole, live.triggered_by) == (first, "hand")


@pytest.mark.long
def test_a_switch_that_was_killed_before_its_confirmation_is_live(host: CaddyHost) -> None:
    """Caddy says so; the next switch confirms it."""
    first, second = two_releases(host)
    lines = host.ledger.path.read_bytes().splitlines(keepends=True)
    host.ledger.path.write_bytes(b"".join(lines[:-1]))
    assert host.deployments.history()[0].sole == second
    host.deployments.activate(first, message="back")
    assert [each.sole for each in host.deployments.history()] == [first, second, first]


@pytest.mark.long
def test_a_switch_that_was_intended_and_never_made_was_never_live(host: CaddyHost) -> None:
    """The intent alone counts for nothing."""
    first, second = two_releases(host)
    intended = host.ledger.read().entries[-2]
    line = json.dumps({"kind": "intended", "id": "beef", "at": intended.at + 9, "shares": [[first, 100.0]]})
    with host.ledger.path.open("a") as ledger:
        ledger.write(line + "\n")
    assert [each.sole for each in host.deployments.history()] == [second, first]


@pytest.mark.long
def test_after_a_restart_the_switched_release_is_live(host: CaddyHost) -> None:
    """However Caddy is started: its configuration does not say which it is."""
    two_releases(host)
    live = host.deployments.history()
    host.stop_caddy()
    with pytest.raises(ProviderUnavailable, match="does not listen"):
        host.deployments.history()
    with running_caddy(host.folder):
        assert host.deployments.history() == live
        assert ask(host) == "two"


# --- what cannot be made live ----------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_release_whose_code_was_changed_is_refused(host: CaddyHost) -> None:
    """It is not what was proved."""
    first, second = two_releases(host)
    (host.releases.get_code(first) / "code.txt").write_text("other")
    with pytest.raises(Refused, match="not what was pushed"):
        host.deployments.activate(first, message="back")
    assert host.deployments.history()[0].sole == second


@pytest.mark.long
def test_a_release_that_does_not_start_is_refused(host: CaddyHost) -> None:
    """Nothing is switched to what does not answer."""
    _, second = two_releases(host)
    dead = host.push("dead")
    quick = host.make_deployments(OwnProcesses(host.releases, "false"), starts_within_s=0.2)
    with pytest.raises(Refused, match="does not start"):
        quick.activate(dead.id, message="dead")
    assert find_supervisor(host.releases.folder / dead.id) is None
    assert host.deployments.history()[0].sole == second


@pytest.mark.long
def test_a_port_that_something_else_took_is_refused(host: CaddyHost) -> None:
    """Whatever answers there is not the release."""
    two_releases(host)
    third = host.push("three")
    port = third.address.rpartition(":")[2]
    with socket.create_server(("127.0.0.1", int(port))), pytest.raises(Refused, match="something else listens"):
        host.deployments.activate(third.id, message="three")


def test_changed_values_are_a_decision_and_named(host: CaddyHost) -> None:
    """The values themselves are nowhere but in the release's environment, which is its owner's."""
    first = host.push("one", environment={"JWT_SECRET": "old-value"})
    second = host.push("two", environment={"JWT_SECRET": "new-value", "API_KEY": "key-value"})
    host.deployments.activate(second.id, message="two")
    with pytest.raises(SecretsChanged) as caught:
        host.deployments.activate(first.id, message="back")
    assert caught.value.names == ("API_KEY", "JWT_SECRET")
    assert host.deployments.activate(first.id, message="back", force=True).sole == first.id
    shown = host.ledger.path.read_text() + repr(host.releases.list())
    assert not any(value in shown for value in ("old-value", "new-value", "key-value"))
    assert (host.releases.folder / first.id / "environment").stat().st_mode & 0o077 == 0


# --- the socket, the folder, the processes ---------------------------------------------------------------------------


def test_a_socket_that_is_missing_or_says_something_else_is_named(tmp_path: Path) -> None:
    """With what to type next."""
    with pytest.raises(ProviderUnavailable, match="does not listen") as caught:
        ask_caddy(LocalMachine(), tmp_path / "none.sock")
    assert "systemctl status caddy" in str(caught.value.hint)


@pytest.mark.long
def test_a_visitor_reaches_no_other_port_by_the_header(host: CaddyHost) -> None:
    """Only the ports of releases may be named; any other request goes where all go."""
    two_releases(host)
    with socket.create_server(("127.0.0.1", 0)) as other:
        asked = {ADDRESS_HEADER: f"127.0.0.1:{other.getsockname()[1]}"}
        request = urllib.request.Request(host.url, headers=asked)
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.read() == b"two"


@pytest.mark.parametrize("name", ["link", "device", "empty", "missing"])
def test_a_folder_that_cannot_be_a_release_is_refused(host: CaddyHost, tmp_path: Path, name: str) -> None:
    """Nothing is left behind of it."""
    source = tmp_path / "odd"
    if name != "missing":
        source.mkdir()
    if name == "link":
        (source / "out").symlink_to("../../etc/passwd")
    if name == "device":
        os.mkfifo(source / "pipe")
    with pytest.raises(UsageError):
        host.releases.push(source, ReleaseNote(), SecretValues({}), 1.0)
    assert host.releases.list() == ()
    assert not list(host.releases.folder.glob(".incoming-*"))


def test_a_line_of_the_log_is_of_the_release_that_listened_there_then(host: CaddyHost) -> None:
    """A port that is used again belongs to the older release no more, and to the newer one not before its push."""
    made = host.push("one")
    assert host.releases.name(made.address, made.created_at) == made.id
    assert host.releases.name(made.address, made.created_at - 1) == made.address
    host.releases.remove(made.id)
    assert host.releases.name(made.address, made.created_at) == made.address


def test_the_hash_is_of_names_contents_links_and_modes(tmp_path: Path) -> None:
    """Whatever would run otherwise has another hash; the order of the disk does not matter."""

    def make(name: str, **files: str) -> str:
        folder = tmp_path / name
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(content)
        return hash_code(folder)

    same = make("a", x="1", y="2")
    assert make("b", y="2", x="1") == same
    assert len({same, make("c", x="12", y=""), make("d", x="1", z="2"), make("e", x="2", y="1")}) == 4
    (tmp_path / "a" / "x").chmod(0o755)
    assert hash_code(tmp_path / "a") != same


@pytest.mark.long
def test_the_supervisor_starts_a_release_again_and_ends_it(host: CaddyHost) -> None:
    """A release that was killed comes back by itself; one that is stopped stays away."""
    first, _ = two_releases(host)
    release = host.releases.get(first)
    place = host.releases.folder / first
    supervisor = find_supervisor(place)
    assert supervisor is not None
    child = int(subprocess.run(["pgrep", "-P", str(supervisor)], check=True, capture_output=True).stdout)  # noqa: S607
    os.kill(child, signal.SIGKILL)
    until(lambda: "started again" in (place / "log").read_text(), 10, "the end of the release in its log")
    until(lambda: accepts(release.address), 10, "the release again")
    host.processes.stop(release)
    assert find_supervisor(place) is None
    assert not accepts(release.address)


@pytest.mark.long
def test_the_operators_own_commands_start_and_stop_releases(host: CaddyHost) -> None:
    """With the release, its port and its folder put in; a command that fails says so."""
    made = host.push("one")
    seen = host.folder / "seen"
    commands = CommandProcesses(host.releases, f"/bin/sh -c 'echo {{release}} {{port}} > {seen}'", "false {release}")
    commands.start(made)
    assert seen.read_text().split() == [made.id, made.address.rpartition(":")[2]]
    with pytest.raises(BackoutError, match="exit code 1"):
        commands.stop(made)


def test_a_start_command_that_leaves_a_process_running_has_ended(host: CaddyHost) -> None:
    """The process keeps the command's output open, which nobody waits for."""
    made = host.push("one")
    kept = host.folder / "pid"
    commands = CommandProcesses(host.releases, f"/bin/sh -c 'sleep 600 & echo $! > {kept}'", "true")
    try:
        commands.start(made)
    finally:
        os.kill(int(kept.read_text()), signal.SIGKILL)


def test_the_memory_of_a_release_is_that_of_what_listens_at_its_port(host: CaddyHost) -> None:
    """Measured here, and by the program that another host's Python is given; a release that is stopped has none."""
    made = host.push("one")
    releases = host.make_releases(host.processes)
    assert releases.measure(made.id) == (ReleaseProcess("localhost", runs=False),)
    releases.start(made.id)
    (found,) = releases.measure(made.id)
    assert found.memory_bytes is not None
    assert 1_000_000 < found.memory_bytes < 200_000_000
    program = (sys.executable, "-I", "-c", Path(memory.__file__).read_text(), made.address.rpartition(":")[2])
    there = subprocess.run(program, capture_output=True, text=True, check=True)
    assert 0.5 < int(there.stdout) / found.memory_bytes < 2.0
    host.processes.stop(made)
    assert not subprocess.run(program, capture_output=True, text=True, check=True).stdout.strip()


def test_the_releases_of_another_tool_are_read_and_stay_as_they_are(tmp_path: Path) -> None:
    """A layout as Capistrano's: ours are put beside them, and removed without them."""
    folder = tmp_path / "releases"
    for name, content in (("20261130080000", "page"), ("20261201093000", "newer"), ("20261201100000", "")):
        (folder / name).mkdir(parents=True)
        (folder / name / "page").write_text(content)
    (folder / "20261130080000/REVISION").write_text("9fceb02d0ae598e95dc970b74767f19372d61af8\n")
    (folder / "20261201093000/REVISION").write_text("main\n")
    (tmp_path / "current").symlink_to(folder / "20261130080000")

    def read_theirs() -> dict[str, str]:
        theirs = (each for each in folder.glob("2026*/*") if each.is_file())
        return {str(each): each.read_text() for each in theirs}

    before = read_theirs()
    store = ReleaseFolder(folder, (9100, 9199))
    assert [(each.name, each.git_sha[:7], each.created_at) for each in store.list_others()] == [
        ("20261201093000", "", 1796117400.0),
        ("20261130080000", "9fceb02", 1796025600.0),
    ]
    store.prepare()
    note = ReleaseNote(git_sha=find_commit(folder / "20261130080000"))
    made = store.push(folder / "20261130080000", note, SecretValues({}), 1.0)
    assert (made.git_sha[:7], (folder / made.id / "app/page").read_text()) == ("9fceb02", "page")
    assert [each.id for each in store.list()] == [made.id]
    assert [each.name for each in store.list_others()] == ["20261201093000", "20261130080000"]
    with pytest.raises(BackoutError, match="no release of that id"):
        store.get("20261130080000")
    store.remove(made.id)
    assert (read_theirs(), (tmp_path / "current").resolve()) == (before, folder / "20261130080000")
    assert ReleaseFolder(tmp_path / "none", (9100, 9199)).list_others() == ()
