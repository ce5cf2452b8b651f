"""Identity: each mutation first compares who the environment is with what is pinned (safety rule 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import Refused
from backout.model.identity import Identity

if TYPE_CHECKING:
    from backout.runbook.toolbox import Toolbox


def check_identity(tools: Toolbox) -> None:
    """Return when everything pinned is what our credentials reach.

    Raises:
        Refused: something pinned is another one, or cannot be read; the text shows both.
    """
    if tools.identities is None or tools.pinned == Identity():
        return
    differences = tools.pinned.differences(tools.identities.read())
    if not differences:
        return
    shown = "; ".join(
        f"{name}: pinned {mine}, found {other or 'nothing readable'}" for name, mine, other in differences
    )
    raise Refused(
        f"this is not the environment that backout.toml pins: {shown}",
        where=tools.environment,
        rule="1 identity",
        options=(
            "if the pin is right, correct what backout.toml names (account, script, database, bucket, health)",
            f"if the environment was rebuilt on purpose: `backout init --pin -e {tools.environment}`",
        ),
    )
