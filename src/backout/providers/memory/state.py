"""The state of a World, how tests arrange it, and what its platform refuses."""

from __future__ import annotations

import dataclasses
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from msgspec.structs import replace

from backout.errors import ProviderRejected, Refused, SecretsChanged
from backout.model.attached import Attached
from backout.model.database.compatibility import MigrationFile
from backout.model.database.schema import AppliedMigration
from backout.model.deployment import (
    Cohort,
    CommandEnd,
    Deployment,
    DeploymentId,
    Share,
    add_shares_of_cohorts,
    carry_cohorts,
)
from backout.model.guard.answers import EVERY_CLASS
from backout.model.guard.connections import ConnectionUse
from backout.model.guard.signals import HealthReport, ServiceState, SourceTraits
from backout.model.triggers import TriggerKind, Triggers
from backout.model.version import Version, VersionId
from backout.providers.memory.clock import WorldClock
from backout.providers.memory.rules import make_health, quiet
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.model.bundle import Bundle
    from backout.model.guard.fetched import Fetched
    from backout.model.guard.signals import Counts
    from backout.model.incident.events import Invocation
    from backout.model.incident.notice import Notice
    from backout.model.platform import CacheState, QueueState

    TrafficRule = Callable[[int, str], Counts | None]
    HealthRule = Callable[[float, str], HealthReport]
    LogRule = Callable[[float, float], tuple[Invocation, ...]]
    ConnectionRule = Callable[[float], ConnectionUse]
    RouteRule = Callable[[str, str], Fetched | int | None]
    DeployRule = Callable[[str], CommandEnd]

T = TypeVar("T")

START: Final = 1_800_000_000.0
"""When a World begins: 2027-01-15 08:00 UTC."""
WINDOW: Final = 100
_NAMESPACE: Final = uuid.UUID("5f0c7a4e-0d6b-4f6e-9a57-3b1f3e6f2a10")
_MAX_MESSAGE_BYTES: Final = 1000


@dataclass(frozen=True, slots=True)
class Build:
    """A version in the World: full detail, the secrets' values, buckets, the storage migration it needs."""

    version: Version
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    buckets: tuple[str, ...] = ()
    storage_migration: int = 0


class WorldState:
    """One application and its surroundings.

    Attributes:
        before_call, after_call: called with "port.method" before a call's effect and after it; what they raise
            reaches the caller (a ProviderUnavailable, a test's own Crash).
        calls: every call made through a port, in order.
        activations: those deployments of theirs that moved traffic.
        traffic_rule: (second, version) -> Counts or None, asked once for every second and version that served then.
        health_rule: (now, version) -> HealthReport; the default tells `services`.
        services: what the default health rule tells.
        log_rule: (since, until) -> invocations that said something.
        route_rule: (path or name of a check, version) -> the answer, or its status; 200 everywhere at first.
        deploy_rule: (command) -> how the team's own command ends; the default deploys a new version, "mended".
        buckets: the storage buckets that exist.
        storage_migration: the storage migration that the application is at.
        started_by: schedules, routes, domains and queues as they are.
        queues: those that the application consumes, by name.
        caches: the caches that the live version reads through, by id.
        uncovered: what `read_caches` says of data that nothing clears.
        jobs: the versions whose job workers run, with their jobs in flight; `most_jobs`: of how many at once.
        jobs_hang: whether they do not end when they are stopped.
        warm: the versions whose processes run, with the bytes of their memory, None: not measured.
        maintenance_obstacle: why no maintenance version can be made, "" where one can.
        resets: the versions with whose switch live objects were reset.
        unreadable: kinds that the token may not read.
        migrations: the database's migration history.
        migration_files: what lies in the working copy.
        exists: False answers 404 to everything of the platform.
        lists_details: whether `versions.recent` tells code hash, secrets and bindings too (Cloudflare's does not).
        traits: what the source of traffic says of itself.
        sampled: whether it tells estimates just now.
        counted_until: the second (Unix) at which it stopped counting, None while it goes on.
    """

    def __init__(self, now: float = START) -> None:
        self.clock = WorldClock(now)
        self.before_call: Callable[[str], None] | None = None
        self.after_call: Callable[[str], None] | None = None
        self.calls: list[str] = []
        self.activations: list[Deployment] = []
        self.traffic_rule: TrafficRule = quiet
        self.health_rule: HealthRule = self._tell_services
        self.log_rule: LogRule = lambda _since, _until: ()
        self.route_rule: RouteRule = lambda _path, _version: 200
        self.deploy_rule: DeployRule = self._deploy_mended
        self.connection_rule: ConnectionRule = lambda at: ConnectionUse(at, used=5, limit=97, waiting=0)
        self.services: dict[str, ServiceState] = {}
        self.buckets: set[str] = set()
        self.storage_migration = 0
        self.migrations: list[AppliedMigration] = []
        self.migration_files: list[MigrationFile] = []
        self.started_by = Triggers((), (), (), ())
        self.queues: dict[str, QueueState] = {}
        self.caches: dict[str, CacheState] = {}
        self.uncovered: tuple[str, ...] = ()
        self.jobs: dict[str, int] = {}
        self.jobs_hang = False
        self.most_jobs = 0
        self.warm: dict[str, int | None] = {}
        self.maintenance_obstacle = ""
        self.resets: list[str] = []
        self.unreadable: set[TriggerKind] = set()
        self.attached = Attached((), (), ())
        self.uploader = ""
        self.exists = True
        self.lists_details = False
        self.traits = SourceTraits(
            "memory",
            lag_s=1.0,
            sampled=False,
            has_status=True,
            has_version=True,
            classes=EVERY_CLASS,
            has_method=True,
            has_started=True,
            has_sizes=True,
            has_types=True,
            has_triggers=True,
            has_choice=True,
        )
        self.sampled = False
        self.counted_until: int | None = None
        self.builds: dict[str, Build] = {}
        self.all_deployments: list[Deployment] = []  # oldest first
        self.notices: list[Notice] = []

    # --- arranging what happens outside; nothing here counts as a call ---

    def upload(
        self,
        name: str = "",
        *,
        code: str | None = None,
        secrets: dict[str, str] | None = None,
        buckets: tuple[str, ...] = (),
        bindings: tuple[str, ...] = (),
        storage_migration: int | None = None,
        message: str = "",
        git_sha: str = "",
    ) -> Version:
        """Make a new version, not live; `name` is its tag, `code` names its code (default: its own).

        Without `secrets` it inherits those of the newest version. Its buckets are made when they are missing.
        """
        number = len(self.builds) + 1
        if secrets is None:
            secrets = dict(self.newest.secrets) if self.builds else {}
        self.buckets |= set(buckets)
        bound = [f"secret_text:{s}" for s in secrets] + [f"r2_bucket:{b}" for b in buckets] + list(bindings)
        version = Version(
            id=VersionId(str(uuid.uuid5(_NAMESPACE, f"version {number}"))),
            number=number,
            created_at=self.clock.now(),
            code_hash=f"code-{code or name or number}",
            message=message,
            tag=name,
            git_sha=git_sha,
            triggered_by="upload",
            author="dev@example.com",
            secret_names=tuple(sorted(secrets)),
            bindings=tuple(sorted(bound)),
            source=self.uploader,
        )
        if storage_migration is not None:
            self.storage_migration = max(self.storage_migration, storage_migration)
        self.builds[version.id] = Build(version, secrets, buckets, self.storage_migration)
        return version

    def deploy(
        self,
        *shares: Version | str | tuple[str, float],
        message: str = "",
        by: str = "upload",
        cohorts: tuple[Cohort, ...] = (),
    ) -> Deployment:
        """Make versions live from outside (a push, a colleague): one version, or (id, percentage) pairs."""
        pairs = [share if isinstance(share, tuple) else (_make_id(share), 100.0) for share in shares]
        return self._record(tuple(Share(VersionId(v), p) for v, p in pairs), message, by, cohorts)

    def put_secret(self, name: str, value: str) -> Deployment:
        """Change a secret as `wrangler secret put` does: a new version of the same code, live at once."""
        return self.set_secrets({name: value})

    def set_secrets(self, values: dict[str, str]) -> Deployment:
        """Change several secrets at once."""
        newest = self.newest
        made = self.upload(newest.version.tag, secrets={**newest.secrets, **values}, buckets=newest.buckets)
        bindings = tuple(sorted({*newest.version.bindings, *made.bindings}))
        version = replace(made, code_hash=newest.version.code_hash, triggered_by="secret", bindings=bindings)
        self.builds[made.id] = dataclasses.replace(self.builds[made.id], version=version)
        return self.deploy(version, by="secret")

    def migrate(self, name: str, sql: str | None = None, *, finished: bool = True) -> None:
        """Apply a database migration now (or leave it failed); with `sql` its file lies in the working copy."""
        now = self.clock.now()
        self.migrations.append(AppliedMigration(name, now, now if finished else None))
        if sql is not None:
            self.migration_files.append(MigrationFile(name, sql))

    def start_by(self, **kinds: tuple[str, ...]) -> None:
        """Set what starts the application, as `wrangler triggers deploy` does; kinds that are not given stay."""
        self.started_by = replace(self.started_by, **kinds)

    @property
    def live(self) -> Deployment:
        """The live deployment."""
        return self.all_deployments[-1]

    @property
    def newest(self) -> Build:
        """The newest version's build."""
        return next(reversed(self.builds.values()))

    def live_at(self, at: float) -> Deployment | None:
        """Return the deployment that was live at a time, None before the first."""
        return next((d for d in reversed(self.all_deployments) if d.created_at <= at), None)

    # --- for the ports ---

    def call(self, name: str, effect: Callable[[], T]) -> T:
        """Run one port call between the hooks, and record it."""
        self.calls.append(name)
        if self.before_call is not None:
            self.before_call(name)
        result = effect()
        if self.after_call is not None:
            self.after_call(name)
        return result

    def platform_call(self, name: str, effect: Callable[[], T]) -> T:
        """Run a call that the platform answers, which knows no application that does not exist."""

        def apply_if_exists() -> T:
            if not self.exists:
                raise ProviderRejected("the application does not exist", status=404, code=10007, where="memory")
            return effect()

        return self.call(name, apply_if_exists)

    def build(self, version: str) -> Build:
        """Return a version's build. Raises ProviderRejected (status 404) for an unknown id."""
        found = self.builds.get(version)
        if found is None:
            raise ProviderRejected(f"version {version} was not found", status=404, code=10100, where="memory")
        return found

    def in_window(self) -> tuple[Build, ...]:
        """Return the builds that can still be deployed, newest first."""
        return tuple(reversed(self.builds.values()))[:WINDOW]

    def make_live(
        self, shares: tuple[Share, ...], message: str, *, force: bool, kept: Sequence[Cohort] = ()
    ) -> Deployment:
        """Make versions live as the platform does, with its refusals; one alone at 100 % is an activation.

        Raises:
            ProviderRejected: there is no such version.
            Refused: one of them can no longer run.
            SecretsChanged: secrets changed since one of them was live, and `force` is False.
        """
        targets = [self.build(share.version) for share in shares]
        for target in targets:
            self._refuse(target)
        changed = sorted({name for target in targets for name in self._find_changed_secrets(target)})
        if changed and not force:
            raise SecretsChanged("secrets changed since that version was live", names=tuple(changed), where="memory")
        text = message.encode()[:_MAX_MESSAGE_BYTES].decode(errors="ignore")
        before = _list_serving(self.live) if self.all_deployments else {}
        cohorts = carry_cohorts(self.live.cohorts, kept, shares) if self.all_deployments else ()
        made = self._record(shares, text, "deployment", cohorts)
        if _list_serving(made) != before:
            self.activations.append(made)
        return made

    def upload_again(self, bundle: Bundle, message: str, given: dict[str, str]) -> Version:
        """Make a new version of a bundle's code as the platform does: the newest live version's secrets, and these.

        Raises:
            Refused: a secret that the code needs does not exist any more.
        """
        live = max((self.builds[share.version] for share in self.live.shares), key=lambda build: build.version.number)
        gone = sorted(set(bundle.version.secret_names) - set(live.secrets) - set(given))
        if gone:
            what = f"secret {gone[0]} does not exist any more"
            raise Refused(what, where="memory", rule=SafetyRule.SECRETS, options=("set it again",))
        buckets = tuple(b.partition(":")[2] for b in bundle.version.bindings if b.startswith("r2_bucket:"))
        made = self.upload(
            bundle.version.tag, secrets={**live.secrets, **given}, message=message, git_sha=bundle.version.git_sha
        )
        bindings = tuple(sorted({*bundle.version.bindings, *made.bindings}))
        version = replace(made, code_hash=bundle.version.code_hash, bindings=bindings)
        self.builds[made.id] = dataclasses.replace(self.builds[made.id], version=version, buckets=buckets)
        return version

    def _refuse(self, target: Build) -> None:
        gone = sorted(set(target.buckets) - self.buckets)
        problem = ""
        if target not in self.in_window():
            problem = f"it is out of the window of {WINDOW} versions"
        elif target.storage_migration != self.storage_migration:
            problem = "a storage migration lies between"
        elif gone:
            problem = f"a bound resource is gone: bucket {gone[0]}"
        if problem:
            what = f"version {target.version.id} can no longer run: {problem}"
            raise Refused(what, where="memory", rule=SafetyRule.TARGET, options=("choose another version",))

    def _find_changed_secrets(self, target: Build) -> tuple[str, ...]:
        live = [self.builds[share.version] for share in self.live.shares] if self.all_deployments else []
        newest = max(live, key=lambda build: build.version.number, default=None)
        if newest is None or target.version.number >= newest.version.number:
            return ()
        old, new = target.secrets, newest.secrets
        return tuple(sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name)))

    def _record(self, shares: tuple[Share, ...], message: str, by: str, cohorts: tuple[Cohort, ...] = ()) -> Deployment:
        deployment = Deployment(
            id=DeploymentId(str(uuid.uuid5(_NAMESPACE, f"deployment {len(self.all_deployments) + 1}"))),
            created_at=self.clock.now(),
            shares=add_shares_of_cohorts(sorted(shares, key=lambda share: -share.percentage), cohorts),
            message=message,
            triggered_by=by,
            author="dev@example.com",
            cohorts=cohorts,
        )
        self.all_deployments.append(deployment)
        return deployment

    def _deploy_mended(self, command: str) -> CommandEnd:
        self.deploy(self.upload("mended"))
        return CommandEnd(0, (f"$ {command}", "deployed"))

    def _tell_services(self, at: float, version: str) -> HealthReport:
        return make_health(at, self.services, version=version)


def _list_serving(deployment: Deployment) -> dict[tuple[str, str], float]:
    """Return {(cohort or "", version): percentage}."""
    groups = [("", deployment.shares), *((cohort.name, cohort.shares) for cohort in deployment.cohorts)]
    return {(name, each.version): each.percentage for name, shares in groups for each in shares if each.percentage > 0}


def _make_id(share: Version | str) -> str:
    return share if isinstance(share, str) else share.id
