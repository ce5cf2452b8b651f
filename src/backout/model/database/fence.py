"""The fence of a database: nobody but backout's own role writes to it while it stands, and its former state is kept."""

from __future__ import annotations

from backout.model.value import Value


class FenceRole(Value, frozen=True):
    """A role that may log in to the database, or stands under the fence.

    Args:
        connection_limit: of the role, -1 for none.
        writes: what lets it write to this database, in words; "" where nothing does.
        by_public: it is let into the database by nothing but PUBLIC's CONNECT.
        elsewhere: the other databases of the cluster in which it owns or may do something, or has a session.
        vendor: the managed vendor's role that it is, or is a member of; "" for none.
    """

    name: str
    login: bool
    connection_limit: int = -1
    is_superuser: bool = False
    is_ours: bool = False
    writes: str = ""
    by_public: bool = False
    elsewhere: tuple[str, ...] = ()
    vendor: str = ""


class FenceRefusal(Value, frozen=True):
    """Why the fence cannot go up, or would not hold.

    Args:
        reason: a sentence without a final stop.
        script: lines of SQL, or of the configuration as comments, after which it can.
    """

    reason: str
    script: tuple[str, ...] = ()


class FenceSurvey(Value, frozen=True):
    """Who can log in and write to a database, and what else works in it.

    Args:
        ours: the role that sees this.
        planned: the names of the roles that the fence takes LOGIN from.
        prepared: ids of its prepared transactions.
        jobs: of pg_cron, those that are active in this database, `id (schedule)`.
        subscriptions: those of this database that are enabled.
        workers: background workers that have a session in it, by what they call themselves.
        is_all_logged: whether no table of it is unlogged: what is written to one does not show in the WAL.
        by_hand: the psql line that opens it again, "" where it cannot go up.
        psql: what a psql line of the administrator begins with.
    """

    database: str
    ours: str
    roles: tuple[FenceRole, ...]
    planned: tuple[str, ...]
    prepared: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    subscriptions: tuple[str, ...] = ()
    workers: tuple[str, ...] = ()
    is_all_logged: bool = True
    refusals: tuple[FenceRefusal, ...] = ()
    by_hand: str = ""
    psql: str = ""


class FenceOrder(Value, frozen=True):
    """What a fence is raised for.

    Args:
        run: the id of the run that owns it.
        actor: who started that, "user@host".
        deadline: Unix seconds; people are told then, and nothing opens by itself.
        roles: names of the roles to take LOGIN from.
    """

    run: str
    actor: str
    deadline: float
    roles: tuple[str, ...]


class FencedRole(Value, frozen=True):
    """The state of a role from before the fence; the fence itself changes LOGIN and the comment.

    Args:
        comment: the role's own, None where it had none.
    """

    name: str
    login: bool
    connection_limit: int = -1
    comment: str | None = None


class FenceMark(Value, frozen=True):
    """A fence that stands, as the comments on its roles tell.

    Args:
        raised_at, deadline: Unix seconds.
        roles: the state of each from before.
        jobs: ids of the jobs of pg_cron that were active, subscriptions: names of those that were enabled.
        lsn: behind it no other session has been since it went up; 0 where that is read from the database, which does
            not know.
        by_hand: the psql line that opens it.
        let_in: those of its roles that can log in all the same: somebody changed them since.
    """

    run: str
    actor: str
    database: str
    raised_at: float
    deadline: float
    roles: tuple[FencedRole, ...]
    jobs: tuple[int, ...] = ()
    subscriptions: tuple[str, ...] = ()
    lsn: int = 0
    by_hand: str = ""
    let_in: tuple[str, ...] = ()


class FenceProof(Value, frozen=True):
    """Whether nobody else was in a fenced database, and nobody else has written to it.

    Args:
        why: sentences without a final stop: what was found, () where it holds.
        since_lsn, until_lsn: the WAL that was read.
        quiet_s: so long no session of anyone else was seen.
        terminated: sessions that were ended meanwhile.
        commits: in that WAL, all databases together; maintenance: those of them that touched this database, and only
            what autovacuum writes to.
    """

    holds: bool
    why: tuple[str, ...]
    since_lsn: int
    until_lsn: int
    quiet_s: float
    terminated: int = 0
    commits: int = 0
    maintenance: int = 0
