"""A World: an application in memory and its surroundings, behind the ports."""

from __future__ import annotations

from backout.providers.memory import data_ports, platform_ports, ports
from backout.providers.memory.fence import MemoryFence
from backout.providers.memory.state import START, WorldState


class World(WorldState):
    """A state with its ports.

    Attributes:
        deployments, versions, secrets, secret_writer, secret_source, fingerprints, triggers, attachments,
            platform_queues, job_workers, standby, read_caches, maintenance, traffic, health, logs, schema, connections,
            reports, fence, clock: the ports.
    """

    def __init__(self, now: float = START) -> None:
        super().__init__(now)
        self.deployments = ports.WorldDeployments(self)
        self.versions = ports.WorldVersions(self)
        self.secrets = ports.WorldSecrets(self)
        self.secret_writer = ports.WorldSecretWriter(self)
        self.secret_source = ports.WorldSecretSource(self)
        self.fingerprints = ports.WorldFingerprints()
        self.triggers = ports.WorldTriggers(self)
        self.attachments = ports.WorldAttachments(self)
        self.platform_queues = platform_ports.WorldQueues(self)
        self.job_workers = platform_ports.WorldJobWorkers(self)
        self.standby = platform_ports.WorldStandby(self)
        self.read_caches = platform_ports.WorldReadCaches(self)
        self.maintenance = platform_ports.WorldMaintenance(self)
        self.traffic = ports.WorldTraffic(self)
        self.health = ports.WorldHealth(self)
        self.deployer = ports.WorldDeployCommand(self)
        self.bundles = ports.WorldBundles(self)
        self.bundle_store = ports.WorldBundleStore(self)
        self.logs = ports.WorldLogs(self)
        self.schema = data_ports.WorldSchema(self)
        self.files = data_ports.WorldMigrationFiles(self)
        self.connections = data_ports.WorldConnections(self)
        self.reports = data_ports.WorldReports(self)
        self.notifier = data_ports.WorldNotifier(self)
        self.fence = MemoryFence(self.clock.now, self.call)
