"""What each of our processes does before it imports any third-party module."""

from __future__ import annotations

import os
import sys


def begin_safely() -> None:
    """Keep the working directory off the module path, and our memory out of core files."""
    forget_folder()
    leave_no_core()


def forget_folder() -> None:
    """Remove the current folder from the module path, unless backout itself is in it.

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
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
