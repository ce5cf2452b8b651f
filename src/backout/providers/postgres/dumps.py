"""Ports Dumps and DumpRestores by pg_dump and pg_restore: a file, and what the source held in the same snapshot.

Layout: DIRECTORY/ID.NNNNN, objects of 32 MB of pg_dump's output, compressed, and sealed when there is a key; then
DIRECTORY/ID.json, without which the objects are what a kill left. All of mode 0600.

Source: PostgreSQL 18, pg_dump (`--snapshot`: "the dump is consistent with another session's snapshot"),
pg_restore, "Snapshot Synchronization Functions".
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import msgspec

from backout.errors import AuthError, BackoutError, ProviderUnavailable, Refused
from backout.model.dump import Dump, TableContent
from backout.providers.child import dying_with_parent
from backout.providers.postgres.dump_objects import DumpObjects
from backout.providers.postgres.launcher import PostgresServer
from backout.providers.postgres.schema import libpq_url, meant, without_secrets
from backout.providers.postgres.template import give_away, tool_environment
from backout.providers.postgres.tls_access import parsed, reached

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg
    from psycopg import sql

    from backout.ports import Clock
    from backout.providers.archive.sealing import Key
    from backout.providers.child_environment import ChildEnvironment
    from backout.providers.postgres.binaries import Binaries

_TABLES: Final = """
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
AND NOT EXISTS (
  SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
)
ORDER BY 1
"""
_OBJECTS: Final = """
SELECT kind || ' ' || name FROM (
  SELECT 'schema' AS kind, nspname::text AS name, oid, 'pg_namespace'::regclass AS class FROM pg_namespace
  WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'public')
  UNION ALL SELECT 'relation', format('%I.%I', n.nspname, c.relname), c.oid, 'pg_class'::regclass
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  UNION ALL SELECT 'function', format('%I.%I', n.nspname, p.proname), p.oid, 'pg_proc'::regclass
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
) o WHERE NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = o.class AND d.objid = o.oid AND d.deptype = 'e')
ORDER BY 1 LIMIT 5
"""
_PLAIN: Final = (  # so that a value reads the same on both sides
    "SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL IntervalStyle = 'postgres'; "
    "SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 1; SET LOCAL row_security = off"
)
_NO_ROLE: Final = re.compile(r'role "(.+)" does not exist')
_EXTENSION: Final = re.compile(r"^\d+; \d+ \d+ EXTENSION - (\S+)", re.MULTILINE)
_MAX_ROLES: Final = 100
_MAX_TEXT: Final = 500


class PostgresDumps:
    """The dumps of one database.

    Args:
        url: returns the source's connection string. binaries: returns the programs; they read servers of their own
            version and older. key: returns what the dumps are sealed with, None: they are not.
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
        self._objects = DumpObjects(directory, key)
        self._url = url
        self._binaries = binaries
        self._clock = clock

    def kept(self) -> tuple[Dump, ...]:
        """Return the complete ones, oldest first. Raises BackoutError: a description cannot be read."""
        return tuple(self._described(path) for path in sorted(self._directory.glob("*.json")))

    def take(self, *, checksums: bool) -> Dump:
        """Dump the database and count its tables in the same snapshot.

        Raises:
            Refused: the server is newer than pg_dump. AuthError: the role may not read everything.
            Busy: another process takes or proves one. ProviderUnavailable: the server does not answer.
            BackoutError: anything else, in pg_dump's words.
        """
        with self._objects.alone():
            self._objects.sweep([dump.id for dump in self.kept()])
            return self._taken(checksums=checksums)

    def keep(self, dump: Dump) -> None:
        """Write its description again."""
        self._describe(dump)

    def tried(self, dump: Dump) -> tuple[TableContent, ...]:
        """Restore it into a scratch server of our own and return what that holds.

        Raises:
            BackoutError: the file is damaged or missing, or it cannot be restored there.
        """
        with self._objects.alone():
            self._objects.check(dump.id, dump.sha256)
            return self._tried(dump)

    def restore(self, dump: Dump, url: str) -> tuple[TableContent, ...]:
        """Restore a dump into an empty database, in one transaction, and return what is there now.

        Raises:
            Refused: the database is not empty, or older than the dump's server. AuthError, ProviderUnavailable: as
            always. BackoutError: the file is damaged, or pg_restore's words.
        """
        import psycopg  # noqa: PLC0415 see `take`

        self._objects.check(dump.id, dump.sha256)
        binaries = self._binaries()
        try:
            with psycopg.connect(
                libpq_url(url)[0], connect_timeout=10, client_encoding="UTF8", autocommit=True
            ) as target:
                there = [str(row[0]) for row in target.execute(_OBJECTS).fetchall()]
                if there:
                    raise Refused(
                        f"the database {target.info.dbname} is not empty: {', '.join(there)}",
                        where="the target",
                        hint="CREATE DATABASE restored;  -- and restore into that",
                    )
                if target.info.server_version // 10_000 < dump.server_version // 10_000:
                    raise Refused("the target's server is older than the one that was dumped", where="the target")
            with reached(url, has_tls=binaries.has_tls()) as environment:
                said = self._pg_restore(dump, binaries, environment, str(parsed(url).get("dbname", "")))
            if said:
                raise BackoutError(f"pg_restore failed, and nothing was kept: {_worded(url, said)}", where=dump.id)
            with psycopg.connect(libpq_url(url)[0], connect_timeout=10, client_encoding="UTF8") as target:
                return _contents(target, checksums=any(table.checksum for table in dump.tables))
        except (psycopg.Error, UnicodeError) as error:
            raise meant(error, url, "the target") from None

    def remove(self, dump: Dump) -> None:
        """Delete a dump; its description goes first, so that half a dump is never listed."""
        self._directory.joinpath(f"{dump.id}.json").unlink(missing_ok=True)
        self._objects.remove(dump.id)

    # --- the files --------------------------------------------------------------------------------------------------

    def _describe(self, dump: Dump) -> None:
        path = self._directory / f"{dump.id}.json"
        building = path.with_suffix(".partial")
        building.write_bytes(msgspec.json.format(msgspec.json.encode(dump)))
        building.chmod(0o600)
        building.rename(path)

    def _described(self, path: Path) -> Dump:
        try:
            return msgspec.json.decode(path.read_bytes(), type=Dump)
        except (OSError, msgspec.MsgspecError) as error:
            raise BackoutError(f"the description of a dump cannot be read: {error}", where=str(path)) from None

    def _taken(self, *, checksums: bool) -> Dump:
        import psycopg  # noqa: PLC0415 costs 0.1 s, and only dumps come here

        url, binaries, began_at = self._url(), self._binaries(), self._clock.now()
        parameters = parsed(url)
        name = datetime.fromtimestamp(began_at, UTC).strftime("%Y%m%dT%H%M%SZ")
        try:
            with psycopg.connect(libpq_url(url)[0], connect_timeout=10, client_encoding="UTF8") as source:
                _check_version(binaries, source.info.server_version)
                source.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                source.read_only = True
                (snapshot,) = source.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
                size_bytes, sha256 = self._dump(url, binaries, name, str(snapshot))
                tables = _contents(source, checksums=checksums)
                version = source.info.server_version
                encoding = source.info.parameter_status("server_encoding") or "UTF8"
        except (psycopg.Error, UnicodeError) as error:
            self._objects.remove(name)
            raise meant(error, url, "the database") from None
        except BaseException:
            self._objects.remove(name)
            raise
        database, ended_at = parameters.get("dbname", ""), self._clock.now()
        found = Dump(name, began_at, ended_at, database, version, size_bytes, sha256, tables, encoding)
        self._describe(found)
        return found

    # --- the programs -----------------------------------------------------------------------------------------------

    def _dump(self, url: str, binaries: Binaries, name: str, snapshot: str) -> tuple[int, str]:
        argv = [
            binaries.path("pg_dump"),
            "--format=custom",
            "--compress=none",  # what is kept is compressed anyway
            "--no-password",
            "--lock-wait-timeout=30s",  # rather than to hold up a migration's waiting queue
            f"--snapshot={snapshot}",
        ]
        with reached(url, has_tls=binaries.has_tls()) as environment, tempfile.TemporaryFile() as words:
            with subprocess.Popen(
                dying_with_parent(argv, signal.SIGTERM), stdout=subprocess.PIPE, stderr=words, env=environment
            ) as process:
                assert process.stdout is not None  # noqa: S101 a pipe was asked for
                try:
                    written = self._objects.write(name, process.stdout)
                except BaseException:
                    process.kill()
                    raise
            if process.returncode != 0:
                raise _dump_failed(_worded(url, _said(words)), url)
        return written

    def _tried(self, dump: Dump) -> tuple[TableContent, ...]:
        """Return what a scratch server holds after a restore. Raises BackoutError: it cannot be restored there."""
        import psycopg  # noqa: PLC0415 see `take`

        binaries = self._binaries()
        folder = Path(tempfile.mkdtemp(prefix=".scratch-", dir=self._directory))
        give_away(folder)
        try:
            settings = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "4GB"}
            server = PostgresServer(folder / "data", binaries, settings=settings)
            server.create()
            try:
                dsn = server.start().socket_dsn
                with psycopg.connect(dsn, autocommit=True, client_encoding="UTF8") as scratch:
                    scratch.execute(_database("restored", dump.encoding))
                    self._check_extensions(dump, binaries, scratch)
                    self._into_scratch(dump, binaries, dsn, scratch)
                with psycopg.connect(
                    dsn.replace("dbname=postgres", "dbname=restored"), client_encoding="UTF8"
                ) as restored:
                    return _contents(restored, checksums=any(table.checksum for table in dump.tables))
            finally:
                server.stop(mode="immediate")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _check_extensions(self, dump: Dump, binaries: Binaries, scratch: psycopg.Connection[Any]) -> None:
        listed, _, _ = self._fed(dump, [binaries.path("pg_restore"), "--list"], tool_environment())
        wanted = set(_EXTENSION.findall(listed))
        known = {str(row[0]) for row in scratch.execute("SELECT name FROM pg_available_extensions").fetchall()}
        if missing := sorted(wanted - known):
            what = f"it cannot be proven here: the programs bring no extension {', '.join(missing)}"
            raise BackoutError(what, where=dump.id, hint="set database.binaries to an installation that has them")

    def _into_scratch(self, dump: Dump, binaries: Binaries, dsn: str, scratch: psycopg.Connection[Any]) -> None:
        """Restore; roles that policies name are made without rights, one after the other, as they are missed."""
        from psycopg import sql  # noqa: PLC0415 see `take`

        with reached(dsn, has_tls=True) as environment:
            for _ in range(_MAX_ROLES):
                said = self._pg_restore(dump, binaries, environment, "restored")
                if not said:
                    return
                role = _NO_ROLE.search(said)
                if role is None:
                    break
                scratch.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role[1])))
        raise BackoutError(f"it cannot be restored: {' '.join(said.split())[:_MAX_TEXT]}", where=dump.id)

    def _pg_restore(self, dump: Dump, binaries: Binaries, environment: ChildEnvironment, database: str) -> str:
        """Restore in one transaction; return what pg_restore complains of, "" when it is done."""
        quoted = database.replace("\\", "\\\\").replace("'", "\\'")
        argv = [
            binaries.path("pg_restore"),
            "--single-transaction",
            "--exit-on-error",
            "--no-owner",
            "--no-privileges",
            "--no-password",
            f"--dbname=dbname='{quoted}'",
        ]
        _, said, code = self._fed(dump, argv, environment)
        return (said.strip() or f"exit code {code}") if code != 0 else ""

    def _fed(self, dump: Dump, argv: list[str], environment: ChildEnvironment) -> tuple[str, str, int]:
        """Run a program with the dump as its input; return what it answered and complained, and its exit code."""
        with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as words:
            with subprocess.Popen(
                dying_with_parent(argv, signal.SIGTERM),
                stdin=subprocess.PIPE,
                stdout=answer,
                stderr=words,
                env=environment,
            ) as process:
                assert process.stdin is not None  # noqa: S101 a pipe was asked for
                try:
                    with contextlib.suppress(BrokenPipeError):  # it has read enough, or fails and says why
                        for content in self._objects.read(dump.id):
                            process.stdin.write(content)
                    with contextlib.suppress(BrokenPipeError):
                        process.stdin.close()
                except BaseException:
                    process.kill()
                    raise
            return _said(answer), _said(words), process.returncode


def _said(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _database(name: str, encoding: str) -> sql.Composed:
    """Return the statement that makes an empty database; the locale C goes with every encoding."""
    from psycopg import sql  # noqa: PLC0415 see `PostgresDumps.take`

    locale = "" if encoding == "UTF8" else " LOCALE_PROVIDER libc LOCALE 'C'"
    words = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {}" + locale)
    return words.format(sql.Identifier(name), sql.Literal(encoding))


def _check_version(binaries: Binaries, server_version: int) -> None:
    own, theirs = int(binaries.version().partition(".")[0]), server_version // 10_000
    if own < theirs:
        raise Refused(
            f"pg_dump {binaries.version()} does not read a newer server ({theirs})",
            where="database",
            hint=f'set database.binaries to the programs of {theirs}: "/usr/lib/postgresql/{theirs}/bin"',
        )


def _dump_failed(said: str, url: str) -> BackoutError:
    if "permission denied" in said or "row-level security" in said:
        role = parsed(url).get("user", "ROLE")
        hint = f'GRANT pg_read_all_data TO "{role}";  -- or dump as the owner: database.admin_url_env'
        return AuthError(f"the role may not read everything: {said}", where="database", hint=hint)
    if "canceling statement due to lock timeout" in said:
        hint = "again, when no migration runs"
        return ProviderUnavailable(f"a table is locked for too long: {said}", where="database", hint=hint)
    return BackoutError(f"pg_dump failed: {said}", where="database")


def _worded(url: str, text: str) -> str:
    return " ".join(without_secrets(url, text).split())[:_MAX_TEXT]


def _contents(connection: psycopg.Connection[Any], *, checksums: bool) -> tuple[TableContent, ...]:
    """Return every table's rows in the connection's transaction."""
    from psycopg import sql  # noqa: PLC0415 see `PostgresDumps.take`

    connection.execute(_PLAIN)
    found = []
    content = ", coalesce(sum(hashtextextended(t::text, 0)), 0)::text" if checksums else ", ''"
    for (name,) in connection.execute(_TABLES).fetchall():
        query = sql.SQL("SELECT count(*)") + sql.SQL(content) + sql.SQL(" FROM ONLY ") + sql.SQL(name)
        row = connection.execute(query + sql.SQL(" t")).fetchone()
        assert row is not None  # noqa: S101 a count has a row
        found.append(TableContent(str(name), int(row[0]), str(row[1])))
    return tuple(found)
