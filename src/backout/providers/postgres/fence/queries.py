"""What is asked of a server for the survey of a fence; every name is one of pg_catalog's.

Source: PostgreSQL 18, pg_roles, pg_shdepend (what a role owns or was granted, in every database of the cluster),
pg_has_role ('MEMBER': directly or not, whatever it inherits), "System Information Functions" (has_*_privilege),
pg_prepared_xacts, pg_subscription, pg_stat_activity (without pg_read_all_stats the kind of another role's session is
hidden, and autovacuum's sessions are those without a role).
"""

from __future__ import annotations

from typing import Final

ME: Final = """
SELECT d.datname::text, d.oid::bigint, session_user::text, r.rolsuper, r.rolcreaterole,
  current_setting('server_version_num')::int, pg_is_in_recovery(),
  has_function_privilege('pg_read_binary_file(text, bigint, bigint)', 'EXECUTE'),
  r.rolsuper OR EXISTS (SELECT FROM pg_roles AS s WHERE s.rolname = 'pg_signal_backend'
    AND pg_has_role(r.oid, s.oid, 'USAGE')),
  coalesce(current_setting('cron.database_name', true), '')
FROM pg_database AS d, pg_roles AS r WHERE d.datname = current_database() AND r.rolname = session_user
"""
ROLES: Final = """
SELECT r.oid::bigint, r.rolname::text, r.rolcanlogin, r.rolconnlimit, r.rolsuper,
  has_database_privilege(r.oid, d.oid, 'CONNECT'),
  NOT EXISTS (SELECT FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS a
    WHERE a.privilege_type = 'CONNECT' AND a.grantee <> 0 AND pg_has_role(r.oid, a.grantee, 'USAGE')),
  EXISTS (SELECT FROM pg_roles AS me WHERE me.rolname = session_user AND (me.rolsuper OR me.rolcreaterole AND
    CASE WHEN current_setting('server_version_num')::int >= 160000
    THEN pg_has_role(me.oid, r.oid, 'MEMBER WITH ADMIN OPTION') ELSE true END)),
  coalesce((SELECT m.rolname::text FROM pg_roles AS m WHERE m.rolname = ANY (%(vendors)s)
    AND pg_has_role(r.oid, m.oid, 'MEMBER') ORDER BY 1 LIMIT 1), ''),
  shobj_description(r.oid, 'pg_authid')
FROM pg_roles AS r, pg_database AS d WHERE d.datname = current_database()
  AND (r.rolcanlogin OR r.rolname = ANY (%(planned)s)
    OR starts_with(shobj_description(r.oid, 'pg_authid'), %(prefix)s))
ORDER BY r.rolname
"""
MEMBERSHIPS: Final = """
SELECT r.oid::bigint, p.oid::bigint, p.rolname::text, p.rolsuper FROM pg_roles AS r, pg_roles AS p
WHERE r.rolcanlogin AND NOT r.rolsuper AND pg_has_role(r.oid, p.oid, 'MEMBER') ORDER BY r.oid <> p.oid, p.rolname
"""
_OURS: Final = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
POWERS: Final = f"""
SELECT p.oid::bigint, coalesce(
  (SELECT 'owns the database' FROM pg_database AS d WHERE d.datname = current_database() AND d.datdba = p.oid),
  (SELECT 'may write all data' FROM pg_roles AS w WHERE w.rolname = 'pg_write_all_data'
    AND pg_has_role(p.oid, w.oid, 'MEMBER') LIMIT 1),
  (SELECT 'owns ' || n.nspname || '.' || c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relowner = p.oid AND {_OURS} ORDER BY c.oid LIMIT 1),
  (SELECT 'may write to ' || n.nspname || '.' || c.relname FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'f') AND {_OURS} AND has_schema_privilege(p.oid, n.oid, 'USAGE')
    AND (has_table_privilege(p.oid, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
      OR has_any_column_privilege(p.oid, c.oid, 'INSERT, UPDATE')) ORDER BY c.oid LIMIT 1),
  (SELECT 'may advance ' || n.nspname || '.' || c.relname FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind = 'S' AND {_OURS} AND has_schema_privilege(p.oid, n.oid, 'USAGE')
    AND CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(p.oid, c.oid, 'USAGE, UPDATE') END
    ORDER BY c.oid LIMIT 1),
  (SELECT 'may create in schema ' || n.nspname FROM pg_namespace AS n
    WHERE {_OURS} AND has_schema_privilege(p.oid, n.oid, 'CREATE') ORDER BY n.oid LIMIT 1),
  (SELECT 'may create schemas' FROM pg_database AS d WHERE d.datname = current_database()
    AND has_database_privilege(p.oid, d.oid, 'CREATE')),
  (SELECT 'may call ' || n.nspname || '.' || f.proname || ', which acts as its owner' FROM pg_proc AS f
    JOIN pg_namespace AS n ON n.oid = f.pronamespace
    WHERE f.prosecdef AND f.proowner <> p.oid AND {_OURS} AND has_schema_privilege(p.oid, n.oid, 'USAGE')
    AND has_function_privilege(p.oid, f.oid, 'EXECUTE') AND NOT EXISTS (SELECT FROM pg_depend AS x
      WHERE x.classid = 'pg_proc'::regclass AND x.objid = f.oid AND x.deptype = 'e') ORDER BY f.oid LIMIT 1)
)
FROM pg_roles AS p WHERE NOT p.rolsuper AND p.rolname !~ '^pg_'
"""  # noqa: S608 - our own words
ELSEWHERE: Final = """
SELECT r.rolname::text, d.datname::text FROM pg_roles AS r, pg_database AS d
WHERE r.rolname = ANY (%(planned)s) AND d.datname <> current_database() AND (d.datdba = r.oid
  OR EXISTS (SELECT FROM pg_shdepend AS s
    WHERE s.dbid = d.oid AND s.refclassid = 'pg_authid'::regclass AND s.refobjid = r.oid)
  OR EXISTS (SELECT FROM pg_stat_activity AS a WHERE a.datid = d.oid AND a.usesysid = r.oid))
ORDER BY 1, 2
"""
STANDBYS: Final = """
SELECT DISTINCT usename::text, coalesce(application_name, '')::text FROM pg_stat_activity
WHERE usename = ANY (%(planned)s) AND datid IS NULL AND backend_type = 'walsender' ORDER BY 1, 2
"""
PREPARED: Final = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database() ORDER BY 1"
SUBSCRIPTIONS: Final = """
SELECT s.subname::text FROM pg_subscription AS s JOIN pg_database AS d ON d.oid = s.subdbid
WHERE d.datname = current_database() AND s.subenabled ORDER BY 1
"""
WORKERS: Final = """
SELECT DISTINCT backend_type FROM pg_stat_activity WHERE datname = current_database() AND usesysid IS NOT NULL
  AND backend_type NOT IN ('client backend', 'parallel worker', 'walsender', 'pg_cron launcher') ORDER BY 1
"""
UNLOGGED: Final = "SELECT EXISTS (SELECT FROM pg_class WHERE relkind IN ('r', 'm') AND relpersistence = 'u')"
OTHERS: Final = """
SELECT pid, coalesce(usename, '')::text FROM pg_stat_activity WHERE datname = current_database()
  AND usesysid IS NOT NULL AND usename <> session_user AND pid <> pg_backend_pid()
  AND coalesce(backend_type, '') NOT IN ('parallel worker', 'pg_cron launcher')
"""
"""Sessions of every role but ours; autovacuum's have none, and a parallel worker ends with its leader.

pg_cron's launcher reads its table and starts the jobs, which are switched off.
"""
JOBS: Final = """
SELECT j.jobid::bigint, j.schedule::text FROM cron.job AS j WHERE j.active AND j.database = %(database)s ORDER BY 1
"""
HAS_CRON: Final = """
SELECT EXISTS (SELECT FROM pg_extension AS e JOIN pg_depend AS x ON x.refclassid = 'pg_extension'::regclass
  AND x.refobjid = e.oid AND x.classid = 'pg_class'::regclass AND x.deptype = 'e'
  JOIN pg_class AS c ON c.oid = x.objid JOIN pg_namespace AS n ON n.oid = c.relnamespace
  WHERE e.extname = 'pg_cron' AND n.nspname = 'cron' AND c.relname = 'job')
"""
"""A table of that name which is not the extension's could run any trigger as us."""
