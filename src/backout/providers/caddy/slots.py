"""The live slots on the disk: a folder for each deployment, and the link to the one that is live."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError
from backout.private import write_new
from backout.providers.caddy.route import LIVE, SHOWN, SLOTS, measure_shares, name_slot, share_slots

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_DEPLOYMENTS: Final = ".deployments"
_KEPT: Final = 3


class LiveSlots:
    """The slots in a folder of releases."""

    def __init__(self, releases: Path) -> None:
        self._releases = releases

    def measure(self) -> tuple[tuple[str, float], ...]:
        """Return the percentage of each address, largest first; () where nothing is live. Raises BackoutError."""
        folder = self._releases / LIVE
        try:
            return measure_shares([(folder / name_slot(slot)).read_text("ascii").strip() for slot in range(SLOTS)])
        except FileNotFoundError:
            return ()
        except (OSError, UnicodeDecodeError) as error:
            raise BackoutError("the live slots cannot be read", where=str(folder)) from error

    def lay(self, deployment: str, shares: Mapping[str, float]) -> None:
        """Lay the slots of a deployment, not live yet.

        Args:
            shares: the percentage of each address, more than 0 and 100 in all.

        Raises:
            BackoutError: they cannot be written.
        """
        with self._explain("the slots of the deployment cannot be written, so nothing is switched"):
            write_slots(self._releases / _DEPLOYMENTS / deployment, deployment, shares)

    def switch(self, deployment: str) -> None:
        """Make the laid slots of a deployment live: one rename. Raises BackoutError: it was not made."""
        link = self._releases / f".{LIVE}-{deployment}"
        with self._explain("the link to the live slots cannot be replaced"):
            link.symlink_to(f"{_DEPLOYMENTS}/{deployment}")
            link.rename(self._releases / LIVE)
            _sync(self._releases)
        with contextlib.suppress(OSError):
            self._forget()

    def _forget(self) -> None:
        """Remove the slots of deployments that are long past; what Caddy may still be reading stays."""
        live = (self._releases / LIVE).resolve()
        laid = sorted((self._releases / _DEPLOYMENTS).iterdir(), key=lambda each: each.stat().st_mtime)
        for each in laid[:-_KEPT]:
            if each != live:
                shutil.rmtree(each)

    @contextlib.contextmanager
    def _explain(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BackoutError(f"{what}: {error.strerror}", where=str(error.filename or self._releases)) from error


def write_slots(folder: Path, deployment: str, shares: Mapping[str, float]) -> None:
    """Write the slots into a new folder, and what Caddy is to show of them. Raises OSError.

    Args:
        shares: as `LiveSlots.lay`.
    """
    folder.parent.mkdir(mode=0o755, exist_ok=True)  # Caddy may be another user
    folder.mkdir(mode=0o755)
    write_new(folder / SHOWN, deployment.encode())
    first: dict[str, Path] = {}
    for slot, address in enumerate(share_slots(shares)):
        path = folder / name_slot(slot)
        if address in first:
            os.link(first[address], path)
        else:
            write_new(path, address.encode())
            first[address] = path
    for path in (folder / SHOWN, *first.values()):
        path.chmod(0o644)
    _sync(folder)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
