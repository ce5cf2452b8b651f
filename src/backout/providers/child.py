"""Starts long-running child processes so that the kernel ends them with their parent; nothing here waits.

The kernel watches the *thread* that started the child, so that thread must live as long as the parent does.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from backout.providers.child_environment import make_bare_environment

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterable, Iterator, Sequence

NOBODY = 65534
"""The uid and gid of `nobody`, the one unprivileged account that every Linux has."""


_QUIET_PORTS = (15_000, 32_000)
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_DRAWS = 100


def tie_to_parent(argv: Sequence[str], last_signal: signal.Signals) -> tuple[str, ...]:
    """Return argv wrapped so that the kernel sends `last_signal` when the parent dies, kill -9 included.

    On a system without util-linux (macOS) argv is returned as it is: there the child may outlive a killed parent.
    A wrapper instead of `preexec_fn`, which may deadlock in a process with threads. The shell in between closes a race:
    a parent that died before the kernel was told sends no signal, so the child looks whether it still has that parent.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return tuple(argv)
    still_there = f'test "$PPID" = {os.getpid()} && exec "$@"'
    return (
        setpriv,
        "--pdeathsig",
        last_signal.name.removeprefix("SIG"),
        "--",
        "/bin/sh",
        "-c",
        still_there,
        "sh",
        *argv,
    )


@functools.cache
def find_unprivileged_prefix() -> tuple[str, ...]:
    """Return the words in front of a command that refuses to run as root; empty for an ordinary user.

    Root is mapped to `nobody` in a fresh user namespace, so that files stay owned by the caller: no useradd, no chown,
    no chmod. Where user namespaces are switched off: `setpriv` to nobody (see `needs_chown`).
    """
    if os.geteuid() != 0:
        return ()
    unshare = shutil.which("unshare")
    if unshare is not None:
        prefix = (unshare, "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}", "--")
        argv = (*prefix, "true")
        done = subprocess.run(argv, check=False, capture_output=True, timeout=10, env=make_bare_environment())
        if done.returncode == 0:
            return prefix
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return ()
    return (setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--")


def needs_chown() -> bool:
    """Whether the unprivileged command really runs as another user, who then has to own its data directory."""
    return bool(find_unprivileged_prefix()) and Path(find_unprivileged_prefix()[0]).name == "setpriv"


def find_free_ports(count: int, wanted: Iterable[int] = ()) -> tuple[int, ...]:
    """Return `count` different free TCP ports on 127.0.0.1, the wanted ones where they are still free.

    They are drawn from below the range that outgoing connections use, because any connection of any program could
    take such a port before its server does. Another server still may: code that starts one must be able to try again.
    """
    ports: list[int] = []
    with contextlib.ExitStack() as held:
        for port in (*wanted, *_list_candidates()):
            if len(ports) == count:
                break
            if port not in ports and (taken := _bind(held, port)):
                ports.append(taken)
        while len(ports) < count:
            ports.append(_bind(held, 0))
    return tuple(ports)


def _list_candidates() -> Iterator[int]:
    lowest, highest = _QUIET_PORTS
    with contextlib.suppress(OSError, ValueError):
        highest = min(highest, int(_EPHEMERAL.read_text(encoding="ascii").split()[0]))
    for _ in range(_DRAWS if lowest < highest else 0):
        yield secrets.randbelow(highest - lowest) + lowest


def _bind(held: contextlib.ExitStack, port: int) -> int:
    probe = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind(("127.0.0.1", port))
    except OSError:
        return 0
    return int(probe.getsockname()[1])


def read_process_state(pid: int) -> str | None:
    """Return the kernel's letter for a process (`Z` is a zombie), `?` where there is no /proc, None if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        return "?"
    return None if Path("/proc/self/stat").exists() else "?"


def is_running(pid: int) -> bool:
    """Whether the process exists and is not a zombie that waits for its parent to look."""
    return read_process_state(pid) not in {None, "Z", "X"}
