"""How children are started: on free ports, without root's power, and ended with their parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from backout.providers.child import find_free_ports, find_unprivileged_prefix, is_running, read_process_state
from backout.providers.child_environment import make_bare_environment
from backout.providers.process_group import ProcessGroup, run_group

from polling import until
from streamed import await_line


def test_ports_are_different_free_and_the_wanted_ones_where_possible() -> None:
    """A taken one is replaced, a free one is given again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = taken.getsockname()[1]
        first = find_free_ports(8)
        again = find_free_ports(8, (*first[:3], busy))
    assert len(set(first)) == len(set(again)) == 8
    assert again[:3] == first[:3]
    assert busy not in again
    for port in again:
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_ports_are_none_that_an_outgoing_connection_could_take() -> None:
    """Else a client of any program could sit on a port that was just found free."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    assert all(port < lowest for port in find_free_ports(8))


def test_an_unprivileged_child_is_not_root() -> None:
    """Inside it is nobody (or whoever the caller is), outside the files stay the caller's."""
    argv = (*find_unprivileged_prefix(), sys.executable, "-c", "import os; print(os.geteuid())")
    shown = int(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    assert shown == (os.geteuid() or 65534)


_PARENT = """
import signal, subprocess, sys
from backout.providers.child import tie_to_parent
code = "import signal; print('here', flush=True); signal.pause()"
argv = tie_to_parent((sys.executable, "-c", code), signal.SIGKILL)
child = subprocess.Popen(argv)
print(child.pid, flush=True)
input()
"""


def test_a_child_gets_its_signal_when_the_parent_is_killed() -> None:
    """Kill -9 gives the parent no time to do it itself."""
    argv = (sys.executable, "-c", _PARENT)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        said = sorted(await_line(process, "").strip() for _ in range(2))
        assert said[1] == "here"
        pid = int(said[0])
        assert is_running(pid)
        process.kill()
    until(lambda: not is_running(pid), what="the child ended")


def test_a_zombie_is_not_running() -> None:
    """It has a pid, and nothing else."""
    with subprocess.Popen((sys.executable, "-c", "")) as process:
        until(lambda: read_process_state(process.pid) == "Z", what="it is a zombie")
        assert not is_running(process.pid)
    assert read_process_state(process.pid) is None


_FAMILY = "sleep 98.25 & echo $$ $!; wait"
"""A program that starts another one, as pg_basebackup does; it says both pids."""
_KILLED = f"""
import os, signal, subprocess
from backout.providers.child_environment import make_bare_environment
from backout.providers.process_group import ProcessGroup
process = ProcessGroup(("sh", "-c", {_FAMILY!r}), env=make_bare_environment(), stdout=subprocess.PIPE)
print(process.stdout.readline(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def await_end(pids: list[int]) -> None:
    until(lambda: not any(map(is_running, pids)), what=f"the end of {pids}")


def open_family() -> tuple[ProcessGroup, list[int]]:
    process = ProcessGroup(("sh", "-c", _FAMILY), env=make_bare_environment(), stdout=subprocess.PIPE)
    pids = [int(word) for word in await_line(process, "").split()]
    assert len(pids) == 2
    assert all(map(is_running, pids))
    return process, pids


def test_what_a_program_started_ends_with_our_kill_9() -> None:
    """The kernel tells the child alone; its own child is the group's leader's to end."""
    done = subprocess.run((sys.executable, "-c", _KILLED), stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    await_end([int(word) for word in done.stdout.split()])


def test_what_a_program_started_ends_when_we_end_it() -> None:
    """Terminated or killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        process, pids = open_family()
        with process:
            process.send_signal(number)
        assert process.returncode < 0
        process.send_signal(number)  # says nothing of one that has ended
        await_end(pids)


def test_what_a_program_started_ends_when_that_is_killed() -> None:
    """By the kernel, for want of memory, or by somebody who looks for what is slow."""
    process, pids = open_family()
    with process:
        os.kill(pids[0], signal.SIGKILL)
    await_end(pids)


def test_a_program_of_a_group_answers_and_has_its_own_exit_code() -> None:
    done = run_group(("sh", "-c", "echo out; echo err >&2; exit 7"), env=make_bare_environment())
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_a_program_that_takes_too_long_ends_with_what_it_started() -> None:
    """What it started holds the pipe open: without its end this would wait for that."""
    with pytest.raises(subprocess.TimeoutExpired) as raised:
        run_group(("sh", "-c", _FAMILY), env=make_bare_environment(), timeout_s=1.0)
    assert raised.value.stdout
    await_end([int(word) for word in raised.value.stdout.split()])
