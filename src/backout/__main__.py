"""The entry point: `--version` is answered before anything else is imported, and the process ends without tidying."""

from __future__ import annotations

import sys


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Report an interruption that comes while this module is imported; the interpreter ends as interrupted."""
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("error: interrupted\n")
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _tell

import gc  # noqa: E402 - Ctrl-C may come from here on
import os  # noqa: E402

from backout import __version__  # noqa: E402
from backout.streams import SafeStream, make_safe, settle_exit_code  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_OBJECTS_BEFORE_COLLECTION = 200_000  # a rollback makes 60,000, nearly all of them for good


def main() -> None:
    """Run the command line of this process and end it with its code, even when it is stopped before it could begin."""
    gc.set_threshold(_OBJECTS_BEFORE_COLLECTION)
    try:
        make_safe()
        code = answer(sys.argv[1:])
    except KeyboardInterrupt:
        code = report_interrupt(sys.argv[1:])
    leave(code)


def answer(arguments: list[str]) -> int:
    """Run a command line and return its exit code."""
    if arguments == ["--version"]:
        sys.stdout.write(f"backout {__version__}\n")
        return 0
    from backout.startup import begin_safely

    begin_safely()
    from backout.cli.app import run

    return run(arguments)


def report_interrupt(arguments: list[str]) -> int:
    """Report a Ctrl-C that came before or after the command could report it; return the exit code."""
    sys.stderr.write("error: interrupted\n")
    if "--json" in arguments and not (isinstance(sys.stdout, SafeStream) and sys.stdout.is_used):
        told = '"error":"Interrupted","what":"interrupted","where":null,"hint":null,"exit_code":130'
        sys.stdout.write(f'{{"schema":"backout.error/1",{told}}}\n')
    return 130


def leave(code: int) -> None:
    """End the process at once if nothing is left to wait for.

    Shutting the interpreter down costs a seventh of a rollback's CPU and changes nothing: what matters was written to
    disk when it happened. If threads are still at work, it ends in the ordinary way.
    """
    code = settle_exit_code(code)
    threading = sys.modules.get("threading")
    if threading is not None and threading.active_count() > 1:
        sys.exit(code)
    os._exit(code)


if __name__ == "__main__":
    main()
