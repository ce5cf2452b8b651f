"""The WAL of a side instance, delivered while it starts and replays what is already there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from backout.model.names import parse_segment
from backout.providers.child import NOBODY, needs_chown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from backout.ports import Backups


def bring_wal(backups: Backups, names: Sequence[str], folder: Path) -> None:
    """Lay the WAL that is still missing into the folder of an instance.

    What is to come has a name in the folder `coming`: the server waits for that one, and asks in vain for others.
    """
    wanted = [name for name in names if (folder / "coming" / parse_segment(name)).exists()]
    arriving = folder / "arriving"
    arriving.mkdir(exist_ok=True)

    def there(name: str) -> None:
        if needs_chown():
            os.chown(arriving / parse_segment(name), NOBODY, NOBODY)
        (arriving / parse_segment(name)).rename(folder / "wal" / parse_segment(name))
        (folder / "coming" / parse_segment(name)).unlink()

    try:
        backups.fetch_wal(wanted, arriving, there)
    except BaseException:
        (folder / "coming").rename(folder / "lacking")  # the server waits for no more, and says what it lacks
        raise
