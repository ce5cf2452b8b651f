"""Changes on a server to receive its WAL: a physical slot, and (synchronous mode) the standby that commits wait for.

Source: PostgreSQL 18, "Replication Slots", max_slot_wal_keep_size, synchronous_standby_names; ALTER SYSTEM needs a
superuser or `GRANT ALTER SYSTEM ON PARAMETER`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from backout.errors import AuthError, Refused
from backout.model.database.wal import parse_lsn
from backout.model.value import Value
from backout.providers.postgres.server.session import open_working
from backout.providers.postgres.tls.dsn import make_connection_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import psycopg

    from backout.model.database.backups import Cluster

_TIMEOUT_S: Final = 5.0
_VIEW: Final = """
SELECT current_setting('synchronous_standby_names'), pg_current_wal_flush_lsn()::text, r.state, r.flush_lsn::text
FROM (SELECT 1) AS one LEFT JOIN pg_stat_replication r ON r.application_name = %s AND r.state = 'streaming' LIMIT 1
"""


class SyncView(Value, frozen=True):
    """What commits wait for now: names, the end of the server's WAL, and the receiver's confirmed position or None."""

    names: str
    lsn: int
    confirmed: int | None


class Replication:
    """One connection that is kept open, so that it is available when all others wait for a commit.

    Every method raises AuthError, or ProviderUnavailable when the server does not answer; the next call connects anew.
    """

    def __init__(self, url: Callable[[], str], slot: str) -> None:
        self._url = url
        self._slot = slot
        self._connection: psycopg.Connection | None = None

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.close()
            self._connection = None

    def ensure_slot(self) -> bool:
        """Make the slot, reserving WAL from now on, unless it is there; return whether it was made."""
        if self._rows("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s", (self._slot,)):
            return False
        self._rows("SELECT pg_create_physical_replication_slot(%s, true)", (self._slot,))
        return True

    def drop_slot(self) -> bool:
        """Drop the slot, even while it is in use; return whether there was one."""
        found = self._rows("SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s", (self._slot,))
        if found and found[0][0] is not None:
            # Waits up to 5 s until it is gone: a slot in use cannot be dropped.
            self._rows("SELECT pg_terminate_backend(%s, 4000)", (found[0][0],))
        if found:
            self._rows("SELECT pg_drop_replication_slot(%s)", (self._slot,))
        return bool(found)

    def restart_lsn(self) -> int | None:
        """Return the first position that the slot still keeps."""
        found = self._rows("SELECT restart_lsn::text FROM pg_replication_slots WHERE slot_name = %s", (self._slot,))
        return parse_lsn(str(found[0][0])) if found and found[0][0] else None

    def view(self) -> SyncView:
        """Return what commits wait for."""
        names, lsn, _, confirmed = self._rows(_VIEW, (self._slot,))[0]
        return SyncView(str(names), parse_lsn(str(lsn)), parse_lsn(str(confirmed)) if confirmed else None)

    def wait_for_receiver(self, *, wait: bool) -> None:
        """Let commits wait for the receiver, or no longer; then the server's own setting applies again.

        Raises:
            AuthError: the role may not change it, with the line that allows it.
        """
        name = "synchronous_standby_names"
        change = f"ALTER SYSTEM SET {name} = '{self._slot}'" if wait else f"ALTER SYSTEM RESET {name}"
        self._rows(change)
        self._rows("SELECT pg_reload_conf()")

    def _rows(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        import psycopg

        url = self._url()
        try:
            if self._connection is None or self._connection.closed:
                self._connection = open_working(
                    url,
                    statement_timeout_s=_TIMEOUT_S,
                    settings={"synchronous_commit": "local"},
                    application_name="backout",
                )
            cursor = self._connection.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []
        except psycopg.errors.InsufficientPrivilege as error:
            hint = (
                "GRANT ALTER SYSTEM ON PARAMETER synchronous_standby_names TO role; "
                "GRANT EXECUTE ON FUNCTION pg_reload_conf() TO role"
                if "ALTER SYSTEM" in statement or "reload" in statement
                else "ALTER ROLE ... REPLICATION"
            )
            raise AuthError(
                f"the role lacks a right: {str(error).splitlines()[0]}", where="database", hint=hint
            ) from None
        except psycopg.Error as error:
            self.close()
            raise make_connection_error(error, url, "the state of replication") from None


def check_receivable(cluster: Cluster, *, sync: bool, slot: str) -> None:
    """Refuse what could stop production.

    Raises:
        AuthError: the role lacks REPLICATION.
        Refused: a slot could fill the server's disk, or commits already wait for another standby.
    """
    if not cluster.replication:
        raise AuthError(
            "the role may not receive WAL: it lacks REPLICATION",
            where="database",
            hint="backout db roles backup  # a role that may; its connection string goes into database.admin_url_env",
        )
    if cluster.slot_limit_bytes is None:
        raise Refused(
            "max_slot_wal_keep_size is not set: if the receiver stopped, WAL would fill the server's disk",
            where="database",
            rule="backups must not kill production",
            options=(
                "Type at the database: ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf();",
            ),
        )
    if sync and cluster.sync_names not in {"", slot}:
        raise Refused(
            f"synchronous_standby_names is {cluster.sync_names!r} already, and it is not backout's",
            where="database",
            options=('Receive without waiting: backup.wal = "stream".', "Or reset synchronous_standby_names first."),
        )
