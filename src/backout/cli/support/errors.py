"""How an error is printed: what, where, the allowed options, what to type next; with `--json` as an envelope."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING

import click

from backout.cli.support.style import Tone
from backout.errors import BackoutError, ConfigError, Interrupted, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.cli.support.output import Output


_AGAIN_S = 0.02


def show(error: BackoutError, output: Output, environment: str | None = None) -> int:
    """Write the error and return its exit code; `environment`: the one that was typed."""
    _write(output, _format_lines(error, output, environment))
    if output.json and not output.answered:
        output.result("error", make_record(error, output.complete_command))
    return error.exit_code


def show_usage(what: str, usage: str, output: Output) -> int:
    """Write a usage error; exit code 2."""
    _write(
        output, [f"{_format_error(output)}: {what}", *([f"  {output.talk.strong('next')}: {usage}"] if usage else [])]
    )
    if output.json and not output.answered:
        output.result(
            "error", {"error": "UsageError", "what": what, "where": None, "hint": usage or None, "exit_code": 2}
        )
    return 2


def show_unexpected(error: Exception, output: Output) -> int:
    """Write an unexpected error (a bug in backout); the traceback only with `-v`; exit code 1."""
    payload = make_failure(error)
    lines = [f"{_format_error(output)}: a mistake in backout itself: {payload['what']}"]
    if output.verbose:
        lines += "".join(traceback.format_exception(error)).rstrip().splitlines()
    else:
        lines.append(f"  {output.talk.strong('next')}: the same command with -v shows where")
    _write(output, lines)
    if output.json and not output.answered:
        output.result("error", payload)
    return 1


def mask_strays(output: Output) -> None:
    """Have uncaught errors, in any thread, written through the mask like everything else; no Ctrl-C is lost."""

    def write(error: BaseException | None) -> None:
        if error is not None and not isinstance(error, SystemExit):
            output.complain("".join(traceback.format_exception(error)).rstrip())

    def go_on(found: sys.UnraisableHookArgs) -> None:
        """Interrupt again what a Ctrl-C met where none can be raised: in `__del__`, or in another callback."""
        if isinstance(found.exc_value, KeyboardInterrupt):
            again = threading.Timer(_AGAIN_S, _interrupt)  # at once, it would be raised in this function
            again.daemon = True
            again.start()
        else:
            write(found.exc_value)

    sys.excepthook = lambda _kind, error, _trace: write(error)
    sys.unraisablehook = go_on
    threading.excepthook = lambda found: write(found.exc_value)


def _interrupt() -> None:
    """Send the main thread a real signal: one that is only noted would wait for the end of a sleep."""
    main = threading.main_thread().ident
    if main is not None:
        signal.pthread_kill(main, signal.SIGINT)


def make_failure(error: BaseException, typed: Callable[[str], str] = str) -> dict[str, object]:
    """Return the payload of `backout.error/1` for whatever ended a command; `typed`: see `make_record`."""
    if isinstance(error, BackoutError):
        return make_record(error, typed)
    if isinstance(error, KeyboardInterrupt | SystemExit | click.Abort):
        return make_record(Interrupted("interrupted"))
    what = f"{type(error).__name__}: {error}"
    return {"error": "Unexpected", "what": what, "where": None, "hint": None, "exit_code": get_exit_code(error)}


def get_exit_code(error: BaseException) -> int:
    """Return the exit code that `make_failure` tells."""
    if isinstance(error, KeyboardInterrupt | SystemExit | click.Abort):
        return Interrupted.exit_code
    return error.exit_code if isinstance(error, BackoutError) else 1


def make_record(error: BackoutError, typed: Callable[[str], str] = str) -> dict[str, object]:
    """Return the payload of `backout.error/1`.

    Args:
        typed: makes command lines work where they are pasted, see `Output.complete_command`.
    """
    payload: dict[str, object] = {
        "error": type(error).__name__,
        "what": error.what,
        "where": error.where,
        "hint": None if error.hint is None else typed(error.hint),
        "exit_code": error.exit_code,
    }
    if isinstance(error, Refused):
        payload |= {"rule": error.rule, "options": [typed(option) for option in error.options]}
    if isinstance(error, ConfigError):
        payload["mistakes"] = list(error.mistakes)
    return payload


def _list_ways_without_journal(environment: str | None) -> tuple[str, ...]:
    """Return what works when nothing can be recorded: an operator must not have to repair a disk first."""
    name = shlex.quote(environment or "ENV")
    return (
        f"to go back by hand: `backout panic -e {name}` prints the lines to type, `backout card -e {name}` all of them",
        f"these work as well: `backout status -e {name}`, `backout doctor -e {name}`, `backout hold -e {name} -m WHY`",
    )


def _format_lines(error: BackoutError, output: Output, environment: str | None = None) -> list[str]:
    lines = [f"{_format_error(output)}: {error.what}"]
    if error.where:
        lines.append(f"  at {error.where}")
    if isinstance(error, ConfigError):
        lines += [f"  {mistake}" for mistake in error.mistakes]
    if isinstance(error, Refused):
        if error.rule:
            lines.append(output.talk.dim(f"  safety rule: {error.rule}"))
        lines += [f"  {output.talk.plain('→')} {output.complete_command(option)}" for option in error.options]
    if error.without_journal:
        lines += [
            f"  {output.talk.plain('→')} {output.complete_command(way)}"
            for way in _list_ways_without_journal(environment)
        ]
    if error.hint:
        lines.append(f"  {output.talk.strong('next')}: {output.complete_command(error.hint)}")
    return lines


def _format_error(output: Output) -> str:
    return output.talk.paint(Tone.BAD, "error")


def _write(output: Output, lines: list[str]) -> None:
    output.complain("\n".join(lines))
