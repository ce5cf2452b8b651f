"""The processes of releases, which outlive whoever pushed them: found by the lock of their supervisor."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Final

from backout.providers.caddy.processes import find_supervisor

if TYPE_CHECKING:
    from pathlib import Path

_WITHIN_S: Final = 15.0
_LOOK_EVERY_S: Final = 0.02


def find_running(releases: Path) -> dict[str, int]:
    """Return the process id of the supervisor of each release that runs, by the release's id."""
    found = {place.name: find_supervisor(place) for place in sorted(releases.glob("[0-9a-f]*"))}
    return {name: pid for name, pid in found.items() if pid is not None}


def end_releases(releases: Path) -> None:
    """End all that run: SIGTERM to each supervisor, which ends its release within ten seconds."""
    deadline = time.monotonic() + _WITHIN_S
    asked: set[int] = set()
    while (running := find_running(releases)) and time.monotonic() < deadline:
        for pid in set(running.values()) - asked:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        asked.update(running.values())
        time.sleep(_LOOK_EVERY_S)
