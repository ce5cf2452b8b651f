"""The ports of a World; every call goes through `World.call`, so that tests can fail it and count it."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.errors import NewestNotLive, ProviderRejected, Refused
from backout.model.attached import Attached, AttachedKind
from backout.model.bundle import Bundle, BundleModule
from backout.model.deployment import Share
from backout.model.guard.fetched import Fetched
from backout.model.guard.signals import Counts, CountsPage, HealthReport, Reach, SourceTraits
from backout.model.incident.events import LogPage, TemplateKey
from backout.model.secrets import SecretValues
from backout.model.triggers import Triggers
from backout.model.version import VersionId
from backout.providers.events.tally import EventTally
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from backout.model.deployment import Cohort, CommandEnd, Deployment
    from backout.model.guard.policy import SyntheticCheck
    from backout.model.triggers import TriggerKind
    from backout.model.version import Version
    from backout.providers.memory.state import WorldState

LISTED_DEPLOYMENTS: Final = 10


class WorldDeployments:
    """Port Deployments of a World."""

    def __init__(self, world: WorldState) -> None:
        self._world = world

    def history(self) -> tuple[Deployment, ...]:
        """Return the ten newest deployments, newest first."""
        newest = self._world.all_deployments
        return self._world.platform_call("deployments.history", lambda: tuple(reversed(newest[-LISTED_DEPLOYMENTS:])))

    def activate(self, version: str, *, message: str, force: bool = False, immediate: bool = False) -> Deployment:
        """Make a version live at 100 %."""
        shares = (Share(VersionId(version), 100.0),)
        self._world.resets += [version] if immediate else []
        return self._world.platform_call(
            "deployments.activate", lambda: self._world.make_live(shares, message, force=force)
        )

    def deploy(
        self, shares: Sequence[Share], *, message: str, force: bool = False, cohorts: Sequence[Cohort] = ()
    ) -> Deployment:
        """Make versions live with these percentages."""
        return self._world.platform_call(
            "deployments.deploy", lambda: self._world.make_live(tuple(shares), message, force=force, kept=cohorts)
        )


class WorldDeployCommand:
    """Port DeployCommand of a World: what the command does is `World.deploy_rule`."""

    def __init__(self, world: WorldState) -> None:
        self._world = world

    def run(self, command: str, hear: Callable[[str], None]) -> CommandEnd:
        """Run the rule, and tell the lines of its end."""
        ended = self._world.call("deployer.run", lambda: self._world.deploy_rule(command))
        for line in ended.tail:
            hear(line)
        return ended

    def still_runs(self) -> bool:
        """It ended before `run` did."""
        return self._world.call("deployer.still_runs", lambda: False)


class WorldVersions:
    """Port Versions of a World."""

    def __init__(self, world: WorldState) -> None:
        self._world = world

    def recent(self) -> tuple[Version, ...]:
        """Return the deployable versions, newest first."""
        return self._world.platform_call("versions.recent", self._recent)

    def detail(self, version: str) -> Version:
        """Return one version in full."""
        return self._world.platform_call("versions.detail", lambda: self._world.build(version).version)

    def _recent(self) -> tuple[Version, ...]:
        full = tuple(build.version for build in self._world.in_window())
        if self._world.lists_details:
            return full
        return tuple(replace(version, code_hash=None, secret_names=(), bindings=()) for version in full)


class WorldSecrets:
    """Port Secrets of a World."""

    def __init__(self, world: WorldState) -> None:
        self._world = world

    def names(self) -> tuple[str, ...]:
        """Return the names of the newest version's secrets."""
        return self._world.platform_call("secrets.names", self._names)

    def _names(self) -> tuple[str, ...]:
        return tuple(sorted(self._world.newest.secrets)) if self._world.builds else ()


class WorldSecretWriter:
    """Port SecretWriter of a World."""

    def __init__(self, world: WorldState) -> None:
        self._world = world

    def put(self, values: SecretValues) -> None:
        """Set them in a new version of the newest code, live at once."""
        self._world.platform_call("secret_writer.put", lambda: self._put(values))

    def _put(self, values: SecretValues) -> None:
        world = self._world
        serving = [share.version for share in world.live.shares if share.percentage > 0] if world.builds else []
        if serving != [world.newest.version.id]:
            raise NewestNotLive("the newest version is not live", status=400, code=10215, where="memory")
        taken = [b.partition(":") for b in world.newest.version.bindings]
        if any(name in values.names and not kind.startswith("secret_") for kind, _, name in taken):
            what = f"one of these names is bound otherwise: {', '.join(values.names)}"
            raise Refused(what, where="memory", rule=SafetyRule.SECRETS, options=("take the variable out",))
        world.set_secrets({name: values.reveal(name) for name in values.names})


class WorldSecretSource:
    """Port SecretSource of a World: `kept` holds its values; it lists its names unless `lists` is False."""

    described = "the World's store"

    def __init__(self, world: WorldState) -> None:
        self._world = world
        self.kept: dict[str, str] = {}
        self.lists = True

    def names(self) -> tuple[str, ...] | None:
        """Return what it holds."""
        return self._world.call("secret_source.names", lambda: tuple(sorted(self.kept)) if self.lists else None)

    def read(self, names: Collection[str]) -> SecretValues:
        """Return the values of these names that it holds."""
        return self._world.call("secret_source.read", lambda: SecretValues(self.kept).only(names))


class WorldFingerprints:
    """Port Fingerprints of a World, with a key of its own."""

    def of(self, name: str, value: str) -> str:
        """Return the fingerprint."""
        digest = hmac.new(b"the key of a World", f"{name}\0{value}".encode(), hashlib.sha256).hexdigest()
        return f"wrld-{digest[:16]}"


class WorldTriggers:
    """Port TriggerSettings of a World."""

    def __init__(self, world: WorldState) -> None:
        self._world = world

    def read(self, kinds: Collection[TriggerKind]) -> Triggers:
        """Return these kinds; those of `World.unreadable` are None."""
        return self._world.platform_call("triggers.read", lambda: self._read(kinds))

    def set_schedules(self, schedules: Sequence[str]) -> None:
        """Replace the schedules."""
        self._world.platform_call("triggers.set_schedules", lambda: self._world.start_by(schedules=tuple(schedules)))

    def _read(self, kinds: Collection[TriggerKind]) -> Triggers:
        readable = [kind for kind in kinds if kind not in self._world.unreadable]
        return Triggers(**{str(kind): tuple(sorted(self._world.started_by.of(kind) or ())) for kind in readable})


class WorldAttachments:
    """Port Attachments of a World."""

    def __init__(self, world: WorldState) -> None:
        self._world = world

    def read(self, kinds: Collection[AttachedKind]) -> Attached:
        """Return these kinds."""
        return self._world.platform_call("attachments.read", lambda: self._read(kinds))

    def _read(self, kinds: Collection[AttachedKind]) -> Attached:
        known = self._world.attached
        return Attached(
            containers=known.containers if AttachedKind.CONTAINERS in kinds else None,
            workflows=known.workflows if AttachedKind.WORKFLOWS in kinds else None,
            builds=known.builds if AttachedKind.BUILDS in kinds else None,
            unread={kind: why for kind, why in known.unread.items() if kind in kinds},
        )


class WorldTraffic:
    """Port Traffic of a World: each second is made up once by the rule, and stays as it was."""

    def __init__(self, world: WorldState) -> None:
        self._world = world
        self._seen: dict[tuple[int, str], Counts | None] = {}

    @property
    def traits(self) -> SourceTraits:
        """The source's own traits."""
        return self._world.traits

    def read(self, since: int, until: int) -> CountsPage:
        """Return the final seconds in [since, until)."""
        return self._world.call("traffic.read", lambda: self._read(since, until))

    def _read(self, since: int, until: int) -> CountsPage:
        complete_until = int(self._world.clock.now() - self._world.traits.lag_s)
        if self._world.counted_until is not None:
            complete_until = min(complete_until, self._world.counted_until)
        if not self._world.all_deployments:
            return CountsPage((), complete_until)
        since = max(since, int(self._world.all_deployments[0].created_at))
        rows = [row for second in range(since, min(until, complete_until)) for row in self._second(second)]
        return CountsPage(tuple(rows), complete_until, self._world.sampled)

    def _second(self, second: int) -> list[Counts]:
        deployment = self._world.live_at(second)
        shares = [share for share in deployment.shares if share.percentage > 0] if deployment else []
        rows = [self._counts(second, share.version) for share in shares]
        return [
            row for row in rows if row is not None and (row.requests or row.canceled or row.started or row.triggers)
        ]

    def _counts(self, second: int, version: str) -> Counts | None:
        key = (second, version)
        if key not in self._seen:
            self._seen[key] = self._world.traffic_rule(second, version)
        return self._seen[key]


class WorldHealth:
    """Port HealthCheck of a World."""

    def __init__(self, world: WorldState) -> None:
        self._world = world

    def look(self, version: str | None = None) -> HealthReport:
        """Return what the health rule says now of that version, or of the live one with the largest share."""
        return self._world.call("health.look", lambda: self._look(version))

    def fetch(self, path: str, version: str | None = None, *, check: SyntheticCheck | None = None) -> Fetched:
        """Return the route rule's answer for that version, or for the live one with the largest share."""
        return self._world.call("health.fetch", lambda: self._fetch(check.name if check else path, version))

    def _fetch(self, path: str, version: str | None) -> Fetched:
        found = self._world.route_rule(path, version or self._world.live.main)
        return found if isinstance(found, Fetched) else Fetched(found)

    def _look(self, version: str | None) -> HealthReport:
        now = self._world.clock.now()
        if version is None and not self._world.all_deployments:
            return HealthReport(now, Reach.UNREACHABLE, findings=("nothing is deployed",))
        return self._world.health_rule(now, version or self._world.live.main)


class WorldBundles:
    """Port Bundles of a World: a bundle's one module is the name of its code."""

    def __init__(self, world: WorldState) -> None:
        self._world = world

    def fetch(self, version: str) -> Bundle:
        """Return the code of a version that can still be deployed."""
        return self._world.platform_call("bundles.fetch", lambda: self._fetch(version))

    def upload(self, bundle: Bundle, *, message: str, secrets: SecretValues | None = None) -> Version:
        """Make a new version of the code, not live, with the secrets of the newest live version, and these."""
        given = {name: secrets.reveal(name) for name in secrets.names} if secrets else {}
        return self._world.platform_call("bundles.upload", lambda: self._world.upload_again(bundle, message, given))

    def _fetch(self, version: str) -> Bundle:
        build = self._world.build(version)
        if build not in self._world.in_window():
            raise ProviderRejected(f"version {version} is gone", status=404, code=10100, where="memory")
        module = BundleModule("index.js", "application/javascript+module", (build.version.code_hash or "").encode())
        return Bundle(build.version, b"{}", (module,))


class WorldBundleStore:
    """Port BundleStore of a World; `bundles` holds what was kept, oldest first."""

    def __init__(self, world: WorldState) -> None:
        self._world = world
        self.bundles: dict[str, Bundle] = {}

    def keep(self, bundle: Bundle) -> None:
        """Keep a bundle."""
        self._world.call("bundle_store.keep", lambda: self.bundles.setdefault(bundle.version.id, bundle))

    def find(self, version: str) -> Bundle | None:
        """Return the kept bundle of a version."""
        return self._world.call("bundle_store.find", lambda: self.bundles.get(version))

    def has(self, version: str) -> bool:
        """Whether the bundle of a version is kept."""
        return self._world.call("bundle_store.has", lambda: version in self.bundles)

    def list_versions(self, *, apart_from: Collection[str] = ()) -> tuple[Version, ...]:
        """Return the versions whose bundles are kept, newest first."""
        return self._world.call("bundle_store.kept", lambda: self._list_kept(apart_from))

    def _list_kept(self, apart_from: Collection[str]) -> tuple[Version, ...]:
        found = (bundle.version for bundle in self.bundles.values() if bundle.version.id not in apart_from)
        return tuple(sorted(found, key=lambda version: -version.number))


class WorldLogs:
    """Port Logs of a World."""

    def __init__(self, world: WorldState) -> None:
        self._world = world

    def read(self, since: float, until: float) -> LogPage:
        """Return what the log rule says."""
        return self._world.call("logs.read", lambda: self._count(since, until))

    def _count(self, since: float, until: float) -> LogPage:
        tally = EventTally(lambda text: TemplateKey("", text.splitlines()[0]))
        for invocation in self._world.log_rule(since, until):
            tally.add(invocation, lambda: "memory")
        return LogPage(tally.result())
