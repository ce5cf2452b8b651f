"""Approvals: which plans of a person wait until a person has approved them, who may, and for how long it counts."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from backout.model.plan import PlanKind
from backout.model.value import Value

if TYPE_CHECKING:
    from backout.model.plan import Plan


class Change(StrEnum):
    """What a plan does, as the configuration names it; a plan may be several."""

    ROLLBACK = "rollback"
    ROLL_FORWARD = "roll-forward"
    SECRETS = "secrets"
    RESTORE = "restore"  # rows or objects are overwritten, also in a rollback or a recovery
    RECOVER = "recover"


class Approver(StrEnum):
    """Who may approve."""

    ANYONE = "anyone"  # who asked for it, too: it is a second look
    SECOND_PERSON = "second-person"  # somebody else, by the journal's own proof of who writes


OVERWRITES: Final = frozenset(
    (
        *("restore_objects", "undo_objects", "db_rescue", "db_undo_rescue", "db_exchange"),
        *("db_branch_rescue", "db_branch_finalize"),
    )
)
"""The steps that overwrite data which is in use, by their names in plans."""
RECOVERS: Final = "recover_report"
"""The last step of a recovery, and of the undo of one."""
_BY_KIND: Final = {
    PlanKind.ROLLBACK: Change.ROLLBACK,
    PlanKind.FORWARD: Change.ROLL_FORWARD,
    PlanKind.SECRETS: Change.SECRETS,
}
NOT_PROVABLE: Final = "a second person is not provable"
"""What a journal says that cannot tell who approves."""
IN_A_FILE: Final = "whoever may write to the journal's file may write any name into it"
"""Why one in a file cannot."""


class ApprovalRule(Value, frozen=True):
    """What has to be approved, by whom, and for how many seconds an approval counts."""

    required_for: tuple[Change, ...] = ()
    by: Approver = Approver.ANYONE
    expires_s: float = 3600.0

    def join(self, other: ApprovalRule) -> ApprovalRule:
        """Return the rule that asks for all that both ask for."""
        by = Approver.SECOND_PERSON if Approver.SECOND_PERSON in (self.by, other.by) else self.by
        return ApprovalRule(self.required_for, by, min(self.expires_s, other.expires_s))

    def needs(self, plan: Plan) -> bool:
        """Whether a plan waits for an approval; what guard does itself never does."""
        return not plan.cause and not list_changes(plan).isdisjoint(self.required_for)


class Approval(Value, frozen=True):
    """A person's approval of one plan.

    Args:
        person: the role of the journal's database that gave it, as its server says; "" for nobody.
        on_behalf_of: the role whose login gave it, as the pages say; it counts where `person` is the pages' role.
        at, expires_at: Unix seconds, by the journal's own clock; it has to be used by then.
        hash: of the plan; a changed plan has another one.
        is_spooled: it was given while the journal's server was away, by another clock.
    """

    by: str
    person: str
    why: str
    at: float
    expires_at: float
    hash: str
    is_spooled: bool = False
    on_behalf_of: str = ""


class BrokenGlass(Value, frozen=True):
    """A person's decision to go on without the approval that a plan needs; `at`: Unix seconds."""

    by: str
    why: str
    at: float


class Waiting(Value, frozen=True):
    """A plan waits for its approval.

    Args:
        expires_s: how long an approval counts.
    """

    by: Approver
    expires_s: float
    at: float


def list_changes(plan: Plan) -> set[Change]:
    """Return what a plan does, as the configuration names it."""
    found = {_BY_KIND[plan.kind]} if plan.kind in _BY_KIND else set()
    steps = {step.action for step in plan.steps}
    if not steps.isdisjoint(OVERWRITES):
        found.add(Change.RESTORE)
    if RECOVERS in steps:
        found.add(Change.RECOVER)
    return found
