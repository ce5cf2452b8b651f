"""`backout diagnose events`: what is wrong, according to events in files or from a pipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from backout.cli.support.options import Command, pass_shell
from backout.cli.support.piped import Piped
from backout.errors import UsageError

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell

UNREAD = 7


@click.command(
    "events",
    cls=Command,
    short_help="Diagnose events in files, or from a pipe.",
    epilog="""
Examples:
  wrangler tail --format json > tail.json ; backout diagnose events tail.json
  backout diagnose events logs/*.json --old 8f2c --new a91d
  backout diagnose events app.log --deployed-at 2026-03-01T10:00:00Z
  kubectl logs app | backout diagnose events -
""",
)
@click.argument("files", nargs=-1, required=True)
@click.option("--deployed-at", metavar="TIME", help="When the new version went live (RFC 3339, or 10m ago).")
@click.option("--old", metavar="VERSION", help="The previous version; the beginning of its id is enough.")
@click.option("--new", metavar="VERSION", help="The version to judge.")
@click.option("--kind", type=click.Choice(["runtime", "build", "migration"]), default="runtime", show_default=True)
@click.option("--jobs", type=click.IntRange(1, 64), default=1, show_default=True, help="Number of reading processes.")
@click.option(
    "--signatures", metavar="DIR", type=click.Path(path_type=Path), help="A folder of signatures beside ours."
)
@pass_shell
def events(
    shell: Shell,
    *,
    files: tuple[str, ...],
    deployed_at: str | None,
    old: str | None,
    new: str | None,
    kind: str,
    jobs: int,
    signatures: Path | None,
) -> int:
    """Name scenario, cause and proof from events: tails of a Worker, Logpush, telemetry, JSON or plain logs.

    With two versions in the events, or --deployed-at, it tells new errors from those that were there before. `-` reads
    standard input. Lines that cannot be read are counted and named. Exit codes: 0 nothing is wrong, 1 something is, 7
    nothing was read.
    """
    from backout.analysis.diagnosis.diagnosis import diagnose
    from backout.analysis.diagnosis.signatures import Classifier
    from backout.cli.support.paint import paint_for
    from backout.model.incident.diagnosis import LogKind, Scenario, Surroundings
    from backout.report.incident import diagnosis as words
    from backout.wiring.diagnosis import count_events, load_catalogue

    known = load_catalogue(None if signatures is None else shell.folder / signatures)
    around = Surroundings(old=old, new=new, deployed_at=_parse_moment(deployed_at), kind=LogKind(kind))
    paths = [shell.folder / name for name in files if name != "-"]
    with Piped() as stdin:
        counts = count_events(paths, stdin if "-" in files else None, jobs=jobs)
    found = diagnose(counts, around, known, Classifier(known))
    read = bool(counts.invocations or counts.templates)
    if not read:
        found = replace(found, scenario=None, title="nothing was read", next=())
    style = shell.output.style
    shell.output.result(
        "diagnosis", words.make_record(found), words.format_text(found, width=style.width, paint=paint_for(style))
    )
    shell.output.next(*[step for step in found.next if step.startswith("backout ")])
    if not read:
        return UNREAD
    return 0 if found.scenario is Scenario.NO_ACTION else 1


def _parse_moment(text: str | None) -> float | None:
    """Return the Unix seconds of a time as it was typed."""
    if text is None:
        return None
    import time

    from backout.plan.target import parse_time

    at = parse_time(text, time.time())
    if at is None:
        raise UsageError(f"--deployed-at {text}: no such time", hint="--deployed-at 2026-03-01T10:00:00Z")
    return at
