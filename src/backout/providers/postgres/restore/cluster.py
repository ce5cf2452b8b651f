"""Port LiveCluster on Postgres: one read-only query that every role may run.

Source: PostgreSQL 18, pg_replication_slots, pg_stat_replication, pg_control_system(). Without pg_monitor a role sees
that another role's replication exists, but not its progress.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.errors import ProviderUnavailable
from backout.model.database.backups import Cluster, Slot, WalStatus
from backout.model.database.wal import parse_lsn
from backout.providers.clock import SystemClock
from backout.providers.postgres.schema.quoting import quote_literal
from backout.providers.postgres.tls.dsn import make_connection_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.ports import Clock

_NOW: Final = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END"
_QUERY: Final = f"""
WITH here AS (SELECT {_NOW} AS lsn)
SELECT c.system_identifier::text,
  CASE WHEN pg_is_in_recovery() THEN k.timeline_id
    ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END::text,
  here.lsn::text, current_setting('server_version_num'),
  (SELECT setting::bigint * CASE unit WHEN 'B' THEN 1 WHEN '8kB' THEN 8192 ELSE 1 END FROM pg_settings
    WHERE name = 'wal_segment_size')::text,
  (SELECT coalesce(sum(pg_database_size(oid)), 0) FROM pg_database
    WHERE has_database_privilege(oid, 'CONNECT'))::text,
  (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user)::text,
  coalesce(current_setting('summarize_wal', true), 'off'),
  (SELECT setting FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
  (SELECT coalesce(string_agg(spcname, ','), '') FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')),
  coalesce(current_setting('synchronous_standby_names', true), ''), current_setting('wal_level'),
  s.slot_name, s.active::text, s.wal_status, s.restart_lsn::text,
  coalesce(pg_wal_lsn_diff(here.lsn, s.restart_lsn), 0)::bigint::text,
  r.flush_lsn::text, extract(epoch FROM r.flush_lag)::text, r.sync_state
FROM here, pg_control_system() c, pg_control_checkpoint() k
LEFT JOIN pg_replication_slots s ON s.slot_name = {{slot}}
LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid
"""  # noqa: S608 nothing of a user's is in it
_MEGABYTE: Final = 1024 * 1024


class PostgresCluster:
    """Port LiveCluster.

    Args:
        url: returns the connection string; it is never shown.
        slot: the name of the WAL receiver's slot.
    """

    def __init__(
        self, url: Callable[[], str], slot: str, *, connect_timeout_s: float = 5.0, clock: Clock | None = None
    ) -> None:
        self._url = url
        self._slot = slot
        self._connect_timeout_s = connect_timeout_s
        self._clock = clock or SystemClock()

    def read(self) -> Cluster:
        """Return the state.

        Raises:
            AuthError: the database refuses the role.
            ProviderUnavailable: it cannot be asked.
        """
        import psycopg

        from backout.providers.postgres.server.session import reading

        url = self._url()
        query = _QUERY.format(slot=quote_literal(self._slot))
        try:
            with reading(url, connect_timeout_s=self._connect_timeout_s, statement_timeout_s=10.0) as connection:
                row = connection.execute(query.encode()).fetchone()
        except (psycopg.Error, UnicodeError) as error:
            raise make_connection_error(
                error, url, "the state of the cluster"
            ) from None  # its text may quote the connection string
        if row is None:
            raise ProviderUnavailable("the state of the cluster cannot be read: no row", where="database")
        return self._cluster([value or "" for value in row])

    def _cluster(self, row: list[str]) -> Cluster:
        system, timeline, lsn, version, segment, size, replication, summarize, limit, spaces, names, level, *slot = row
        limit_mb = int(limit or -1)
        return Cluster(
            at=self._clock.now(),
            system_identifier=system,
            timeline=int(timeline),
            lsn=parse_lsn(lsn),
            server_version=int(version),
            segment_bytes=int(segment),
            size_bytes=int(size),
            replication=replication == "true",
            summarize_wal=summarize == "on",
            slot_limit_bytes=None if limit_mb < 0 else limit_mb * _MEGABYTE,
            tablespaces=tuple(filter(None, spaces.split(","))),
            sync_names=names,
            slot=_make_slot(slot) if slot[0] else None,
            wal_level=level,
        )


def _make_slot(row: list[str]) -> Slot:
    name, active, status, restart, retained, flush, lag, sync = row
    return Slot(
        name=name,
        active=active == "true",
        status=WalStatus(status) if status else None,
        restart_lsn=parse_lsn(restart) if restart else None,
        retained_bytes=int(retained),
        flush_lsn=parse_lsn(flush) if flush else None,
        lag_s=float(lag) if lag else None,
        sync=sync in {"sync", "quorum"},
    )
