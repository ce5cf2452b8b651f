"""Deployments: which versions were live, their shares of the traffic, and what their messages say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NewType

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.remark import Doubt, Remark
    from backout.model.version import VersionId

DeploymentId = NewType("DeploymentId", str)


class Share(Value, frozen=True):
    """A version and its percentage of the traffic, 0 to 100."""

    version: VersionId
    percentage: float


class Cohort(Value, frozen=True):
    """Requests of a group, named by whoever sends them, and how the versions of a deployment share those."""

    name: str
    shares: tuple[Share, ...]


class OnHost(Value, frozen=True):
    """What a host of the application shows.

    Args:
        deployment: the one that is live there, None: there is none, or it was not read.
        sole: the version that all of its visitors get, None: there is none, or more than one.
        why: why it was not read, "" where that is not known.
    """

    name: str
    deployment: DeploymentId | None
    sole: VersionId | None = None
    is_read: bool = True
    why: str = ""


@dataclass(frozen=True, slots=True)
class Deployment:
    """Versions made live at one moment, each with a percentage; `shares` largest first.

    Args:
        cohorts: groups of requests that are shared otherwise; `shares` is of all the others.
        message: free text, which proves nothing by itself.
        claim: the remark that the message reads like.
        doubt: why that does not count, None when it does. `analysis.history.marks` fills in both.
        is_maintenance: it made a maintenance version live, as far as versions were looked at.
        hosts: what each host shows, where they do not all show it, or not all were read.
    """

    id: DeploymentId
    created_at: float
    shares: tuple[Share, ...]
    message: str = ""
    triggered_by: str = ""
    author: str = ""
    cohorts: tuple[Cohort, ...] = ()
    claim: Remark | None = field(default=None, compare=False)
    doubt: Doubt | None = field(default=None, compare=False)
    is_maintenance: bool = field(default=False, compare=False)
    hosts: tuple[OnHost, ...] = field(default=(), compare=False)

    @property
    def remark(self) -> Remark | None:
        """What it says as one of backout's own deployments; None for every other one."""
        return self.claim if self.doubt is None else None

    @property
    def sole(self) -> VersionId | None:
        """The version at 100 %, of each cohort too, or None when the traffic is split."""
        every = [self.shares, *(cohort.shares for cohort in self.cohorts)]
        whole = {shares[0].version if shares and shares[0].percentage >= 100 else None for shares in every}
        return whole.pop() if len(whole) == 1 else None

    @property
    def main(self) -> VersionId:
        """The version with the largest share."""
        return self.shares[0].version

    def serves(self, version: str) -> bool:
        """Whether the version gets any traffic here, if only that of a cohort."""
        every = (*self.shares, *(share for cohort in self.cohorts for share in cohort.shares))
        return any(share.version == version and share.percentage > 0 for share in every)

    def describe_hosts(self) -> str:
        """Return what each host shows, "" where all of them show this deployment."""
        return ", ".join(
            f"{each.name} shows {each.sole or each.deployment or 'nothing'}"
            if each.is_read
            else f"{each.name} was not read{each.why and f' ({each.why})'}"
            for each in self.hosts
        )

    def record_cohorts(self) -> list[dict[str, object]]:
        """Return each cohort with its versions as JSON values."""
        return [
            {
                "name": cohort.name,
                "versions": [{"version": each.version, "percentage": each.percentage} for each in cohort.shares],
            }
            for cohort in self.cohorts
        ]

    def describe_cohorts(self) -> tuple[str, ...]:
        """Return each cohort with its versions, as "employees: v2... 100 %"."""
        return tuple(
            f"{cohort.name}: {', '.join(f'{each.version[:8]} {each.percentage:g} %' for each in cohort.shares)}"
            for cohort in self.cohorts
        )


def add_shares_of_cohorts(shares: Sequence[Share], cohorts: Sequence[Cohort]) -> tuple[Share, ...]:
    """Return the shares, with each version that cohorts alone have at 0 %: it gets none of the others' traffic."""
    named = {share.version for share in shares}
    elsewhere = dict.fromkeys(share.version for cohort in cohorts for share in cohort.shares)
    return (*shares, *(Share(version, 0.0) for version in elsewhere if version not in named))


def carry_cohorts(live: Sequence[Cohort], kept: Sequence[Cohort], shares: Sequence[Share]) -> tuple[Cohort, ...]:
    """Return the cohorts of another deployment: those kept that have versions of it alone, the others share as it does.

    Args:
        live: of what is live, none of which is forgotten.
        shares: of the other deployment.
    """
    versions = {share.version for share in shares}
    named = {cohort.name: Cohort(cohort.name, tuple(shares)) for cohort in (*live, *kept)}
    fitting = {each.name: each for each in kept if {share.version for share in each.shares} <= versions}
    return tuple((named | fitting).values())


class CommandEnd(Value, frozen=True):
    """The result of the team's own deploy command: its exit code, and the last lines of its output, masked."""

    code: int
    tail: tuple[str, ...] = ()
