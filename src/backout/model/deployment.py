"""Versions and deployments, and the marks that backout puts on versions."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from backout.model.remark import Doubt, Remark

VersionId = NewType("VersionId", str)
DeploymentId = NewType("DeploymentId", str)


@dataclass(frozen=True, slots=True)
class Version:
    """An immutable build (code + configuration).

    Args:
        number: the provider's running number. created_at: Unix seconds.
        code_hash: hash of the uploaded modules alone; versions that differ only in a secret share it. None: unknown.
        message, tag, git_sha, triggered_by: annotations, "" when absent.
        secret_names: names of the secrets bound. bindings: "type:name" of all bindings, sorted.
        handlers: the kinds of events that its code answers (fetch, scheduled, queue ...), () when unknown.
    """

    id: VersionId
    number: int
    created_at: float
    code_hash: str | None = None
    message: str = ""
    tag: str = ""
    git_sha: str = ""
    triggered_by: str = ""
    author: str = ""
    secret_names: tuple[str, ...] = ()
    bindings: tuple[str, ...] = ()
    handlers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Share:
    """A version and its percentage of the traffic, 0 to 100."""

    version: VersionId
    percentage: float


@dataclass(frozen=True, slots=True)
class Deployment:
    """Versions made live with percentages, at one moment; `shares` largest first.

    Args:
        message: anybody's text, which says nothing by itself. claim: the remark that it reads like. doubt: why that
            counts for nothing, None when it counts. `analysis.marks` fills in both.
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
        return self.shares[0].version if self.shares and self.shares[0].percentage >= 100 else None  # noqa: PLR2004

    @property
    def main(self) -> VersionId:
        """The version with the largest share."""
        return self.shares[0].version

    def serves(self, version: str) -> bool:
        """Whether the version gets any traffic here."""
        return any(share.version == version and share.percentage > 0 for share in self.shares)


@dataclass(frozen=True, slots=True)
class CommandEnd:
    """How the team's own deploy command ended: its exit code, and the last lines that it wrote, masked."""

    code: int
    tail: tuple[str, ...] = ()


class Mark(StrEnum):
    """A judgement on a version that outlives the run which made it."""

    STABLE = "stable"
    QUARANTINED = "quarantined"
    RELEASED = "released"  # a person lifted the quarantine
    QUESTIONED = "questioned"  # it was stable, and a later look contradicts that: no robot returns to it


@dataclass(frozen=True, slots=True)
class VersionMark:
    """One mark: which version (and which code), when, by which run, and why."""

    mark: Mark
    version: VersionId
    code_hash: str | None
    at: float
    run: str
    why: str
    migration_head: str | None = None
    """The migration head while the version was judged; None when it was not measured."""
    git_sha: str = ""
    """The commit that it was built from, "" when unknown: a rebuild of the same commit is the same code."""
    by: str = ""
    """Who made it, as the journal or the provider names them; "" when unknown."""
