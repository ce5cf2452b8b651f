"""The steps of a roll-forward: look at the migrations, deploy, read back, see that they were applied, settle."""

from __future__ import annotations

from typing import ClassVar

from backout.model.database.compatibility import Compatibility
from backout.model.steps.base import Arguments, Result
from backout.model.steps.rollback import ReadBackResult


class CheckMigrationsResult(Result, frozen=True, kw_only=True):
    """The pending migrations with their current verdicts."""

    pending: dict[str, Compatibility]


class CheckMigrationsStep(Arguments[CheckMigrationsResult], frozen=True, kw_only=True):
    """Check that nothing has changed since a person saw the plan.

    Args:
        pending: verdicts of the plan by migration.
        judged: whether they could be judged at all.
    """

    action: ClassVar[str] = "check_migrations"
    expected: str
    leaving: str
    pending: dict[str, Compatibility]
    judged: bool


class DeployResult(Result, frozen=True, kw_only=True):
    """The command's exit code, and its last lines."""

    code: int
    tail: tuple[str, ...] = ()


class DeployStep(Arguments[DeployResult], frozen=True, kw_only=True):
    """Run the team's own deploy command; `leaving_since` in Unix seconds."""

    action: ClassVar[str] = "deploy"
    expected: str
    leaving: str
    command: str
    leaving_since: float = 0.0


class ReadNewStep(Arguments[ReadBackResult], frozen=True, kw_only=True):
    """Read the new live version back from the provider."""

    action: ClassVar[str] = "read_new"
    expected: str
    leaving: str


class CheckHeadResult(Result, frozen=True, kw_only=True):
    """The newest migration that is applied, None for none."""

    head: str | None


class CheckHeadStep(Arguments[CheckHeadResult], frozen=True, kw_only=True):
    """Check that the application's own tool applied the pending migrations."""

    action: ClassVar[str] = "check_head"
    pending: tuple[str, ...] = ()


class SettleForwardResult(Result, frozen=True, kw_only=True):
    """The kind of notice, and whether one is sent."""

    outcome: str
    told: bool = False


class SettleForwardStep(Arguments[SettleForwardResult], frozen=True, kw_only=True):
    """Send the notice."""

    action: ClassVar[str] = "settle_forward"
    leaving: str
