"""Port Backups on a repository of pgBackRest, by its own program; nothing is written into the repository.

Source: pgBackRest 2.55 command reference: `info --output=json`, `repo-ls`, `archive-get`, `restore` (`--type`,
`--target-exclusive`, `--archive-mode=off`, without which a restored side would push into the archive it came from),
`verify`. The program gets the configuration that the database's own archive_command uses.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

import msgspec

from backout.decoding import Undecodable, decode_json
from backout.errors import BackoutError, ProviderUnavailable, UsageError
from backout.model.database.recovery import BackupKind, BaseBackup
from backout.model.database.wal import WalSegment, find_segment_begin, find_segment_size, parse_lsn, show_lsn
from backout.model.names import parse_id, parse_wal_file
from backout.private import make_private_folder
from backout.providers.child import find_unprivileged_prefix
from backout.providers.postgres.server.template import give_away, make_tool_environment
from backout.providers.process_group import run_group

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from backout.model.database.recovery import RecoveryTarget

_SEGMENT: Final = re.compile(r"(?:^|/)([0-9A-F]{8})([0-9A-F]{16})-[0-9a-f]{40}")
_HISTORY: Final = re.compile(r"(?:^|/)([0-9A-F]{8}\.history)")
_USUAL_BYTES: Final = 16 << 20
"""What a segment of WAL has, unless the cluster was made with another size."""
_TIMEOUT_S: Final = 24 * 3600.0
_INFO_TIMEOUT_S: Final = 120.0
_MAX_TEXT: Final = 500
_INSTALL: Final = "apt-get install pgbackrest, or take `backup.pgbackrest` out of the configuration"


class _Status(msgspec.Struct, frozen=True):
    code: int = 0
    message: str = ""


class _Span(msgspec.Struct, frozen=True):
    start: str | None = None
    stop: str | None = None


class _Times(msgspec.Struct, frozen=True):
    start: float
    stop: float


class _Stored(msgspec.Struct, frozen=True):
    delta: int = 0


class _Size(msgspec.Struct, frozen=True):
    size: int = 0
    repository: _Stored = _Stored()


class _Of(msgspec.Struct, frozen=True):
    id: int


class _Backup(msgspec.Struct, frozen=True):
    label: str
    type: str
    archive: _Span
    timestamp: _Times
    info: _Size
    database: _Of
    lsn: _Span = _Span()
    prior: str | None = None
    error: bool | None = None


class _Database(msgspec.Struct, frozen=True, rename={"system": "system-id"}):
    id: int
    system: int
    version: str


class _Archive(msgspec.Struct, frozen=True):
    id: str
    database: _Of


class _Stanza(msgspec.Struct, frozen=True):
    name: str
    status: _Status = _Status()
    db: tuple[_Database, ...] = ()
    archive: tuple[_Archive, ...] = ()
    backup: tuple[_Backup, ...] = ()
    cipher: str = "none"


class PgBackRest:
    """One stanza of a repository.

    Args:
        config: pgBackRest's configuration file, None for its own default.
    """

    def __init__(self, stanza: str, config: Path | None = None, *, program: str = "pgbackrest") -> None:
        self._stanza = stanza
        self._config = config
        self._program = program
        self._laid: Path | None = None

    def backups(self) -> tuple[BaseBackup, ...]:
        """Return the complete backups, oldest first.

        Raises:
            UsageError: pgBackRest is not installed, or there is no such stanza.
            ProviderUnavailable: its words.
        """
        stanza = self._info()
        databases = {each.id: each for each in stanza.db}
        found = (
            _describe(each, databases[each.database.id], encrypted=stanza.cipher != "none")
            for each in stanza.backup
            if not each.error and each.database.id in databases
        )
        return tuple(sorted(found, key=lambda backup: backup.began_at))

    def wal(self) -> tuple[WalSegment, ...]:
        """Return the archived segments, timeline by timeline. Raises as `backups`."""
        found = []
        stanza = self._info()
        for archive in stanza.archive:
            listed = self._run("repo-ls", "--recurse", f"archive/{self._stanza}/{archive.id}", on_stanza=False)
            size = self._find_segment_size(stanza, archive.database.id)
            for match in filter(None, map(_SEGMENT.search, listed.splitlines())):
                name = "".join(match.groups())
                begin = find_segment_begin(name, size)
                found.append(WalSegment(name, int(match[1], 16), begin, begin + size))
        return tuple(sorted(set(found), key=lambda each: (each.timeline, each.begin_lsn)))

    def _find_segment_size(self, stanza: _Stanza, database: int) -> int:
        """Return the bytes of a segment, as the beginnings of a database's backups tell them."""
        backups = [each for each in stanza.backup if each.database.id == database and not each.error]
        begun = [(each.archive.start, each.lsn.start) for each in backups]
        known = [(name, parse_lsn(lsn)) for name, lsn in begun if name and lsn]
        if not known:
            return _USUAL_BYTES
        if (size := find_segment_size(known)) is None:
            raise ProviderUnavailable("its backups do not tell how large a segment of WAL is", where=self._stanza)
        return size

    def unpack(self, backup: str, into: Path, progress: Callable[[int, int], None]) -> None:
        """Lay out a data directory, without recovery settings: what replays it, and where to, is the caller's."""
        total = next((each.size_bytes for each in self.backups() if each.id == backup), 0)
        self._restore(into, f"--set={parse_id(backup, 'the label of a backup')}", "--type=none")
        progress(total, total)

    def fetch_wal(self, names: Sequence[str], into: Path, laid: Callable[[str], None] = lambda _name: None) -> None:
        """Lay every timeline's history file and segments into a folder; `laid` hears of each segment.

        Raises BackoutError naming one that is gone.

        pgBackRest asks a data directory which cluster it is about: the one beside, the one that was laid out last, or
        the one of its configuration.
        """
        wanted = [*self._histories(), *names]
        known = next((d for d in (into.parent, self._laid) if d and (d / "global" / "pg_control").is_file()), None)
        about = () if known is None else (f"--pg1-path={known}",)
        for name in wanted:
            self._run("archive-get", name, str(into / parse_wal_file(name)), *about)
            if not (into / parse_wal_file(name)).is_file():
                raise BackoutError(f"pgBackRest has no WAL segment {name}", where=self._stanza)
            if name in names:
                laid(name)

    def restore(self, target: RecoveryTarget, into: Path) -> None:
        """Lay out a data directory that replays to just before the target and pauses there; its archiving is off.

        Raises:
            BackoutError: pgBackRest's words.
        """
        options = (
            "--type=lsn",
            f"--target={show_lsn(target.lsn)}",
            "--target-exclusive",
            f"--target-timeline={target.timeline}",
            "--target-action=pause",
        )
        self._restore(into, *options)

    def verify(self) -> None:
        """Read the whole repository. Raises BackoutError with what is wrong in it."""
        said = self._run("verify", "--output=text", "--verbose")
        if re.search(r"status: error|(?:missing|invalid|corrupt)[^0-9\n]*: [1-9]", said):
            raise BackoutError(f"the repository has errors: {_make_plain(said)}", where=self._stanza)

    def _restore(self, into: Path, *options: str) -> None:
        make_private_folder(into)
        give_away(into)
        # Tablespaces would land where the live ones are.
        spaces = f"--tablespace-map-all={into}-tablespaces"
        self._run("restore", f"--pg1-path={into}", "--archive-mode=off", spaces, *options)
        self._laid = into

    def _histories(self) -> list[str]:
        found: set[str] = set()
        for archive in self._info().archive:
            listed = self._run("repo-ls", f"archive/{self._stanza}/{archive.id}", on_stanza=False)
            found.update(match[1] for match in filter(None, map(_HISTORY.search, listed.splitlines())))
        return sorted(found)

    def _info(self) -> _Stanza:
        said = self._run("info", "--output=json", timeout_s=_INFO_TIMEOUT_S)
        try:
            stanzas = decode_json(said, tuple[_Stanza, ...], what="the answer of `pgbackrest info`")
        except Undecodable as error:
            what = error.what
            raise ProviderUnavailable(what, where=self._stanza) from None
        found = next((each for each in stanzas if each.name == self._stanza), None)
        if found is None or (found.status.code != 0 and not found.backup):
            message = found.status.message if found else "there is no such stanza"
            hint = "check backup.pgbackrest.stanza and backup.pgbackrest.config"
            raise UsageError(f"pgBackRest's stanza {self._stanza!r}: {message}", where="pgbackrest", hint=hint)
        return found

    def _run(self, command: str, *options: str, on_stanza: bool = True, timeout_s: float = _TIMEOUT_S) -> str:
        program = shutil.which(self._program)
        if program is None:
            raise UsageError("pgBackRest is not installed", where=self._program, hint=_INSTALL)
        argv = [
            *find_unprivileged_prefix(),
            program,
            command,
            *options,
            "--log-level-console=off",
            "--log-level-stderr=warn",
        ]
        argv += [f"--stanza={self._stanza}"] if on_stanza else []
        argv += [f"--config={self._config}"] if self._config else []
        try:
            done = run_group(argv, env=make_tool_environment(), timeout_s=timeout_s)
        except subprocess.TimeoutExpired:
            raise ProviderUnavailable(f"pgbackrest {command} takes too long", where=self._stanza) from None
        # archive-get says 1 for "not there", which its caller looks at.
        if done.returncode != 0 and not (command == "archive-get" and done.returncode == 1):
            text = f"pgbackrest {command} failed: {_make_plain(done.stderr or done.stdout)}"
            raise BackoutError(text, where=self._stanza)
        return done.stdout


def _describe(backup: _Backup, database: _Database, *, encrypted: bool) -> BaseBackup:
    major = int(database.version.partition(".")[0])
    return BaseBackup(
        id=backup.label,
        kind=BackupKind.FULL if backup.type == "full" else BackupKind.INCREMENTAL,
        parent=backup.prior,
        began_at=backup.timestamp.start,
        ended_at=backup.timestamp.stop,
        begin_lsn=parse_lsn(backup.lsn.start) if backup.lsn.start else 0,
        end_lsn=parse_lsn(backup.lsn.stop) if backup.lsn.stop else 0,
        timeline=int(backup.archive.start[:8], 16) if backup.archive.start else 1,
        system_identifier=str(database.system),
        server_version=major * 10_000,
        size_bytes=backup.info.size,
        stored_bytes=backup.info.repository.delta,
        encrypted=encrypted,
    )


def _make_plain(text: str) -> str:
    return " ".join(text.split())[:_MAX_TEXT]
