"""Whether commands say that the database is protected: none may while a gap is in the WAL since its newest base."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cli_shell import Answer

    from database_lab.world import World

ASKED: Final = ((("db", "check"), "look"), (("db", "wal", "status"), "backup"), (("db", "backups", "list"), "backup"))
"""Each command that answers it, and the role that types it."""
_SAYS: Final = re.compile(r"(?<!whether it is )\bprotected\b(?! last at )", re.IGNORECASE)


def list_claims(world: World) -> tuple[str, ...]:
    """Return what says so now: each command, with its line or its exit code."""
    typed = ((" ".join(words), world.backout(*words, role=role)) for words, role in ASKED)
    found = ((words, find_claim(answer)) for words, answer in typed)
    return tuple(f"backout {words}: {said}" for words, said in found if said)


def find_claim(answer: Answer) -> str:
    """Return how an answer says so, "" where it does not: exit code 0 says it without a word."""
    lines = (line.strip() for line in (answer.out + answer.err).splitlines() if _SAYS.search(line))
    return next(lines, "exit code 0" if answer.code == 0 else "")
