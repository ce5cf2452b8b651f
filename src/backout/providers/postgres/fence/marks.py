"""The comments on roles in which a fence stands, and the statements that raise and open it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

import msgspec

from backout.decoding import Undecodable, decode_json
from backout.errors import BackoutError
from backout.model.database.fence import FencedRole, FenceMark
from backout.model.value import Value
from backout.providers.postgres.fence.by_hand import PREFIX
from backout.providers.postgres.restore.wal_search import FENCE_MESSAGE
from backout.providers.postgres.schema.quoting import fit_in_line, quote_identifier, quote_literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Note(Value, frozen=True):
    """What the comment on a fenced role says: the fence, and the role from before.

    Args:
        deadline, raised_at: Unix seconds.
        comment: the role's own, None where it had none.
        cron: the database in which pg_cron keeps its jobs, "" for none.
    """

    run: str
    actor: str
    database: str
    raised_at: float
    deadline: float
    login: bool
    connection_limit: int
    comment: str | None
    jobs: tuple[int, ...] = ()
    subscriptions: tuple[str, ...] = ()
    cron: str = ""


class Standing(Value, frozen=True):
    """A fence as the comments on its roles tell.

    Args:
        cron: the database in which pg_cron keeps its jobs, "" for none.
    """

    mark: FenceMark
    cron: str = ""


def write_comment(mark: FenceMark, role: FencedRole, cron: str) -> str:
    """Return the comment on a role while the fence stands."""
    note = Note(
        mark.run,
        mark.actor,
        mark.database,
        mark.raised_at,
        mark.deadline,
        role.login,
        role.connection_limit,
        role.comment,
        mark.jobs,
        mark.subscriptions,
        cron,
    )
    return PREFIX + msgspec.json.encode(note).decode()


def read_comments(comments: Iterable[tuple[str, str]], database: str, connect: str) -> Standing | None:
    """Return the fence that the comments of roles tell of, None where none stands in this database.

    Args:
        comments: (role, comment) of those that begin with `PREFIX`.
        connect: what a psql line begins with.

    Raises:
        BackoutError: one cannot be read.
    """
    notes = {role: note for role, text in comments if (note := _read_comment(role, text)).database == database}
    if not notes:
        return None
    first = next(iter(notes.values()))
    if any(note.run != first.run for note in notes.values()):
        what = f"several fences stand, of runs {', '.join(sorted({note.run for note in notes.values()}))}"
        raise BackoutError(what, where="database", hint="open one by hand: the comments on the roles tell how")
    roles = tuple(
        FencedRole(role, note.login, note.connection_limit, note.comment) for role, note in sorted(notes.items())
    )
    jobs = tuple(dict.fromkeys(job for note in notes.values() for job in note.jobs))
    subscriptions = tuple(dict.fromkeys(name for note in notes.values() for name in note.subscriptions))
    mark = FenceMark(first.run, first.actor, database, first.raised_at, first.deadline, roles, jobs, subscriptions)
    return Standing(msgspec.structs.replace(mark, by_hand=write_line(mark, first.cron, connect)), first.cron)


def _read_comment(role: str, text: str) -> Note:
    try:
        return decode_json(text.removeprefix(PREFIX), Note)
    except Undecodable:
        raise BackoutError(
            f"the comment on role {role} is a fence's, and cannot be read",
            where="database",
            hint=f"give the role back what it had by hand: ALTER ROLE {quote_identifier(role)} LOGIN; then its comment",
        ) from None


OURS: Final = f"SELECT pg_catalog.pg_logical_emit_message(true, '{FENCE_MESSAGE}', '')"
"""What a transaction of a fence begins with, so that the WAL tells its changes to roles from those of others."""


def write_raising(mark: FenceMark, cron: str) -> list[str]:
    """Return the statements that raise it, the comments first; together they are one transaction."""
    return [
        *(
            f"COMMENT ON ROLE {quote_identifier(each.name)} IS {quote_literal(write_comment(mark, each, cron))}"
            for each in mark.roles
        ),
        *(f"ALTER ROLE {quote_identifier(each.name)} NOLOGIN" for each in mark.roles),
        *(f"ALTER SUBSCRIPTION {quote_identifier(name)} DISABLE" for name in mark.subscriptions),
    ]


def write_opening(mark: FenceMark) -> list[str]:
    """Return the statements that give back what the roles had; where nothing was taken they change nothing."""
    return [
        *(_write_role(each) for each in mark.roles),
        *(
            f"COMMENT ON ROLE {quote_identifier(each.name)} IS "
            f"{'NULL' if each.comment is None else _quote_in_line(each.comment)}"
            for each in mark.roles
        ),
        *(f"ALTER SUBSCRIPTION {quote_identifier(name)} ENABLE" for name in mark.subscriptions),
    ]


def write_jobs(jobs: Sequence[int], *, active: bool) -> str:
    """Return the statement that switches jobs of pg_cron."""
    word = "true" if active else "false"
    return f"UPDATE cron.job SET active = {word} WHERE jobid IN ({', '.join(str(job) for job in jobs)})"  # noqa: S608 - numbers


def list_commands(mark: FenceMark, cron: str) -> list[str]:
    """Return what psql is given to open it, one `-c` each."""
    opening = "; ".join(write_opening(mark))
    if not mark.jobs:
        return [opening]
    there, back = (f"\\c {quote_identifier(each)}" for each in (cron, mark.database))
    return [there, write_jobs(mark.jobs, active=True), back, opening]


def write_line(mark: FenceMark, cron: str, connect: str) -> str:
    """Return the psql line that opens it, "" where a name has no place in one."""
    commands = list_commands(mark, cron)
    if not fit_in_line(*commands):
        return ""
    return " ".join([connect, "-X -v ON_ERROR_STOP=1", *(f"-c {shlex.quote(each)}" for each in commands)])


def _write_role(role: FencedRole) -> str:
    login = "LOGIN" if role.login else "NOLOGIN"
    return f"ALTER ROLE {quote_identifier(role.name)} {login} CONNECTION LIMIT {role.connection_limit}"


def _quote_in_line(text: str) -> str:
    r"""Return a text as SQL in one line.

    >>> _quote_in_line("it's\n")
    "E'it''s\\u000a'"
    """
    if text.isprintable():
        return quote_literal(text)
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return "E'" + "".join(each if each.isprintable() else _escape(each) for each in escaped) + "'"


def _escape(sign: str) -> str:
    return f"\\u{ord(sign):04x}" if ord(sign) < 1 << 16 else f"\\U{ord(sign):08x}"
