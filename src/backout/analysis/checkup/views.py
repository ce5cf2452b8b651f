"""Which of the checks each command shows, and at which level; pure.

There is one list of checks (`wiring.checkup`). A command is a view of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.errors import AuthError, Refused, Unmeasured
from backout.model.checkup import CheckState, Level, View

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backout.model.checkup import Check

_BEFORE_A_DEPLOYMENT: Final = frozenset({"pending_migrations", "restore_point"})
"""Questions about the deployment that comes next: doctor has none."""
_NOT_ABOUT_A_RETURN: Final = frozenset(
    {"config", "clock", "database_role", "dead_man", "git_ignore"},
)
"""Questions of doctor's whose answer does not change whether a deployment could be left again."""
_RAISED: Final = frozenset(
    {"stable_version", "hold", "secrets", "backup_age", "backup_proof", "restore_point", "pending_migrations", "trial"}
)
"""Checks without which a deployment could not be taken back; for doctor some of them only should be there."""


_ONLINE: Final = frozenset(
    {"token", "platform", "clock", "pin", "health", "health_version", "traffic", "migrations", "journal_server"}
)
"""Questions that compare the file with the systems it names."""
PARTS: Final = {"platform": "platform", "health": "health", "traffic": "traffic", "migrations": "database"}
"""Checks of whether a part answers, and what the part is called."""
_ONLY_TOLD: Final = frozenset({"clock", "health_version"})
_DECIDES: Final = (AuthError.exit_code, Refused.exit_code)


def shows(view: View, question: str) -> bool:
    """Return whether a view has the checks of a question."""
    if view is View.ONLINE:
        return question in _ONLINE
    return question not in (_BEFORE_A_DEPLOYMENT if view is View.DOCTOR else _NOT_ABOUT_A_RETURN)


def set_level(check: Check, view: View) -> Check:
    """Return the check at the level that it has in a view; what is not set up never blocks a deployment.

    Nor does a trial that could not be looked for: many roles may not log in to where the look has to be taken from.
    """
    is_unseen = check.name == "trial" and check.state is CheckState.UNMEASURED
    if view is not View.PREFLIGHT or check.name not in _RAISED or check.state is CheckState.NOT_SET_UP or is_unseen:
        return check
    return replace(check, level=Level.MUST)


def list_findings(checks: Iterable[Check]) -> tuple[tuple[int, Check], ...]:
    """Return the checks that would stop a command that acts, each with its exit code: 3, 4, or 7 for no answer."""
    return tuple(
        (check.code if check.code in _DECIDES and check.name not in PARTS else Unmeasured.exit_code, check)
        for check in checks
        if check.is_gap and check.code and check.name not in _ONLY_TOLD and not check.name.endswith("_permissions")
    )
