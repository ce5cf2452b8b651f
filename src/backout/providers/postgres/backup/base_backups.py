"""Base backups by Postgres' own programs: taking, verifying, and combining incremental ones with their parents.

Source: PostgreSQL 18 documentation, pg_basebackup, pg_combinebackup, pg_verifybackup, "Backup Manifest Format".
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any, Final

from backout.decoding import decode_json
from backout.errors import AuthError, BackoutError, ProviderUnavailable
from backout.model.database.wal import parse_lsn
from backout.model.value import Value
from backout.providers.postgres.server.template import make_tool_environment
from backout.providers.process_group import ProcessGroup, run_group
from backout.providers.silence import EndedWhenSilent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from backout.providers.child_environment import ChildEnvironment
    from backout.providers.postgres.server.binaries import Binaries

MANIFEST: Final = "backup_manifest"
_PROGRESS: Final = re.compile(r"\s*(\d+)/(\d+) kB \(")
_NO_PERMISSION: Final = (
    "permission denied to start WAL sender",
    "must be superuser or replication role",
    "no pg_hba.conf entry",
)
_REFUSED: Final = ("authentication failed", *_NO_PERMISSION)
_NO_SUMMARIES: Final = ("WAL summaries are required", "summariz", "backup manifest")


class SummariesMissing(BackoutError):
    """The server cannot take an incremental backup against this parent; a full one works."""


class Manifest(Value, frozen=True):
    """The facts in a backup's manifest; `system_identifier` is "" before Postgres 17."""

    begin_lsn: int
    end_lsn: int
    timeline: int
    system_identifier: str


def read_manifest(content: bytes) -> Manifest:
    """Return the WAL that a backup needs: from its first range's start to its last one's end.

    Raises:
        BackoutError: it is no manifest.
    """
    try:
        found = decode_json(content, dict[str, Any], what="the backup's manifest")
        ranges = sorted(found["WAL-Ranges"], key=lambda each: parse_lsn(each["Start-LSN"]))
        return Manifest(
            parse_lsn(ranges[0]["Start-LSN"]),
            parse_lsn(ranges[-1]["End-LSN"]),
            int(ranges[-1]["Timeline"]),
            str(found.get("System-Identifier", "")),
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise BackoutError(f"the backup's manifest cannot be read: {error}") from None


def take(
    binaries: Binaries,
    environment: ChildEnvironment,
    into: Path,
    *,
    against: Path | None,
    held: int,
    progress: Callable[[int, int], None],
) -> None:
    """Take a base backup into a folder that does not exist, an incremental one `against` a manifest's backup.

    It brings the WAL along that it needs to become consistent. Its files are not synced. Its second process, which
    receives that WAL, holds a slot of the server: none of the two outlives us.

    Args:
        against: the manifest of its parent.
        held: the descriptor of a lock, which each process keeps until it has ended.
        progress: hears (bytes so far, the server's estimate of all bytes).

    Raises:
        AuthError: the role may not replicate.
        SummariesMissing: only a full backup is possible.
        ProviderUnavailable: the server does not answer.
        BackoutError: anything else, in the program's words.
    """
    argv = [
        binaries.path("pg_basebackup"),
        f"--pgdata={into}",
        "--format=plain",
        "--wal-method=stream",
        "--checkpoint=fast",
        "--manifest-checksums=CRC32C",
        "--no-sync",
        "--no-password",
        "--progress",
        f"--label=backout {into.name}",
    ]
    argv += [f"--incremental={against}"] if against is not None else []
    said: list[str] = []
    with ProcessGroup(
        argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, pass_fds=(held,)
    ) as process:
        assert process.stderr is not None
        try:
            with EndedWhenSilent(process, "pg_basebackup") as patience:
                for line in process.stderr:
                    patience.heard()
                    if found := _PROGRESS.match(line):
                        progress(int(found[1]) * 1024, int(found[2]) * 1024)
                    elif line.strip():
                        said = [*said[-20:], line.strip()]
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise _translate_error(said or [f"it ended with {process.returncode}"], environment)


def _translate_error(said: Sequence[str], environment: Mapping[str, str]) -> BackoutError:
    text = "; ".join(line.removeprefix("pg_basebackup: error: ") for line in said if "detail: " not in line)[:800]
    for secret in filter(None, (environment.get("PGPASSWORD"),)):
        text = text.replace(secret, "[redacted]")
    if "backup" in text and any(words in text for words in _NO_SUMMARIES):
        return SummariesMissing(
            f"no incremental backup is possible: {text}", where="database", hint="backout db backup --full"
        )
    if any(words in text for words in _NO_PERMISSION):
        what = f"the role may not take backups: {text}"
        return AuthError(
            what, where="database", hint="ALTER ROLE ... REPLICATION, and a line `replication` in pg_hba.conf"
        )
    if any(words in text for words in _REFUSED):
        return AuthError(f"the database refuses the connection: {text}", where="database")
    if "could not translate host" in text or "connection to server" in text:
        return ProviderUnavailable(f"the database does not answer: {text}", where="database")
    if "No space left" in text or "File too large" in text:
        return BackoutError(f"no room left: {text}", where="backup.directory", hint="make room, then type it again")
    return BackoutError(f"pg_basebackup failed: {text}", where="database")


def verify_folder(binaries: Binaries, folder: Path, where: str) -> None:
    """Check a base backup against its manifest: each file's size and checksum, none missing, none too many.

    Raises:
        BackoutError: with the program's own words, which name the file.
    """
    # Its WAL is checked by the replay: pg_verifybackup would want all of it in one place.
    said = _run(binaries, "pg_verifybackup", "--quiet", "--no-parse-wal", str(folder))
    if said is not None:
        hint = "restore from another backup (backout db backups), and take a new one"
        raise BackoutError(f"pg_verifybackup: {said}", where=where, hint=hint)


def combine(binaries: Binaries, parts: Sequence[Path], into: Path) -> None:
    """Make a data directory of a full backup and the incremental ones after it; `parts` are used up.

    Raises:
        BackoutError: with the program's own words.
    """
    said = _run(
        binaries,
        "pg_combinebackup",
        "--link",
        "--no-sync",
        "--manifest-checksums=CRC32C",
        f"--output={into}",
        *(str(part) for part in parts),
    )
    if said is not None:
        raise BackoutError(f"pg_combinebackup: {said}", where=str(into))


def _run(binaries: Binaries, program: str, *arguments: str) -> str | None:
    """Run a program that needs no server; return None, or what it said when it failed."""
    done = run_group((binaries.path(program), *arguments), env=make_tool_environment())
    if done.returncode == 0:
        return None
    lines = [line.strip().removeprefix(f"{program}: error: ") for line in (done.stderr or done.stdout).splitlines()]
    return "; ".join(lines[:5]) or f"it ended with {done.returncode}"
