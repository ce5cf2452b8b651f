"""Port Fence on Postgres: LOGIN is taken from the application's roles, and what they had is kept in their comments.

`REVOKE CONNECT` would do nothing while PUBLIC holds it; `ALLOW_CONNECTIONS false` would keep out whoever is to open it.
Source: PostgreSQL 18, ALTER ROLE, COMMENT, ALTER SUBSCRIPTION (each may be part of a transaction),
pg_terminate_backend.
"""

from __future__ import annotations

import tempfile
import weakref
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from backout.errors import BackoutError, Refused
from backout.model.database.fence import FencedRole, FenceMark, FenceProof
from backout.private import make_private_folder
from backout.providers.clock import SystemClock
from backout.providers.postgres.fence import queries
from backout.providers.postgres.fence.by_hand import PREFIX
from backout.providers.postgres.fence.marks import (
    OURS,
    list_commands,
    read_comments,
    write_jobs,
    write_opening,
    write_raising,
)
from backout.providers.postgres.fence.refusals import list_entrances
from backout.providers.postgres.fence.sessions import list_others, wait_for_quiet
from backout.providers.postgres.fence.survey import read_me, read_survey
from backout.providers.postgres.fence.wal_proof import (
    ServerWal,
    describe_findings,
    judge_writes,
    read_statistics,
    write_out_wal,
)
from backout.providers.postgres.restore.wal_search import WalSearch
from backout.providers.postgres.server.owner_session import make_inside_dsn
from backout.providers.postgres.server.session import open_working
from backout.providers.postgres.server.template import run_tool
from backout.providers.postgres.tls.access import parse_dsn
from backout.providers.postgres.tls.dsn import make_connection_error
from backout.providers.postgres.tls.routes import open_program_environment
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from backout.model.database.fence import FenceOrder, FenceSurvey
    from backout.ports import Clock
    from backout.providers.postgres.fence.look import Look
    from backout.providers.postgres.fence.marks import Standing
    from backout.providers.postgres.fence.wal_proof import Findings
    from backout.providers.postgres.server.binaries import Binaries

_SETTLED_S: Final = 0.3
_QUIET_S: Final = 5.0
_TRIES: Final = 4
_WRITES: Final = {"default_transaction_read_only": "off"}
"""A database or role may have it on."""
_COMMENTS: Final = """
SELECT r.rolname::text, shobj_description(r.oid, 'pg_authid'), r.rolcanlogin FROM pg_roles AS r
WHERE starts_with(shobj_description(r.oid, 'pg_authid'), %s) ORDER BY 1
"""
_STATES: Final = """
SELECT r.rolname::text, r.rolcanlogin, r.rolconnlimit, shobj_description(r.oid, 'pg_authid') FROM pg_roles AS r
WHERE r.rolname = ANY (%s) ORDER BY 1
"""
_LSN: Final = b"SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"
_SWITCHES_TRIGGERS_OFF: Final = 170_000


def _ignore_text(_text: str) -> None:
    pass


class PostgresFence:
    """Port Fence.

    Args:
        url: returns the administrator's connection string; it is never shown.
        planned: returns the names of the roles that the application logs in as.
        binaries: returns the Postgres programs.
        folder: in which WAL is laid while it is read.
        connect: what a psql line begins with: `psql`, and a variable with the connection string.
        settles_within_s: how long sessions may take to end.
    """

    def __init__(
        self,
        url: Callable[[], str],
        planned: Callable[[], Sequence[str]],
        binaries: Callable[[], Binaries],
        folder: Path,
        *,
        connect: str = 'psql "$DATABASE_ADMIN_URL"',
        connect_timeout_s: float = 5.0,
        settles_within_s: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        self._url = url
        self._planned = planned
        self._binaries = binaries
        self._folder = folder
        self._connect = connect
        self._connect_timeout_s = connect_timeout_s
        self._clock = clock or SystemClock()
        self._settles_within_s = settles_within_s
        self._kept: Any = None

    def close(self) -> None:
        """Close the session that was kept."""
        if self._kept is not None:
            with suppress(Exception):
                self._kept.close()
            self._kept = None

    def survey(self) -> FenceSurvey:
        """Return who can log in and write, and why a fence would not hold; changes nothing."""
        with self._open_session() as session:
            return self._look(session, tuple(self._planned())).survey

    def read(self) -> FenceMark | None:
        """Return the fence that stands, None where none does."""
        with self._open_session() as session:
            standing = self._read(session)
        return None if standing is None else standing.mark

    def raise_fence(self, order: FenceOrder, hear: Callable[[str], None] = _ignore_text) -> FenceMark:
        """Take LOGIN from the roles, and end every session of others.

        Raises:
            Refused: one of the survey's refusals stands, or the fence of another run does.
            BackoutError: the line that opens it does not work, or sessions do not end; nothing stays taken.
        """
        with self._open_session() as session:
            look = self._look(session, order.roles)
            standing = look.standing
            _refuse_other(standing, order.run)
            if standing is None and look.survey.refusals:
                first = look.survey.refusals[0]
                raise Refused(first.reason, where="database", rule=SafetyRule.PREFLIGHT, options=first.script)
            mark = self._plan_mark(order, look)
            if standing is None:
                hear("trying the line that opens the fence")
                self._keep_session()
                self._try_line(mark, look.me.cron)
            self._set(session, mark, look.me.cron)
            hear(f"{', '.join(each.name for each in mark.roles)} can no longer log in; ending sessions")
            quiet = wait_for_quiet(session, _SETTLED_S, self._settles_within_s)
            if not quiet.reached:
                self._unset(session, mark, look.me.cron)
                who = ", ".join(role for role, _ in quiet.roles)
                raise BackoutError(f"sessions of {who} do not end, so the fence was opened again", where="database")
            hear(f"{quiet.terminated} sessions were ended")
            (lsn,) = session.execute(_LSN).fetchone()
            written = self._read(session)
        if written is None:
            raise BackoutError("the fence was opened while it went up", where="database")
        if written.mark.let_in:
            raise BackoutError(f"{', '.join(written.mark.let_in)} was let in again while it went up", where="database")
        return replace(written.mark, lsn=int(lsn))

    def prove(
        self, since_lsn: int, quiet_s: float = _QUIET_S, hear: Callable[[str], None] = _ignore_text
    ) -> FenceProof:
        """Watch that no session of others is there, then read what was committed since a position."""
        with self._open_session() as session:
            hear(f"watching for {quiet_s:g} s that nobody comes back")
            quiet = wait_for_quiet(session, quiet_s, quiet_s * _TRIES)
            own = write_out_wal(session)
            wal = ServerWal(session, since_lsn)
            hear("reading the WAL since the fence went up")
            found = self._read_wal(session, wal, own)
            look = self._look(session, tuple(self._planned()))
            back = sorted({role for _, role in list_others(session)})
        why = [] if quiet.reached else [f"sessions of {_count_sessions(quiet.roles)} keep coming back"]
        why += [f"a session of {role} is there" for role in back if quiet.reached]
        why += list_entrances(look)
        why += describe_findings(found, is_all_logged=look.survey.is_all_logged)
        return FenceProof(
            holds=not why,
            why=tuple(why),
            since_lsn=since_lsn,
            until_lsn=wal.until_lsn,
            quiet_s=quiet.quiet_s,
            terminated=quiet.terminated,
            commits=found.commits,
            maintenance=found.maintenance,
        )

    def set_in(self, dsn: str, mark: FenceMark) -> FenceMark:
        """Set the same fence in a copy that accepts writes, before it takes the live one's place.

        Raises:
            Refused: the administrator's role cannot log in there, so that nobody could open it.
            BackoutError: it is not there when it is read back.
        """
        ours = parse_dsn(self._url()).get("user", "")
        with self._open_session(make_inside_dsn(dsn), dbname=mark.database) as session:
            look = self._look(session, tuple(each.name for each in mark.roles), inside=dsn)
            known = {role.name: role for role in look.survey.roles}
            if ours not in known or not known[ours].login:
                raise Refused(
                    f"role {ours}, the administrator's, is not in the copy: nobody could open the fence",
                    where="database",
                    rule=SafetyRule.PREFLIGHT,
                    options=(f"Name a role that was there then, and is an administrator, instead of {ours}.",),
                )
            writers = {r.name for r in look.survey.roles if r.login and r.writes and not r.is_superuser}
            standing = look.standing
            before = {each.name: each for each in standing.mark.roles} if standing else {}
            names = sorted(({each.name for each in mark.roles} | writers | before.keys()) - {ours})
            states = {each.name: each for each in _read_states(session, names)} | before
            jobs, subscriptions = _add_standing(standing, look)
            there = replace(
                mark, roles=tuple(states[n] for n in names if n in states), jobs=jobs, subscriptions=subscriptions
            )
            self._set(session, there, look.me.cron, inside=dsn)
            written = self._read(session)
        if written is None:
            raise BackoutError("the fence in the copy cannot be read back", where="database")
        if written.mark.let_in:
            who = ", ".join(written.mark.let_in)
            raise BackoutError(f"{who} can log in to the copy although it is fenced", where="database")
        return written.mark

    def open(self, mark: FenceMark) -> None:
        """Give every role back exactly what it had, and read it back.

        Raises:
            Refused: the fence of another run stands.
            BackoutError: a role is not what it was.
        """
        with self._open_session(fallback=True) as session:
            standing = self._read(session)
            if standing is None:
                return
            _refuse_other(standing, mark.run)
            self._unset(session, standing.mark, standing.cron)
        with self._open_session(fallback=True) as session:
            wanted = list(standing.mark.roles)
            found = list(_read_states(session, [each.name for each in wanted]))
        if found != wanted:
            wrong = next((each.name for each in wanted if each not in found), "a role")
            raise BackoutError(f"{wrong} is not what it was before the fence", where="database", hint="\\du+ in psql")
        self.close()

    # --- parts ------------------------------------------------------------------------------------------------------

    def _plan_mark(self, order: FenceOrder, look: Look) -> FenceMark:
        standing = look.standing
        before = {each.name: each for each in standing.mark.roles} if standing else {}
        states = {each.name: each for each in look.states} | before
        jobs, subscriptions = _add_standing(standing, look)
        raised_at = standing.mark.raised_at if standing else self._clock.now()
        roles = tuple(states[name] for name in sorted(states))
        return FenceMark(
            order.run, order.actor, look.me.database, raised_at, order.deadline, roles, jobs, subscriptions
        )

    def _set(self, session: Any, mark: FenceMark, cron: str, *, inside: str = "") -> None:
        """Raise it in one transaction, so that what it takes is known wherever it is taken; then stop the jobs."""
        with session.transaction():
            for statement in (OURS, *write_raising(mark, cron)):
                session.execute(statement.encode())
        if mark.jobs:
            with self._open_session(make_inside_dsn(inside) if inside else None, dbname=cron) as beside:
                beside.execute(write_jobs(mark.jobs, active=False).encode())

    def _unset(self, session: Any, mark: FenceMark, cron: str) -> None:
        """Open it; the jobs first, because the comments that name them go with the rest."""
        if mark.jobs:
            with self._open_session(dbname=cron) as beside:
                beside.execute(write_jobs(mark.jobs, active=True).encode())
        with session.transaction():
            for statement in (OURS, *write_opening(mark)):
                session.execute(statement.encode())

    def _try_line(self, mark: FenceMark, cron: str) -> None:
        """Run what opens the fence while nothing is taken: it changes nothing then.

        Raises:
            BackoutError: it does not work.
        """
        binaries = self._binaries()
        *before, opening = list_commands(mark, cron)
        arguments = [word for each in (*before, f"{OURS}; {opening}") for word in ("-c", each)]
        with open_program_environment(self._url(), has_tls=binaries.has_tls()) as environment:
            try:
                run_tool(
                    binaries, "psql", "-X", "-q", "-w", "-v", "ON_ERROR_STOP=1", *arguments, environment=environment
                )
            except BackoutError as error:
                what = f"the psql line that would open the fence does not work, so it was not raised: {error.what}"
                raise BackoutError(what, where="database", hint=error.hint) from None

    def _read_wal(self, session: Any, wal: ServerWal, own: int) -> Findings:
        me, statistics, span = read_me(session), read_statistics(session), wal.span()
        make_private_folder(self._folder)
        with tempfile.TemporaryDirectory(prefix="fence-", dir=self._folder) as made:
            search = WalSearch(self._binaries(), wal, Path(made) / "wal")
            commits = tuple(search.commits([span]))
            return judge_writes(me.database_oid, statistics, commits, search.row_writes([span]), {own})

    def _look(self, session: Any, planned: Sequence[str], *, inside: str = "") -> Look:
        def ask_cron(name: str) -> Sequence[tuple[int, str]]:
            return self._list_jobs(name, read_me(session).database, make_inside_dsn(inside) if inside else None)

        try:
            tools = int(self._binaries().version().partition(".")[0])
        except BackoutError:
            tools = 0
        return read_survey(session, planned, ask_cron=ask_cron, tools_version=tools, connect=self._connect)

    def _list_jobs(self, cron: str, database: str, url: str | None) -> Sequence[tuple[int, str]]:
        with self._open_session(url, dbname=cron) as beside:
            if not beside.execute(queries.HAS_CRON.encode()).fetchone()[0]:
                return ()
            rows = beside.execute(queries.JOBS.encode(), {"database": database}).fetchall()
        return [(int(number), str(schedule)) for number, schedule in rows]

    def _read(self, session: Any) -> Standing | None:
        rows = session.execute(_COMMENTS.encode(), (PREFIX,)).fetchall()
        standing = read_comments(((role, text) for role, text, _ in rows), session.info.dbname, self._connect)
        if standing is None:
            return None
        open_roles = {role for role, _, can_log_in in rows if can_log_in}
        let_in = tuple(each.name for each in standing.mark.roles if each.name in open_roles)
        return replace(standing, mark=replace(standing.mark, let_in=let_in)) if let_in else standing

    def _keep_session(self) -> None:
        """Keep a second session, for when no further one is let in."""
        if self._kept is None or self._kept.closed:
            self._kept = self._make_session(self._url(), {})
            weakref.finalize(self, self._kept.close)
        self._kept.execute(b"SELECT 1")

    @contextmanager
    def _open_session(self, url: str | None = None, *, fallback: bool = False, **more: Any) -> Iterator[Any]:
        """Yield a session; `fallback`: the kept one where no new one is let in.

        Raises:
            AuthError, ProviderUnavailable: there is none, or it failed.
        """
        import psycopg

        wanted = self._url() if url is None else url
        try:
            try:
                session = self._make_session(wanted, more)
            except psycopg.OperationalError:
                if not fallback or self._kept is None or self._kept.closed:
                    raise
                yield self._kept
                return
            with closing(session):
                yield session
        except (psycopg.Error, UnicodeError) as error:
            raise make_connection_error(error, wanted, "the fence") from None  # its text may quote the string

    def _make_session(self, url: str, more: dict[str, Any]) -> Any:
        timeouts = {"statement_timeout_s": 30.0, "lock_timeout_s": 5.0}
        session: Any = open_working(
            url, connect_timeout_s=self._connect_timeout_s, settings=_WRITES, **timeouts, **more
        )
        if session.info.server_version >= _SWITCHES_TRIGGERS_OFF and read_me(session).is_superuser:
            session.execute(b"SET SESSION event_triggers = off")  # the application's code would run as us
        return session


def _read_states(session: Any, names: Sequence[str]) -> Iterator[FencedRole]:
    for name, login, limit, comment in session.execute(_STATES.encode(), (list(names),)).fetchall():
        yield FencedRole(name, login, limit, comment)


def _add_standing(standing: Standing | None, look: Look) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the jobs and subscriptions that a fence stops, with those that one that stands has stopped."""
    jobs, subscriptions = (standing.mark.jobs, standing.mark.subscriptions) if standing else ((), ())
    more = look.survey.subscriptions
    return tuple(dict.fromkeys((*jobs, *look.jobs))), tuple(dict.fromkeys((*subscriptions, *more)))


def _refuse_other(standing: Standing | None, run: str) -> None:
    if standing is not None and standing.mark.run != run:
        raise Refused(
            f"the fence of run {standing.mark.run} stands ({standing.mark.actor})",
            where="database",
            rule=SafetyRule.PREFLIGHT,
            options=("Go on with that run, or open its fence: `backout unfence`.",),
        )


def _count_sessions(roles: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{role} ({number})" for role, number in roles)
