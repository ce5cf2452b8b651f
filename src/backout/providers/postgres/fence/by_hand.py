"""A psql script that opens whatever fence stands: what it gives back it reads from the comments of `marks`."""

from __future__ import annotations

from typing import Final

PREFIX: Final = "fenced by backout: "
"""What the comment on a fenced role begins with; JSON follows."""
SCRIPT: Final = f"""\
SET search_path = pg_catalog, pg_temp;
CREATE TEMP VIEW fenced AS SELECT rolname, substr(comment, {len(PREFIX) + 1})::json AS was
FROM pg_roles, LATERAL shobj_description(oid, 'pg_authid') AS comment WHERE starts_with(comment, '{PREFIX}');
SELECT DISTINCT format('ALTER SUBSCRIPTION %I ENABLE', name)
FROM fenced, json_array_elements_text(was->'subscriptions') AS name WHERE was->>'database' = current_database() \\gexec
SELECT DISTINCT format('in database %s: UPDATE cron.job SET active = true WHERE jobid = %s', was->>'cron', job)
AS "type afterwards" FROM fenced, json_array_elements_text(was->'jobs') AS job;
SELECT unnest(ARRAY[format('COMMENT ON ROLE %I IS %L', rolname, was->>'comment'), format('ALTER ROLE %I %s CONNECTION \
LIMIT %s', rolname, CASE WHEN (was->>'login')::bool THEN 'LOGIN' ELSE 'NOLOGIN' END, was->>'connection_limit')])
FROM fenced WHERE was->>'database' = current_database() \\gexec
"""  # noqa: S608 - our own words


def write_script_command(connect: str) -> str:
    """Return a command of a shell that runs it; `connect`: what a psql line begins with."""
    return f"{connect} -X -1 -v ON_ERROR_STOP=1 -f - <<'SQL'\n{SCRIPT}SQL"
