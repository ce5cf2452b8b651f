"""The settings of a side instance: an allow-list. The origin's configuration does not reach the copy.

The instance reads a configuration file of its own, which is empty, and no settings of ALTER SYSTEM; everything is given
on its command line. Of the origin's settings only those come along that replay needs (`NEEDED`), the larger of what
they were at the base and later: WAL of a server with more of them cannot be replayed with fewer.

Source: PostgreSQL 18, "Hot Standby, Administrator's Overview" (settings that must be as large as on the primary, and
what the server says where one is not: CheckRequiredParameterValues in xlogrecovery.c).
"""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING, Final

from backout.providers.postgres.restore.side_walk import WALKING
from backout.providers.postgres.server.session import reading
from backout.providers.postgres.server.template import run_tool

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from backout.model.database.recovery import SideOrder
    from backout.providers.postgres.server.binaries import Binaries

NEEDED: Final[Mapping[str, int]] = {
    "max_connections": 20,
    "max_worker_processes": 8,
    "max_wal_senders": 0,
    "max_prepared_transactions": 0,
    "max_locks_per_transaction": 64,
}
"""What replay wants at least as large as the origin had it, and what an instance wants for itself."""
AUTO_CONF: Final = "postgresql.auto.conf"
_IN_CONTROL: Final = {
    "max_connections setting": "max_connections",
    "max_worker_processes setting": "max_worker_processes",
    "max_wal_senders setting": "max_wal_senders",
    "max_prepared_xacts setting": "max_prepared_transactions",
    "max_locks_per_xact setting": "max_locks_per_transaction",
}
_COMMIT_TIMES: Final = "track_commit_timestamp setting"
_STAYS: Final = {
    _COMMIT_TIMES: "track_commit_timestamp",
    "wal_level setting": "wal_level",
    "wal_log_hints setting": "wal_log_hints",
    "max_wal_senders setting": "max_wal_senders",
}
_OF_COPIES: Final = frozenset({"default_transaction_read_only", "recovery_init_sync_method", "hot_standby"})
_LACKED: Final = re.compile(
    r"DETAIL:\s+(\w+) = \d+ is a lower setting than on the primary server, where .* was (\d+)\."
)
ASIDE: Final = f"{AUTO_CONF}.aside"
"""Where the settings of ALTER SYSTEM lie while an instance is not to have them."""
_WAITS: Final = re.compile(rb"\s*synchronous_standby_names\b")
_FEWEST_MB, _MOST_MB = 64, 512
_A_SEGMENT_MB: Final = 32
_EVENT_TRIGGERS_SINCE: Final = 17
_OURS: Final = {
    "archive_mode": "off",
    "listen_addresses": "",
    "hot_standby": "on",
    "recovery_init_sync_method": "syncfs",
    "max_logical_replication_workers": "0",  # a subscription of the origin would take what belongs to the origin
    "shared_preload_libraries": "",  # what runs jobs on the origin would run them here, too
    "fsync": "off",  # a copy: after a crash of the machine it is made again; one that is moved in is synced before
    "huge_pages": "off",
    "lc_messages": "C",
    "log_min_messages": "warning",
    "autovacuum": "off",
    "default_transaction_read_only": "on",
}
"""What is not Postgres' own default: the copy keeps to itself, and only reads."""


def make_settings(
    order: SideOrder, folder: Path, data: Path, binaries: Binaries, least: Mapping[str, int]
) -> dict[str, str]:
    """Return the settings of an instance in `folder`.

    Args:
        data: its data directory, or the base that it is laid over.
        least: what replay needs besides, see `find_lacked`.
    """
    told = _read_control(data, binaries)
    return {
        **_OURS,
        "config_file": str(folder / "postgresql.conf"),
        "hba_file": str(folder / "hba.conf"),
        "ident_file": str(folder / "ident.conf"),
        "recovery_target_timeline": str(order.timeline),
        **(WALKING if order.walks else _make_target_settings(order, folder)),
        "shared_buffers": f"{_choose_buffers_mb(len(order.wal))}MB",
        **{name: str(value) for name, value in find_larger(NEEDED, make_as_large(told), least).items()},
        # Without it a promotion would forget when everything was committed, and a swap would bring that home.
        "track_commit_timestamp": told.get(_COMMIT_TIMES, "off"),
        **_make_version_settings(binaries),
    }


def _make_target_settings(order: SideOrder, folder: Path) -> dict[str, str]:
    wal, coming = (shlex.quote(str(folder / name)) for name in ("wal", "coming"))
    return {
        # What is to come is waited for. The fetched copies are this instance's own, so the same file serves; across
        # file systems it is copied.
        "restore_command": f"while [ -e {coming}/%f ]; do sleep 0.02; done; "
        f"ln {wal}/%f %p 2>/dev/null || cp {wal}/%f %p",
        "recovery_target_lsn": f"{order.lsn >> 32:X}/{order.lsn & 0xFFFFFFFF:X}",
        "recovery_target_inclusive": "on" if order.inclusive else "off",
        "recovery_target_action": "pause",
    }


def make_alone_settings(folder: Path, data: Path, binaries: Binaries) -> dict[str, str]:
    """Return the settings with which a cluster that will go live is written to on its own for a moment.

    As in a side instance nothing of its own configuration runs; what its WAL or its slots rest on is as it was.
    """
    told = _read_control(data, binaries)
    slots = sum(1 for _ in (data / "pg_replslot").glob("*"))
    as_it_was = {setting: told[name] for name, setting in _STAYS.items() if name in told}
    return {
        **{name: value for name, value in _OURS.items() if name not in _OF_COPIES},
        "config_file": str(folder / "postgresql.conf"),
        "hba_file": str(folder / "hba.conf"),
        "ident_file": str(folder / "ident.conf"),
        "fsync": "on",
        "full_page_writes": "on",
        "ssl": "off",
        "external_pid_file": "",
        "synchronous_standby_names": "",
        "restore_command": "",
        "primary_conninfo": "",
        "recovery_target_lsn": "",
        "max_replication_slots": str(slots + 10),
        **as_it_was,
        **{
            name: str(value)
            for name, value in find_larger(NEEDED, make_as_large(told)).items()
            if name not in as_it_was
        },
        **_make_version_settings(binaries),
    }


def _make_version_settings(binaries: Binaries) -> dict[str, str]:
    if int(binaries.version().partition(".")[0]) < _EVENT_TRIGGERS_SINCE:
        return {}
    # A login trigger would run the application's code as the role that logs in.
    return {"event_triggers": "off", "summarize_wal": "off"}


def read_needed_now(url: str, *, connect_timeout_s: float) -> dict[str, int]:
    """Return what a live server has of what replay needs; {} where it does not answer."""
    import psycopg

    query = "SELECT name, setting::int FROM pg_settings WHERE name = ANY(%s)"
    try:
        with reading(url, connect_timeout_s=connect_timeout_s, statement_timeout_s=connect_timeout_s) as connection:
            return dict(connection.execute(query, (list(NEEDED),)).fetchall())
    except (psycopg.Error, UnicodeError):
        return {}


def find_lacked(log: str) -> dict[str, int]:
    """Return the settings that replay found too small, with what the origin had, from the log of an instance.

    >>> find_lacked("DETAIL:  max_connections = 20 is a lower setting than on the primary server, where it was 300.")
    {'max_connections': 300}
    """
    found = [{name: int(value)} for name, value in _LACKED.findall(log) if name in NEEDED]
    return find_larger(*found)


def find_larger(*parts: Mapping[str, int]) -> dict[str, int]:
    """Return each setting's largest value.

    >>> find_larger({"a": 1, "b": 5}, {"a": 2})
    {'a': 2, 'b': 5}
    """
    found: dict[str, int] = {}
    for part in parts:
        for name, value in part.items():
            found[name] = max(value, found.get(name, value))
    return found


def _choose_buffers_mb(segments: int) -> int:
    """Return the buffers of an instance in MB, so that replay reads few pages twice: more for more WAL.

    At most a sixteenth of the memory; all of it has to be laid out before the server starts, which takes its time too.
    """
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    return min(max(min(whole // 16, _A_SEGMENT_MB * segments), _FEWEST_MB), _MOST_MB)


def _read_control(data: Path, binaries: Binaries) -> dict[str, str]:
    if not (data / "global" / "pg_control").is_file():
        return {}
    pairs = (line.partition(":") for line in run_tool(binaries, "pg_controldata", str(data)).splitlines())
    return {name: value.strip() for name, _, value in pairs}


def make_as_large(control: Mapping[str, str]) -> dict[str, int]:
    """Return what replay needs by a control file: what the origin had when the base was taken."""
    return {_IN_CONTROL[name]: int(value) for name, value in control.items() if name in _IN_CONTROL}


def set_aside(data: Path) -> None:
    """Let a data directory have no settings of ALTER SYSTEM until `put_back`; after a crash it is done again."""
    if (data / AUTO_CONF).exists() and not is_aside(data):
        (data / AUTO_CONF).rename(data / ASIDE)
    write_like(data / AUTO_CONF, b"")


def write_like(path: Path, content: bytes) -> None:
    """Write a file as the data directory's owner has it."""
    path.write_bytes(content)
    path.chmod(0o600)
    owner = path.parent.stat()
    if (owner.st_uid, owner.st_gid) != (path.stat().st_uid, path.stat().st_gid):
        os.chown(path, owner.st_uid, owner.st_gid)


def is_aside(data: Path) -> bool:
    """Whether the settings of ALTER SYSTEM still lie aside."""
    return (data / ASIDE).exists()


def drop_standbys(settings: bytes) -> bytes:
    """Return the settings of ALTER SYSTEM without the standbys that commits wait for."""
    return b"".join(line for line in settings.splitlines(keepends=True) if not _WAITS.match(line))


def put_back(data: Path) -> None:
    """Give a data directory that is to be moved in its old settings, but for the standbys that commits waited for.

    Nothing receives its new timeline yet, so commits on what goes live would wait for ever.
    """
    if is_aside(data):
        kept = (data / ASIDE).read_bytes()
        left = drop_standbys(kept)
        if left != kept:
            making = data / f"{ASIDE}.making"
            write_like(making, left)
            making.replace(data / ASIDE)
        (data / ASIDE).replace(data / AUTO_CONF)
