"""The way on that exit code 5 names, typed once it is over what stopped the command."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from backout.errors import PartlyDone

if TYPE_CHECKING:
    from cli_shell import Answer

    from database_lab.world import World

PARTLY: Final = PartlyDone.exit_code
_NAMED: Final = re.compile(r"\bbackout (?P<words>runs resume [\w-]+)")


def find_way_on(said: str) -> str:
    """Return the command that goes on with what was stopped, without `backout`; "" where none is named."""
    found = _NAMED.search(said)
    return "" if found is None else found["words"]


def go_on(world: World, answer: Answer, *more: str, role: str, database: str) -> tuple[Answer, str | None]:
    """Type what exit code 5 names; return the last answer, and what was typed: "" nothing was named, None no need.

    Args:
        more: words that were typed the first time and shape the answer.
    """
    if answer.code != PARTLY:
        return answer, None
    words = find_way_on(answer.out + answer.err)
    if not words:
        return answer, ""
    return world.backout(*words.split(), *more, role=role, database=database), f"backout {words}"
