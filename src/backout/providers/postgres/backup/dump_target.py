"""Whether a dump may be restored into a named database, which must be empty, and by which role."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from backout.errors import Refused
from backout.providers.postgres.backup.plain_role import Power, quietly, read_power
from backout.providers.postgres.server.session import open_asking

if TYPE_CHECKING:
    import psycopg

    from backout.model.database.dump import Dump

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
_OWNER_HINT: Final = "CREATE ROLE restorer LOGIN PASSWORD ...; CREATE DATABASE restored OWNER restorer;  -- its URL"


def check_target(dump: Dump, target: psycopg.Connection[Any]) -> None:
    """Raise Refused for a database that holds anything, an older server, or a role that reaches the server's files."""
    with quietly(target):
        there = [str(row[0]) for row in target.execute(_OBJECTS).fetchall()]
    if there:
        raise Refused(
            f"the database {target.info.dbname} is not empty: {', '.join(there)}",
            where="the target",
            hint="CREATE DATABASE restored;  -- and restore into that",
        )
    if target.info.server_version // 10_000 < dump.server_version // 10_000:
        raise Refused("the target's server is older than the one that was dumped", where="the target")
    if read_power(target) is Power.FILES:
        what = "the target's role may use the server's files and programs, and so could anything in the dump"
        raise Refused(what, where="the target", hint=_OWNER_HINT)


def check_login(plain: str) -> None:
    """Raise Refused where a superuser is let in and a new role is not."""
    import psycopg

    try:
        open_asking(plain).close()
    except psycopg.OperationalError:
        what = "the target's role is a superuser, which must not run what is in a dump, and no other role can log in"
        raise Refused(what, where="the target", hint=_OWNER_HINT) from None
