"""Which role applies migrations: never a superuser where they would run another role's code.

A script fires the triggers of the application and calls its functions, and in a superuser's session they could run any
program: SET ROLE is no boundary, because they may reset it. Where everything that it can meet belongs to superusers,
as on a development machine, it runs no other role's code.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Final

from backout.errors import Refused
from backout.providers.postgres.backup.plain_role import Power, quietly, read_power

if TYPE_CHECKING:
    import psycopg

_SOMEBODY_ELSES: Final = """
WITH tables AS (
  SELECT c.oid, c.relname, c.relowner, c.relkind FROM pg_class AS c
  WHERE c.relnamespace = to_regnamespace(quote_ident(%(schema)s))
), members AS (
  SELECT d.classid, d.objid FROM pg_depend AS d WHERE d.deptype = 'e'
)
SELECT what, r.rolname::text FROM (
  SELECT CASE relname WHEN %(history)s THEN 0 ELSE 1 END AS place, oid::regclass::text AS what, relowner AS owner
  FROM tables WHERE relkind IN ('r', 'p', 'v', 'm', 'f')
  AND NOT EXISTS (SELECT FROM members WHERE classid = 'pg_class'::regclass AND objid = tables.oid)
  UNION ALL SELECT 2, 'function ' || p.oid::regprocedure::text, p.proowner FROM pg_proc AS p
  WHERE (p.pronamespace = to_regnamespace(quote_ident(%(schema)s))
    OR p.oid IN (SELECT t.tgfoid FROM pg_trigger AS t WHERE t.tgrelid IN (SELECT oid FROM tables))
    OR p.oid IN (SELECT e.evtfoid FROM pg_event_trigger AS e WHERE e.evtenabled <> 'D'))
  AND NOT EXISTS (SELECT FROM members WHERE classid = 'pg_proc'::regclass AND objid = p.oid)
) AS found JOIN pg_roles AS r ON r.oid = found.owner AND NOT r.rolsuper AND r.rolname <> session_user
ORDER BY place, what LIMIT 1
"""


def refuse_code_of_others(connection: psycopg.Connection[Any], schema: str, history: str) -> None:
    """Return where migrations of a schema run no code with more power than its owner has.

    Args:
        connection: the one that they will go through.
        history: the table of the history.

    Raises:
        Refused: the login is a superuser, or reaches the server's files, and something there belongs to another role.
    """
    power = read_power(connection)
    if power is Power.NONE:
        return
    with quietly(connection):
        found = connection.execute(_SOMEBODY_ELSES, {"schema": schema, "history": history}).fetchone()
    if found is None:
        return
    what, owner = map(str, found)
    login = "a superuser" if power is Power.SUPERUSER else "a role that may use the server's files and programs"
    names = f"--database {shlex.quote(connection.info.dbname)} --owner {shlex.quote(owner)}"
    raise Refused(
        f"{what} belongs to {owner}, and a migration would run its code as the login of database.url_env: {login}",
        where="Postgres",
        hint=f"backout db roles migrate {names}",
        options=(
            f"a role that applies them as {owner}: run with psql what the line below prints",
            "then let database.url_env name the connection string of that role",
        ),
    )
