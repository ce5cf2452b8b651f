"""`backout guard explain RUN`: why a watch ended as it did, from the journal alone."""

from __future__ import annotations

from pathlib import Path
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
  backout guard explain -e production          # the newest watch
  backout guard explain guard-18ace2c0         # the run of a watch
  backout guard explain rollback-d8d0156a      # or of the rollback it led to
  backout guard explain guard-18ace2c0 --json  # with the data of charts
  backout guard explain guard-18ace2c0 --picture watch.svg
""",
)
@click.argument("run", required=False)
@click.option("--picture", metavar="FILE.svg", type=click.Path(path_type=Path), help="Draw what was counted.")
@pass_shell
def explain(shell: Shell, *, run: str | None, picture: Path | None) -> int:
    """Explain the verdict of the watch RUN: each stream, how the evidence grew, and what would have changed it.

    Without RUN it is the newest watch. It reads only the journal and the stored counts (35 days). Exit code 0 when
    it is explained.
    """
    from backout.cli.support.paint import paint_for
    from backout.report.guard import explain as words
    from backout.runbook.hindsight.explain import explain as explained
    from backout.runbook.hindsight.explain import find_newest_watch
    from backout.wiring.records import open_journal

    journal = open_journal(shell.config())
    run = run or find_newest_watch(journal, shell.flags.environment)
    known = journal.find(run)
    if known is not None:
        shell.take(environment=known.environment)
    found = explained(journal, journal, shell.config().policy, run)
    style = shell.output.style
    human = words.format_text(found, width=style.width, paint=paint_for(style))
    payload = words.make_record(found)
    if picture is not None:
        said = _draw(shell, found.environment, found.run, picture)
        payload = {**payload, "picture_path": str(picture.absolute()), "picture_text": said}
        human = f"{human}\n\n{picture}: {said}"
    shell.output.result("guard-explain", payload, human)
    shell.output.next(f"backout runs show {found.run}", f"backout guard report -e {found.environment}")
    return 0


def _draw(shell: Shell, environment: str, run: str, path: Path) -> str:
    """Draw the incident of a watch, or the watch alone, into a file; return what it shows."""
    from dataclasses import replace

    from backout.errors import BackoutError, Unmeasured
    from backout.private import write_over
    from backout.report.incident.picture import describe_picture, draw
    from backout.runbook.incident.report import find_record, read_incident, read_picture
    from backout.wiring.incidents import make_incident_records

    records = make_incident_records(replace(shell.config(), chosen=environment))
    found = find_record(records, run)
    shown = read_picture(records, found, read_incident(records, found))
    if shown is None:
        raise Unmeasured("no counts of this watch are kept any more, so there is nothing to draw", where=run)
    try:
        write_over(path, shell.redactor.redact(draw(shown)).encode())
    except OSError as error:
        raise BackoutError(f"the picture cannot be written: {error.strerror}", where=str(path)) from error
    return describe_picture(shown)
