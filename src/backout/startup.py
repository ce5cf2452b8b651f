"""What each of our processes does before it imports anything that is not Python's own or ours."""

from __future__ import annotations

import os
import sys


def begin_safely() -> None:
    """Keep the folder where a command is typed off the module path, and our memory out of core files."""
    forget_folder()
    leave_no_core()


def forget_folder() -> None:
    """Take the current folder out of the module path, unless backout itself lies there.

    `python -m backout` begins the path with it, and an empty part of PYTHONPATH stands for it: a `click.py` in the
    folder of a project would run as us.
    """
    home = __file__.rpartition(os.sep)[0].rpartition(os.sep)[0]
    try:
        here = os.getcwd()  # noqa: PTH109 - pathlib is not Python's own before the path is mended
    except OSError:  # the folder is gone: nothing is imported from there
        return
    sys.path[:] = [entry for entry in sys.path if entry == home or (entry not in ("", ".") and entry != here)]


def leave_no_core() -> None:
    """Let neither this process nor a child leave its memory, tokens included, in a file when it crashes."""
    import resource  # noqa: PLC0415 - after the path is mended

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
