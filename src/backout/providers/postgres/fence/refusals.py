"""Why a fence cannot go up, or would not hold, each with the script after which it can; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.database.fence import FenceRefusal
from backout.providers.postgres.schema.quoting import fit_in_line, quote_identifier, quote_literal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from backout.model.database.fence import FenceRole, FenceSurvey
    from backout.providers.postgres.fence.look import Look, Me

_ADMINISTRATOR = "backout_admin"
_NEW = "{role}_login"


def list_refusals(
    survey: FenceSurvey,
    me: Me,
    *,
    fenced: Collection[str],
    may_alter: Collection[str],
    standbys: Sequence[tuple[str, str]],
    tools_version: int,
) -> tuple[FenceRefusal, ...]:
    """Return them all.

    Args:
        fenced: names of the roles of a fence that stands.
        may_alter: names of the roles that the session's role may take LOGIN from.
        standbys: (role, name) of what replicates as one of the planned roles.
        tools_version: the major version of the Postgres programs here, 0 for none.
    """
    known = {role.name: role for role in survey.roles}
    found: list[FenceRefusal] = [*_judge_server(survey, me, tools_version)]
    for name in survey.planned:
        if (role := known.get(name)) is None:
            what = f"role {name} does not exist"
            found.append(FenceRefusal(what, ("-- backout.toml: database.fence_roles names the application's roles",)))
        else:
            found += _judge_planned(role, me, may_alter)
    found += (
        FenceRefusal(
            f"{name or 'a standby'} replicates as {role}, and would be cut off",
            (
                f"CREATE ROLE {quote_identifier(f'{role}_replication')} LOGIN REPLICATION;",
                f"-- then name it in primary_conninfo of {name or 'the standby'}, without line breaks",
            ),
        )
        for role, name in standbys
    )
    for role in survey.roles:
        if role.name not in survey.planned and role.name not in fenced:
            found += _judge_other(role, survey)
    return tuple(found)


def list_entrances(look: Look) -> list[str]:
    """Return what a fence that stands does not keep out, () where it keeps out all."""
    survey, standing = look.survey, look.standing
    why = [] if standing else ["no fence stands"]
    fenced = frozenset(each.name for each in standing.mark.roles) if standing else frozenset()
    why += [f"{role.name} can log in again" for role in survey.roles if role.name in fenced and role.login]
    why += [f"{name} is not fenced" for name in survey.planned if standing and name not in fenced]
    why += [f"transaction {gid} is prepared" for gid in survey.prepared]
    why += [f"job {job} of pg_cron is active" for job in survey.jobs]
    why += [f"subscription {name} is enabled" for name in survey.subscriptions]
    why += [f"background worker {worker} works in the database" for worker in survey.workers]
    others = [role for role in survey.roles if role.name not in fenced and role.name not in survey.planned]
    return why + [refusal.reason for role in others for refusal in _judge_other(role, survey)]


def _judge_server(survey: FenceSurvey, me: Me, tools_version: int) -> Iterator[FenceRefusal]:
    ours = quote_identifier(me.role)
    if me.in_recovery:
        yield FenceRefusal("the server is a standby", ("-- name the primary in database.admin_url_env",))
    if tools_version != me.version // 10_000:
        yield FenceRefusal(
            f"the WAL of Postgres {me.version // 10_000} cannot be read with the programs here"
            + (f", which are of version {tools_version}" if tools_version else ""),
            (f"-- backout.toml: database.binaries = the folder of the programs of version {me.version // 10_000}",),
        )
    if not me.reads_wal:
        grant = f"GRANT EXECUTE ON FUNCTION pg_read_binary_file(text, bigint, bigint) TO {ours};"
        yield FenceRefusal(f"{me.role} may not read the WAL, so nothing would prove that nobody writes", (grant,))
    if not me.may_signal:
        grant = f"GRANT pg_signal_backend TO {ours};"
        yield FenceRefusal(f"{me.role} may not end the sessions of others", (grant,))
    for gid in survey.prepared:
        yield FenceRefusal(
            f"transaction {gid} is prepared, and could be committed at any time",
            (f"COMMIT PREPARED {quote_literal(gid)};  -- or ROLLBACK PREPARED, as its coordinator says",),
        )
    for worker in survey.workers:
        if worker != "logical replication apply worker" or not survey.subscriptions:
            yield FenceRefusal(
                f"background worker {worker} works in the database, and nothing here stops it",
                ("-- stop it by the settings of its extension",),
            )
    names = (*survey.planned, *survey.subscriptions)
    if not fit_in_line(*names):
        yield FenceRefusal(
            "a role or subscription has a name that has no place in a line of psql, which has to open the fence",
            ("ALTER ROLE ... RENAME TO ...;",),
        )


def _judge_planned(role: FenceRole, me: Me, may_alter: Collection[str]) -> Iterator[FenceRefusal]:
    name = quote_identifier(role.name)
    if role.is_ours:
        yield FenceRefusal(
            f"the application logs in as {role.name}, the administrator's own role: nobody could open the fence",
            (
                f"CREATE ROLE {_ADMINISTRATOR} LOGIN SUPERUSER;  -- \\password {_ADMINISTRATOR}",
                "-- backout.toml: database.admin_url_env = its connection string",
            ),
        )
    elif role.is_superuser:
        yield FenceRefusal(
            f"the application logs in as the superuser {role.name}, who could open any fence",
            (
                f"ALTER ROLE {name} NOSUPERUSER NOCREATEROLE;  -- another superuser must exist",
                f"ALTER DATABASE {quote_identifier(me.database)} OWNER TO {name};  -- if it creates schemas",
            ),
        )
    elif role.vendor:
        new = quote_identifier(_NEW.format(role=role.name))
        yield FenceRefusal(
            f"{role.name} is the managed vendor's own administrator ({role.vendor})",
            (
                f"CREATE ROLE {new} LOGIN;  -- \\password {new}",
                f"GRANT {name} TO {new} WITH INHERIT TRUE;  -- or only what the application needs",
                f"-- let the application log in as {new}, and name it in database.fence_roles",
            ),
        )
    elif role.name not in may_alter:
        yield FenceRefusal(
            f"{me.role} may not take LOGIN from {role.name}",
            (
                f"ALTER ROLE {quote_identifier(me.role)} CREATEROLE;",
                f"GRANT {name} TO {quote_identifier(me.role)} WITH ADMIN OPTION;",
            ),
        )
    if role.elsewhere and not role.is_ours:
        new = quote_identifier(_NEW.format(role=role.name))
        yield FenceRefusal(
            f"{role.name} is also used in {', '.join(role.elsewhere)}, which would be kept out as well",
            (
                f"CREATE ROLE {new} LOGIN;  -- \\password {new}",
                f"GRANT {name} TO {new};",
                f"-- let one of the two applications log in as {new}",
            ),
        )


def _judge_other(role: FenceRole, survey: FenceSurvey) -> Iterator[FenceRefusal]:
    """Judge a role that would not be fenced; superusers stay, because somebody has to be able to open it."""
    if role.is_ours or role.is_superuser or not role.login or not role.writes:
        return
    name, database = quote_identifier(role.name), quote_identifier(survey.database)
    if role.by_public:
        lets_in = ", ".join(quote_identifier(each) for each in survey.planned)
        yield FenceRefusal(
            f"{role.name} is let in by PUBLIC's CONNECT and can write: {role.writes}",
            (
                f"REVOKE CONNECT ON DATABASE {database} FROM PUBLIC;",
                f"GRANT CONNECT ON DATABASE {database} TO {lets_in};  -- and to whoever else reads it",
                f'-- or, if it is this application\'s: database.fence_roles = [..., "{role.name}"]',
            ),
        )
    else:
        yield FenceRefusal(
            f"{role.name} is not in the plan and can log in and write: {role.writes}",
            (
                f'-- backout.toml: database.fence_roles = [..., "{role.name}"]',
                f"REVOKE CONNECT ON DATABASE {database} FROM {name};  -- or: ALTER ROLE {name} NOLOGIN;",
            ),
        )
