"""The settings of a side instance: quiet, as large as its origin, and replaying to its target."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Final

from backout.providers.postgres.template import run_tool

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.recovery import SideOrder
    from backout.providers.postgres.binaries import Binaries

_AS_LARGE: Final = {
    "max_connections setting": "max_connections",
    "max_worker_processes setting": "max_worker_processes",
    "max_wal_senders setting": "max_wal_senders",
    "max_prepared_xacts setting": "max_prepared_transactions",
    "max_locks_per_xact setting": "max_locks_per_transaction",
}


_FEWEST_MB, _MOST_MB = 64, 512
_A_SEGMENT_MB: Final = 32
_EVENT_TRIGGERS_SINCE: Final = 17
_QUIET: Final = {
    "archive_mode": "off",
    "listen_addresses": "",
    "hot_standby": "on",
    "recovery_init_sync_method": "syncfs",
    "recovery_end_command": "",
    "archive_cleanup_command": "",
    "primary_conninfo": "",
    "primary_slot_name": "",
    "synchronous_standby_names": "",
    "shared_preload_libraries": "",
    "session_preload_libraries": "",
    "max_logical_replication_workers": "0",  # a subscription of the origin would take what belongs to the origin
    "fsync": "off",  # a copy: after a crash of the machine it is made again; one that is moved in is synced before
    "huge_pages": "off",
    "ssl": "off",
    "external_pid_file": "",
    "log_destination": "stderr",
    "lc_messages": "C",
    "log_statement": "none",
    "log_min_messages": "warning",
    "autovacuum": "off",
    "default_transaction_read_only": "on",
}
"""What must not come from the origin's configuration: it would reach out, archive, or need what is not here."""


def settings_of(order: SideOrder, folder: Path, base: Path, binaries: Binaries) -> dict[str, str]:
    """Return the settings of an instance in `folder` on the data directory `base`, or laid over it."""
    wal, coming = (shlex.quote(str(folder / name)) for name in ("wal", "coming"))
    settings = {
        **_QUIET,
        "hba_file": str(folder / "hba.conf"),
        "ident_file": str(folder / "ident.conf"),
        # What is to come is waited for. The fetched copies are this instance's own, so the same file serves; across
        # file systems it is copied.
        "restore_command": f"while [ -e {coming}/%f ]; do sleep 0.02; done; "
        f"ln {wal}/%f %p 2>/dev/null || cp {wal}/%f %p",
        "recovery_target": "",
        "recovery_target_name": "",
        "recovery_target_time": "",
        "recovery_target_xid": "",
        "recovery_target_lsn": f"{order.lsn >> 32:X}/{order.lsn & 0xFFFFFFFF:X}",
        "recovery_target_inclusive": "on" if order.inclusive else "off",
        "recovery_target_timeline": str(order.timeline),
        "recovery_target_action": "pause",
        "shared_buffers": f"{_buffers_mb(len(order.wal))}MB",
        **_as_large(base, binaries),
    }
    if int(binaries.version().partition(".")[0]) >= _EVENT_TRIGGERS_SINCE:
        settings["event_triggers"] = "off"  # one at login would run the application's code as whoever looks
        settings["summarize_wal"] = "off"
    if not (base / "postgresql.conf").is_file():
        settings["config_file"] = str(folder / "postgresql.conf")
    return settings


def _buffers_mb(segments: int) -> int:
    """Return the buffers of an instance in MB, so that replay reads few pages twice: more for more WAL.

    At most a sixteenth of the memory; all of it has to be laid out before the server starts, which takes its time too.
    """
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    return min(max(min(whole // 16, _A_SEGMENT_MB * segments), _FEWEST_MB), _MOST_MB)


def _as_large(data: Path, binaries: Binaries) -> dict[str, str]:
    if not (data / "global" / "pg_control").is_file():
        return {}
    told = run_tool(binaries, "pg_controldata", str(data)).splitlines()
    pairs = (line.partition(":") for line in told)
    return {_AS_LARGE[name]: value.strip() for name, _, value in pairs if name in _AS_LARGE}
