"""A log on another host whose connections are lost: nothing counts twice, and what cannot be counted is told once."""

from __future__ import annotations

import os
import runpy
from typing import TYPE_CHECKING, Any

import pytest
from ssh_lab import ssh_hosts

from backout.errors import ProviderUnavailable
from backout.providers.caddy import agent
from backout.providers.caddy.machine import Machine
from backout.providers.caddy.remote_log import RemoteDisk
from backout.providers.logs.growing import GrowingFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path, PurePath


class ShakyMachine(Machine):
    """This host, asked over connections: what was opened on one is not known on the next one, as behind ssh."""

    def __init__(self) -> None:
        super().__init__("shaky")
        self.lost_before: list[str] = []
        """The next deeds that each find the connection lost, in their order."""
        self._deeds: dict[str, Callable[..., object]] = {}
        self.lose_connection()

    def lose_connection(self) -> None:
        """Have the next deed done on a new connection."""
        self._deeds = runpy.run_path(agent.__file__)["DEEDS"]

    def put(self, folder: Path, to: PurePath) -> None:
        """Copy a folder."""
        self.copy(folder, to)

    def _do(self, deed: str, /, **arguments: object) -> Any:
        if self.lost_before[:1] == [deed]:
            del self.lost_before[0]
            self.lose_connection()
        return self._deeds[deed](**arguments)


@pytest.fixture
def machine() -> ShakyMachine:
    return ShakyMachine()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log with one line, longer than what a file is told apart by."""
    path = tmp_path / "access.log"
    path.write_bytes(b"first" + b"." * 300 + b"\n")
    return path


@pytest.fixture
def followed(machine: ShakyMachine, log: Path) -> Iterator[GrowingFile]:
    """The log, read as far as it has grown."""
    file = GrowingFile(log, disk=RemoteDisk(machine))
    assert len(list(file.lines())) == 1
    yield file
    file.close()


def append(log: Path, text: bytes) -> None:
    with log.open("ab") as file:
        file.write(text)


def rotate(log: Path, text: bytes) -> None:
    """Have a new file with this in it."""
    log.rename(log.with_suffix(".1"))
    log.write_bytes(text)


def list_texts(followed: GrowingFile) -> list[bytes]:
    return [line for _, line in followed.lines()]


def test_a_new_connection_goes_on_where_the_lost_one_was(
    machine: ShakyMachine, log: Path, followed: GrowingFile
) -> None:
    """Nothing counts twice."""
    machine.lose_connection()
    append(log, b"second\n")
    assert list_texts(followed) == [b"second"]


def test_a_rotation_while_the_connection_was_lost_is_told_once(
    machine: ShakyMachine, log: Path, followed: GrowingFile
) -> None:
    """The end of the old file is lost; the new one is read from its first line, however long it is."""
    append(log, b"never read\n")
    machine.lose_connection()
    rotate(log, b"second\nthird\n")
    with pytest.raises(ProviderUnavailable, match="the log was rotated while the host was not reached"):
        list_texts(followed)
    assert list_texts(followed) == [b"second", b"third"]
    append(log, b"fourth\n")
    assert list_texts(followed) == [b"fourth"]


def test_the_file_after_such_a_rotation_is_read_from_its_beginning(machine: ShakyMachine, log: Path) -> None:
    """Where the first look was at the end of a large file, too."""
    followed = GrowingFile(log, disk=RemoteDisk(machine), first_bytes=10)
    assert list_texts(followed) == []
    machine.lose_connection()
    rotate(log, b"longer than ten bytes\nthird\n")
    with pytest.raises(ProviderUnavailable, match="rotated"):
        list_texts(followed)
    assert list_texts(followed) == [b"longer than ten bytes", b"third"]
    followed.close()


@pytest.mark.parametrize("deed", ["measure", "read_part"])
def test_a_connection_that_is_lost_again_at_once_is_told(
    machine: ShakyMachine, log: Path, followed: GrowingFile, deed: str
) -> None:
    """A length or a part that nobody told is none: a file that seemed shorter would count a second time."""
    append(log, b"second\n")
    machine.lost_before = [deed, deed]
    with pytest.raises(ProviderUnavailable, match="the connection was lost again"):
        list_texts(followed)
    assert list_texts(followed) == [b"second"]


@pytest.mark.long
@pytest.mark.rotating("hosts behind ssh", 3)
def test_a_log_behind_a_real_sshd_is_read_on_after_a_rotation_without_a_connection(tmp_path: Path) -> None:
    """The same with the real ssh, on both ends."""
    with ssh_hosts(tmp_path, ("web1",)) as hosts:
        host = hosts.hosts["web1"]
        log = host.folder / "requests.log"
        log.write_bytes(b"first\n")
        followed = GrowingFile(log, disk=RemoteDisk(hosts.open_hosts()[0].releases.machine))
        assert list_texts(followed) == [b"first"]
        host.stop_ssh()
        rotate(log, b"second\n")
        with pytest.raises(ProviderUnavailable, match="not reached"):
            list_texts(followed)
        host.start_ssh()
        with pytest.raises(ProviderUnavailable, match="rotated while the host was not reached"):
            list_texts(followed)
        assert list_texts(followed) == [b"second"]
        append(log, b"third\n")
        assert list_texts(followed) == [b"third"]
        followed.close()


def test_a_finalizer_waits_for_no_host_and_writes_to_none(tmp_path: Path) -> None:
    """A dropped log is closed with the next question; a connection that has ended sends nothing.

    The number of its descriptor is the next opened file's by then, and bytes for the host would land in that.
    """
    with ssh_hosts(tmp_path, ("web1",)) as hosts:
        machine = hosts.open_hosts()[0].releases.machine
        log = hosts.hosts["web1"].folder / "requests.log"
        log.write_bytes(b"first\n")
        kept = RemoteDisk(machine).open(log)
        dropped = RemoteDisk(machine).open(log)
        name = dropped._opened
        assert machine.measure(name) == 6
        del dropped
        assert machine.measure(name) is None
        assert kept.measure() == 6
        link = machine._link
        link.close()
        with (tmp_path / "someone-elses").open("wb") as file:
            numbers = {os.dup(file.fileno()) for _ in range(4)}
            assert link._in in numbers
            del kept
            with pytest.raises(Exception, match="the connection was closed"):
                link.ask("measure", {"opened": name})
            for number in numbers:
                os.close(number)
        assert (tmp_path / "someone-elses").read_bytes() == b""
