"""The catalog queries behind `PostgresCatalog`; each row names its schema, SQL quotes the names.

Source: PostgreSQL 18 documentation, "System Catalogs".
"""
# ruff: noqa: S608 - these are put together out of our own words alone

from __future__ import annotations

from typing import Final

_OURS: Final = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
_RELATION: Final = "format('%I.%I', n.nspname, c.relname)"


def _exclude_members(catalog: str, oid: str) -> str:
    """Return the condition that an object belongs to no extension."""
    return (
        f"NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = '{catalog}'::regclass AND e.objid = {oid} "
        "AND e.deptype = 'e')"
    )


_SEQUENCE_OPTIONS: Final = (
    "format('AS %s START %s INCREMENT %s MINVALUE %s MAXVALUE %s CACHE %s %s', format_type(s.seqtypid, NULL), "
    "s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, CASE WHEN s.seqcycle THEN 'CYCLE' ELSE 'NO CYCLE' END)"
)
_PARENTS: Final = (
    "(SELECT string_agg(i.inhparent::regclass::text, ', ' ORDER BY i.inhseqno) FROM pg_inherits i "
    "WHERE i.inhrelid = c.oid)"
)
_IDENTITY: Final = f"""
CASE a.attidentity WHEN '' THEN '' ELSE format('GENERATED %s AS IDENTITY (%s)',
    CASE a.attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END,
    (SELECT replace({_SEQUENCE_OPTIONS}, format('AS %s ', format_type(s.seqtypid, NULL)), '')
     FROM pg_depend d JOIN pg_sequence s ON s.seqrelid = d.objid
     WHERE d.classid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.refobjsubid = a.attnum AND d.deptype = 'i'))
END
"""

QUERIES: Final = {
    "schemas": f"""
        SELECT n.nspname AS schema, quote_ident(n.nspname) AS name FROM pg_namespace n
        WHERE {_OURS} AND {_exclude_members("pg_namespace", "n.oid")}""",
    "extensions": """
        SELECT '' AS schema, quote_ident(x.extname) AS name, quote_ident(n.nspname) AS placed
        FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace WHERE x.extname <> 'plpgsql'""",
    "enums": f"""
        SELECT n.nspname AS schema, format('%I.%I', n.nspname, t.typname) AS name,
            (SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid)
            AS labels
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
        WHERE t.typtype = 'e'
          AND {_OURS} AND {_exclude_members("pg_type", "t.oid")}""",
    "types": f"""
        SELECT n.nspname AS schema, format('%I.%I', n.nspname, t.typname) AS name,
            CASE t.typtype WHEN 'c' THEN
                (SELECT format('(%s)', string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', '
                    ORDER BY a.attnum))
                FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
            ELSE format('RANGE (subtype = %s)', (SELECT format_type(r.rngsubtype, NULL) FROM pg_range r
                WHERE r.rngtypid = t.oid)) END AS definition
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid
        WHERE (t.typtype = 'r' OR t.typtype = 'c' AND c.relkind = 'c')
          AND {_OURS} AND {_exclude_members("pg_type", "t.oid")}""",
    "domains": f"""
        SELECT n.nspname AS schema, format('%I.%I', n.nspname, t.typname) AS name, t.typdefault AS default,
            format_type(t.typbasetype, t.typtypmod) AS type, t.typnotnull AS not_null
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
        WHERE t.typtype = 'd'
          AND {_OURS} AND {_exclude_members("pg_type", "t.oid")}""",
    "domain_constraints": f"""
        SELECT n.nspname AS schema, format('%I.%I', n.nspname, t.typname) AS owner, quote_ident(k.conname) AS name,
            pg_get_constraintdef(k.oid) AS definition
        FROM pg_constraint k JOIN pg_type t ON t.oid = k.contypid JOIN pg_namespace n ON n.oid = t.typnamespace
        WHERE k.contype = 'c'
          AND {_OURS} AND {_exclude_members("pg_type", "t.oid")}""",
    "tables": f"""
        SELECT n.nspname AS schema, {_RELATION} AS name, c.relname AS name_alone, c.relpersistence AS persistence,
            pg_get_partkeydef(c.oid) AS partition_key, pg_get_expr(c.relpartbound, c.oid) AS bound,
            {_PARENTS} AS parents, array_to_string(c.reloptions, ', ') AS options
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND {_OURS} AND {_exclude_members("pg_class", "c.oid")}""",
    "inherits": f"""
        SELECT n.nspname AS schema, {_RELATION} AS name, i.inhparent::regclass::text AS parent
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p')""",
    "columns": f"""
        SELECT n.nspname AS schema, {_RELATION} AS owner, quote_ident(a.attname) AS column, a.attislocal AS local,
            format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS not_null, {_IDENTITY} AS identity,
            CASE WHEN a.attcollation NOT IN (0, t.typcollation) THEN a.attcollation::regcollation::text END
            AS collation,
            CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END AS generated,
            CASE a.attgenerated WHEN 'v' THEN 'VIRTUAL' ELSE 'STORED' END AS how,
            CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END AS default
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND {_OURS}
            AND {_exclude_members("pg_class", "c.oid")}
        ORDER BY a.attrelid, a.attnum""",
    "sequences": f"""
        SELECT n.nspname AS schema, {_RELATION} AS name, {_SEQUENCE_OPTIONS} AS options
        FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_OURS} AND {_exclude_members("pg_class", "c.oid")} AND NOT EXISTS (
            SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'i')""",
    "sequence_owners": f"""
        SELECT n.nspname AS schema, {_RELATION} AS name, t.oid::regclass::text AS owner,
            format('%s.%I', t.oid::regclass, a.attname) AS column
        FROM pg_depend d JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S'
        JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_class t ON t.oid = d.refobjid
        JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'a'
            AND {_OURS}""",
    "functions": f"""
        SELECT n.nspname AS schema, format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid))
            AS name, pg_get_functiondef(p.oid) AS definition, p.prokind = 'p' AS procedure,
            pg_get_function_result(p.oid) AS returns, array_to_string(p.proargnames, ',') AS names
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE p.prokind <> 'a' AND {_OURS} AND {_exclude_members("pg_proc", "p.oid")} AND NOT EXISTS (
            SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i')""",
    "constraints": f"""
        SELECT n.nspname AS schema, {_RELATION} AS owner, quote_ident(k.conname) AS name, k.contype = 'f' AS foreign,
            pg_get_constraintdef(k.oid) AS definition
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE k.contype IN ('p', 'u', 'c', 'x', 'f') AND k.conislocal AND k.conparentid = 0 AND {_OURS}""",
    "views": f"""
        SELECT n.nspname AS schema, {_RELATION} AS name, pg_get_viewdef(c.oid) AS definition,
            c.relkind = 'm' AS materialized, array_to_string(c.reloptions, ', ') AS options,
            (SELECT string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), E'\\n'
                ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0) AS columns
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('v', 'm') AND {_OURS} AND {_exclude_members("pg_class", "c.oid")}""",
    "view_uses": f"""
        SELECT DISTINCT n.nspname AS schema, {_RELATION} AS name, d.refobjid::regclass::text AS parent
        FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
            AND d.refclassid = 'pg_class'::regclass
        JOIN pg_class used ON used.oid = d.refobjid AND used.relkind IN ('v', 'm')
        WHERE c.relkind IN ('v', 'm') AND d.refobjid <> c.oid""",
    "indexes": f"""
        SELECT n.nspname AS schema, {_RELATION} AS name, format('%I.%I', m.nspname, t.relname) AS owner,
            CASE WHEN c.relkind = 'I' THEN replace(pg_get_indexdef(c.oid), ' ON ONLY ', ' ON ')
                ELSE pg_get_indexdef(c.oid) END
            || CASE WHEN i.indisvalid THEN '' ELSE ' /* INVALID: its building failed */' END AS definition
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace m ON m.oid = t.relnamespace
        WHERE {_OURS} AND NOT c.relispartition AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = c.oid
            AND k.contype IN ('p', 'u', 'x'))""",
    "statistics": f"""
        SELECT n.nspname AS schema, format('%I.%I', n.nspname, s.stxname) AS name, {_RELATION} AS owner,
            pg_get_statisticsobjdef(s.oid) AS definition
        FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace JOIN pg_class c ON c.oid = s.stxrelid
        WHERE {_OURS}""",
    "rules": f"""
        SELECT n.nspname AS schema, quote_ident(w.rulename) AS name, {_RELATION} AS owner,
            rtrim(pg_get_ruledef(w.oid), ';') AS definition
        FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE w.rulename <> '_RETURN' AND {_OURS}""",
    "triggers": f"""
        SELECT n.nspname AS schema, quote_ident(g.tgname) AS name, {_RELATION} AS owner, pg_get_triggerdef(g.oid) ||
            CASE g.tgenabled WHEN 'O' THEN '' ELSE format(E';\\nALTER TABLE %I.%I %s TRIGGER %I', n.nspname, c.relname,
                CASE g.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END,
                g.tgname) END AS definition
        FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE NOT g.tgisinternal AND g.tgparentid = 0 AND {_OURS}""",
    "row_security": f"""
        SELECT n.nspname AS schema, {_RELATION} AS owner, f.word, f.undo
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN LATERAL (VALUES
            (c.relrowsecurity, 'ENABLE', 'DISABLE'),
            (c.relforcerowsecurity, 'FORCE', 'NO FORCE')) AS f (set, word, undo)
        WHERE f.set AND {_OURS}""",
    "policies": f"""
        SELECT n.nspname AS schema, quote_ident(p.polname) AS name, {_RELATION} AS owner,
            format('CREATE POLICY %I ON %I.%I AS %s FOR %s TO %s', p.polname, n.nspname, c.relname,
                CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
                    WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
                CASE WHEN p.polroles = ARRAY[0::oid] THEN 'PUBLIC' ELSE (SELECT string_agg(quote_ident(r.rolname), ', '
                    ORDER BY r.rolname) FROM pg_roles r WHERE r.oid = ANY (p.polroles)) END)
            || coalesce(format(' USING (%s)', pg_get_expr(p.polqual, p.polrelid)), '')
            || coalesce(format(' WITH CHECK (%s)', pg_get_expr(p.polwithcheck, p.polrelid)), '') AS definition
        FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_OURS}""",
}
