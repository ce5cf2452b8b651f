"""Sequences that the damage set back, as TRUNCATE ... RESTART IDENTITY does: they go on behind what they had given out.

Numbers given out since the damage may be those of rows that it removed. Which of the two keeps its number is for a
person to say, so that such rows are left out, with the SQL for either way.

Source: PostgreSQL 18, TRUNCATE, "Sequence Manipulation Functions", "pg_sequences".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from backout.model.recovery import LeftOut

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.providers.postgres.rescue_scope import Session

_SEQUENCES: Final = """
SELECT c.oid::bigint, format('%I.%I', n.nspname, c.relname), s.seqincrement > 0, pg_get_userbyid(c.relowner)::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_sequence s ON s.seqrelid = c.oid
WHERE c.relkind = 'S' AND n.nspname !~ '^pg_' AND c.relpersistence = 'p' ORDER BY 1
"""


def advance(session: Session) -> Iterator[str]:
    """Yield the statements that let sequences go on behind what they had given out; run them unless it is dry."""
    from psycopg.errors import InsufficientPrivilege  # noqa: PLC0415 - costs 0.1 s

    after = {oid: name for oid, name, *_ in session.after.execute(_SEQUENCES).fetchall()}
    live = {oid: (name, owner) for oid, name, _, owner in session.live.execute(_SEQUENCES).fetchall()}
    for oid, name, rises, _ in session.before.execute(_SEQUENCES).fetchall():
        if oid not in after or oid not in live:
            continue
        was, then = _last(session.before, name), _last(session.after, after[oid])
        if was is None or (then is not None and not _is_behind(then, was, rises=rises)):
            continue
        here, owner = live[oid]
        mine = session.of(owner)
        try:
            now = _last(mine.live, here)
            if now is not None and not _is_behind(now, was, rises=rises):
                continue
            statement = f"SELECT setval('{here.replace(chr(39), chr(39) * 2)}', {was})"
            if session.kept is not None:
                mine.live.execute(statement.encode())
            yield statement
        except InsufficientPrivilege as error:
            by_hand = f"SELECT setval('{here}', {was});"
            session.left_out.append(LeftOut(f"sequence {here}", f"the damage set it back: {error}", by_hand))


def _last(connection: Any, name: str) -> int | None:
    """Return the last number that was given out, None when none was."""
    last, called = connection.execute(f"SELECT last_value, is_called FROM {name}").fetchone()  # noqa: S608 as quoted there
    return int(last) if called else None


def _is_behind(one: int, other: int, *, rises: bool) -> bool:
    return one < other if rises else one > other
