"""`backout watch`: the runbook's monitoring during a rollback, live."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from backout.cli.support.options import command, pass_shell
from backout.cli.support.style import Tone, measure_width
from backout.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from backout.cli.support.output import Output
    from backout.cli.support.shell import Shell
    from backout.model.guard.monitoring import Reading
    from backout.model.guard.policy import Policy
    from backout.runbook.toolbox import Toolbox

EXIT_CODES = {True: 0, False: 1, None: 7}
"""By whether the success criteria are met at the end; None: not decided, or not measured."""
FEWEST_LINES = 10


@command(
    "watch",
    short_help="Watch health, errors, response times; it never acts.",
    epilog="""
Examples:
  backout watch -e production              # until Ctrl-C
  backout watch -e production --for 15m    # the runbook's 15 minutes
  backout watch -e production --json --every 10s
""",
)
@click.option("--for", "for_", metavar="DURATION", help="End after this long (15m, 90s); default: at Ctrl-C.")
@click.option("--every", metavar="DURATION", default="5s", show_default=True, help="How often it is shown.")
@pass_shell
def watch(shell: Shell, *, for_: str | None, every: str) -> int:
    """Watch what is live while something is done about it: it only reads, and never acts.

    It shows the health of each service, the error rate with its 99 % band, p50, p95 and p99 beside those from before,
    the database's connections, the run that is under way, and the success criteria with what each waits for. Where
    stdout is no terminal, each reading is a line.

    Exit codes: 0 the criteria are met at the end, 1 one is not, 7 not decided or not measured. With --for, Ctrl-C
    before the time is up: 130.
    """
    from backout.journal.stop import StopRequest
    from backout.report.guard.monitoring import list_seen, make_seen_record
    from backout.report.plans import format_verification
    from backout.report.text import wrap_text
    from backout.runbook.probing.monitor import monitor
    from backout.wiring.hooks import Hooks

    for_s, every_s = _read_durations(for_, every)
    out, stop = shell.output, StopRequest()
    screen = Screen(out, shell.environment.get("TERM") or "")
    tools = _use_journal(shell.toolbox(shell.config(), Hooks(say=screen.say)))
    screen.environment, screen.policy = tools.environment, tools.policy
    stop.install()
    try:
        seen, proof = monitor(tools, screen.show, for_s=for_s, every_s=every_s, stopped=lambda: stop.requested)
    finally:
        stop.restore()
    from backout.cli.support.paint import paint_for
    from backout.report.event_records import make_criterion_record

    record = {
        "type": "result",
        "environment": tools.environment,
        "live_version": seen.versions[-1].version,
        "verified": proof.verified,
        "summary": proof.summary,
        "criteria": [make_criterion_record(each) for each in proof.criteria],
        "seen": make_seen_record(seen),
    }
    style = out.style
    shown = replace(proof, criteria=()) if screen.redraws else proof  # the block above has them
    lines = ["", format_verification(shown, width=style.width, paint=paint_for(style))]
    lines += [line for each in list_seen(seen) for line in wrap_text(each, style.width, hanging="  ")]
    out.result("watch", record, "\n".join(lines))
    out.next(f"backout status -e {tools.environment}")
    if for_s is not None and stop.requested:
        raise Interrupted("interrupted before the time was up; what was seen until then is above")
    return EXIT_CODES[proof.verified]


def _read_durations(for_: str | None, every: str) -> tuple[float | None, float]:
    from backout.config.scalars import parse_seconds

    for_s, every_s = None if for_ is None else parse_seconds(for_, "--for"), parse_seconds(every, "--every")
    for name, value in (("--for", for_s), ("--every", every_s)):
        if value is not None and value < 1:
            raise UsageError(f"{name} is shorter than a second", hint=f"{name} 5s")
    return for_s, every_s


def _use_journal(tools: Toolbox) -> Toolbox:
    """Return the tools, without the journal where it cannot be used: what is live is watched all the same."""
    from backout.journal.rows import JournalUnavailable
    from backout.runbook.incident.no_journal import replace_journal

    try:
        tools.runs.runs(tools.environment)
    except JournalUnavailable as error:
        tools.say(f"the journal cannot be used ({error.what}): runs, and response times from before, are not known")
        return replace_journal(tools, error)
    return tools


class Screen:
    """Shows readings: on a terminal a block that is drawn again, elsewhere a line each, with `--json` a record each."""

    def __init__(self, output: Output, term: str) -> None:
        self._out = output
        self.redraws = output.stdout.isatty() and not output.json and term != "dumb"
        self._drawn = 0
        self.environment = ""
        self.policy: Policy | None = None

    def say(self, text: str) -> None:
        """Say something between two readings; the next block begins below it."""
        self._drawn = 0
        self._out.say(text)

    def show(self, reading: Reading) -> None:
        """Show one reading."""
        from backout.cli.support.paint import paint_for
        from backout.report.event_records import make_criterion_record
        from backout.report.guard.monitoring import format_line, format_reading, make_reading_record

        if self._out.json:
            criteria = [make_criterion_record(each) for each in reading.criteria]
            self._out.line("watch", {"type": "reading", **make_reading_record(reading), "criteria": criteria})
            return
        if not self.redraws:
            self._out.text(format_line(reading))
            return
        assert self.policy is not None
        style = self._out.style
        lines = format_reading(
            reading,
            self.environment,
            self.policy,
            style.width,
            badge=lambda role, word: style.badge(word, Tone(role)),
            paint=paint_for(style),
        )
        self._draw(lines)

    def _draw(self, lines: list[str]) -> None:
        import shutil

        style = self._out.style
        room = max(shutil.get_terminal_size().lines - 2, FEWEST_LINES)
        redacted = [self._out.redactor.redact(line) for line in lines[:room]]
        fitting = [
            line if measure_width(line) <= style.width else style.shorten(line, style.width) for line in redacted
        ]
        up = f"\x1b[{self._drawn}A\r\x1b[J" if self._drawn else ""
        self._out.stdout.write(up + "".join(style.plain(line) + "\n" for line in fitting))
        self._out.stdout.flush()
        self._drawn = len(fitting)
