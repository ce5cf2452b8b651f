"""The folder of a trial, which names its process, so that the next trial removes it after a kill."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from backout.providers.child import is_running


def make_folder(prefix: str) -> Path:
    """Return a new folder that this user alone can read; those of processes that have ended are removed.

    Args:
        prefix: of its name, as of all of its kind; it ends in "-".
    """
    for each in Path(tempfile.gettempdir()).glob(f"{prefix}*-*"):
        owner = each.name.removeprefix(prefix).partition("-")[0]
        is_ours = owner.isdecimal() and not each.is_symlink() and each.is_dir() and each.stat().st_uid == os.getuid()
        if is_ours and not is_running(int(owner)):
            shutil.rmtree(each, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-"))
