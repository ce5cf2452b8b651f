"""The entry point: `--version` is answered before anything else is imported, and the process ends without tidying."""

from __future__ import annotations

import sys


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say an interruption that comes while this module is imported; the interpreter ends as interrupted."""
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("error: interrupted\n")
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _tell

import gc  # noqa: E402 - Ctrl-C may come from here on
import os  # noqa: E402

from backout import __version__  # noqa: E402
from backout.streams import SafeStream, ended, make_safe  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_OBJECTS_BEFORE_COLLECTION = 50_000  # imports only add objects: looking through them at every 700th is in vain


def main() -> None:
    """Run the command line of this process and end it with its code, also when it is stopped before it could begin."""
    gc.set_threshold(_OBJECTS_BEFORE_COLLECTION)
    try:
        make_safe()
        code = answer(sys.argv[1:])
    except KeyboardInterrupt:
        code = interrupted(sys.argv[1:])
    leave(code)


def answer(arguments: list[str]) -> int:
    """Run a command line and return its exit code."""
    if arguments == ["--version"]:
        sys.stdout.write(f"backout {__version__}\n")
        return 0
    from backout.startup import begin_safely  # noqa: PLC0415 - the sentence at the top

    begin_safely()
    from backout.cli.app import run  # noqa: PLC0415 - the sentence at the top

    return run(arguments)


def interrupted(arguments: list[str]) -> int:
    """Say that Ctrl-C came before there was a command that could have said so, or after it; return the exit code."""
    sys.stderr.write("error: interrupted\n")
    if "--json" in arguments and not (isinstance(sys.stdout, SafeStream) and sys.stdout.is_used):
        told = '"error":"Interrupted","what":"interrupted","where":null,"hint":null,"exit_code":130'
        sys.stdout.write(f'{{"schema":"backout.error/1",{told}}}\n')
    return 130


def leave(code: int) -> None:
    """End the process at once when nothing is left to wait for.

    Taking the interpreter apart costs a seventh of a rollback's CPU and changes nothing: what matters was written to
    disk when it happened. Threads still at work get the ordinary end.
    """
    code = ended(code)
    threading = sys.modules.get("threading")
    if threading is not None and threading.active_count() > 1:
        sys.exit(code)
    os._exit(code)


if __name__ == "__main__":
    main()
