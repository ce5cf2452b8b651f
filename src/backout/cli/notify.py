"""`backout notify`: test the channels, and list what was sent and what waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.cli.support.options import group, pass_shell
from backout.cli.support.style import Tone
from backout.errors import BackoutError, UsageError
from backout.report.times import format_ago, format_duration, format_time

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.model.incident.notice import QueuedNotice

_TONES = {"delivered": Tone.GOOD, "waiting": Tone.WARN, "given_up": Tone.BAD}


@group("notify", short_help="Test the channels; list what was sent and what waits.")
def notify() -> None:
    """Test the channels of `[notify]`, and list what was sent, what waits, and what was given up."""


@notify.command(
    "test",
    short_help="Send a test notice through every channel.",
    epilog="Examples:\n  backout notify test -e production\n",
)
@pass_shell
def test(shell: Shell) -> int:
    """Send a test notice through every channel and show each result. Exit code 1 when one failed."""
    from backout.wiring import clock
    from backout.wiring.telling import make_notifier, open_outbox, try_channels

    config = shell.config()
    environment = config.name
    if not config.settings.notify.has_channel:
        raise UsageError(
            "no channel is set up", where=f"{config.path.name}: notify", hint="backout config example  # [notify]"
        )
    tried = try_channels(config, clock.now())
    record = {
        "type": "test",
        "environment": environment,
        "channels": [
            {"channel": each.channel, "ok": each.ok, "why": each.why or None, "took_s": round(each.took_s, 3)}
            for each in tried
        ],
    }
    style = shell.output.style
    lines = [
        style.badge(f"{each.channel}: {'sent' if each.ok else each.why}", Tone.GOOD if each.ok else Tone.BAD)
        + style.dim(f"  {format_duration(each.took_s)}")
        for each in tried
    ]
    shell.output.result("notify", record, "\n".join(lines))
    if open_outbox(config).exists:
        shell.notifier = make_notifier(config)  # waiting notices can be sent now
    return 0 if all(each.ok for each in tried) else 1


@notify.command("list", short_help="List what was sent, what waits, and what was given up.")
@pass_shell
def list_(shell: Shell) -> None:
    """List what was sent, what waits for another try, and what was given up and why; newest first."""
    from backout.errors import OutboxUnavailable
    from backout.wiring import clock
    from backout.wiring.telling import open_outbox

    config = shell.config()
    outbox = open_outbox(config)
    try:
        queued = outbox.list_queued(config.chosen if shell.flags.environment else None)
    except OutboxUnavailable as error:
        raise BackoutError(str(error), where=str(outbox.path)) from error
    counts = {state: sum(item.state == state for item in queued) for state in _TONES}
    shell.output.result("notify", {"type": "list", **counts, "notices": list(map(_record, queued))}, None)
    shell.output.text(_format_table(shell, queued, clock.now()))
    if counts["waiting"] or counts["given_up"]:
        environment = queued[0].notice.environment
        shell.output.next(f"backout notify test -e {environment}  # tries every channel, then what waits")


def _record(item: QueuedNotice) -> dict[str, object]:
    notice = item.notice
    return {
        "at": format_time(notice.at),
        "environment": notice.environment,
        "kind": notice.kind,
        "title": notice.title,
        "text": notice.text,
        "run_id": notice.run or None,
        "channel": item.channel,
        "state": item.state,
        "tries": item.tries,
        "next_try_at": format_time(item.at) if item.state == "waiting" else None,
        "ended_at": format_time(item.at) if item.state != "waiting" else None,
        "why": item.why or None,
    }


def _format_table(shell: Shell, queued: tuple[QueuedNotice, ...], now: float) -> str:
    style = shell.output.style
    rows = [
        (
            format_ago(item.notice.at, now),
            item.channel,
            style.badge(item.state.replace("_", " "), _TONES[item.state]),
            str(item.tries),
            item.notice.title + (f" ({item.why})" if item.why else ""),
        )
        for item in queued
    ]
    return shell.output.table(("TOLD", "CHANNEL", "STATE", "TRIES", "WHAT"), rows, whole=True) or "no notices sent yet"
