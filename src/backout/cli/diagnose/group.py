"""`backout diagnose`: which scenario it is, and why; each subcommand has a module of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from backout.cli.db.group import TableGroup
from backout.cli.support.options import pass_shell

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.cli.support.shell import Shell

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "build": ("backout.cli.diagnose.build:build", "Explain why the build failed."),
    "events": ("backout.cli.diagnose.events:events", "Diagnose events in files, or from a pipe."),
    "classify": ("backout.cli.diagnose.classify:classify", "Label error texts, one JSON object a line."),
}
"""Name: where it is ("module:attribute"), and its line in the help."""


class _Diagnose(TableGroup):
    table: Mapping[str, tuple[str, str]] = COMMANDS


@click.group(
    "diagnose",
    cls=_Diagnose,
    short_help="Name the scenario, what caused it, and the proof.",
    invoke_without_command=True,
    epilog="""
Examples:
  backout diagnose -e production               # logs, health, migrations, secrets, pipeline
  backout diagnose -e production --version 8f2c
  backout diagnose build -e production         # why did the pipeline fail?
  backout diagnose events tail.json            # events from files
  backout explain db_schema_mismatch           # what a label means
""",
)
@click.option(
    "--version", "version", metavar="VERSION", help="A version other than the live one: its id, or the beginning of it."
)
@click.option("--since", metavar="DURATION", default="15m", show_default=True, help="How far back to look for trouble.")
@click.pass_context
@pass_shell
def diagnose(shell: Shell, ctx: click.Context, *, version: str | None, since: str) -> int | None:
    """Name the scenario (S0 to S5), what caused it, the lines that prove it, and what to type next.

    It reads the logs, the health endpoint, the migrations, the names of the secrets, what the deployment changed, and
    the pipeline; it changes nothing. Exit codes: 0 nothing is wrong, 1 something is, 7 nothing could be read.
    """
    if ctx.invoked_subcommand is not None:
        return None
    from backout.cli.diagnose.live import diagnose_live

    return diagnose_live(shell, version or "", since)
