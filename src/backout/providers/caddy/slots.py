"""The live slots on the disk: a folder for each deployment, and the link to the one that is live."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError
from backout.providers.caddy.machine import LocalMachine
from backout.providers.caddy.route import LIVE, SHOWN, SLOTS, measure_shares, name_slot, share_slots

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from backout.providers.caddy.machine import Machine

DEPLOYMENTS: Final = ".deployments"
_KEPT: Final = 3


class LiveSlots:
    """The slots in a folder of releases."""

    def __init__(self, releases: Path, machine: Machine | None = None) -> None:
        self._releases = releases
        self._machine = machine or LocalMachine()

    def measure(self) -> tuple[tuple[str, float], ...]:
        """Return the percentage of each address, largest first; () where nothing is live. Raises BackoutError."""
        folder = self._releases / LIVE
        try:
            read = self._machine.read_files(folder, [name_slot(slot) for slot in range(SLOTS)])
            return measure_shares([each.decode("ascii").strip() for each in read])
        except FileNotFoundError:
            return ()
        except (OSError, UnicodeDecodeError) as error:
            raise BackoutError("the live slots cannot be read", where=self._machine.describe(folder)) from error

    def lay(self, deployment: str, shares: Mapping[str, float]) -> None:
        """Lay the slots of a deployment, not live yet.

        Args:
            shares: the percentage of each address, more than 0 and 100 in all.

        Raises:
            BackoutError: they cannot be written.
        """
        with self._explain("the slots of the deployment cannot be written, so nothing is switched"):
            folder = self._releases / DEPLOYMENTS / deployment
            self._machine.write_slots(folder, SHOWN, deployment, share_slots(shares))

    def switch(self, deployment: str) -> None:
        """Make the laid slots of a deployment live: one rename. Raises BackoutError: it was not made."""
        live, beside = self._releases / LIVE, self._releases / f".{LIVE}-{deployment}"
        with self._explain("the link to the live slots cannot be replaced"):
            self._machine.replace_link(live, f"{DEPLOYMENTS}/{deployment}", beside)
        with contextlib.suppress(OSError, BackoutError):
            self._machine.forget_slots(self._releases / DEPLOYMENTS, live, _KEPT)

    @contextlib.contextmanager
    def _explain(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = self._machine.describe(self._releases)
            raise BackoutError(f"{what}: {error.strerror}", where=str(error.filename or where)) from error
