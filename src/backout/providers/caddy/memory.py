"""The memory of the processes that listen on a port of this host, out of /proc.

Another host's Python runs this text as a program (`python3 -c TEXT PORT`), so it needs Python 3.7 and the standard
library alone. It prints the bytes, "unknown" where others' processes listen there, and nothing where none does.

Source: proc(5): a line of /proc/net/tcp has the local address, the state (0A: it listens) and the inode of its socket;
`Pss` in smaps_rollup counts what processes share once.
"""

from __future__ import annotations

import os
import sys

_LISTENS, _STATE, _INODE = "0A", 3, 9
_KB = 1024


def measure_memory(port: int) -> str:
    """Return what is to be printed."""
    sockets = _find_sockets(port)
    if not sockets:
        return ""
    found = [pid for pid in os.listdir("/proc") if pid.isdigit() and _holds(pid, sockets)]
    sizes = [_read_kb(pid) for pid in found]
    return str(_KB * sum(size for size in sizes if size)) if any(sizes) else "unknown"


def _find_sockets(port: int) -> set[str]:
    found = set()
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in _read_lines(name)[1:]:
            words = line.split()
            if words[_STATE] == _LISTENS and int(words[1].rpartition(":")[2], 16) == port:
                found.add("socket:[%s]" % words[_INODE])
    return found


def _holds(pid: str, sockets: set[str]) -> bool:
    folder = "/proc/%s/fd" % pid
    try:
        return any(os.readlink(os.path.join(folder, each)) in sockets for each in os.listdir(folder))
    except OSError:
        return False


def _read_kb(pid: str) -> int:
    for name, key in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        for line in _read_lines("/proc/%s/%s" % (pid, name)):
            if line.startswith(key):
                return int(line.split()[1])
    return 0


def _read_lines(path: str) -> list[str]:
    try:
        with open(path) as file:
            return file.readlines()
    except OSError:
        return []


if __name__ == "__main__":
    sys.stdout.write(measure_memory(int(sys.argv[1])) + "\n")
