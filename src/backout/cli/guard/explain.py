"""`backout guard explain RUN`: why a watch ended as it did, from the journal alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.support.options import Command, pass_shell

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell


@click.command(
    "explain",
    cls=Command,
    short_help="Explain why a watch ended as it did.",
    epilog="""
Examples:
  backout guard explain guard-18ace2c0         # the run of a watch
  backout guard explain rollback-d8d0156a      # or of the rollback it led to
  backout guard explain guard-18ace2c0 --json  # with the data of charts
""",
)
@click.argument("run")
@pass_shell
def explain(shell: Shell, *, run: str) -> int:
    """Explain the verdict of the watch RUN: each stream, how the evidence grew, and what would have changed it.

    It reads only the journal and the stored counts (35 days). Exit code 0 when it is explained.
    """
    from backout.cli.support.paint import paint_for
    from backout.report.guard import explain as words
    from backout.runbook.hindsight.explain import explain as explained
    from backout.wiring.records import open_journal

    journal = open_journal(shell.config())
    known = journal.find(run)
    if known is not None:
        shell.take(environment=known.environment)
    found = explained(journal, journal, shell.config().policy, run)
    style = shell.output.style
    human = words.format_text(found, width=style.width, paint=paint_for(style))
    shell.output.result("guard-explain", words.make_record(found), human)
    shell.output.next(f"backout runs show {found.run}", f"backout guard report -e {found.environment}")
    return 0
