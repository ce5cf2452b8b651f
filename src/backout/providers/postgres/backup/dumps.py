"""Ports Dumps and DumpRestores by pg_dump and pg_restore: a file, and the source's content in the same snapshot.

Layout: DIRECTORY/ID.NNNNN, objects of 32 MB of pg_dump's output, compressed, and sealed when there is a key; then
DIRECTORY/ID.json, without which the objects are the remains of a killed run. All of mode 0600.

Source: PostgreSQL 18, pg_dump (`--snapshot`: "the dump is consistent with another session's snapshot"),
pg_restore, "Snapshot Synchronization Functions".
"""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any, Final, cast

from msgspec.structs import replace

from backout.errors import AuthError, BackoutError, ProviderUnavailable, Refused
from backout.model.clock import to_utc
from backout.model.database.dump import Dump, Restored
from backout.providers.child import tie_to_parent
from backout.providers.postgres.backup.dump_archive import DumpArchive, read_output
from backout.providers.postgres.backup.dump_contents import list_not_compared, read_contents, read_copy_contents
from backout.providers.postgres.backup.dump_descriptions import DumpDescriptions
from backout.providers.postgres.backup.dump_objects import DumpObjects
from backout.providers.postgres.backup.dump_target import check_login, check_target
from backout.providers.postgres.backup.plain_role import (
    Power,
    check_extensions,
    make_extensions,
    plain_login,
    read_power,
)
from backout.providers.postgres.comparison.dump_check import check_catalog, check_rows, reading_figures
from backout.providers.postgres.server.pinned import SEARCH_PATH
from backout.providers.postgres.server.scratch import DATABASE, RESTORER, scratch_server
from backout.providers.postgres.server.session import open_asking, refuse_pooler
from backout.providers.postgres.tls.access import parse_dsn
from backout.providers.postgres.tls.dsn import drop_secrets, make_connection_error
from backout.providers.postgres.tls.routes import open_program_environment
from backout.providers.silence import LONGEST_SILENCE_S, EndedWhenSilent

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from io import BufferedReader
    from pathlib import Path

    import psycopg

    from backout.ports import Clock
    from backout.providers.archive.sealing import Key
    from backout.providers.postgres.backup.dump_listing import Listing
    from backout.providers.postgres.server.binaries import Binaries

_NO_ROLE: Final = re.compile(r'role "(.+)" does not exist')
_DENIED: Final = re.compile(r"permission denied|must be (?:superuser|owner)|Only roles with")
_MAX_ROLES: Final = 100
_MAX_TEXT: Final = 500


class PostgresDumps:
    """The dumps of one database.

    Args:
        url: returns the source's connection string.
        binaries: returns the programs; they read servers of their own version and older.
        key: returns the sealing key of the dumps, None: they are not sealed.
    """

    def __init__(
        self,
        directory: Path,
        url: Callable[[], str],
        binaries: Callable[[], Binaries],
        clock: Clock,
        *,
        key: Callable[[], Key | None] = lambda: None,
    ) -> None:
        self._directory = directory
        self.silence_s = LONGEST_SILENCE_S  # how long pg_dump may make no progress
        self._objects = DumpObjects(directory, key)
        self._descriptions = DumpDescriptions(directory, key)
        self.list_refused = self._descriptions.list_refused
        self.doubtful = self._descriptions.doubtful
        self._url = url
        self._binaries = binaries
        self._clock = clock

    def list_dumps(self) -> tuple[Dump, ...]:
        """Return the complete ones that may be used, oldest first; `list_refused` says which may not."""
        return self._descriptions.list_dumps()

    def accept(self, names: Collection[str]) -> None:
        """Take these dumps although they are not signed: a person typed their ids."""
        self._objects.accepted = self._descriptions.accepted = frozenset(names)

    def take(self, *, checksums: bool) -> Dump:
        """Dump the database and count its tables in the same snapshot.

        Raises:
            Refused: the server is newer than pg_dump.
            AuthError: the role may not read everything.
            Busy: another process takes or proves one.
            ProviderUnavailable: the server does not answer.
            BackoutError: anything else, in pg_dump's words.
        """
        with self._objects.alone():
            self._objects.sweep(self._descriptions.names())
            return self._take(checksums=checksums)

    def keep(self, dump: Dump) -> None:
        """Write its description again."""
        self._descriptions.write(dump)

    def try_restore(self, dump: Dump) -> Restored:
        """Restore it into a scratch server of our own, as a role without any power, and return what that holds.

        Raises:
            BackoutError: the file is damaged or missing, or it cannot be restored there.
        """
        with self._objects.alone():
            self._objects.check(dump.id, dump.sha256)
            return self._try_restore(dump)

    def restore(self, dump: Dump, url: str) -> Restored:
        """Restore a dump into an empty database, in one transaction, and return what is there now.

        What is in it never runs as a superuser: one makes a role of its own for it, and hands over what that made.

        Raises:
            Refused: the database is not empty, older than the dump's server, or the role may use the server's files.
            AuthError, ProviderUnavailable: as always.
            BackoutError: the file is damaged, or pg_restore's words.
        """
        import psycopg

        self._objects.check(dump.id, dump.sha256)
        archive = self._archive(dump, self._binaries())
        listing = archive.listing()
        try:
            with open_asking(url) as target:
                refuse_pooler(target, url, "what pg_restore sets would reach other sessions")
                check_target(dump, target)
                if read_power(target) is Power.NONE:
                    found = self._run_restore(archive, listing, url, None)
                else:
                    check_extensions(target, listing.extensions, where=dump.id)
                    with plain_login(url, target) as plain:
                        check_login(plain)
                        made = make_extensions(target, archive.extensions(listing), str(parse_dsn(plain)["user"]))
                        found = self._run_restore(archive, listing, plain, made)
            return replace(found, check=found.check.with_more(check_catalog(url, dump)))
        except (psycopg.Error, UnicodeError) as error:
            raise make_connection_error(error, url, "the target") from None

    def _run_restore(
        self,
        archive: DumpArchive,
        listing: Listing,
        url: str,
        made: frozenset[str] | None,
    ) -> Restored:
        with open_program_environment(url, has_tls=archive.binaries.has_tls()) as environment:
            said = archive.restore(environment, str(parse_dsn(url).get("dbname", "")), listing.for_a_plain_role(made))
        if said:
            raise BackoutError(f"pg_restore failed, and nothing was kept: {_clean_text(url, said)}", where=archive.name)
        return _read_restored(archive.dump, url, listing)

    def remove(self, dump: Dump) -> None:
        """Delete a dump; its description goes first, so that half a dump is never listed."""
        self._descriptions.remove(dump)
        self._objects.remove(dump.id)

    # --- the files --------------------------------------------------------------------------------------------------

    def _take(self, *, checksums: bool) -> Dump:
        import psycopg

        url, binaries, began_at = self._url(), self._binaries(), self._clock.now()
        parameters = parse_dsn(url)
        name = self._free_name(began_at)
        try:
            with open_asking(url) as source:
                refuse_pooler(source, url, "what pg_dump sets would reach the application's sessions")
            with open_asking(url) as source, source.transaction():
                source.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                source.execute(f"SET LOCAL search_path = {SEARCH_PATH}".encode())
                _check_version(binaries, source.info.server_version)
                (snapshot,) = source.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
                with reading_figures(url, str(snapshot)) as await_figures:
                    size_bytes, sha256 = self._dump(url, binaries, name, str(snapshot))
                    tables, figures, no_figures = await_figures()
                if figures is None:
                    tables = read_contents(source, checksums=checksums)
                skipped = list_not_compared(source)
                version = source.info.server_version
                encoding = source.info.parameter_status("server_encoding") or "UTF8"
        except (psycopg.Error, UnicodeError) as error:
            self._objects.remove(name)
            raise make_connection_error(error, url, "the database") from None
        except BaseException:
            self._objects.remove(name)
            raise
        database, ended_at = parameters.get("dbname", ""), self._clock.now()
        found = Dump(
            name,
            began_at,
            ended_at,
            database,
            version,
            size_bytes,
            sha256,
            tables,
            encoding,
            not_compared=skipped,
            figures=figures,
            no_figures=no_figures,
        )
        self._descriptions.write(found)
        return found

    def _free_name(self, at: float) -> str:
        """Return a name by the time that is taken neither by a dump nor by files that may not be used as one."""
        there = {path.name.partition(".")[0] for path in self._directory.glob("*")}
        while (name := to_utc(at).strftime("%Y%m%dT%H%M%SZ")) in there:
            at += 1.0
        return name

    # --- the programs -----------------------------------------------------------------------------------------------

    def _dump(self, url: str, binaries: Binaries, name: str, snapshot: str) -> tuple[int, str]:
        argv = [
            binaries.path("pg_dump"),
            "--format=custom",
            "--compress=0",  # (a word only since 16) what is kept is compressed anyway
            "--no-password",
            "--lock-wait-timeout=30s",  # rather than to hold up a migration's waiting queue
            f"--snapshot={snapshot}",
        ]
        with (
            open_program_environment(url, has_tls=binaries.has_tls()) as environment,
            tempfile.TemporaryFile() as words,
        ):
            with subprocess.Popen(
                tie_to_parent(argv, signal.SIGTERM), stdout=subprocess.PIPE, stderr=words, env=environment
            ) as process:
                assert process.stdout is not None
                try:
                    with EndedWhenSilent(process, "pg_dump", self.silence_s) as patience:
                        written = self._objects.write(name, patience.hearing(cast("BufferedReader", process.stdout)))
                except BaseException:
                    process.kill()
                    raise
            if process.returncode != 0:
                raise _make_dump_error(_clean_text(url, read_output(words)), url)
        return written

    def _archive(self, dump: Dump, binaries: Binaries) -> DumpArchive:
        return DumpArchive(dump, binaries, lambda: self._objects.read(dump.id))

    def _try_restore(self, dump: Dump) -> Restored:
        """Return what a scratch server holds after a restore. Raises BackoutError: it cannot be restored there."""
        binaries = self._binaries()
        archive = self._archive(dump, binaries)
        listing = archive.listing()
        with scratch_server(self._directory, binaries, dump.encoding) as scratch:
            with open_asking(scratch.administrator) as administrator:
                check_extensions(administrator, listing.extensions, where=dump.id)
                made = make_extensions(administrator, archive.extensions(listing), RESTORER)
            # From here on the database holds code of the application: no privileged role connects to it.
            with open_asking(scratch.server) as elsewhere:
                self._into_scratch(archive, listing.for_a_plain_role(made), scratch.restorer, elsewhere)
            found = _read_restored(dump, scratch.restorer, listing)
            catalog = replace(check_catalog(scratch.restorer, dump), not_restored=())  # there are no other roles
            return replace(found, check=found.check.with_more(catalog))

    def _into_scratch(
        self, archive: DumpArchive, entries: str, restorer: str, elsewhere: psycopg.Connection[Any]
    ) -> None:
        """Restore; roles that policies name are made without rights, one after the other, as they are missed."""
        from psycopg import sql

        with open_program_environment(restorer, has_tls=True) as environment:
            for _ in range(_MAX_ROLES):
                said = archive.restore(environment, DATABASE, entries)
                if not said:
                    return
                role = _NO_ROLE.search(said)
                if role is None:
                    break
                elsewhere.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role[1])))
        denied = _DENIED.search(said) is not None
        hint = "it is restored by a role without privileges, as restoring runs what is in it" if denied else None
        what = f"it cannot be restored: {' '.join(said.split())[:_MAX_TEXT]}"
        raise BackoutError(what, where=archive.name, hint=hint)


def _read_restored(dump: Dump, url: str, listing: Listing) -> Restored:
    """Return what a restored database holds, as its owner counts it, with the second check of its rows."""
    if dump.figures is None:
        return Restored(read_copy_contents(url, dump.tables), listing.powerful)
    counted = [replace(table, checksum="") for table in dump.tables]  # hashed by the second check
    return Restored(read_copy_contents(url, counted), listing.powerful, check_rows(url, dump))


def _check_version(binaries: Binaries, server_version: int) -> None:
    own, theirs = int(binaries.version().partition(".")[0]), server_version // 10_000
    if own < theirs:
        raise Refused(
            f"pg_dump {binaries.version()} does not read a newer server ({theirs})",
            where="database",
            hint=f'set database.binaries to the programs of {theirs}: "/usr/lib/postgresql/{theirs}/bin"',
        )


def _make_dump_error(said: str, url: str) -> BackoutError:
    if "permission denied" in said or "row-level security" in said:
        role = parse_dsn(url).get("user", "ROLE")
        grant = f'GRANT pg_read_all_data TO "{role}";'
        if found := re.search(r"large object (\d+)", said):  # that role's rights do not reach them
            grant = f'GRANT SELECT ON LARGE OBJECT {found[1]} TO "{role}";  -- and so for each of them'
        hint = f"{grant}  -- or dump as the owner: database.admin_url_env"
        return AuthError(f"the role may not read everything: {said}", where="database", hint=hint)
    if "canceling statement due to lock timeout" in said:
        hint = "again, when no migration runs"
        return ProviderUnavailable(f"a table is locked for too long: {said}", where="database", hint=hint)
    return BackoutError(f"pg_dump failed: {said}", where="database")


def _clean_text(url: str, text: str) -> str:
    return " ".join(drop_secrets(url, text).split())[:_MAX_TEXT]
