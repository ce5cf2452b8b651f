"""The file of a drill: its tables and keys."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from backout.config.scalars import Duration
from backout.config.schema.types import Asked, CommandLine, Positive, Ratio, Section, Share, Status, Text
from backout.model.drill import COUNTS_S, DrillAction, DrillGroup, DrillPlace, Limits, Loss
from backout.model.incident.diagnosis import Scenario

Amount = Annotated[int, msgspec.Meta(ge=0)]
FaultName = Literal[
    "service-down",
    "storage-denied",
    "latency",
    "errors",
    "worker-crash",
    "api-down",
    "api-slow",
    "api-429",
    "api-limit",
    "api-token-refused",
]
VisitorKind = Literal["crawler", "attack", "logged-out", "news-readers", "film-goers", "usual"]
Procedure = Literal[
    "deployment",
    "simulation",
    "six-steps",
    "rehearsal",
    "watch",
    "failed-build",
    "bad-target",
    "two-bad-targets",
    "unhelped",
    "hotfix",
    "killed-guard",
    "lost-journal",
    "missing-secret",
    "rotated-secret",
    "destructive-migration",
    "dead-channels",
    "resumed",
    "lost-objects",
    "corrupted-rows",
    "late-find",
    "wal-gap",
    "lost-key",
    "everything",
    "left-fence",
    "post-mortem-github",
    "post-mortem-gitlab",
    "post-mortem-knight",
]
"""How a drill goes on. `deployment`: guard waits, a version is deployed over the good one, and guard decides."""
OF_A_WORKER: Final = ("errors", "latency", "worker-crash")
"""Faults that hit one Worker, and nothing that others use as well."""
_OF_A_WORKER: Final = (
    *("deployment", "simulation", "six-steps", "failed-build", "bad-target", "two-bad-targets", "hotfix"),
    *("killed-guard", "lost-journal", "missing-secret", "rotated-secret", "dead-channels", "post-mortem-knight"),
)
"""Procedures that do the same."""


class DeployPart(Section, frozen=True):
    """What is deployed: a variant of the sample application."""

    variant: Text = "good-2"
    variables: dict[str, str] = {}
    expect: dict[Asked, tuple[Status, ...]] = {}
    """Intended changes of answers, as `guard.expect` of backout.toml."""


class CommandsPart(Section, frozen=True):
    """How a team deploys in an environment of its own, in a shell, in the folder of backout.toml."""

    good: CommandLine | None = None
    """A version that works. None: `deploy.command` of that environment."""
    bad: CommandLine | None = None
    """A version whose health endpoint shows that something is wrong."""


class FaultPart(Section, frozen=True):
    """Something of the twin that is broken for a while."""

    kind: FaultName
    target: Text | None = None
    when: Literal["before", "after"] = "after"
    """Before the deployment or after it."""
    after: Duration = Duration(0)
    """How long after the deployment."""
    lasting: Duration | None = msgspec.field(name="for", default=None)
    """None: until the end of the drill."""
    share: Share | None = None
    latency: Duration | None = None
    status: Annotated[int, msgspec.Meta(ge=500, le=599)] | None = None


class VisitorsPart(Section, frozen=True):
    """Who comes, and how many a second."""

    rate: Annotated[float, msgspec.Meta(ge=0, le=500)] = 50.0
    others: dict[VisitorKind, Positive] = {}
    """Who comes beside the usual ones from the deployment on, and how many a second."""


class ExpectPart(Section, frozen=True):
    """What is right."""

    action: DrillAction
    scenario: Scenario | None = None
    or_scenario: Scenario | None = None
    """Right as well."""


class BadPart(Section, frozen=True):
    """Which answers of the deployed version are bad, beside 5xx and none at all."""

    statuses: tuple[Status, ...] = ()
    slower_than: Duration | None = None


class WatchPart(Section, frozen=True):
    """The drill's own short criteria, in place of those of backout.toml."""

    lasts: Duration = msgspec.field(name="for", default=Duration(40))
    baseline: Duration = Duration(15)
    error_rate_below: Share = 0.01
    error_rate_for: Duration = Duration(3)
    p99_at_most: Ratio = 50.0
    old_version_quiet: Duration = Duration(2)
    slow_start: Duration = Duration(60)
    warm_up: Duration = Duration(0)
    confirm: Duration = Duration(0)
    holdback: Annotated[float, msgspec.Meta(ge=0, le=50)] = 0
    checks: tuple[Text, ...] = ()
    """Paths that guard asks itself."""


class RpoPart(Section, frozen=True):
    """What may be lost."""

    rows: Amount | None = None
    objects: Amount | None = None
    seconds: Duration | None = None


class LimitsPart(Section, frozen=True):
    """What the drill may cost at most."""

    rto: Duration | None = None
    rpo: RpoPart = RpoPart()
    bad_requests: Amount | None = None

    def as_model(self) -> Limits:
        """Return it as the model's noun."""
        seconds = None if self.rpo.seconds is None else float(self.rpo.seconds)
        rto_s = None if self.rto is None else float(self.rto)
        return Limits(rto_s, Loss(self.rpo.rows, self.rpo.objects, seconds), self.bad_requests)


class DrillFile(Section, frozen=True):
    """One file; the drill's name is the file's."""

    title: Text
    group: DrillGroup
    expect: ExpectPart
    environment: DrillPlace = DrillPlace.TWIN
    procedure: Procedure = "deployment"
    deploy: DeployPart = DeployPart()
    commands: CommandsPart = CommandsPart()
    fault: tuple[FaultPart, ...] = ()
    visitors: VisitorsPart = VisitorsPart()
    bad: BadPart = BadPart()
    watch: WatchPart = WatchPart()
    limits: LimitsPart = LimitsPart()
    alone: bool = False
    """Whether what it breaks is used by other drills on the same twin, which its version alone does not tell."""
    due_after: Duration = Duration(COUNTS_S)
    """How long a success counts."""

    @property
    def needs_twin_alone(self) -> bool:
        """Whether no other drill may take place on the same twin meanwhile: it breaks what both use."""
        kinds = [fault.kind for fault in self.fault]
        return self.alone or self.procedure not in _OF_A_WORKER or any(kind not in OF_A_WORKER for kind in kinds)
