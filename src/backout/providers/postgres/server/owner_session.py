"""Sessions with exactly the rights of a table's owner, however privileged the administrator who opens them.

Writing a row runs the application's code: checks, generated columns, domains, casts, functions of indexes, deferred
triggers at the end of the transaction. `SET ROLE owner` in an administrator's session is no boundary: such code says
RESET ROLE. Nor is a SECURITY DEFINER function, which refuses that: its owner may make it SECURITY INVOKER before the
next call, and a cursor WITH HOLD or a deferred trigger that it leaves behind runs at COMMIT, as the administrator. What
holds is who *logged in*. So a superuser makes a role for the time of the rescue that may log in and be that owner, and
nothing else; a session of that role has nothing to return to.

Source: PostgreSQL 18, SET ROLE, SET SESSION AUTHORIZATION, "Role Membership", src/backend/commands/portalcmds.c
(PersistHoldablePortal), src/backend/commands/trigger.c (AfterTriggerFireDeferred).
"""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from backout.errors import Refused
from backout.providers.postgres.server.pinned import PATH
from backout.providers.postgres.server.session import open_working
from backout.providers.postgres.server.temporary_role import make_role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack

    import psycopg

_ATTRIBUTES: Final = "LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
"""It inherits, so that a rescue can go on where the owner's code has switched roles: it has only the owner's rights."""
_LEFT: Final = (
    "SELECT rolname FROM pg_roles WHERE rolname ~ '^backout_rescue_[0-9a-f]{12}$' AND rolvaliduntil < clock_timestamp()"
)
_ME: Final = "SELECT rolsuper, rolsuper OR rolcreaterole, session_user::text FROM pg_roles WHERE rolname = session_user"
_OWNER: Final = """
SELECT rolsuper, CASE WHEN current_setting('server_version_num')::int >= 160000 THEN pg_has_role(oid, 'SET')
  ELSE pg_has_role(oid, 'MEMBER') END FROM pg_roles WHERE rolname = %s
"""
_PATH: Final = """
SELECT coalesce((SELECT substr(setting, length('search_path=') + 1)
  FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) AS setting
  WHERE (r.rolname = %s OR s.setrole = 0) AND setting LIKE 'search_path=%%'
  AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
  ORDER BY s.setrole = 0, s.setdatabase = 0 LIMIT 1), '"$user", public')
"""
"""An owner's search path: of the role in this database, else of the role, else of the database, else Postgres's."""
_PRELOADS: Final = """
SELECT EXISTS (SELECT 1 FROM pg_db_role_setting s, unnest(s.setconfig) AS setting
  WHERE split_part(setting, '=', 1) IN ('session_preload_libraries', 'event_triggers')
  AND s.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = %s))
  AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())))
"""
"""Whether sessions of a role begin with what only a superuser may set, so that no other role can override it."""
OWNER_INSIDE: Final = "-c local_preload_libraries="
"""The options of an owner's session with a side instance, see `make_inside_dsn`."""
_WORD: Final = re.compile(r'"(?:[^"]|"")+"|[a-z_][a-z0-9_$]*')
_STRANGE_TRIGGERS: Final = """
SELECT e.evtname FROM pg_event_trigger e JOIN pg_proc p ON p.oid = e.evtfoid JOIN pg_roles r ON r.oid = p.proowner
WHERE e.evtenabled <> 'D' AND NOT r.rolsuper ORDER BY 1
"""
_CAN_SWITCH_TRIGGERS_OFF: Final = 170000


class OwnerSessions:
    """The sessions with the live database: the administrator's, and one for each owner whose tables are written.

    Args:
        url: the administrator's connection string.
        open_until: closes them all, and drops what they needed.
    """

    def __init__(self, url: str, database: str, open_until: ExitStack, *, lock_timeout_s: float) -> None:
        self._url = url
        self._database = database
        self._stack = open_until
        self._lock_timeout_s = lock_timeout_s
        self._owners: dict[str, Any] = {}
        self.administrator = self._open_session(url)
        me: Any = self.administrator.execute(_ME).fetchone()
        self._is_superuser, self._makes_roles, self._user = bool(me[0]), bool(me[1]), str(me[2])
        if self._is_superuser:
            self._still_event_triggers()
            self._drop_what_was_left()

    def of(self, owner: str) -> psycopg.Connection[Any]:
        """Return the session in which the tables of an owner are read and written.

        Raises:
            Refused: no other login is let in than a superuser's.
        """
        if owner not in self._owners:
            self._owners[owner] = session = self._make_session(owner)
            if session is not self.administrator:
                session.execute(_set_role(owner))
                self._take_path(session, owner)
        session = self._owners[owner]
        if session is not self.administrator:  # the owner's code may have left the role
            session.execute(_set_role(owner))
        return session  # type: ignore[no-any-return]

    def runs_superusers_code(self, owner: str) -> bool:
        """Whether that session is a superuser's, so that it must not run another role's code."""
        return bool(self._is_superuser) and self.of(owner) is self.administrator

    def _take_path(self, session: Any, owner: str) -> None:
        """Let an owner's functions find unqualified names as in the owner's own sessions, after Postgres's own names.

        A CHECK may call one; only the owner is at risk from what lies in those schemas.
        """
        (path,) = self.administrator.execute(_PATH, (owner,)).fetchone() or ("",)
        words = [word.strip() for word in str(path).split(",")]
        words = [word for word in words if word not in ("", "pg_catalog", "pg_temp")]
        if all(_WORD.fullmatch(word) for word in words):
            setattr(session, PATH, ", ".join(["pg_catalog", *words, "pg_temp"]))
            session.execute(f"SET SESSION search_path = {getattr(session, PATH)}".encode())

    def _make_session(self, owner: str) -> Any:
        (is_superuser, member) = self.administrator.execute(_OWNER, (owner,)).fetchone() or (False, False)
        if is_superuser or owner == self._user or not member:
            return self.administrator
        return self._log_in(owner) if self._makes_roles else self._open_session(self._url)

    def _log_in(self, owner: str) -> Any:
        import psycopg

        try:
            url = self._stack.enter_context(_login_as(self.administrator, self._url, owner))
        except psycopg.errors.InsufficientPrivilege:  # the role may create roles, but not grant this one
            return self._open_session(self._url)
        return self._open_session(url, owner)

    def _open_session(self, url: str, owner: str = "") -> psycopg.Connection[Any]:
        import psycopg

        try:
            made = open_working(url, dbname=self._database, lock_timeout_s=self._lock_timeout_s)
        except psycopg.OperationalError:
            if not owner:
                raise
            raise Refused(
                f"rows of {owner} are never written as a superuser, and no role made for it can log in",
                where="database",
                options=(
                    f"Name a role that is a member of {owner}, and no superuser, in database.admin_url_env.",
                    "Or let roles named backout_rescue_... in: a line in pg_hba.conf.",
                ),
            ) from None
        return self._stack.enter_context(made)

    def _still_event_triggers(self) -> None:
        """Switch off event triggers, which run the application's code as the role that executes a DDL command."""
        found = [str(name) for (name,) in self.administrator.execute(_STRANGE_TRIGGERS)]
        if not found:
            return
        if self.administrator.info.server_version < _CAN_SWITCH_TRIGGERS_OFF:
            raise Refused(
                f"event triggers would run a function that does not belong to a superuser: {', '.join(found)}",
                where="database",
                options=tuple(f"ALTER EVENT TRIGGER {name} DISABLE;  -- and enable it afterwards" for name in found),
            )
        self.administrator.execute(b"SET SESSION event_triggers = off")

    def _drop_what_was_left(self) -> None:
        for (name,) in self.administrator.execute(_LEFT).fetchall():
            _drop(self.administrator, str(name))


@contextmanager
def _login_as(administrator: Any, url: str, owner: str) -> Iterator[str]:
    """Yield a connection string for a role made for the time being that may be `owner`, and nothing else."""
    role = make_role(administrator, "rescue", _ATTRIBUTES, member_of=owner)
    try:
        yield role.login(url)
    finally:
        _drop(administrator, role.name)


def _drop(administrator: Any, role: str) -> None:
    """Drop a role of ours, and what was made in its name; what cannot be dropped now is dropped by the next rescue."""
    import psycopg
    from psycopg import sql

    for words in ("DROP OWNED BY {}", "DROP ROLE {}"):
        with suppress(psycopg.Error):
            administrator.execute(sql.SQL(words).format(sql.Identifier(role)))


def _set_role(owner: str) -> Any:
    from psycopg import sql

    return sql.SQL("SET SESSION ROLE {}").format(sql.Identifier(owner))


def make_inside_dsn(dsn: str) -> str:
    """Return the superuser's connection string of a side instance for our sessions, which preload no library.

    ALTER DATABASE and ALTER ROLE outdo the command line of the server: what they name would run in the copy, or keep it
    shut where it is not installed here. That of a server elsewhere is returned as it is.
    """
    is_ours = dsn.startswith("host=/")
    return f"{dsn} options='-c session_preload_libraries= {OWNER_INSIDE}'" if is_ours else dsn


class SideSessions:
    """The sessions with one side instance: that of the connection string, and those of owners where they are let in.

    A side instance of ours admits every connection to its socket. An owner without LOGIN is let in there, because the
    instance is a copy; while it is a standby, the owner's tables are read only where none of the owner's code runs.
    """

    def __init__(self, opened: Callable[[str], Any]) -> None:
        """Args: opened: returns the session of a user, "" for the connection string's; raises psycopg.Error."""
        self._open = opened
        self.main = opened("")
        (self._is_superuser, _, self._user) = self.main.execute(_ME).fetchone()
        self._owners: dict[str, Any] = {}

    def of(self, owner: str) -> Any:
        """Return the session in which the tables of an owner are read."""
        if owner not in self._owners:
            self._owners[owner] = self._make_session(owner)
        return self._owners[owner]

    def runs_superusers_code(self, owner: str) -> bool:
        """Whether that session is a superuser's, so that it must not run another role's code."""
        return bool(self._is_superuser) and self.of(owner) is self.main

    def _make_session(self, owner: str) -> Any:
        import psycopg

        (is_superuser, _) = self.main.execute(_OWNER, (owner,)).fetchone() or (False, False)
        if not self._is_superuser or is_superuser or owner == self._user:
            return self.main
        (preloads,) = self.main.execute(_PRELOADS, (owner,)).fetchone() or (True,)
        if preloads:
            return self.main
        try:
            return self._open(owner)
        except psycopg.OperationalError:
            pass
        try:
            self._let_in(owner)
            return self._open(owner)
        except psycopg.Error:
            return self.main

    def _let_in(self, owner: str) -> None:
        """Let an owner without LOGIN log in, only in this copy, which is removed in the end."""
        from psycopg import sql

        with self.main.transaction():
            self.main.execute("SET TRANSACTION READ WRITE")
            self.main.execute(sql.SQL("ALTER ROLE {} LOGIN").format(sql.Identifier(owner)))
