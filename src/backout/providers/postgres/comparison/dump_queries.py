"""The content of a dump beside rows, from the catalogs alone: definitions, owners, privileges; our own SQL.

Each definition is (its name, its text), as Postgres itself deparses it. Left out is what an extension brings, what
pg_dump leaves away (invalid indexes) or makes anew under a name of its own (a partition's share of its parent's keys).
Of a column's options those that a person may set are asked for: Debian's 15.20 keeps one of its own beside them.

Source: PostgreSQL 18, "System Catalogs", "System Information Functions" (pg_get_*def, pg_identify_object, aclexplode),
"Default Privileges".
"""

# ruff: noqa: S608 - put together out of our own words

from __future__ import annotations

from typing import Final

_USER: Final = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"


def _exclude_members(catalog: str, oid: str) -> str:
    return (
        f"NOT EXISTS (SELECT 1 FROM pg_depend e WHERE e.classid = '{catalog}'::regclass AND e.objid = {oid} "
        "AND e.deptype = 'e')"
    )


_RELATION: Final = (
    f"pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND {_USER} AND {_exclude_members('pg_class', 'c.oid')}"
)
_ROUTINE: Final = (
    f"pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace AND {_USER} AND {_exclude_members('pg_proc', 'p.oid')}"
)
_TYPE: Final = (
    f"pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace AND {_USER} AND {_exclude_members('pg_type', 't.oid')} "
    "AND t.typtype IN ('d', 'e', 'r')"
)
_OTHERS: Final = (
    "pg_cast", "pg_collation", "pg_conversion", "pg_foreign_data_wrapper", "pg_foreign_server", "pg_opclass",
    "pg_operator", "pg_opfamily", "pg_ts_config", "pg_ts_dict",
)  # fmt: skip
_OWN: Final = 16384
"""The first object id that is not Postgres's own."""

DEFINITIONS: Final = (
    (
        f"SELECT format('schema %I', n.nspname), '' FROM pg_namespace n WHERE {_USER} AND n.nspname <> 'public' "
        f"AND {_exclude_members('pg_namespace', 'n.oid')}"
    ),
    "SELECT format('extension %I', extname), '' FROM pg_extension WHERE extname <> 'plpgsql'",
    (
        "SELECT 'relation ' || c.oid::regclass, ROW(c.relkind, c.relpersistence, c.reloptions, (SELECT o.reloptions "
        "FROM pg_class o WHERE o.oid = c.reltoastrelid), c.relrowsecurity, c.relforcerowsecurity, c.relreplident, "
        "c.relispopulated, pg_get_partkeydef(c.oid), pg_get_expr(c.relpartbound, c.oid), (SELECT amname FROM pg_am "
        "WHERE oid = c.relam), ARRAY(SELECT i.inhparent::regclass::text FROM pg_inherits i WHERE i.inhrelid = c.oid "
        "ORDER BY i.inhseqno), CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END)::text "
        f"FROM {_RELATION} WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')"
    ),
    (
        "SELECT format('column %s.%I', c.oid::regclass, a.attname), ROW(row_number() OVER (PARTITION BY c.oid "
        "ORDER BY a.attnum), format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, "
        "a.attcollation::regcollation, a.attstorage, a.attcompression, a.attstattarget, "
        "ARRAY(SELECT o FROM unnest(a.attoptions) AS o WHERE o ~ '^n_distinct' ORDER BY 1), "
        f"pg_get_expr(d.adbin, d.adrelid))::text FROM {_RELATION} JOIN pg_attribute a ON a.attrelid = c.oid "
        "AND a.attnum > 0 AND NOT a.attisdropped LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum "
        "WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')"
    ),
    (
        "SELECT format('constraint %I of %s', o.conname, c.oid::regclass), ROW(pg_get_constraintdef(o.oid), "
        f"o.convalidated)::text FROM {_RELATION} JOIN pg_constraint o ON o.conrelid = c.oid AND o.conparentid = 0 "
        "AND o.contype NOT IN ('n', 't')"
    ),
    (
        "SELECT format('constraint %I of domain %s', o.conname, t.oid::regtype), ROW(pg_get_constraintdef(o.oid), "
        f"o.convalidated)::text FROM {_TYPE} JOIN pg_constraint o ON o.contypid = t.oid AND o.contype <> 'n'"
    ),
    (
        "SELECT 'index ' || i.indexrelid::regclass, ROW(pg_get_indexdef(i.indexrelid), i.indisclustered, "
        f"i.indisreplident)::text FROM {_RELATION} JOIN pg_index i ON i.indrelid = c.oid AND i.indisvalid"
    ),
    (
        "SELECT format('trigger %I of %s', g.tgname, c.oid::regclass), ROW(pg_get_triggerdef(g.oid), "
        "g.tgenabled)::text "
        f"FROM {_RELATION} JOIN pg_trigger g ON g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgparentid = 0"
    ),
    (
        "SELECT format('rule %I of %s', r.rulename, c.oid::regclass), ROW(pg_get_ruledef(r.oid), r.ev_enabled)::text "
        f"FROM {_RELATION} JOIN pg_rewrite r ON r.ev_class = c.oid AND r.rulename <> '_RETURN'"
    ),
    (
        "SELECT format('policy %I of %s', l.polname, c.oid::regclass), ROW(l.polcmd, l.polpermissive, ARRAY(SELECT "
        "coalesce(nullif(q.r, 0)::regrole::text, 'public') FROM unnest(l.polroles) AS q(r) ORDER BY 1), "
        f"pg_get_expr(l.polqual, l.polrelid), pg_get_expr(l.polwithcheck, l.polrelid))::text FROM {_RELATION} "
        "JOIN pg_policy l ON l.polrelid = c.oid"
    ),
    (
        f"SELECT format('statistics %I.%I', n.nspname, s.stxname), pg_get_statisticsobjdef(s.oid) "
        f"FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE {_USER} "
        f"AND {_exclude_members('pg_statistic_ext', 's.oid')}"
    ),
    (
        "SELECT 'sequence ' || c.oid::regclass, ROW(s.seqtypid::regtype, s.seqstart, s.seqincrement, "
        "s.seqmax, s.seqmin, "
        "s.seqcache, s.seqcycle, (SELECT ROW(d.refobjid::regclass, a.attname) FROM pg_depend d JOIN pg_attribute a "
        "ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid WHERE d.classid = 'pg_class'::regclass "
        "AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') LIMIT 1))::text "
        f"FROM {_RELATION} JOIN pg_sequence s ON s.seqrelid = c.oid"
    ),
    (
        "SELECT 'routine ' || p.oid::regprocedure, ROW(p.prokind, "
        "(SELECT lanname FROM pg_language WHERE oid = p.prolang), p.procost, p.prorows, p.prosecdef, "
        "p.proleakproof, p.proisstrict, p.provolatile, p.proparallel, p.proconfig, "
        "p.prosupport::regproc, pg_get_function_result(p.oid), pg_get_function_arguments(p.oid), p.prosrc, p.probin, "
        "pg_get_function_sqlbody(p.oid), (SELECT ROW(a.aggkind, a.aggtransfn, a.aggfinalfn, a.aggcombinefn, "
        "a.aggserialfn, a.aggdeserialfn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn, "
        "a.agginitval, a.aggminitval, "
        f"a.aggsortop::regoperator) FROM pg_aggregate a WHERE a.aggfnoid = p.oid))::text FROM {_ROUTINE}"
    ),
    (
        "SELECT 'type ' || t.oid::regtype, ROW(t.typtype, CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, "
        "t.typtypmod) END, t.typnotnull, t.typcollation::regcollation, pg_get_expr(t.typdefaultbin, "
        "'pg_type'::regclass), ARRAY(SELECT u.enumlabel::text FROM pg_enum u WHERE u.enumtypid = t.oid ORDER BY "
        "u.enumsortorder), (SELECT ROW(g.rngsubtype::regtype, g.rngcollation::regcollation, g.rngcanonical, "
        f"g.rngsubdiff) FROM pg_range g WHERE g.rngtypid = t.oid))::text FROM {_TYPE}"
    ),
    *(
        f"SELECT i.type || ' ' || i.identity, '' FROM {catalog} x, LATERAL pg_identify_object('{catalog}'::regclass, "
        f"x.oid, 0) i WHERE x.oid >= {_OWN} AND {_exclude_members(catalog, 'x.oid')} AND i.identity !~ '^pg_temp'"
        for catalog in _OTHERS
    ),
    (
        "SELECT 'comment on ' || i.type || ' ' || i.identity, d.description FROM pg_description d, "
        "LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) i "
        f"WHERE d.objoid >= {_OWN} AND d.classoid NOT IN ('pg_extension'::regclass, 'pg_publication'::regclass, "
        "'pg_subscription'::regclass, 'pg_event_trigger'::regclass) AND i.identity !~ 'pg_(temp|toast)' "
        "AND NOT EXISTS (SELECT 1 FROM pg_depend e WHERE e.classid = d.classoid AND e.objid = d.objoid "
        "AND e.deptype = 'e')"
    ),
)
"""Queries for (name, text)."""

SEQUENCES: Final = (
    f"SELECT c.oid::regclass::text, pg_sequence_last_value(c.oid), s.seqincrement, s.seqcycle FROM {_RELATION} "
    "JOIN pg_sequence s ON s.seqrelid = c.oid WHERE c.relpersistence <> 't' ORDER BY 1"
)
"""By object id: a view that took a sequence's name meanwhile is not read."""
LARGE_OBJECTS: Final = "SELECT oid::bigint FROM pg_largeobject_metadata ORDER BY 1"
LO_CHUNK: Final = 1 << 18
LO_OPEN: Final = "SELECT lo_open(%s::oid, 262144)"
LO_SIZE: Final = "SELECT lo_lseek64(%s, 0, 2)"
LO_CLOSE: Final = "SELECT lo_close(%s)"
LO_HASH: Final = f"""
SELECT encode(sha256(convert_to(coalesce(string_agg(encode(sha256(lo_get(%(oid)s::oid, n * {LO_CHUNK}::bigint,
  {LO_CHUNK})), 'hex'), '' ORDER BY n), ''), 'UTF8')), 'hex')
FROM generate_series(0::bigint, (%(size)s::bigint - 1) / {LO_CHUNK}) AS n
"""

_KINDS: Final = (
    "CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' "
    "WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END"
)
OWNERS: Final = (
    (
        f"SELECT format('ALTER %s %s OWNER TO %I', {_KINDS}, c.oid::regclass, pg_get_userbyid(c.relowner)) "
        f"FROM {_RELATION} WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') "
        "OR (c.relkind = 'S' AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = "
        "'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i') "
        "AND d.refclassid = 'pg_class'::regclass))"
    ),
    (
        f"SELECT format('ALTER ROUTINE %s OWNER TO %I', p.oid::regprocedure, pg_get_userbyid(p.proowner)) "
        f"FROM {_ROUTINE} WHERE NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = "
        "'pg_proc'::regclass AND d.objid = p.oid "
        "AND d.deptype = 'i')"
    ),
    f"SELECT format('ALTER TYPE %s OWNER TO %I', t.oid::regtype, pg_get_userbyid(t.typowner)) FROM {_TYPE}",
    (
        "SELECT format('ALTER SCHEMA %I OWNER TO %I', n.nspname, pg_get_userbyid(n.nspowner)) FROM pg_namespace n "
        f"WHERE {_USER} AND {_exclude_members('pg_namespace', 'n.oid')}"
    ),
    (
        "SELECT format('ALTER LARGE OBJECT %s OWNER TO %I', m.oid, pg_get_userbyid(m.lomowner)) "
        "FROM pg_largeobject_metadata m"
    ),
)
"""Queries for who owns what, each row as the statement that makes it so."""

_ACLS: Final = f"""
SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || c.oid::regclass AS what, c.relowner AS owner,
  c.relacl AS acl, '' AS part, '' AS public FROM {_RELATION} WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
UNION ALL SELECT 'TABLE ' || c.oid::regclass, c.relowner, a.attacl, format(' (%I)', a.attname), '' FROM {_RELATION}
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL SELECT 'ROUTINE ' || p.oid::regprocedure, p.proowner, p.proacl, '', 'EXECUTE' FROM {_ROUTINE}
UNION ALL SELECT 'TYPE ' || t.oid::regtype, t.typowner, t.typacl, '', 'USAGE' FROM {_TYPE}
UNION ALL SELECT format('SCHEMA %I', n.nspname), n.nspowner, n.nspacl, '', CASE n.nspname WHEN 'public' THEN 'USAGE'
  ELSE '' END FROM pg_namespace n WHERE {_USER} AND {_exclude_members("pg_namespace", "n.oid")}
UNION ALL SELECT 'LARGE OBJECT ' || m.oid, m.lomowner, m.lomacl, '', '' FROM pg_largeobject_metadata m
"""
_TO: Final = "CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END"
_ALL: Final = "string_agg(a.privilege_type || {part}, ', ' ORDER BY a.privilege_type)"
_OPTION: Final = "CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END"
PRIVILEGES: Final = (
    (
        f"SELECT format('GRANT %s ON %s TO %s%s', {_ALL.format(part='o.part')}, o.what, {_TO}, {_OPTION}) "
        f"FROM ({_ACLS}) AS o, LATERAL aclexplode(o.acl) AS a WHERE a.grantee <> o.owner "
        "GROUP BY o.what, a.grantee, a.is_grantable, o.part"
    ),
    (
        f"SELECT format('REVOKE ALL ON %s FROM PUBLIC', o.what) FROM ({_ACLS}) AS o WHERE o.public <> '' "
        "AND o.acl IS NOT NULL AND NOT EXISTS (SELECT 1 FROM aclexplode(o.acl) AS a WHERE a.grantee = 0 "
        "AND a.privilege_type = o.public)"
    ),
    (
        "SELECT format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s GRANT %s ON %s TO %s%s', "
        "pg_get_userbyid(d.defaclrole), "
        "coalesce(' IN SCHEMA ' || nullif(d.defaclnamespace, 0)::regnamespace, ''), "
        f"{_ALL.format(part=repr(''))}, CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' "
        f"WHEN 'f' THEN 'ROUTINES' WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END, {_TO}, "
        f"{_OPTION}) FROM pg_default_acl d, LATERAL aclexplode(d.defaclacl) AS a WHERE a.grantee <> d.defaclrole "
        "GROUP BY d.defaclrole, d.defaclnamespace, d.defaclobjtype, a.grantee, a.is_grantable"
    ),
)
"""Queries for what is granted to others than the owner, and revoked from PUBLIC, each row as the "
"statement for it."""
