"""`backout guard replay`: recorded requests, or past deployments by kept counts, judged by today's detector."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from backout.cli.support.options import Command, pass_shell
from backout.cli.support.piped import open_piped
from backout.errors import BackoutError, UsageError
from backout.streams import is_gone

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader

    from backout.cli.support.shell import Shell

_BLOCK_BYTES = 256 * 1024


@click.command(
    "replay",
    cls=Command,
    short_help="Judge recorded traffic, or past deployments again.",
    epilog="""
Examples:
  backout guard replay requests.jsonl          # JSON lines in, one verdict a tick out
  backout guard replay -                       # the same, from a pipe
  backout guard replay --since 30d -e production
""",
)
@click.argument("file", required=False)
@click.option("--since", metavar="DURATION", help="Instead of FILE: past deployments, from stored counts (30d, 12h).")
@pass_shell
def replay(shell: Shell, *, file: str | None, since: str | None) -> int:
    """Read a start line, requests and ticks (JSON lines) from FILE or `-`, and answer each tick with one verdict line.

    A verdict is `rollback` (final), `healthy` or `continue`. docs/json.md has the lines. With --since, today's detector
    and policy judge every past deployment whose counts are stored (35 days), and it says whether they would have been
    right.
    """
    if (file is None) is (since is None):
        hint = "backout guard replay FILE, or: backout guard replay --since 30d -e ENV"
        raise UsageError("either a FILE or --since says what to judge", hint=hint)
    if since is not None:
        return _replay_past_deployments(shell, since)
    assert file is not None
    from backout.runbook.hindsight.replay import replay as judge

    def write(line: str) -> None:
        sys.stdout.write(line)
        sys.stdout.flush()

    try:
        opened = open_piped() if file == "-" else (shell.folder / file).open("rb")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UsageError("no such file", where=file) from error
    except OSError as error:
        raise BackoutError(f"cannot be read: {error.strerror}", where=file) from error
    with opened:
        return judge(_read_blocks(opened), write, warn=shell.output.say)


def _read_blocks(stream: BufferedReader) -> Iterator[bytes]:
    """Return the input in pieces: large ones from a file, from a pipe whatever came, so that no tick waits.

    Stop once the verdicts are no longer read.
    """
    return iter(lambda: b"" if is_gone() else stream.read1(_BLOCK_BYTES), b"")


def _replay_past_deployments(shell: Shell, since: str) -> int:
    from backout.cli.support.paint import paint_for
    from backout.config.scalars import parse_seconds
    from backout.report.guard import hindsight as words
    from backout.runbook.hindsight.hindsight import look_again
    from backout.wiring.toolbox import make_toolbox

    tools = make_toolbox(shell.config())
    found = look_again(tools, since=tools.clock.now() - parse_seconds(since, "--since"))
    style = shell.output.style
    human = words.format_text(found, width=style.width, paint=paint_for(style))
    shell.output.result("guard-replay", words.make_record(found), human)
    shell.output.next(f"backout guard report -e {tools.environment}")
    return 0
