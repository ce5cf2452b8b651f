"""What tests cost in processor seconds, with all that they start, by folder, file and test: `make test PYTEST=--cpu`.

Unlike the seconds on the wall that `--durations` shows, these hardly depend on what else the machine does.
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

COSTLIEST = 80
"""So many tests are listed behind the files."""
ASKED_EVERY_S = 0.5
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s() -> float:
    """Return the processor seconds of this process, of children that were waited for, and of those that were not yet.

    What a child left behind for the kernel (a twin that a `backout` started and that lives on) is not among them.
    """
    reaped = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return reaped + sum(_ticks_below(os.getpid(), _by_parent())) / TICKS_PER_S


def _by_parent() -> dict[int, list[tuple[int, int]]]:
    """Return (process, ticks of it and of those it waited for) of every process there is, by its parent."""
    found: dict[int, list[tuple[int, int]]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # one that has ended
            told = file.read_bytes().rpartition(b")")[2].split()
            found.setdefault(int(told[1]), []).append((int(file.parent.name), sum(map(int, told[11:15]))))
    return found


def _ticks_below(pid: int, by_parent: dict[int, list[tuple[int, int]]]) -> Iterator[int]:
    for child, ticks in by_parent.get(pid, ()):
        yield ticks
        yield from _ticks_below(child, by_parent)


class CpuByFile:
    """Counts in each worker, and adds up where the summary is written."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self._since, self._asked_at = cpu_s(), time.monotonic()

    def _charge(self, to: str) -> None:
        now = cpu_s()
        self.spent[to] += max(0.0, now - self._since)  # type: ignore[assignment] # seconds, not a count
        self._since, self._asked_at = now, time.monotonic()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, Any, Any]:
        """Charge to a test what was spent since the last that was charged: fixtures to who needed them first.

        Tests of a moment are charged together, to the last of them: each question costs a test of that kind.
        """
        result = yield
        if nextitem is None or nextitem.path != item.path or time.monotonic() - self._asked_at > ASKED_EVERY_S:
            self._charge(item.nodeid)
        return result

    def pytest_collection_finish(self) -> None:
        self._charge("(start and collection)")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workeroutput"):
            self._charge("(after the last test)")
            session.config.workeroutput["cpu"] = dict(self.spent)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.spent.update(getattr(node, "workeroutput", {}).get("cpu", {}))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        rooms, files = Counter[str](), Counter[str]()
        for test, seconds in self.spent.items():
            file = test.partition("::")[0]
            files[file] += seconds
            rooms[file.rpartition("/")[0] or file] += seconds
        terminalreporter.section(f"processor seconds: {sum(self.spent.values()):.0f} in all")
        for name, seconds in [*rooms.most_common(), *files.most_common(), *self.spent.most_common(COSTLIEST)]:
            terminalreporter.write_line(f"{seconds:8.1f}  {name}")
