"""The sessions of others in a fenced database: they are seen, ended, and watched for."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from backout.model.value import Value
from backout.providers.postgres.fence import queries

if TYPE_CHECKING:
    from collections.abc import Sequence

_POLL_S: Final = 0.05


class Quiet(Value, frozen=True):
    """A watch for sessions of others.

    Args:
        reached: whether there was none for as long as was asked.
        quiet_s: how long there was none in the end.
        terminated: those that were ended.
        roles: who they were, and how many of each.
    """

    reached: bool
    quiet_s: float
    terminated: int
    roles: tuple[tuple[str, int], ...] = ()


def list_others(session: Any) -> Sequence[tuple[int, str]]:
    """Return the sessions of every role but ours in this database: (process, role)."""
    return [(int(pid), str(role)) for pid, role in session.execute(queries.OTHERS.encode()).fetchall()]


def wait_for_quiet(session: Any, quiet_s: float, within_s: float) -> Quiet:
    """End the sessions of others until there is none for a while.

    Args:
        quiet_s: how long there must be none.
        within_s: how long to try in all.
    """
    began = since = time.monotonic()
    seen: Counter[str] = Counter()
    known: set[int] = set()
    while True:
        others = list_others(session)
        now = time.monotonic()
        if others:
            seen.update(role for pid, role in others if pid not in known)
            known.update(pid for pid, _ in others)
            _end(session, others)
            since = time.monotonic()
        elif now - since >= quiet_s:
            return Quiet(True, now - since, seen.total(), tuple(sorted(seen.items())))
        if now - began >= within_s:
            return Quiet(False, now - since if not others else 0.0, seen.total(), tuple(sorted(seen.items())))
        time.sleep(_POLL_S)


def _end(session: Any, others: Sequence[tuple[int, str]]) -> None:
    """Ask processes to end; one that may not be asked is seen again."""
    from psycopg.errors import InsufficientPrivilege

    for pid, _ in others:
        with suppress(InsufficientPrivilege):
            session.execute(b"SELECT pg_terminate_backend(%s)", (pid,))
