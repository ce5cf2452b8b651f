"""`backout timeline`: what happened in an environment, from every source that records it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.support.options import command, pass_shell
from backout.errors import BackoutError, UsageError

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.config import Config
    from backout.model.deployment import Deployment
    from backout.model.hold import Hold
    from backout.model.incident.notice import QueuedNotice

DAY_S, AROUND_S = 86_400.0, 3_600.0
"""How far back it goes, and how far before and after a moment."""
WITHIN_S = 10.0
"""How long to wait for the provider: the journal has most of it."""


@command(
    "timeline",
    short_help="What happened, who did it, and what was live at 03:00.",
    epilog="""
Examples:
  backout timeline -e production                # the last 24 hours
  backout timeline -e production --at 03:00     # what was live then, and an hour before and after
  backout timeline -e production --since 7d --limit 500
""",
)
@click.option("--at", metavar="TIME", help='What was live then ("03:00", "2 hours ago", RFC 3339), and what went on.')
@click.option(
    "--since", metavar="TIME", help="Start of the period (24h, 7d, or a time); default: 24h, with --at an hour."
)
@click.option(
    "--limit", default=100, show_default=True, type=click.IntRange(min=1), help="At most this many, the newest."
)
@pass_shell
def timeline(shell: Shell, *, at: str | None, since: str | None, limit: int) -> None:
    """Show what happened: deployments, watches and their verdicts, runs, marks, holds, notices, and what people typed.

    It reads the provider's list, the journal and the notices, and changes nothing. If one of them cannot be read it
    says so and shows the rest: the journal alone is enough, and so is the provider. Times are UTC, oldest first.
    """
    from backout.cli.support.paint import paint_for
    from backout.report.incident import timeline_text as words
    from backout.report.incident.timeline_entries import tell
    from backout.runbook.incident.timeline import read_records
    from backout.wiring import clock
    from backout.wiring.records import open_journal

    config = shell.config()
    now = clock.now()
    moment = None if at is None else parse_moment(at, now, "--at")
    begin = (
        parse_moment(since, now, "--since")
        if since is not None
        else now - DAY_S
        if moment is None
        else moment - AROUND_S
    )
    until = now if moment is None else min(now, moment + AROUND_S)
    records = read_records(
        config.name,
        since=begin,
        now=now,
        book=open_journal(config, hurried=True),
        listed=lambda: _list_deployments(shell, config),
        queued=lambda: _list_queued(config),
        holds=lambda: _holds(config),
    )
    found = tell(records, since=begin, until=until, at=moment, most=limit)
    style = shell.output.style
    shell.output.result(
        "timeline", words.make_record(found), words.format_text(found, width=style.width, paint=paint_for(style))
    )
    run = next((entry.run for entry in reversed(found.entries) if entry.run), "")
    if run:
        shell.output.next(f"backout runs show {run}", f"backout incident list -e {config.name}")


def parse_moment(text: str, now: float, flag: str) -> float:
    """Return the time that was typed; an hour means the last such one: at one o'clock, "03:00" is yesterday's.

    Raises:
        UsageError: it is none, or lies in the future.
    """
    from backout.config.scalars import Duration
    from backout.plan.target import parse_time

    found = parse_time(text, now)
    if found is None:
        try:
            found = now - Duration.parse(text)
        except ValueError:
            found = None
    if found is not None and found > now and ":" in text and "-" not in text:
        found -= DAY_S
    if found is None or found > now:
        what = f"{text!r} is no time" if found is None else f"{text!r} lies in the future"
        raise UsageError(what, where=flag, hint=f'{flag} 03:00, {flag} "2 hours ago" or {flag} 2026-11-25T03:00:00Z')
    return found


def _list_deployments(shell: Shell, config: Config) -> tuple[Deployment, ...]:
    from backout.wiring.hooks import Hooks

    return shell.toolbox(config, Hooks(within_s=WITHIN_S)).deployments.history()


def _list_queued(config: Config) -> tuple[QueuedNotice, ...]:
    from backout.errors import OutboxUnavailable
    from backout.wiring.telling import open_outbox

    try:
        return open_outbox(config).list_queued(config.name)
    except OutboxUnavailable as error:
        raise BackoutError(str(error)) from error


def _holds(config: Config) -> tuple[Hold, ...]:
    from backout.wiring.records import open_holds

    hold = open_holds(config).read(config.name)
    return () if hold is None else (hold,)
