"""Whether a query on a table would run the application's code in a session with more rights than the table's owner.

Postgres evaluates more than a query names: while it *plans* one, the expressions and predicates of the table's indexes
and of its statistics, as the role that asks. So a table is read only by COPY (`history`), or where that is too little
(`xmin` is no column of COPY), when nothing that hangs on it is code that its owner could have written. The lock keeps
CREATE INDEX, CREATE STATISTICS and ALTER TABLE out until the transaction is over.

Code counts as the application's when its owner is no superuser: the owner of a function may replace it at any time.

Source: PostgreSQL 18, "pg_depend" (an expression's functions, operators and types are written there, those of Postgres
itself are not), "Explicit Locking" (SHARE UPDATE EXCLUSIVE), src/backend/optimizer/util/plancat.c.
"""

# ruff: noqa: S608 - put together out of our own words, and names that are quoted

from __future__ import annotations

from typing import Final

_READ: Final = """
  SELECT 'pg_class'::regclass AS classid, indexrelid AS objid FROM pg_index WHERE indrelid = {table}
  UNION ALL SELECT 'pg_statistic_ext'::regclass, oid FROM pg_statistic_ext WHERE stxrelid = {table}
"""
_WRITTEN: Final = """
  UNION ALL SELECT 'pg_constraint'::regclass, oid FROM pg_constraint WHERE conrelid = {table}
  UNION ALL SELECT 'pg_attrdef'::regclass, oid FROM pg_attrdef WHERE adrelid = {table}
  UNION ALL SELECT 'pg_policy'::regclass, oid FROM pg_policy WHERE polrelid = {table}
"""
_FOREIGN_CODE: Final = """
SELECT string_agg(DISTINCT what, ', ') FROM (
  SELECT 'rule ' || rulename AS what FROM pg_rewrite WHERE ev_class = {table}
  UNION ALL SELECT 'what it is made of' FROM pg_class WHERE oid = {table} AND relkind NOT IN ('r', 'p')
  UNION ALL
  SELECT coalesce('function ' || p.oid::regprocedure::text, 'operator ' || o.oid::regoperator::text,
    'type ' || format_type(t.oid, NULL))
  FROM ({parts}) AS parts JOIN pg_depend AS d ON d.classid = parts.classid AND d.objid = parts.objid
  LEFT JOIN pg_proc AS p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
  LEFT JOIN pg_operator AS o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
  LEFT JOIN pg_type AS t ON d.refclassid = 'pg_type'::regclass AND t.oid = d.refobjid AND t.typtype <> 'e'
  JOIN pg_roles AS r ON r.oid = coalesce(p.proowner, o.oprowner, t.typowner) AND NOT r.rolsuper
  UNION ALL
  SELECT format('type %s of column %s', format_type(t.oid, NULL), a.attname)
  FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid JOIN pg_roles AS r ON r.oid = t.typowner
  WHERE a.attrelid = {table} AND a.attnum > 0 AND NOT a.attisdropped AND NOT r.rolsuper AND {types}
) AS found
"""
POWER: Final = (
    "(SELECT rolsuper OR rolcreaterole OR rolbypassrls OR rolreplication FROM pg_roles WHERE rolname = session_user)"
)
"""Whether the session may do more than another role's code should."""


def write_foreign_code(table: str, *, written: bool = False, every_type: bool = True) -> str:
    """Return the query for the application's code that a statement on a table may run, NULL for none.

    Args:
        table: SQL for its oid.
        written: whether the statement writes.
        every_type: whether operators are applied to all of its columns, so that each type must be Postgres's own; else
            domains alone count where it writes.
    """
    parts = _READ + (_WRITTEN if written else "")
    types = "true" if every_type else "t.typtype IN ('d', 'c', 'r', 'm')" if written else "false"
    return _FOREIGN_CODE.format(table=table, parts=parts.format(table=table), types=types)


def make_lock_statement(relation: str) -> str:
    """Return the statement that keeps a table as it is until the transaction ends; waiting is the lock_timeout's."""
    return f"LOCK TABLE ONLY {relation} IN SHARE UPDATE EXCLUSIVE MODE"


def refuse_foreign_code(relation: str, *, only_weak: bool = False) -> str:
    """Return a query that fails, and with it its transaction, where reading a table would run the application's code.

    Args:
        relation: how the transaction names the table.
        only_weak: it is not locked, so only a session may pass whose role has nothing to lose from such code.
    """
    table = f"'{relation}'::regclass"
    if only_weak:
        return f"SELECT CASE WHEN {POWER} THEN 'the session is an administrator'::text::int ELSE 0 END"
    owner = f"(SELECT r.rolsuper FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE c.oid = {table})"
    return (
        f"SELECT CASE WHEN {owner} OR why IS NULL THEN 0 ELSE ('it runs ' || why)::int END "
        f"FROM ({write_foreign_code(table)}) AS found(why)"
    )
