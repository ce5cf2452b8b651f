"""The memory of a Worker's isolate, as V8 reports it after each collection: the heap, and buffers outside it.

V8 ends a process whose heap is over its limit by itself; buffers (ArrayBuffer, streams) it only counts.
Source: V8's `--trace-gc-verbose`, read in the output of workerd 1.20261117.1; Workers limits, memory.
"""

from __future__ import annotations

import re

_LINE = re.compile(r"\[(\d+):0x([0-9a-f]+)\] (.*)")
_HEAP = re.compile(r"All spaces, +used: +(\d+) KB")
_OUTSIDE = re.compile(r"External memory reported: +(\d+) KB")


class MemoryReader:
    """Reads the lines that V8 writes between those of the program.

    Args:
        pid: of the process; a line that names another one is not V8's.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._heap: dict[str, int] = {}
        self.held_kb = 0

    def takes(self, line: str) -> bool:
        """Read a line; whether it was V8's. `held_kb` is then what the isolate of the newest collection held.

        >>> reader = MemoryReader(7)
        >>> reader.takes("[7:0xab] All spaces,  used:  2048 KB, available: 1 KB")
        True
        >>> reader.takes("[7:0xab] External memory reported:  1 KB"), reader.held_kb
        (True, 2049)
        >>> reader.takes("[8:0xab] External memory reported:  900 KB"), reader.held_kb
        (False, 2049)
        """
        found = _LINE.match(line)
        if found is None or int(found[1]) != self._pid:
            return False
        isolate, text = found[2], found[3]
        if heap := _HEAP.match(text):
            self._heap[isolate] = int(heap[1])
        elif outside := _OUTSIDE.match(text):
            self.held_kb = self._heap.get(isolate, 0) + int(outside[1])
        return True
