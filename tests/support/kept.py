"""What is costly to make and the same for everybody: made once in a run, by whichever worker needs it first.

A new data directory takes initdb two seconds of a processor, a copy of one a fifth of that; each copy is a server of
its own, with its own identity (`backout.providers.postgres.server.template`). Node compiles wrangler once.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = "TESTS_KEPT"
"""The variable that tells all workers, and the runs of pytest inside this one, where it lies."""


def kept(name: str) -> Path:
    """Return a folder that all tests of this run share; it is gone with the run."""
    folder = Path(os.environ[FOLDER]) / name
    folder.mkdir(exist_ok=True)
    return folder


def template() -> Path:
    """Return where data directories are kept to be copied."""
    return kept("template")


def furnish(twin: Path) -> Path:
    """Lay what is kept into the folder of a twin that is to be started, and return that folder."""
    services = twin / "services"
    services.mkdir(parents=True, mode=0o700, exist_ok=True)
    (services / "cache").symlink_to(template(), target_is_directory=True)
    return twin


def furnish_wrangler(scratch: Path) -> Path:
    """Lay Node's compiled code into a folder that is to be wrangler's own, and return that folder."""
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / "node-compile-cache").symlink_to(kept("node"), target_is_directory=True)
    return scratch
