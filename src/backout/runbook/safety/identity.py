"""Identity: each mutation first compares the environment's identity with the pinned one (safety rule 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.errors import Refused
from backout.model.identity import Identity
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from backout.runbook.toolbox import Toolbox

MAY_BE_UNREADABLE: Final = frozenset({"database_system_identifier"})
"""A database that is down is a reason to roll code back, so what it does not tell is reported, and blocks nothing. The
account and the application come from the same API that a mutation needs; bucket and health host from the file."""


def check_identity(tools: Toolbox) -> None:
    """Check that everything pinned is what our credentials reach, or (a database) cannot be asked just now.

    Raises:
        Refused: something pinned is different, or not there; the text shows both.
    """
    if tools.safety.identities is None or tools.safety.pinned == Identity():
        return
    differences = tools.safety.pinned.differences(tools.safety.identities.read())
    for name, mine, found in differences:
        if found is None and name in MAY_BE_UNREADABLE:
            tools.say(f"{name} could not be compared with the pinned {mine}: the database does not tell it now")
    wrong = [d for d in differences if d[2] is not None or d[0] not in MAY_BE_UNREADABLE]
    if not wrong:
        return
    shown = "; ".join(f"{name}: pinned {mine}, found {other or 'none'}" for name, mine, other in wrong)
    raise Refused(
        f"this is not the environment that backout.toml pins: {shown}",
        where=tools.environment,
        rule=SafetyRule.IDENTITY,
        options=(
            "if the pin is right, correct what backout.toml names (account, script, database, bucket, health)",
            f"if the environment was rebuilt on purpose: `backout init --pin --force -e {tools.environment}`",
        ),
    )
