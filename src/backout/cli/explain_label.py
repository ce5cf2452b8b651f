"""`backout explain LABEL`: what a label of a diagnosis means, and what to do."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from backout.cli.options import command, pass_shell
from backout.errors import UsageError

if TYPE_CHECKING:
    from backout.cli.shell import Shell


@command(
    "explain",
    short_help="What a label of a diagnosis means, and what to do.",
    epilog="""
Examples:
  backout explain                              all labels, by scenario
  backout explain db_schema_mismatch
  backout explain missing_env_var --json
""",
)
@click.argument("label", required=False)
@click.option(
    "--signatures", metavar="DIR", type=click.Path(path_type=Path), help="A folder of signatures beside ours."
)
@pass_shell
def explain(shell: Shell, *, label: str | None, signatures: Path | None) -> int:
    """Say what LABEL means: its scenario, what a rollback does about it, what to do, and how it shows in logs.

    Without LABEL: all labels. Nobody is asked and nothing is read but the catalogue. Exit code 0; 2 for no such label.
    """
    from backout.report import labels as words  # noqa: PLC0415 - only a command that runs pays for it
    from backout.wiring.diagnosis import catalogue  # noqa: PLC0415 - same

    known = catalogue(None if signatures is None else shell.folder / signatures)
    if label is None:
        listed = {
            "labels": [{"label": c.label, "title": c.title, "scenario": c.scenario} for c in known.causes.values()]
        }
        shell.output.result("labels", listed, words.listing(known))
        shell.output.next("backout explain LABEL")
        return 0
    cause = known.causes.get(label)
    if cause is None:
        near = difflib.get_close_matches(label, known.causes, n=3)
        hint = f"did you mean {', '.join(near)}? `backout explain` lists all" if near else "`backout explain` lists all"
        raise UsageError(f"there is no label {label!r}", hint=hint)
    style = shell.output.style
    shell.output.result(
        "explain", words.record(known, cause), words.text(known, cause, width=style.width, strong=style.strong)
    )
    return 0
