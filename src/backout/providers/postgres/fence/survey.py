"""Reads who can log in and write to a database, and judges whether a fence around it would hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from backout.model.database.fence import FencedRole, FenceMark, FenceRole, FenceSurvey
from backout.providers.postgres.fence import queries
from backout.providers.postgres.fence.by_hand import PREFIX
from backout.providers.postgres.fence.look import Look, Me
from backout.providers.postgres.fence.marks import read_comments, write_line
from backout.providers.postgres.fence.refusals import list_refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

VENDORS: Final = (
    "neon_superuser", "rds_superuser", "cloudsqlsuperuser", "azure_pg_admin", "supabase_admin", "alloydbsuperuser",
    "xata_superuser", "doadmin",
)  # fmt: skip


def read_me(session: Any) -> Me:
    """Return who asks, and where."""
    row = session.execute(queries.ME.encode()).fetchone()
    database, oid, role, superuser, makes, version, recovery, reads, signals, cron = row
    return Me(database, oid, role, superuser, makes, version, recovery, reads, signals, cron)


def read_survey(
    session: Any,
    planned: Sequence[str],
    *,
    ask_cron: Callable[[str], Sequence[tuple[int, str]]],
    tools_version: int,
    connect: str,
) -> Look:
    """Return it.

    Args:
        planned: names of the roles to be fenced.
        ask_cron: returns the active jobs (id, schedule) of this database from the one that pg_cron keeps them in.
        tools_version: the major version of the Postgres programs here, 0 for none.
        connect: what a psql line begins with.
    """
    me = read_me(session)
    asked: dict[str, Any] = {"planned": list(planned), "vendors": list(VENDORS), "prefix": PREFIX}

    def ask(query: str) -> list[Any]:
        return list(session.execute(query.encode(), asked if "%(" in query else None).fetchall())

    elsewhere: dict[str, list[str]] = {}
    for role, name in ask(queries.ELSEWHERE):
        elsewhere.setdefault(role, []).append(name)
    rows, writes = ask(queries.ROLES), _find_writers(ask)
    roles = tuple(
        FenceRole(
            name=name,
            login=login,
            connection_limit=limit,
            is_superuser=superuser,
            is_ours=name == me.role,
            writes="it is a superuser" if superuser else writes.get(oid, "") if connects else "",
            by_public=connects and by_public and not superuser,
            elsewhere=tuple(elsewhere.get(name, ())),
            vendor=vendor if not superuser or vendor == name else "",
        )
        for oid, name, login, limit, superuser, connects, by_public, _, vendor, _ in rows
    )
    comments = [(row[1], row[9]) for row in rows if row[9] and row[9].startswith(PREFIX)]
    standing = read_comments(comments, me.database, connect)
    states = tuple(FencedRole(row[1], row[2], row[3], row[9]) for row in rows if row[1] in planned)
    jobs = tuple(ask_cron(me.cron)) if me.cron else ()
    survey = FenceSurvey(
        database=me.database,
        ours=me.role,
        roles=roles,
        planned=tuple(planned),
        prepared=tuple(gid for (gid,) in ask(queries.PREPARED)),
        jobs=tuple(f"{number} ({schedule})" for number, schedule in jobs),
        subscriptions=tuple(name for (name,) in ask(queries.SUBSCRIPTIONS)),
        workers=tuple(kind for (kind,) in ask(queries.WORKERS)),
        is_all_logged=not ask(queries.UNLOGGED)[0][0],
    )
    numbers = tuple(number for number, _ in jobs)
    would_be = FenceMark("", "", me.database, 0.0, 0.0, states, numbers, survey.subscriptions)
    survey = replace(survey, by_hand=write_line(would_be, me.cron, connect), psql=connect)
    fenced = frozenset(each.name for each in standing.mark.roles) if standing else frozenset()
    refusals = list_refusals(
        survey,
        me,
        fenced=fenced,
        may_alter=frozenset(row[1] for row in rows if row[7] or me.is_superuser),
        standbys=ask(queries.STANDBYS),
        tools_version=tools_version,
    )
    return Look(replace(survey, refusals=refusals), me, states, standing, numbers)


def _find_writers(ask: Callable[[str], list[Any]]) -> Mapping[int, str]:
    """Return of each role that can write what lets it, its memberships included."""
    powers = {oid: what for oid, what in ask(queries.POWERS) if what}
    found: dict[int, str] = {}
    for role, member_of, name, superuser in ask(queries.MEMBERSHIPS):
        what = "is a superuser" if superuser else powers.get(member_of, "")
        if what and role not in found:
            found[role] = f"it {what}" if role == member_of else f"it is a member of {name}, which {what}"
    return found
