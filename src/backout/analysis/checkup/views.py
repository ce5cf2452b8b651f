"""Which of the checks each command shows, and at which level; pure.

There is one list of checks (`wiring.checkup`). A command is a view of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.model.checkup import CheckState, Level, View

if TYPE_CHECKING:
    from backout.model.checkup import Check

_BEFORE_A_DEPLOYMENT: Final = frozenset({"pending_migrations", "restore_point"})
"""Questions about the deployment that comes next: doctor has none."""
_NOT_ABOUT_A_RETURN: Final = frozenset(
    {"config", "clock", "database_role", "dead_man", "git_ignore"},
)
"""Questions of doctor's whose answer does not change whether a deployment could be left again."""
_RAISED: Final = frozenset(
    {"stable_version", "hold", "secrets", "backup_age", "backup_proof", "restore_point", "pending_migrations"}
)
"""Checks without which a deployment could not be taken back; for doctor some of them only should be there."""


def shows(view: View, question: str) -> bool:
    """Return whether a view has the checks of a question."""
    return question not in (_BEFORE_A_DEPLOYMENT if view is View.DOCTOR else _NOT_ABOUT_A_RETURN)


def set_level(check: Check, view: View) -> Check:
    """Return the check at the level that it has in a view; what is not set up never blocks a deployment."""
    if view is View.DOCTOR or check.name not in _RAISED or check.state is CheckState.NOT_SET_UP:
        return check
    return replace(check, level=Level.MUST)
