"""Fresh data directories in a fraction of initdb's time: one initdb is kept and copied, each copy with its own id.

A copy must not share the system identifier: safety checks distinguish databases by it. The identifier is written
into the copy's control file (whose checksum proves that its layout was understood), then pg_resetwal starts new WAL.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from backout.errors import BackoutError
from backout.providers.child import NOBODY, find_unprivileged_prefix, needs_chown
from backout.providers.child_environment import ChildEnvironment, make_bare_environment
from backout.providers.process_group import run_group

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.providers.postgres.server.binaries import Binaries

SUPERUSER = "postgres"
"""The bootstrap superuser of every data directory made here."""

RECOVERY_SETTINGS: Mapping[str, str] = {
    "wal_level": "replica",
    "track_commit_timestamp": "on",
    "summarize_wal": "on",
    "wal_log_hints": "on",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "max_connections": "100",
    "password_encryption": "scram-sha-256",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
"""What exact restore points, incremental backups and pg_rewind need; written into postgresql.conf at creation."""

# The socket lies in a directory of mode 0700, so anyone who reaches it may read the data files as well.
_HBA = """\
local all         all               trust
local replication all               trust
host  all         all  127.0.0.1/32 scram-sha-256
host  replication all  127.0.0.1/32 scram-sha-256
"""
_CONTROL_FILE = Path("global") / "pg_control"
_CHECKPOINT_AT = 32
"""Offset in pg_control: identifier, two versions, state and time stand before it (PostgreSQL 12 to 18)."""
_TIMEOUT_S = 120.0
_SUMMARIES_SINCE = _BUILTIN_SINCE = 17
_SET_SINCE = 16
"""Of initdb, the options --locale-provider=builtin and --set."""
_NOT_AS_ROOT = (
    "Postgres does not run as root, and this system has no user namespaces: choose a directory that the user nobody "
    "can reach, or do not run as root"
)


def create_data_directory(
    target: Path, binaries: Binaries, *, cache_directory: Path | None = None, settings: Mapping[str, str] | None = None
) -> None:
    """Make a new data directory at `target` (which must not exist), by copy when `cache_directory` is given.

    Raises:
        BackoutError: initdb failed; the message is its own.
    """
    wanted = {**RECOVERY_SETTINGS, **(settings or {})}
    if _read_major(binaries) < _SUMMARIES_SINCE:
        wanted.pop("summarize_wal", None)
    target.parent.mkdir(parents=True, exist_ok=True)
    building = _make_workspace(target.parent)
    try:
        made = building / "data"
        if cache_directory is None or not _copy_template(made, binaries, cache_directory, wanted):
            shutil.rmtree(made, ignore_errors=True)
            _run_initdb(made, binaries, wanted)
        give_away(made)
        made.rename(target)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def give_away(directory: Path) -> None:
    """Let `nobody` own the data directory where the server really runs as nobody; else do nothing."""
    if not needs_chown():
        return
    for folder, _, files in os.walk(directory):
        os.chown(folder, NOBODY, NOBODY)
        for name in files:
            os.chown(Path(folder) / name, NOBODY, NOBODY, follow_symlinks=False)


def run_tool(
    binaries: Binaries,
    program: str,
    *arguments: str,
    timeout_s: float = _TIMEOUT_S,
    environment: ChildEnvironment | None = None,
) -> str:
    """Run a Postgres program as the user that runs the server and return its standard output.

    Args:
        environment: with which it reaches a database, as us; None for ours without PG* variables.

    Raises:
        BackoutError: it ended with an error, which is quoted.
    """
    prefix = find_unprivileged_prefix() if environment is None else ()
    argv = (*prefix, binaries.path(program), *arguments)
    given: ChildEnvironment = make_tool_environment() if environment is None else environment
    done = run_group(argv, env=given, timeout_s=timeout_s)
    if done.returncode != 0:
        said = done.stderr.strip() or done.stdout.strip()
        denied = needs_chown() and "Permission denied" in said
        raise BackoutError(f"{program} failed: {said}", hint=_NOT_AS_ROOT if denied else None)
    return done.stdout


def make_tool_environment() -> ChildEnvironment:
    """Return the environment of Postgres programs: no token, and no PG* variable of ours, which would redirect them."""
    return make_bare_environment({"LC_ALL": "C", "TZ": "UTC"})


def _make_workspace(parent: Path) -> Path:
    """Make a directory to build in, on the same file system as the target and out of sight."""
    directory = Path(tempfile.mkdtemp(prefix=".making-", dir=parent))
    give_away(directory)
    return directory


def _run_initdb(target: Path, binaries: Binaries, settings: Mapping[str, str]) -> None:
    target.mkdir(mode=0o700)
    give_away(target)
    has_set = _read_major(binaries) >= _SET_SINCE
    run_tool(
        binaries,
        "initdb",
        f"--pgdata={target}",
        f"--username={SUPERUSER}",
        "--encoding=UTF8",
        *_choose_locale(binaries),
        "--auth=trust",
        "--no-instructions",
        # The caller's data is empty yet, and every later start syncs what it writes.
        "--no-sync",
        *(f"--set={name}={value}" for name, value in settings.items() if has_set),
    )
    if not has_set:
        with (target / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in settings.items())
    (target / "pg_hba.conf").write_text(_HBA, encoding="ascii")


def _choose_locale(binaries: Binaries) -> tuple[str, ...]:
    """Return options of initdb for one order of texts everywhere; the system's own locales differ."""
    if _read_major(binaries) >= _BUILTIN_SINCE:
        return ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
    return ("--locale=C",)


def _read_major(binaries: Binaries) -> int:
    return int(binaries.version().partition(".")[0])


def _copy_template(target: Path, binaries: Binaries, cache_directory: Path, settings: Mapping[str, str]) -> bool:
    """Copy the cached template, making it first; False where its control file is not understood."""
    template = cache_directory / f"postgres-{binaries.version()}-{_make_key(binaries, settings)}"
    if not template.is_dir():
        _make_template(template, binaries, settings)
    shutil.copytree(template, target, copy_function=shutil.copyfile)
    _restrict(target)
    if not renew_identity(target):
        return False
    give_away(target)
    run_tool(binaries, "pg_resetwal", f"--pgdata={target}")
    return True


def _make_template(template: Path, binaries: Binaries, settings: Mapping[str, str]) -> None:
    template.parent.mkdir(parents=True, exist_ok=True)
    building = _make_workspace(template.parent)
    try:
        made = building / "data"
        _run_initdb(made, binaries, settings)
        for segment in (made / "pg_wal").iterdir():
            if segment.is_file():
                segment.unlink()  # pg_resetwal writes each copy's own
        made.rename(template)
    except OSError:
        if not template.is_dir():  # otherwise another process was faster, and its template is as good
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _make_key(binaries: Binaries, settings: Mapping[str, str]) -> str:
    parts = (str(binaries.directory), _HBA, *(f"{name}={settings[name]}" for name in sorted(settings)))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _restrict(directory: Path) -> None:
    for folder, _, files in os.walk(directory):
        Path(folder).chmod(0o700)
        for name in files:
            (Path(folder) / name).chmod(0o600)


def renew_identity(data_directory: Path) -> bool:
    """Give a stopped data directory a new system identifier; False (and nothing changed) if its layout is unknown.

    Its WAL carries the old identifier, so pg_resetwal has to follow.
    Source: src/include/catalog/pg_control.h (the identifier is the first field, the CRC-32C of all before it the last).
    """
    path = data_directory / _CONTROL_FILE
    content = bytearray(path.read_bytes())
    at = _find_checksum_offset(content)
    if at is None:
        return False
    now = time.time_ns() // 1000
    # initdb's own recipe is seconds, microseconds and the process id; random bits in place of the latter.
    identifier = (now // 1_000_000) << 32 | (now % 1_000_000) << 12 | int.from_bytes(os.urandom(2)) & 0xFFF
    struct.pack_into("=Q", content, 0, identifier)
    struct.pack_into("=I", content, at, _compute_crc32c(content[:at]))
    path.write_bytes(content)
    return True


def read_system_identifier(data_directory: Path) -> int:
    """Return the database system identifier of a data directory, running or not."""
    content = (data_directory / _CONTROL_FILE).read_bytes()
    return int(struct.unpack_from("=Q", content, 0)[0])


def read_checkpoint_lsn(data_directory: Path) -> int:
    """Return the position of the last checkpoint of a data directory; of one that was stopped, its end."""
    content = (data_directory / _CONTROL_FILE).read_bytes()
    return int(struct.unpack_from("=Q", content, _CHECKPOINT_AT)[0])


def _find_checksum_offset(content: bytearray) -> int | None:
    crc = 0xFFFFFFFF
    for at in range(0, 512, 4):
        if at and struct.unpack_from("=I", content, at)[0] == crc ^ 0xFFFFFFFF:
            return at
        for byte in content[at : at + 4]:
            crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return None


def _compute_crc32c(data: bytes | bytearray) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _make_crc_table() -> tuple[int, ...]:
    table = []
    for index in range(256):
        value = index
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC_TABLE = _make_crc_table()
