"""`backout db wal`: receive the database's WAL, so that nothing committed is lost."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

from backout.cli.support.options import Group, pass_shell
from backout.cli.support.style import Tone
from backout.report.times import format_duration, format_time

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.wiring.db.wal import WalState

wal = Group("wal", help="Receive WAL: start, stop, status, run.", no_args_is_help=True)


@wal.command(
    "start",
    short_help="Receive WAL in the background.",
    epilog="""
Examples:
  backout db wal start -e production
""",
)
@pass_shell
def start(shell: Shell) -> int:
    """Start the receiver in the background, through a slot, so that the server keeps what has not been received yet.

    It is refused unless max_slot_wal_keep_size is set on the server: a stopped receiver must not fill the server's
    disk.
    """
    from backout.wiring.db import wal as wired

    config = shell.config()
    pid = wired.start(config)
    text = shell.output.style.badge(f"receiving WAL of {config.name} (process {pid})", Tone.GOOD)
    shell.output.result("db-wal", {"environment": config.name, "running": True, "pid": pid}, text)
    shell.output.next(
        f"backout db backup -e {config.name}  # the WAL before it is of no use", _describe_status(config.name)
    )
    return 0


@wal.command(
    "stop",
    short_help="Stop receiving, and drop the slot.",
    epilog="""
Examples:
  backout db wal stop -e production
""",
)
@pass_shell
def stop(shell: Shell) -> int:
    """Stop the receiver and drop its slot; the server then keeps no WAL for it, and commits no longer wait.

    From then on the database is UNPROTECTED until the receiver runs again and there is a new base backup.
    """
    from backout.wiring.db import wal as wired

    config = shell.config()
    running, had_slot = wired.stop(config)
    done = "stopped receiving" if running else "no receiver was running"
    slot = "its slot is dropped" if had_slot else "there was no slot"
    payload = {"environment": config.name, "running": False, "stopped": running, "slot_dropped": had_slot}
    shell.output.result("db-wal", payload, f"{done}; {slot}")
    shell.output.next(f"backout db wal start -e {config.name}")
    return 0


@wal.command(
    "status",
    short_help="Show how far it is, and whether the database is protected.",
    epilog="""
Examples:
  backout db wal status -e production
  backout db wal status -e production --json
""",
)
@pass_shell
def status(shell: Shell) -> int:
    """Show how far the receiver is behind, what the server keeps for it, and whether the database is protected.

    Exit codes: 0 protected, 1 a finding (UNPROTECTED, not receiving, half of max_slot_wal_keep_size in use).
    """
    from backout.wiring.db import wal as wired

    config = shell.config()
    found = wired.read_state(config)
    shell.output.result("db-wal", {"environment": config.name, **_record(found)}, _format_text(shell, found))
    good = found.protection.protected and not found.alarm and found.pid is not None
    if not good:
        shell.output.next(f"backout db wal start -e {config.name}", f"backout db backup -e {config.name}")
    return 0 if good else 1


@wal.command(
    "run",
    short_help="Receive WAL in the foreground (for systemd).",
    epilog="""
Examples:
  backout db wal run -e production
""",
)
@pass_shell
def run(shell: Shell) -> int:
    """Receive in the foreground until SIGTERM or Ctrl-C; the slot stays, so nothing is missed until the next start."""
    from backout.wiring.db import wal as wired

    wired.run(shell.config(), shell.output.say, _stop_when_told())
    return 0


@wal.command(
    "watch",
    short_help="Run only the watchdog of synchronous mode.",
    epilog="""
Examples:
  backout db wal watch -e production
""",
)
@pass_shell
def watch(shell: Shell) -> int:
    """Let commits wait for the receiver while it keeps up, and not when it falls behind (backup.sync_timeout).

    `run` and `start` start it themselves. It is a separate process, so that it outlives a receiver that is killed.
    """
    from backout.wiring.db import wal as wired

    wired.watch(shell.config(), _stop_when_told())
    return 0


def _stop_when_told() -> threading.Event:
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: told.set())
    return told


def _describe_status(environment: str) -> str:
    return f"backout db wal status -e {environment}"


def _record(found: WalState) -> dict[str, object]:
    from backout.model.database.wal import show_lsn
    from backout.report.database.capability import make_protection_record

    slot, status = found.cluster.slot, found.status
    running = status if status is not None and status.pid == found.pid else None
    return {
        "running": found.pid is not None,
        "pid": found.pid,
        "watchdog_pid": found.watchdog,
        "receiving": running is not None and running.receiving,
        "server_lsn": show_lsn(found.cluster.lsn),
        "received_lsn": None if running is None else show_lsn(running.received_lsn),
        "lag_bytes": None if running is None else running.lag_bytes,
        "lag_s": None if running is None else round(running.lag_s, 3),
        "restarts": None if running is None else running.restarts,
        "trouble": None if running is None else running.trouble or None,
        "waited_for": bool(slot and found.cluster.sync_names == slot.name),
        "slot": None if slot is None else slot.name,
        "slot_status": None if slot is None or slot.status is None else slot.status.value,
        "retained_bytes": None if slot is None else slot.retained_bytes,
        "max_slot_wal_keep_bytes": found.cluster.slot_limit_bytes,
        "alarm": found.alarm or None,
        "at": None if running is None else format_time(running.at),
        "protected_at": None if running is None or not running.protected_at else format_time(running.protected_at),
        "protected_lsn": None if running is None or not running.protected_lsn else show_lsn(running.protected_lsn),
        "protection": make_protection_record(found.protection),
    }


def _format_text(shell: Shell, found: WalState) -> str:
    from backout.cli.db.backup_record import format_megabytes
    from backout.report.text import format_fields

    record, style = _record(found), shell.output.style
    slot, status = found.cluster.slot, found.status
    rows = [("receiver", f"process {found.pid}" if found.pid else "not running")]
    if status is not None and record["running"]:
        lag = (
            f"{format_megabytes(status.lag_bytes)}, {format_duration(status.lag_s)} behind"
            if status.receiving
            else "not receiving"
        )
        rows += [("received", f"{record['received_lsn']} of {record['server_lsn']} ({lag})")]
        rows += [("restarts", str(status.restarts))]
        rows += [("trouble", status.trouble)] if status.trouble else []
    if slot is not None:
        limit = found.cluster.slot_limit_bytes
        most = "no limit" if limit is None else format_megabytes(limit)
        rows += [
            ("slot", f"{slot.name}, {record['slot_status']}: keeps {format_megabytes(slot.retained_bytes)} of {most}")
        ]
    rows += [("commits", "wait for the receiver" if record["waited_for"] else "do not wait")]
    lines = format_fields(rows, style.width)
    if found.alarm:
        lines.append(style.badge(found.alarm, Tone.BAD))
    if found.protection.protected:
        lines.append(style.badge(f"protected: {found.protection.claim}", Tone.GOOD))
    else:
        lines.append(style.badge(f"UNPROTECTED: {found.protection.why}", Tone.BAD))
        if record["protected_at"]:
            lines.append(f"it was protected last at {record['protected_at']}, {record['protected_lsn']}")
    if found.protection.alarm:
        lines.append(style.badge(found.protection.alarm, Tone.BAD))
    return "\n".join(lines)
