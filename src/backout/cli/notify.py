"""`backout notify`: try the channels, and look at what waits to be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.cli.options import group, pass_shell
from backout.cli.style import Tone
from backout.errors import BackoutError, UsageError
from backout.report.times import ago, duration, rfc3339

if TYPE_CHECKING:
    from backout.cli.shell import Shell
    from backout.model.notice import Letter

_TONES = {"delivered": Tone.GOOD, "waiting": Tone.WARN, "given_up": Tone.BAD}


@group("notify", short_help="Try the channels; what waits to be told.")
def notify() -> None:
    """Try the channels of `[notify]`, and look at what was told, what waits, and what was given up."""


@notify.command(
    "test",
    short_help="Send a test notice through every channel.",
    epilog="Examples:\n  backout notify test -e production\n",
)
@pass_shell
def test(shell: Shell) -> int:
    """Send a test notice through every channel and say how each took it. Exit code 1 when one did not."""
    from backout import wiring  # noqa: PLC0415 - only when it is sent
    from backout.providers.clock import SystemClock  # noqa: PLC0415 same
    from backout.wiring.telling import try_channels  # noqa: PLC0415 same

    config = shell.config()
    environment = config.name
    if not config.settings.notify.has_channel:
        raise UsageError(
            "no channel is set up", where=f"{config.path.name}: notify", hint="backout config example  # [notify]"
        )
    tried = try_channels(config, SystemClock().now())
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
        + style.dim(f"  {duration(each.took_s)}")
        for each in tried
    ]
    shell.output.result("notify", record, "\n".join(lines))
    if wiring.outbox(config).exists:
        shell.notifier = wiring.notifier(config)  # what waits can go out now
    return 0 if all(each.ok for each in tried) else 1


@notify.command("list", short_help="What was told, waits, and was given up.")
@pass_shell
def list_(shell: Shell) -> None:
    """List what was told, what waits for another try, and what was given up and why; newest first."""
    from backout import wiring  # noqa: PLC0415 - only when it is read
    from backout.providers.clock import SystemClock  # noqa: PLC0415 same
    from backout.providers.notify.outbox import OutboxUnavailable  # noqa: PLC0415 same

    config = shell.config()
    outbox = wiring.outbox(config)
    try:
        letters = outbox.letters(config.chosen if shell.flags.environment else None)
    except OutboxUnavailable as error:
        raise BackoutError(str(error), where=str(outbox.path)) from error
    counts = {state: sum(letter.state == state for letter in letters) for state in _TONES}
    shell.output.result("notify", {"type": "list", **counts, "notices": list(map(_record, letters))}, None)
    shell.output.text(_table(shell, letters, SystemClock().now()))
    if counts["waiting"] or counts["given_up"]:
        environment = letters[0].notice.environment
        shell.output.next(f"backout notify test -e {environment}  # tries every channel, then what waits")


def _record(letter: Letter) -> dict[str, object]:
    notice = letter.notice
    return {
        "at": rfc3339(notice.at),
        "environment": notice.environment,
        "kind": notice.kind,
        "title": notice.title,
        "text": notice.text,
        "run_id": notice.run or None,
        "channel": letter.channel,
        "state": letter.state,
        "tries": letter.tries,
        "next_try_at": rfc3339(letter.at) if letter.state == "waiting" else None,
        "ended_at": rfc3339(letter.at) if letter.state != "waiting" else None,
        "why": letter.why or None,
    }


def _table(shell: Shell, letters: tuple[Letter, ...], now: float) -> str:
    style = shell.output.style
    rows = [
        (
            ago(letter.notice.at, now),
            letter.channel,
            style.badge(letter.state.replace("_", " "), _TONES[letter.state]),
            str(letter.tries),
            letter.notice.title + (f" ({letter.why})" if letter.why else ""),
        )
        for letter in letters
    ]
    return shell.output.table(("TOLD", "CHANNEL", "STATE", "TRIES", "WHAT"), rows, whole=True) or "nothing was told yet"
