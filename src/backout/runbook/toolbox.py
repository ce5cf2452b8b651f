"""Everything a procedure may use: the ports of one environment, its policy, and the actor. Wiring fills it."""

from __future__ import annotations

from random import Random
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

from msgspec import field
from msgspec.structs import force_setattr

from backout.model.identity import Identity
from backout.model.incident.card import CardLines
from backout.model.plan import Equivalents
from backout.model.value import Value
from backout.runbook.safety.maintained import ApplicationTraffic, NotedVersions
from backout.runbook.safety.marked_deployments import MarkedDeployments

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.analysis.history.seal import Seal
    from backout.model.checkup import Check
    from backout.model.database.backups import Protection
    from backout.model.guard.policy import Policy
    from backout.model.incident.contact import Help
    from backout.model.incident.diagnosis import Catalogue
    from backout.model.plan import Plan
    from backout.ports import (
        Attachments,
        Builds,
        Bundles,
        BundleStore,
        Cards,
        Checkout,
        Checkpoints,
        Clock,
        Connections,
        CountsStore,
        DeadMan,
        DeployCommand,
        Deployments,
        Fence,
        HealthCheck,
        Holds,
        Identities,
        JobWorkers,
        Journal,
        Logs,
        Maintenance,
        Marks,
        MigrationFiles,
        Notifier,
        PointMarker,
        ProviderClock,
        Queues,
        ReadCaches,
        Reports,
        Runs,
        Schema,
        Secrets,
        Standby,
        Statements,
        TokenCheck,
        Traffic,
        TriggerSettings,
        VendorStatus,
        Versions,
    )
    from backout.runbook.recovery.tools import RestoreTools
    from backout.runbook.secrets.tools import PushTools


T = TypeVar("T")


class Late(Generic[T]):
    """A part of the toolbox that is made when it is first used, once, whichever thread asks."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: list[T] = []
        self._making = Lock()

    def __call__(self) -> T:
        """Return the part. Raises what making it raises, and makes it anew the next time."""
        with self._making:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]


def _make_no_catalogue() -> Catalogue:
    from backout.model.incident.diagnosis import Catalogue

    return Catalogue({}, ())


class GuardTools(Value, frozen=True):
    """What a watch needs besides the counts and the health.

    Args:
        sender: sends synthetic requests to the host of `health`, on a connection of its own.
        pairing: sends requests to two versions side by side, in the same way.
        dice: decide which of the two is asked first.
        in_background: whether health is asked in a thread of its own, so that a hanging endpoint never delays the other
            evidence (False in tests with a fake clock).
        watching: told about each tick of a watch, for the live line; it decides nothing.
        consent: asks a person during a watch, without waiting: what is to be done as a question, and the word that says
            yes; returns None until something was typed. None without a terminal.
        declared: returns the names of schedules and queues that the team's own file declares, None if that is not
            known.
    """

    sender: HealthCheck | None = None
    pairing: HealthCheck | None = None
    dice: Random = field(default_factory=Random)
    connections: Connections | None = None
    in_background: bool = True
    watching: Callable[[object], None] | None = None
    consent: Callable[[str, str], bool | None] | None = None
    dead_man: DeadMan | None = None
    declared: Callable[[], frozenset[str] | None] = lambda: None


class RollbackTools(Value, frozen=True):
    """What tells whether older code fits, and what brings it back where the platform's own way does not.

    Args:
        migrations: the files of the schema's history.
        app_checks_head: old code refuses to start on a migration it does not know, so every migration breaks it.
        deploy_command: how the team deploys, "" unknown.
        deployer: runs it.
        hear: is given what it writes.
        statements: what the application sends the database, None where nothing can tell.
        open_version: opens the health endpoint at the URL of one version's own; raises BackoutError where it has none.
        places_targets: whether a version can be asked only while it stands beside what is live, at 0 %.
        jobs: stops and starts job workers, which are those of what is live alone.
        standby: tells what runs of versions that no visitor gets.
        find_obstacle: says why the code of a version that lies on hosts cannot be made live as it is, "" where nothing
            speaks against it; raises BackoutError. None where versions lie with the platform.
    """

    schema: Schema | None = None
    migrations: MigrationFiles | None = None
    app_checks_head: bool = False
    triggers: TriggerSettings | None = None
    attachments: Attachments | None = None
    bundles: Bundles | None = None
    bundle_store: BundleStore | None = None
    deploy_command: str = ""
    deployer: DeployCommand | None = None
    hear: Callable[[str], None] = lambda _line: None
    equivalents: Equivalents = field(default_factory=Equivalents)
    statements: Statements | None = None
    open_version: Callable[[str], HealthCheck] | None = None
    places_targets: bool = True
    jobs: JobWorkers | None = None
    standby: Standby | None = None
    find_obstacle: Callable[[str], str] | None = None


class RecoveryTools(Value, frozen=True):
    """What a procedure needs from the database's recovery.

    Args:
        restoring: makes the tools of a restore of the database; raises BackoutError where none can be made from here.
        points: records restore points of the database, None where a return to one is not possible.
        protection: says whether the database could be brought back now; raises BackoutError where that is not known.
        fence: makes the fence of the database, None where none is set up.
        proof_alarm: says why the proofs of the backups need attention where no WAL is received, or "".
        keeps_objects: whether the application has a bucket, so that a moment of it is more than its code.
        check_objects: says whether what its objects were before is kept; raises BackoutError where the bucket does not
            answer. None without a bucket, or without an access key.
    """

    restoring: Callable[[], RestoreTools] | None = None
    points: PointMarker | None = None
    protection: Callable[[], Protection] | None = None
    fence: Callable[[], Fence] | None = None
    proof_alarm: Callable[[], str] = str
    keeps_objects: bool = False
    check_objects: Callable[[], Check] | None = None


class IncidentTools(Value, frozen=True):
    """What an incident is diagnosed and written up with.

    Args:
        catalogue: reads the signatures of errors.
        redact: removes every secret known here from a text.
        lines_for_npx: returns what a shell needs before an `npx` line, () for nothing; it runs a program.
        helps: who helps with which subject.
        commit_url: of a commit's page, with `{}` for its hash, "" unknown.
    """

    reports: Reports
    logs: Logs | None = None
    builds: Builds | None = None
    catalogue: Callable[[], Catalogue] = _make_no_catalogue
    redact: Callable[[str], str] = str
    cards: Cards | None = None
    card_lines: CardLines = field(default_factory=CardLines)
    lines_for_npx: Callable[[], tuple[str, ...]] = tuple
    helps: tuple[Help, ...] = ()
    commit_url: str = ""


class SafetyTools(Value, frozen=True):
    """What is compared and checked before anything is changed.

    Args:
        pinned: the identity that each mutation compares first.
        identities: reads the identity as it is.
        holds: the kill switch of this host.
        doubt: why nothing may be done automatically on this platform, "" where something may.
    """

    pinned: Identity = field(default_factory=Identity)
    identities: Identities | None = None
    token: TokenCheck | None = None
    provider_clock: ProviderClock | None = None
    checkout: Checkout | None = None
    vendors: VendorStatus | None = None
    holds: Holds | None = None
    doubt: str = ""


class PlatformTools(Value, frozen=True):
    """What a platform may be able to do; a part that is None is nothing that this one has.

    Schedules are set through `RollbackTools.triggers`.
    """

    queues: Queues | None = None
    read_caches: ReadCaches | None = None
    maintenance: Maintenance | None = None


class Parts(Value, frozen=True):
    """What guard, rollback, recovery, incidents and the safety rules need, each made by the command that uses it."""

    incident: Late[IncidentTools]
    guard: Late[GuardTools] = field(default_factory=lambda: Late(GuardTools))
    rollback: Late[RollbackTools] = field(default_factory=lambda: Late(RollbackTools))
    recovery: Late[RecoveryTools] = field(default_factory=lambda: Late(RecoveryTools))
    safety: Late[SafetyTools] = field(default_factory=lambda: Late(SafetyTools))
    platform: Late[PlatformTools] = field(default_factory=lambda: Late(PlatformTools))


class Toolbox(Value, frozen=True):
    """What every procedure works with.

    A part that is None is "not set up", never an error. However it is made, `deployments` gives each deployment its
    mark (`MarkedDeployments`), and `traffic` leaves out what maintenance versions were asked (`ApplicationTraffic`).

    Args:
        actor: who acts, "user@host" or "guard".
        pushing: makes the tools that set secrets.
        confirm: asks a person whether a plan may run; None without a terminal.
        pace: returns how long to wait between two looks at the provider that are usually made every so many seconds:
            its calls are limited, and some are left for a switch.
        say: tells a person something at once, in one sentence (a step that was skipped, a channel that fails).
        provider_marks: whether stable and released versions are marked at the provider too, each by a deployment of
            what is live; rollbacks always are.
        seal: what marks are signed with, None where they are not.
    """

    environment: str
    policy: Policy
    actor: str
    clock: Clock
    deployments: Deployments
    versions: Versions
    journal: Journal
    runs: Runs
    marks: Marks
    counts: CountsStore
    checkpoints: Checkpoints
    parts: Parts
    traffic: Traffic | None = None
    health: HealthCheck | None = None
    secrets: Secrets | None = None
    pushing: Callable[[], PushTools] | None = None
    provider_marks: bool = True
    seal: Seal | None = None
    notifier: Notifier | None = None
    confirm: Callable[[Plan], bool] | None = None
    pace: Callable[[float], float] = lambda every_s: every_s
    say: Callable[[str], None] = lambda _text: None

    def __post_init__(self) -> None:
        """Wrap what procedures read, so that none takes a message for a mark, or counts what a maintenance did."""
        known, traffic = self.deployments, self.traffic
        raw = known.raw if isinstance(known, MarkedDeployments) else known
        versions = self.versions if isinstance(self.versions, NotedVersions) else NotedVersions(self.versions)
        counts = traffic.raw if isinstance(traffic, ApplicationTraffic) else traffic
        force_setattr(self, "versions", versions)  # frozen for all other code
        force_setattr(self, "deployments", MarkedDeployments(raw, versions, self.seal))
        force_setattr(self, "traffic", None if counts is None else ApplicationTraffic(counts, versions))

    @property
    def incident(self) -> IncidentTools:
        """What an incident is diagnosed with, and what is written of it."""
        return self.parts.incident()

    @property
    def guard(self) -> GuardTools:
        """What a watch needs beside the counts and the health."""
        return self.parts.guard()

    @property
    def rollback(self) -> RollbackTools:
        """What says whether older code fits, and what brings it back where the platform's own way does not."""
        return self.parts.rollback()

    @property
    def recovery(self) -> RecoveryTools:
        """What a procedure asks of the database's recovery."""
        return self.parts.recovery()

    @property
    def safety(self) -> SafetyTools:
        """What is compared and asked before anything is changed."""
        return self.parts.safety()

    @property
    def platform(self) -> PlatformTools:
        """What the platform may be able to do beside versions and deployments."""
        return self.parts.platform()
