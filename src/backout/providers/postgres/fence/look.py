"""What a survey of a fence finds beside the port's own values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.value import Value

if TYPE_CHECKING:
    from backout.model.database.fence import FencedRole, FenceSurvey
    from backout.providers.postgres.fence.marks import Standing


class Me(Value, frozen=True):
    """The session's role and server.

    Args:
        database_oid: of the database.
        may_signal: may end sessions of any role that is no superuser.
        cron: the database in which pg_cron keeps its jobs, "" for none.
    """

    database: str
    database_oid: int
    role: str
    is_superuser: bool
    makes_roles: bool
    version: int
    in_recovery: bool
    reads_wal: bool
    may_signal: bool
    cron: str


class Look(Value, frozen=True):
    """A survey with what only the adapter needs of it.

    Args:
        states: of the roles that would be fenced, as they are now.
        standing: the fence that stands.
        jobs: ids of the jobs of pg_cron that are active.
    """

    survey: FenceSurvey
    me: Me
    states: tuple[FencedRole, ...]
    standing: Standing | None
    jobs: tuple[int, ...] = ()
