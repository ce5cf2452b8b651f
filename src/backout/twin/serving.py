"""What every daemon of a twin does: it comes up, says so in its note, serves until it is told to stop, and stops."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from backout.errors import BackoutError
from backout.providers.child import find_free_ports
from backout.twin.home import Note, mark_own_process, read_marks

if TYPE_CHECKING:
    from backout.twin.home import Home, ProcessMark

_NOTE_EVERY_S = 0.5


class TwinDaemon(ABC):
    """One twin in one process.

    Args:
        home: the folder, already held.
        wanted_port: the port to listen on, None for the last port when it is free.
        owner: the process with which it stops, None for none.
    """

    def __init__(self, home: Home, wanted_port: int | None, owner: ProcessMark | None = None) -> None:
        self._home = home
        self._owner = owner
        self._identity = home.identity()
        self._port = self._choose_port(wanted_port)
        self._written: Note | None = None

    async def run(self) -> None:
        """Start, serve until SIGTERM or SIGINT or the owner's end, stop."""
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        try:
            await self._start()
            while not stopping.is_set() and (self._owner is None or self._owner.is_alive()):
                self._write_note(ready=True)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), _NOTE_EVERY_S)
        finally:
            await self._stop()

    @abstractmethod
    async def _start(self) -> None:
        """Start everything. Raises BackoutError: a part does not come up."""

    @abstractmethod
    async def _stop(self) -> None:
        """Stop everything; nothing happens to what does not run."""

    @abstractmethod
    def _list_children(self) -> dict[str, int]:
        """Return the processes that it started, by name."""

    def _pids(self) -> dict[str, int]:
        return {"twin": os.getpid(), **self._list_children()}

    def _write_note(self, *, ready: bool) -> None:
        note = Note(mark_own_process(), self._port, ready, read_marks(self._list_children()))
        if note != self._written:
            self._home.write_note(note)
            self._written = note

    def _choose_port(self, wanted: int | None) -> int:
        port = find_free_ports(1, (wanted or self._identity.port,))[0]
        if wanted is not None and port != wanted:
            raise BackoutError(
                f"port {wanted} is taken",
                where="backout twin up",
                hint="choose another one: `backout twin up --port PORT`",
            )
        return port
