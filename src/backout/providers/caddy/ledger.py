"""The ledger of deployments beside the releases: one JSON line each, appended and synced before anything is switched.

A deployment is two lines: what is intended, and that it is live. Which one is live now is never read here, but asked of
Caddy itself. A line that was cut by a crash or edited is named and not believed; the others still count.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from backout.decoding import Undecodable, decode_json
from backout.errors import BackoutError, Busy
from backout.model.value import Value
from backout.providers.caddy.machine import LocalMachine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backout.providers.caddy.machine import Machine

_NAME: Final = "ledger.jsonl"


class Entry(Value, frozen=True, omit_defaults=True):
    """A line of the ledger.

    Args:
        kind: `intended`: it was about to be switched; `live`: Caddy showed it.
        id: of the deployment.
        at: Unix seconds.
        shares: the percentage of each release, largest first; of `live` lines ().
        before: the deployment that was live then, "" unknown.
    """

    kind: Literal["intended", "live"]
    id: str
    at: float
    shares: tuple[tuple[str, float], ...] = ()
    message: str = ""
    author: str = ""
    triggered_by: str = ""
    before: str = ""


class Content(Value, frozen=True):
    """What a ledger says.

    Args:
        entries: oldest first.
        damaged: the numbers of the lines that cannot be read, from 1.
    """

    entries: tuple[Entry, ...] = ()
    damaged: tuple[int, ...] = ()

    def merge(self, other: Content) -> Content:
        """Return what both say, oldest first; a line that both have counts once."""
        every = {(each.kind, each.id): each for each in (*other.entries, *self.entries)}
        return Content(tuple(sorted(every.values(), key=lambda each: each.at)), (*self.damaged, *other.damaged))

    def find_intended(self, id: str) -> Entry | None:
        """Return what a deployment was intended to be, None where no line says so."""
        return next((each for each in self.entries if each.kind == "intended" and each.id == id), None)

    def was_live(self, id: str) -> bool:
        """Whether a deployment is known to have been live."""
        return any(each.id == id for each in self.list_deployed())

    def find_newest(self) -> Entry | None:
        """Return the newest deployment that is known to have been live, None where none is."""
        return next(iter(self.list_deployed()), None)

    def list_deployed(self) -> tuple[Entry, ...]:
        """Return the deployments that are known to have been live, newest first."""
        live = {each.id for each in self.entries if each.kind == "live"}
        return tuple(each for each in reversed(self.entries) if each.kind == "intended" and each.id in live)


class Ledger:
    """The ledger in a folder of releases."""

    def __init__(self, folder: Path, machine: Machine | None = None) -> None:
        self.path = folder / _NAME
        self._machine = machine or LocalMachine()

    def read(self) -> Content:
        """Return what it says; () where there is none yet. Raises BackoutError: it cannot be read."""
        try:
            lines = self._machine.read(self.path).split(b"\n")
        except FileNotFoundError:
            return Content()
        except OSError as error:
            where = self._machine.describe(self.path)
            raise BackoutError(f"the ledger cannot be read: {error.strerror}", where=where) from error
        entries: list[Entry] = []
        damaged: list[int] = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                entries.append(decode_json(line, Entry))
            except Undecodable:
                damaged.append(number)
        return Content(tuple(entries), tuple(damaged))

    def append(self, entry: Entry) -> None:
        """Write a line; it is durable when this returns. Raises BackoutError: it cannot be written."""
        try:
            self._machine.append(self.path, msgspec.json.encode(entry) + b"\n")
        except OSError as error:
            raise BackoutError(
                f"the ledger cannot be written, so nothing is switched: {error.strerror}",
                where=self._machine.describe(self.path),
                hint=f"df -h {self.path.parent}",
            ) from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the ledger for a deployment: on one host one at a time. Raises Busy, BackoutError: it is not locked."""
        path = self.path.with_name(".lock")
        held = ExitStack()
        try:
            held.enter_context(self._machine.hold(path))
        except TimeoutError as error:
            raise Busy("somebody else deploys there", where=self._machine.describe(path)) from error
        except OSError as error:
            what = f"the folder of releases cannot be written: {error.strerror}"
            where = self._machine.describe(path)
            raise BackoutError(what, where=where, hint=f"ls -ld {path.parent}") from error
        with held:
            yield
