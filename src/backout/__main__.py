"""The entry point: `--version` is answered before anything else is imported, and the process ends without tidying."""

from __future__ import annotations

import gc
import os
import sys

from backout import __version__

_OBJECTS_BEFORE_COLLECTION = 50_000  # imports only add objects: looking through them at every 700th is in vain


def main() -> None:
    """Run the command line of this process and end it with its code."""
    gc.set_threshold(_OBJECTS_BEFORE_COLLECTION)
    leave(answer(sys.argv[1:]))


def answer(arguments: list[str]) -> int:
    """Run a command line and return its exit code."""
    if arguments == ["--version"]:
        sys.stdout.write(f"backout {__version__}\n")
        return 0
    from backout.startup import begin_safely  # noqa: PLC0415 - the sentence at the top

    begin_safely()
    from backout.cli.app import run  # noqa: PLC0415 - the sentence at the top

    return run(arguments)


def leave(code: int) -> None:
    """End the process at once when nothing is left to wait for.

    Taking the interpreter apart costs a seventh of a rollback's CPU and changes nothing: what matters was written to
    disk when it happened. Threads still at work, and a reader who went away, get the ordinary end.
    """
    threading = sys.modules.get("threading")
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        sys.exit(code)
    if threading is not None and threading.active_count() > 1:
        sys.exit(code)
    os._exit(code)


if __name__ == "__main__":
    main()
