"""Port ServerCheck: a role's view of its server, each question in a transaction of its own.

A question that is refused is "not readable", with the server's words; the others go on. Nothing is changed.
Source: PostgreSQL 18: pg_roles, pg_settings (hides what the role may not see), pg_stat_archiver, pg_replication_slots,
pg_available_extensions, "Streaming Replication Protocol" (IDENTIFY_SYSTEM). A pooler hands out a process id of its own
at the login, which is how one is noticed that says nothing.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from backout.model.database.capability import Archiver, Pooler, Replication, ServerFacts, Slot
from backout.providers.postgres.server.pinned import begin_reading
from backout.providers.postgres.server.session import open_asking
from backout.providers.postgres.tls.access import needs_proof, parse_dsn
from backout.providers.postgres.tls.dsn import drop_secrets, make_connection_error

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

SETTINGS: Final = (
    "wal_level", "summarize_wal", "max_wal_senders", "max_replication_slots", "max_slot_wal_keep_size",
    "track_commit_timestamp", "archive_mode", "archive_library", "wal_keep_size", "max_connections", "fsync",
    "full_page_writes", "synchronous_standby_names", "data_checksums",
)  # fmt: skip
EXTENSIONS: Final = (
    "pg_walinspect", "pg_stat_statements", "postgres_fdw", "amcheck", "pageinspect", "vector", "dblink",
)  # fmt: skip
_ROLES: Final = ("pg_read_all_data", "pg_read_all_settings", "pg_read_all_stats", "pg_monitor", "pg_checkpoint")
_ATTRIBUTES: Final = (
    "SELECT rolsuper, rolreplication, rolcreaterole, rolcreatedb, rolbypassrls "
    "FROM pg_roles WHERE rolname = current_user"
)
_ARCHIVER: Final = (
    "SELECT archived_count, failed_count, coalesce(last_archived_wal, ''), "
    "extract(epoch FROM last_archived_time)::float8, coalesce(last_failed_wal, ''), "
    "extract(epoch FROM last_failed_time)::float8 FROM pg_stat_archiver"
)
_SLOTS: Final = (
    "SELECT slot_name::text, slot_type, active, pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN "
    "pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END, restart_lsn)::bigint, coalesce(wal_status, '') "
    "FROM pg_replication_slots ORDER BY slot_name"
)
_HOSTS: Final = (
    ("-pooler.", "Neon's pooler"),
    (".pooler.supabase.com", "Supabase's pooler"),
    ("hyperdrive", "Hyperdrive"),
)
_TRANSACTION_PORT: Final = "6543"


class PostgresCheck:
    """Asks a server through one connection, and through a second one in replication mode.

    Args:
        url: returns the connection string; it is never shown.
    """

    def __init__(
        self, url: Callable[[], str], *, connect_timeout_s: float = 5.0, statement_timeout_s: float = 5.0
    ) -> None:
        self._url = url
        self._connect_timeout_s = max(2, round(connect_timeout_s))
        self._statement_timeout_ms = round(statement_timeout_s * 1000)

    def read(self) -> ServerFacts:
        """Return what the role sees. Raises AuthError, ProviderUnavailable when there is no connection."""
        import psycopg

        url = self._url()
        parameters = parse_dsn(url)
        try:
            connection = open_asking(url, connect_timeout_s=self._connect_timeout_s, application_name="backout")
        except (psycopg.Error, UnicodeError) as error:
            raise make_connection_error(error, url, "the server") from None  # its text may quote the connection string
        with connection:
            return _Reading(connection, url, parameters, self._statement_timeout_ms).facts(self._replication)

    def _replication(self, url: str) -> Replication:
        """Try what a base backup begins with."""
        import psycopg

        try:
            with open_asking(url, connect_timeout_s=self._connect_timeout_s, replication="true") as connection:
                result = connection.pgconn.exec_(b"IDENTIFY_SYSTEM")
                if result.status == psycopg.pq.ExecStatus.TUPLES_OK:
                    return Replication(granted=True)
                return Replication(granted=False, why=_hide_url(url, result.get_error_message()))
        except (psycopg.Error, UnicodeError) as error:
            text = _hide_url(url, str(error))
            _, refused, said = text.partition("FATAL: ")
            return Replication(granted=False if refused else None, why=said.strip() or text)


class _Reading:
    """One look at a server."""

    def __init__(
        self, connection: psycopg.Connection[Any], url: str, parameters: dict[str, str], timeout_ms: int
    ) -> None:
        self._connection = connection
        self._url = url
        self._parameters = parameters
        self._timeout_ms = timeout_ms
        self._unreadable: list[tuple[str, str]] = []

    def facts(self, replication: Callable[[str], Replication]) -> ServerFacts:
        """Return it all."""
        info = self._connection.info
        pooler = self._pooler()
        tls = self._tls(pooled=bool(pooler.name))
        basics = self._one("recovery", "SELECT pg_is_in_recovery()")
        identity = self._one("system identifier", "SELECT system_identifier::text FROM pg_control_system()")
        size = self._one("size", "SELECT pg_database_size(current_database())")
        return ServerFacts(
            user=info.user,
            database=info.dbname,
            server_version=info.server_version,
            tls=tls,
            tls_verified=bool(tls) and needs_proof(self._parameters),
            in_recovery=None if basics is None else bool(basics[0]),
            system_identifier=None if identity is None else str(identity[0]),
            size_bytes=None if size is None else int(size[0]),
            privileges=self._privileges(),
            settings=self._settings(),
            extensions=self._extensions(),
            archiver=self._archiver(),
            slots=self._slots(),
            pooler=pooler,
            replication=replication(self._url),
            unreadable=tuple(self._unreadable),
        )

    def _rows(self, what: str, query: str, *values: object) -> list[tuple[Any, ...]] | None:
        """Return a question's rows, or None (and remember why) when the server does not answer it."""
        import psycopg

        try:
            self._connection.execute(begin_reading(self._timeout_ms).encode())
            rows = self._connection.execute(query.encode(), values or None).fetchall()
            self._connection.execute(b"COMMIT")
        except psycopg.Error as error:
            with contextlib.suppress(psycopg.Error):
                self._connection.execute(b"ROLLBACK")
            self._unreadable.append((what, _hide_url(self._url, str(error))))
            return None
        return rows

    def _one(self, what: str, query: str, *values: object) -> tuple[Any, ...] | None:
        rows = self._rows(what, query, *values)
        return rows[0] if rows else None

    def _pooler(self) -> Pooler:
        host = self._parameters.get("host", "")
        name = next((name for part, name in _HOSTS if part in host), "")
        found = [self._one("process", "SELECT pg_backend_pid()") for _ in range(2)]
        pids = {row[0] for row in found if row is not None}
        told = self._connection.info.backend_pid
        moved = len(pids) > 1
        by_name = name in ("Neon's pooler", "Hyperdrive") or self._parameters.get("port") == _TRANSACTION_PORT
        if pids and (moved or told not in pids):
            why = f"the login named process {told}, statements run in {', '.join(map(str, sorted(pids)))}"
            return Pooler(name or "a pooler", transactions=moved or by_name, why=why)
        return Pooler(name, transactions=by_name, why="by the name of the host") if name else Pooler()

    def _tls(self, *, pooled: bool) -> str:
        if not self._connection.pgconn.ssl_in_use:
            return ""
        if pooled:
            return "TLS"  # pg_stat_ssl shows the pooler's own connection
        row = self._one("TLS", "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        return str(row[0] or "TLS") if row else "TLS"

    def _privileges(self) -> dict[str, bool]:
        names = ("superuser", "replication", "create role", "create database", "bypass row security")
        row = self._one("role", _ATTRIBUTES)
        found = dict(zip(names, map(bool, row), strict=True)) if row else {}
        query = "SELECT rolname, pg_has_role(current_user, oid, 'USAGE') FROM pg_roles WHERE rolname = ANY(%s)"
        found.update({str(name): bool(has) for name, has in self._rows("memberships", query, list(_ROLES)) or ()})
        may = self._one("privileges", "SELECT has_database_privilege(current_database(), 'CREATE')")
        if may is not None:
            found["create extension"] = bool(may[0])
        point = "SELECT has_function_privilege('pg_create_restore_point(text)', 'EXECUTE')"
        if (may := self._one("restore points", point)) is not None:
            found["create restore point"] = bool(may[0])
        return found

    def _settings(self) -> dict[str, str]:
        query = "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s)"
        return {str(name): str(value) for name, value in self._rows("settings", query, list(SETTINGS)) or ()}

    def _extensions(self) -> dict[str, str] | None:
        query = "SELECT name, coalesce(installed_version, '') FROM pg_available_extensions WHERE name = ANY(%s)"
        rows = self._rows("extensions", query, list(EXTENSIONS))
        return None if rows is None else {str(name): str(version) for name, version in rows}

    def _archiver(self) -> Archiver | None:
        row = self._one("archiver", _ARCHIVER)
        return None if row is None else Archiver(*row)

    def _slots(self) -> tuple[Slot, ...] | None:
        rows = self._rows("replication slots", _SLOTS)
        return None if rows is None else tuple(Slot(*row) for row in rows)


def _hide_url(url: str, text: str) -> str:
    with contextlib.suppress(ValueError):
        text = drop_secrets(url, text)
    return " ".join(text.split())[:300]
