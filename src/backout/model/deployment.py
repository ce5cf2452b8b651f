"""Deployments: which versions were live, their shares of the traffic, and what their messages say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NewType

from backout.model.value import Value

if TYPE_CHECKING:
    from backout.model.remark import Doubt, Remark
    from backout.model.version import VersionId

DeploymentId = NewType("DeploymentId", str)


class Share(Value, frozen=True):
    """A version and its percentage of the traffic, 0 to 100."""

    version: VersionId
    percentage: float


@dataclass(frozen=True, slots=True)
class Deployment:
    """Versions made live at one moment, each with a percentage; `shares` largest first.

    Args:
        message: free text, which proves nothing by itself.
        claim: the remark that the message reads like.
        doubt: why that does not count, None when it does. `analysis.history.marks` fills in both.
    """

    id: DeploymentId
    created_at: float
    shares: tuple[Share, ...]
    message: str = ""
    triggered_by: str = ""
    author: str = ""
    claim: Remark | None = field(default=None, compare=False)
    doubt: Doubt | None = field(default=None, compare=False)

    @property
    def remark(self) -> Remark | None:
        """What it says as one of backout's own deployments; None for every other one."""
        return self.claim if self.doubt is None else None

    @property
    def sole(self) -> VersionId | None:
        """The version at 100 %, or None when the traffic is split."""
        return self.shares[0].version if self.shares and self.shares[0].percentage >= 100 else None

    @property
    def main(self) -> VersionId:
        """The version with the largest share."""
        return self.shares[0].version

    def serves(self, version: str) -> bool:
        """Whether the version gets any traffic here."""
        return any(share.version == version and share.percentage > 0 for share in self.shares)


class CommandEnd(Value, frozen=True):
    """The result of the team's own deploy command: its exit code, and the last lines of its output, masked."""

    code: int
    tail: tuple[str, ...] = ()
