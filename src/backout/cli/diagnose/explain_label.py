"""`backout explain LABEL`: what a diagnosis label means, and what to do."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from backout.cli.support.options import command, pass_shell
from backout.errors import UsageError

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell


@command(
    "explain",
    short_help="What a diagnosis label means, and what to do.",
    epilog="""
Examples:
  backout explain                              # all labels, by scenario
  backout explain db_schema_mismatch
  backout explain missing_env_var --json
""",
)
@click.argument("label", required=False)
@click.option(
    "--signatures",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="A folder of signatures to add to the built-in ones.",
)
@pass_shell
def explain(shell: Shell, *, label: str | None, signatures: Path | None) -> int:
    """Explain LABEL: its scenario, what a rollback does about it, what to do, and how it looks in logs.

    Without LABEL: all labels. Only the catalogue is read. Exit code 0; 2 for no such label.
    """
    from backout.report.incident import labels as words
    from backout.wiring.diagnosis import load_catalogue

    known = load_catalogue(None if signatures is None else shell.folder / signatures)
    if label is None:
        listed = {
            "labels": [{"label": c.label, "title": c.title, "scenario": c.scenario} for c in known.causes.values()]
        }
        shell.output.result("labels", listed, words.format_listing(known))
        shell.output.next("backout explain LABEL")
        return 0
    cause = known.causes.get(label)
    if cause is None:
        near = difflib.get_close_matches(label, known.causes, n=3)
        hint = f"did you mean {', '.join(near)}? `backout explain` lists all" if near else "`backout explain` lists all"
        raise UsageError(f"there is no label {label!r}", hint=hint)
    style = shell.output.style
    shell.output.result(
        "explain",
        words.make_record(known, cause),
        words.format_text(known, cause, width=style.width, strong=style.strong),
    )
    return 0
