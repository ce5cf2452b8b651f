"""A database that is set aside for a trial: renamed and closed, while an empty one has its name.

Nothing is written to the one that is set aside. What there is to take back is told by the names of the databases alone,
so that any process can do it; a lock on the server tells whether the process that set it aside still runs.

Sources: PostgreSQL 18 documentation, ALTER DATABASE (ALLOW_CONNECTIONS, RENAME TO), CREATE DATABASE, DROP DATABASE,
9.28.10 Advisory Lock Functions (held until the session ends), 19.3.2 TCP Settings.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

from psycopg import conninfo, errors, sql

from backout.errors import BackoutError, Busy, Refused
from backout.model.value import Value
from backout.providers.postgres.server.session import open_working
from backout.providers.postgres.tls.dsn import make_connection_error, make_libpq_url
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

_MAINTENANCE: Final = ("postgres", "template1")
"""Databases that every server has; none is renamed from within."""
_LONGEST: Final = 44
"""Bytes of a name to which an ending still fits (63 in all)."""
_NOTE: Final = "made by backout certify, thrown away after the trial"
_EMPTIED_S: Final = 20.0
_POLL_S: Final = 0.05
_TIMEOUT_S: Final = 60.0
_LISTS: Final = frozenset(
    {
        "search_path",
        "session_preload_libraries",
        "local_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    }
)
"""Settings whose values are lists of names: they are kept as they are written."""
_LOCK: Final = "SELECT pg_try_advisory_lock(hashtextextended('backout certify ' || %s, 0))"
_RUNS: Final = """
SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted
  AND (classid::bigint << 32) | objid::bigint = hashtextextended('backout certify ' || %s, 0))
"""
_STAY: Final = """
SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout'
"""
"""The session is idle for long."""
_DATABASES: Final = """
SELECT d.datname::text, d.datallowconn, d.oid::bigint, coalesce(shobj_description(d.oid, 'pg_database'), '')
FROM pg_database d WHERE d.datname = ANY (%s)
"""
_MADE_AS: Final = """
SELECT pg_get_userbyid(d.datdba), pg_encoding_to_char(d.encoding), d.datcollate, d.datctype,
  to_jsonb(d) ->> 'datlocprovider', coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'),
  d.datacl IS NOT NULL
FROM pg_database d WHERE d.datname = %s
"""
_GRANTS: Final = """
SELECT a.privilege_type, CASE a.grantee WHEN 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END
FROM pg_database d, aclexplode(d.datacl) a WHERE d.datname = %s
"""
_SETTINGS: Final = """
SELECT CASE s.setrole WHEN 0 THEN NULL ELSE pg_get_userbyid(s.setrole) END, c.entry
FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) AS c(entry)
WHERE d.datname = %s
"""
_PROVIDERS: Final = {"i": ("icu", "ICU_LOCALE"), "b": ("builtin", "BUILTIN_LOCALE")}


class _Database(Value, frozen=True):
    name: str
    is_open: bool
    oid: int
    note: str


class SetAside:
    """What sets a database aside, and takes it back.

    Args:
        url: of a role that owns the database and may make others.
        name: of the database.

    Attributes:
        is_begun: whether this process has begun to make the empty database, so that there is something to take back.
        oid: of the empty database that this process made, 0 before.
    """

    def __init__(self, url: str, name: str) -> None:
        self._url = make_libpq_url(url)[0]
        self.name = name
        self._short = name.encode()[:_LONGEST].decode(errors="ignore")
        self.kept = f"{self._short}_backout_aside"
        self.made = f"{self._short}_backout_trial"
        self.is_begun = False
        self.oid = 0
        self._holder: psycopg.Connection[Any] | None = None

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the lock on it, so that no other process sets it aside or takes it back; held already: do nothing.

        Raises:
            Busy: another process holds it.
            AuthError, ProviderUnavailable: there is no session.
        """
        if self._is_held():
            yield
            return
        with contextlib.ExitStack() as stack:
            with self._explain():
                holder = stack.enter_context(contextlib.closing(self._connect()))
                holder.execute(_STAY)
                got = holder.execute(_LOCK, [self._short]).fetchone()
            if got != (True,):
                raise Busy(
                    f"a trial runs there: its session holds the lock on database {self.name}",
                    where="database",
                    hint="the same command again, once that trial has ended",
                )
            self._holder = holder
            yield

    def check_held(self) -> None:
        """Raise BackoutError where the lock is not held, or not any more."""
        if not self._is_held():
            raise BackoutError(
                f"the session that held the lock on database {self.name} was lost: another trial may have begun there",
                where="database",
            )

    def _is_held(self) -> bool:
        import psycopg

        if self._holder is None or self._holder.closed:
            return False
        try:
            self._holder.execute(b"SELECT 1")
        except psycopg.Error:
            return False
        return True

    def is_left(self) -> bool:
        """Whether an earlier trial left something of it."""
        with self._open() as connection:
            found = self._list(connection)
        return not {self.kept, self.made}.isdisjoint(found) or (self.name in found and not found[self.name].is_open)

    def is_running(self) -> bool:
        """Whether a trial holds the lock on it, in whichever process; it is not taken to find out."""
        with self._open() as connection:
            return connection.execute(_RUNS, [self._short]).fetchone() == (True,)

    def make(self) -> None:
        """Make the empty database, under a name of its own; the lock has to be held.

        Raises:
            BackoutError: the server refuses, in its words; or the lock was lost.
        """
        self.check_held()
        with self._open() as connection:
            create = self._write_create(connection)
            self.is_begun = True
            try:
                connection.execute(create)
            except errors.DuplicateDatabase:
                self.is_begun = False
                raise
            self.oid = self._list(connection)[self.made].oid
            connection.execute(
                sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(self.made), sql.Literal(_NOTE))
            )
            for statement in self._list_rights(connection):
                connection.execute(statement)
            for statement in self._list_role_settings(connection):
                with contextlib.suppress(errors.InsufficientPrivilege):  # only an administrator may copy those
                    connection.execute(statement)

    def exchange(self) -> None:
        """Set the database aside, and give the empty one its name; all sessions of both end. The lock has to be held.

        Raises:
            BackoutError: the server refuses, in its words; or the lock was lost.
        """
        self.check_held()
        with self._open() as connection:
            self._rename(connection, self.name, self.kept)
            self._rename(connection, self.made, self.name)
            self._let_in(connection, self.name, is_open=True)

    def take_back(self) -> None:
        """Throw the trial's database away, and give the one that was set aside its name again; may be done twice.

        Raises:
            Busy: another process holds the lock.
            Refused: a database of that name is there that the trial did not make.
            BackoutError: the server refuses, in its words; or the name leads elsewhere afterwards.
        """
        with self.hold(), self._open() as connection:
            found = self._list(connection)
            kept, mine = found.get(self.kept), found.get(self.name)
            if kept is not None:
                if mine is not None and mine.note != _NOTE:
                    raise Refused(
                        f"database {self.name} is none that a trial made, and {self.kept} is there as well",
                        where="database",
                        rule=SafetyRule.DATA,
                        options=(f"look at both; rename {self.kept} by hand where it is the right one",),
                    )
                self._drop(connection, self.name)
                self._rename(connection, self.kept, self.name)
            self._let_in(connection, self.name, is_open=True)
            self._drop(connection, self.made)
            now = self._list(connection)
            if set(now) != {self.name} or (kept is not None and now[self.name].oid != kept.oid):
                raise BackoutError(f"{self.name} is not the database that was set aside", where="database")

    def _list(self, connection: psycopg.Connection[Any]) -> dict[str, _Database]:
        rows = connection.execute(_DATABASES, [[self.name, self.kept, self.made]])
        return {name: _Database(name, is_open, oid, note) for name, is_open, oid, note in rows}

    def _write_create(self, connection: psycopg.Connection[Any]) -> sql.Composed:
        row = connection.execute(_MADE_AS, [self.name]).fetchone()
        if row is None:
            raise BackoutError(f"there is no database {self.name}", where="database")
        owner, encoding, collate, ctype, provider, locale, _ = row
        more: sql.Composable = sql.SQL("")
        if provider in _PROVIDERS and locale:
            name, word = _PROVIDERS[provider]
            more = sql.SQL(f" LOCALE_PROVIDER {name} {word} ") + sql.Literal(locale)
        made = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}").format(
            sql.Identifier(self.made), sql.Identifier(owner), *map(sql.Literal, (encoding, collate, ctype))
        )
        return made + more

    def _list_rights(self, connection: psycopg.Connection[Any]) -> Iterator[sql.Composed]:
        """Yield what gives the new one the rights and settings of the old one."""
        made, row = sql.Identifier(self.made), connection.execute(_MADE_AS, [self.name]).fetchone()
        if row is not None and row[-1]:
            yield sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(made)
        for privilege, role in connection.execute(_GRANTS, [self.name]).fetchall():
            who = sql.SQL("PUBLIC") if role is None else sql.Identifier(role)
            yield sql.SQL("GRANT {} ON DATABASE {} TO {}").format(sql.SQL(privilege), made, who)
        for role, entry in connection.execute(_SETTINGS, [self.name]).fetchall():
            if role is None:
                yield sql.SQL("ALTER DATABASE {}").format(made) + _write_setting(entry)

    def _list_role_settings(self, connection: psycopg.Connection[Any]) -> Iterator[sql.Composed]:
        for role, entry in connection.execute(_SETTINGS, [self.name]).fetchall():
            if role is not None:
                names = map(sql.Identifier, (role, self.made))
                yield sql.SQL("ALTER ROLE {} IN DATABASE {}").format(*names) + _write_setting(entry)

    def _rename(self, connection: psycopg.Connection[Any], old: str, new: str) -> None:
        """Close it, end its sessions, and rename it: it stays closed."""
        self._let_in(connection, old, is_open=False)
        deadline = time.monotonic() + _EMPTIED_S
        while True:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [old])
            try:
                connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(*map(sql.Identifier, (old, new))))
            except errors.ObjectInUse:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_POLL_S)
            else:
                return

    def _let_in(self, connection: psycopg.Connection[Any], name: str, *, is_open: bool) -> None:
        what = sql.SQL("true" if is_open else "false")
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(sql.Identifier(name), what))

    def _drop(self, connection: psycopg.Connection[Any], name: str) -> None:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    @contextlib.contextmanager
    def _open(self) -> Iterator[psycopg.Connection[Any]]:
        with self._explain(), self._connect() as connection:
            yield connection

    def _connect(self) -> psycopg.Connection[Any]:
        """Return a session in a database beside it, always the same one: advisory locks are of one database."""
        beside = next(each for each in _MAINTENANCE if each != self.name)
        url = conninfo.make_conninfo(self._url, dbname=beside)
        return open_working(url, statement_timeout_s=_TIMEOUT_S)

    @contextlib.contextmanager
    def _explain(self) -> Iterator[None]:
        """Raise what the server refuses as an error of ours."""
        import psycopg

        try:
            yield
        except psycopg.OperationalError as error:
            if isinstance(error, errors.ObjectInUse | errors.QueryCanceled):
                raise _make_refused(error) from None
            raise make_connection_error(error, self._url, "the server of the trial's database") from None
        except psycopg.Error as error:
            raise _make_refused(error) from None


def _write_setting(entry: str) -> sql.Composed:
    """Return what sets `name=value`, as the catalogue has it."""
    name, _, value = entry.partition("=")
    what = sql.SQL(value) if name in _LISTS else sql.Literal(value)
    return sql.SQL(" SET {} TO {}").format(sql.Identifier(*name.split(".")), what)


def _make_refused(error: psycopg.Error) -> BackoutError:
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    return BackoutError(
        f"the database cannot be set aside: {said} ({error.sqlstate})",
        where="database",
        hint="the role of database.admin_url_env (else database.url_env) has to own the database, and needs CREATEDB; "
        "also pg_signal_backend where the application logs in as another one",
    )
