"""Sequences that the damage set back, as TRUNCATE ... RESTART IDENTITY does: they continue after their last value.

Numbers handed out since the damage may be those of rows that it removed: see `rescue.numbers`.

Source: PostgreSQL 18, TRUNCATE, "Sequence Manipulation Functions", "pg_sequences".
"""

# ruff: noqa: S608 - statements are put together from names that the catalog itself gave, each quoted

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from backout.model.database.rescue import LeftOut
from backout.providers.postgres.schema.quoting import quote_literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.providers.postgres.rescue.scope import Session

_SEQUENCES: Final = """
SELECT c.oid::bigint, format('%I.%I', n.nspname, c.relname), s.seqincrement > 0, pg_get_userbyid(c.relowner)::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_sequence s ON s.seqrelid = c.oid
WHERE c.relkind = 'S' AND n.nspname !~ '^pg_' AND c.relpersistence = 'p' ORDER BY 1
"""


def note_set_back(session: Session) -> None:
    """Note which sequences the damage set back."""
    after = {oid: name for oid, name, *_ in session.after.execute(_SEQUENCES).fetchall()}
    for oid, name, rises, _ in session.before.execute(_SEQUENCES).fetchall():
        was = _read_last(session.before, name) if oid in after else None
        if was is not None:
            then = _read_last(session.after, after[oid])
            if then is None or _is_behind(then, was, rises=rises):
                session.set_back[oid] = was


def advance(session: Session) -> Iterator[str]:
    """Yield the statements that let sequences go on behind what they had given out; run them unless it is dry."""
    from psycopg.errors import InsufficientPrivilege

    live = {oid: (name, rises, owner) for oid, name, rises, owner in session.live.execute(_SEQUENCES).fetchall()}
    for oid, was in session.set_back.items():
        if oid not in live:
            continue
        here, rises, owner = live[oid]
        mine = session.of(owner)
        statement = f"SELECT setval({quote_literal(here)}, {was})"
        try:
            now = _read_last(mine.live, here)
            if now is not None and not _is_behind(now, was, rises=rises):
                continue
            if session.kept is not None:
                mine.live.execute(statement.encode())
            yield statement
        except InsufficientPrivilege as error:
            session.left_out.append(LeftOut(f"sequence {here}", f"the damage set it back: {error}", f"{statement};"))


def _read_last(connection: Any, name: str) -> int | None:
    """Return the last number that was given out, None when none was."""
    last, called = connection.execute(f"SELECT last_value, is_called FROM {name}").fetchone()
    return int(last) if called else None


def _is_behind(one: int, other: int, *, rises: bool) -> bool:
    return one < other if rises else one > other
