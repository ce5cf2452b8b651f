"""Divides the reading of files among processes: whole files, and parts of large ones, split where an event begins."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError
from backout.model.value import Value
from backout.providers.child_environment import make_bare_environment, make_module_command
from backout.providers.events.reader import EventReader
from backout.providers.events.tally import EventTally

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import FileIO
    from pathlib import Path

    from backout.model.incident.events import EventCounts
    from backout.providers.events.tally import KeyOf

_SMALLEST: Final = 8 << 20
"""Bytes of a part; a smaller one is not worth a process."""
_PARTS_A_JOB: Final = 4
"""So that all end at about the same time, though they do not begin so: an interpreter takes a moment to start."""
_PEEK: Final = 1 << 16
_SEARCHED: Final = 1 << 20
"""Bytes in which the beginning of an event is looked for."""
_SPREAD_END: Final = b"\n}\n"


class Part(Value, frozen=True):
    """Bytes [begin, end) of a file; end None: to its end."""

    path: Path
    begin: int = 0
    end: int | None = None


class _Slice:
    """A part of a file as a stream."""

    def __init__(self, file: FileIO, part: Part) -> None:
        self._file = file
        self._left = part.end - part.begin if part.end is not None else None
        file.seek(part.begin)

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill the buffer as far as the part goes; none at its end."""
        if self._left is None:
            return self._file.readinto(buffer)
        found = self._file.readinto(buffer[: self._left])
        self._left -= found or 0
        return found


def divide_files(paths: Sequence[Path], jobs: int) -> list[Part]:
    """Return the files in parts of about the same size, some for each job; what is no Worker's events stays whole."""
    parts: list[Part] = []
    sizes = {path: path.stat().st_size for path in paths}
    wanted = max(_SMALLEST, sum(sizes.values()) // (jobs * _PARTS_A_JOB) + 1)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            beginning = file.read(_PEEK)
            end_of_event = _find_separator(beginning)
            begin = 0
            while end_of_event and sizes[path] - begin > wanted * 1.25:
                cut = _find_next(file, begin + wanted, end_of_event)
                if cut is None:
                    break
                parts.append(Part(path, begin, cut))
                begin = cut
        parts.append(Part(path, begin, None))
    return parts


def count_in_processes(parts: Sequence[Part], key_of: KeyOf, jobs: int) -> Iterator[EventCounts]:
    """Yield what each part holds, in their order; this process reads along, from the first one and from the end."""
    if len(parts) == 1:
        yield read_part(parts[0], key_of)
        return
    workers = min(jobs, len(parts)) - 1
    with _helpers(workers) as idle, ThreadPoolExecutor(workers) as pool:
        others = [pool.submit(_read_elsewhere, idle, part, key_of) for part in parts[1:]]
        yield read_part(parts[0], key_of)
        mine: list[EventCounts] = []
        while others and others[-1].cancel():  # not started yet
            others.pop()
            mine.append(read_part(parts[len(others) + 1], key_of))
        for other in others:
            yield other.result()
        yield from reversed(mine)


class _Helper:
    """A process of ours that reads one part after another; it ends when its input does."""

    def __init__(self) -> None:
        # Not by multiprocessing: its children look for modules in the current folder, and inherit all variables.
        asked, self._ask = os.pipe()
        self._hear, answered = os.pipe()
        self._process = subprocess.Popen(
            make_module_command("backout.providers.events.helper"),
            stdin=asked,
            stdout=answered,
            env=make_bare_environment(),
        )
        os.close(asked)
        os.close(answered)
        self._to, self._from = Connection(self._ask, readable=False), Connection(self._hear, writable=False)

    def read(self, part: Part, key_of: KeyOf) -> EventCounts:
        """Return what a part holds. Raises OSError as reading it does. BackoutError: the process ended."""
        try:
            self._to.send((part, key_of))
            found = self._from.recv()
        except (EOFError, BrokenPipeError):
            raise BackoutError("a process that read along has ended", where=str(part.path)) from None
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[no-any-return]

    def end(self) -> None:
        """End it, whatever it does."""
        self._to.close()
        self._from.close()
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def _helpers(count: int) -> Iterator[queue.SimpleQueue[_Helper]]:
    idle: queue.SimpleQueue[_Helper] = queue.SimpleQueue()
    with contextlib.ExitStack() as all_of_them:
        for _ in range(count):
            helper = _Helper()
            all_of_them.callback(helper.end)
            idle.put(helper)
        yield idle


def _read_elsewhere(idle: queue.SimpleQueue[_Helper], part: Part, key_of: KeyOf) -> EventCounts:
    helper = idle.get()
    try:
        return helper.read(part, key_of)
    finally:
        idle.put(helper)


def read_part(part: Part, key_of: KeyOf) -> EventCounts:
    """Return what a part holds. Raises OSError: it cannot be read."""
    tally = EventTally(key_of)
    name = part.path.name if not part.begin else f"{part.path.name} from byte {part.begin}"
    with part.path.open("rb", buffering=0) as file:
        EventReader(tally, name).read(_Slice(file, part))
    return tally.result()


def _find_separator(beginning: bytes) -> bytes | None:
    """Return the separator between two events of a file, None where its beginning does not show it."""
    if beginning.startswith(b'{"') and b'"outcome"' in beginning.lower():
        return b"\n"
    if beginning.startswith(b"{\n ") and b'"outcome"' in beginning:
        return _SPREAD_END
    return None


def _find_next(file: FileIO, at: int, end_of_event: bytes) -> int | None:
    """Return where the first event after a place begins."""
    file.seek(at)
    found = file.read(_SEARCHED).find(end_of_event)
    return None if found < 0 else at + found + len(end_of_event)
