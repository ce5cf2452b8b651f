"""A folder of releases without a Caddy: what lies beside them there, and how releases are used without commands."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backout import config
from backout.errors import BackoutError, UsageError
from backout.model.release import ReleaseNote
from backout.model.secrets import SecretValues
from backout.providers.caddy.host import HostReleases
from backout.providers.caddy.hosts import Host
from backout.providers.caddy.ledger import Ledger
from backout.providers.caddy.machine import LocalMachine
from backout.providers.caddy.processes import OwnProcesses
from backout.providers.caddy.releases import ReleaseFolder, hash_code
from backout.providers.caddy.slots import LiveSlots
from backout.providers.clock import SystemClock
from backout.wiring.caddy import find_commit, open_home

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_file_revision_that_cannot_be_read_names_no_commit(tmp_path: Path) -> None:
    """Whatever is called so: nothing is waited for, and the first bytes are enough."""
    folder = tmp_path / "releases"
    for name in (b"1-odd \xff", b"2-folder", b"3-pipe", b"4-damaged", b"5-lost", b"6-large", b"7-well"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).mkdir(parents=True)
    (folder / "2-folder/REVISION").mkdir()
    (folder / "4-damaged/REVISION").symlink_to("/proc/self/mem")  # whoever asks: reading it fails
    (folder / "5-lost/REVISION").symlink_to("nowhere")
    with (folder / "6-large/REVISION").open("wb") as file:
        file.write(b"a" * 64)
        file.truncate(1 << 28)
    for each in (*folder.glob("1-*"), folder / "7-well"):
        (each / "REVISION").write_text("9fceb02d\n")
    os.mkfifo(folder / "3-pipe/REVISION")
    store = ReleaseFolder(folder, (9100, 9199))
    assert {each.name: each.git_sha for each in store.list_others()} == {
        **dict.fromkeys(("2-folder", "3-pipe", "4-damaged", "5-lost", "6-large"), ""),
        **dict.fromkeys(("1-odd \\udcff", "7-well"), "9fceb02d"),
    }
    assert [find_commit(each) for each in sorted(folder.glob("[2-7]*"))] == [*5 * [""], "9fceb02d"]


def test_another_tools_release_is_none_of_ours_whatever_its_files_are_called(tmp_path: Path) -> None:
    """The application may have a `release.json` of its own."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source/page").write_text("one")
    store = ReleaseFolder(tmp_path / "releases", (9100, 9199))
    store.prepare()
    made = store.push(tmp_path / "source", ReleaseNote(), SecretValues({}), 1.0)
    theirs = store.folder / "20261201093000"
    theirs.mkdir()
    (theirs / "REVISION").write_text("9fceb02d")
    (theirs / "release.json").write_text('{"codename": "otter"}')
    assert [each.id for each in store.list()] == [made.id]
    assert [each.name for each in store.list_others()] == [theirs.name]


@pytest.mark.parametrize("to", ["../source", "x/../../source/page", "/etc/passwd", "../source-2", ".."])
def test_a_link_that_leaves_its_folder_is_refused_where_it_lies(tmp_path: Path, to: str) -> None:
    """Also one that comes back by the folder's own name, which a release has not; and none is copied before."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source/page").write_text("one")
    (tmp_path / "source/self").symlink_to(".")
    (tmp_path / "source/lost").symlink_to("nowhere")
    (tmp_path / "source/round").symlink_to("round")
    assert hash_code(tmp_path / "source")
    (tmp_path / "source/away").symlink_to(to)
    store = ReleaseFolder(tmp_path / "releases", (9100, 9199))
    store.prepare()
    with pytest.raises(UsageError, match="the link leads out of the folder") as caught:
        store.push(tmp_path / "source", ReleaseNote(), SecretValues({}), 1.0)
    assert caught.value.where == str(tmp_path / "source/away")


def test_a_folder_that_holds_the_releases_is_none(tmp_path: Path) -> None:
    """Copied into itself it would have no end."""
    place = tmp_path / "releases"
    (tmp_path / "page").write_text("one")
    store = ReleaseFolder(place, (9100, 9199))
    releases = HostReleases((Host(store, Ledger(place), LiveSlots(place), OwnProcesses(store, "")),), SystemClock())
    for folder in (tmp_path, place):
        with pytest.raises(UsageError, match="the releases are in it"):
            releases.push(folder, ReleaseNote())
    assert not place.exists()


def test_what_cannot_be_copied_is_named_once(tmp_path: Path) -> None:
    """One file and one reason, however many there are."""
    source, machine = tmp_path / "source", Watched()
    source.mkdir()
    for number in range(300):
        (source / f"page-{number}").write_text("one")

    def change(deed: str, _arguments: dict[str, object]) -> None:
        for each in source.iterdir() if deed == "copy" else ():
            each.unlink()
            os.mkfifo(each)

    machine.before = change
    store = ReleaseFolder(tmp_path / "releases", (9100, 9199), machine)
    store.prepare()
    with pytest.raises(BackoutError, match="named pipe") as caught:
        store.push(source, ReleaseNote(), SecretValues({}), 1.0)
    assert len(str(caught.value)) < 1000


class Watched(LocalMachine):
    """This host; `before` is told of each thing that it is about to do."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[str, dict[str, object]], None] = lambda _deed, _arguments: None

    def _do(self, deed: str, /, **arguments: object) -> object:
        self.before(deed, arguments)
        return super()._do(deed, **arguments)


def test_what_a_killed_push_left_is_removed_and_never_one_that_is_under_way(tmp_path: Path) -> None:
    """At once where it holds variables, else after a day; while a push writes its own, whoever looks has to wait."""
    place, source, machine = tmp_path / "releases", tmp_path / "source", Watched()
    source.mkdir()
    (source / "page").write_text("one")
    store = ReleaseFolder(place, (9100, 9199), machine)
    host = Host(store, Ledger(place, machine), LiveSlots(place, machine), OwnProcesses(store, "true"))
    releases, others = (HostReleases((host,), SystemClock()) for _ in range(2))
    assert others.clear() == ()
    first = releases.push(source, ReleaseNote(), SecretValues({"TOKEN": "canary"}))
    young, aged, holding = (digit * 16 for digit in "123")
    another = "\x1b[2Jof-another-tool"
    for name, held, old in ((young, "app", False), (aged, "app", True), (holding, "environment", False)):
        (place / f".incoming-{name}" / held).mkdir(parents=True)
        os.utime(place / f".incoming-{name}", (1.0, 1.0) if old else None)
    (place / f".incoming-{another}" / "environment").mkdir(parents=True)
    wanted = [str(place / f".incoming-{name}") for name in (aged, holding)]
    assert [(each.where, each.is_gone) for each in others.clear(dry_run=True)] == [(each, False) for each in wanted]
    cleared: list[tuple[str, bool]] = []
    waiting = threading.Thread(target=lambda: cleared.extend((each.where, each.is_gone) for each in others.clear()))

    def look(deed: str, _arguments: dict[str, object]) -> None:
        if deed == "copy":  # the code, for which nobody has to wait
            cleared.extend((each.where, each.is_gone) for each in others.clear())
        elif deed == "write_slots":
            waiting.start()
            waiting.join(0.2)
            assert waiting.is_alive()

    machine.before = look
    second = releases.push(source, ReleaseNote())
    waiting.join()
    assert cleared == [(each, True) for each in wanted]
    assert [each.id for each in store.list()] == [second.id, first.id]
    assert store.read_environment(second.id).reveal("TOKEN") == "canary"
    assert {each.name for each in place.glob(".incoming-*")} == {f".incoming-{young}", f".incoming-{another}"}


@pytest.mark.parametrize("ssh", ["", '[environments.production.platform.caddy.hosts.web1]\nssh = "web1.example.com"\n'])
def test_without_commands_a_release_that_runs_is_used_and_none_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ssh: str
) -> None:
    """`--no-commands`: a rollback still goes to what answers, and no folder of what may run is removed."""
    text = f"""[app]\nname = "shop"\n[environments.production.platform]\nprovider = "caddy"
[environments.production.platform.caddy]\nreleases = "{tmp_path}/releases"\nstart = "a"\nstop = "b"\n"""
    (tmp_path / "backout.toml").write_text(text + ssh)
    monkeypatch.setattr(
        "backout.providers.caddy.ssh.SshMachine", lambda name, _destination, **_more: LocalMachine(name)
    )
    loaded = config.load(config.Environment(), start=tmp_path, environment="production", no_commands=True)
    (host,) = open_home(loaded).hosts
    releases = HostReleases((host,), SystemClock())
    (tmp_path / "source").mkdir()
    (tmp_path / "source/page").write_text("one")
    made = releases.push(tmp_path / "source", ReleaseNote())
    with pytest.raises(BackoutError, match="the command that starts releases is not run"):
        releases.start(made.id)
    with socket.create_server(("127.0.0.1", int(made.address.partition(":")[2]))):
        assert releases.start(made.id).hosts == {host.name: True}
        for end in (releases.stop, releases.remove):
            with pytest.raises(BackoutError, match="the command that stops releases is not run"):
                end(made.id)
    assert [each.id for each in releases.list()] == [made.id]
