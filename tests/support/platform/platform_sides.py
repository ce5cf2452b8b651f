"""The sides that a platform port is tested on: the World, Cloudflare's adapter on the twin, real Caddy and HAProxy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from backout.model.deployment import Cohort, Share
from backout.model.secrets import SecretValues
from backout.model.version import VersionId
from backout.providers.caddy.bundles import CaddyBundles
from backout.providers.caddy.versions import CaddySecrets, CaddySecretWriter, CaddyVersions
from backout.providers.cloudflare.bundles import CloudflareBundles
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.deployments import CloudflareDeployments
from backout.providers.cloudflare.maintenance import CloudflareMaintenance
from backout.providers.cloudflare.secrets import CloudflareSecrets, CloudflareSecretWriter
from backout.providers.cloudflare.versions import CloudflareVersions
from backout.providers.command.platform import CommandDeployments, CommandVersions
from backout.providers.memory import World

from twin_harness import ACCOUNT, TOKEN, Api

if TYPE_CHECKING:
    from caddy_lab import CaddyHost
    from haproxy_lab import HaproxyHost

    from backout.ports import Bundles, Deployments, Maintenance, Secrets, SecretWriter, Versions

SCRIPT = "fm5"


class Home(Protocol):
    """An application on some platform that can be arranged from outside, and the ports that each platform has."""

    deployments: Deployments
    versions: Versions
    uploaded_as: str
    """What the history says has triggered an upload."""

    def upload(self, code: str, *, message: str = "", tag: str = "", deploy: bool = True) -> str:
        """Upload code, live at once unless told otherwise; secrets and buckets are kept. Return the version's id."""

    def split(self, *shares: tuple[str, float]) -> None:
        """Make versions live with percentages."""

    def disappear(self) -> None:
        """Make the application not exist."""


class Keeper(Home, Protocol):
    """An application on a platform that keeps its secrets."""

    secrets: Secrets
    secret_writer: SecretWriter
    bundles: Bundles
    maintenance: Maintenance

    def put_secret(self, name: str, value: str) -> None:
        """Change a secret, which makes a new version live."""

    def secret_of(self, name: str) -> str | None:
        """Return the value that the live version has."""


class Side(Keeper, Protocol):
    """An application on Cloudflare, or on a World that has the same."""

    def split(self, *shares: tuple[str, float], **cohorts: tuple[tuple[str, float], ...]) -> None:
        """Make versions live with percentages, and others for cohorts."""

    def bind_bucket(self, code: str, bucket: str) -> str:
        """Upload code, live, that is bound to a new bucket. Return the version's id."""

    def delete_bucket(self, bucket: str) -> None:
        """Delete a bucket, whoever is bound to it."""

    def bind_text(self, code: str, name: str) -> str:
        """Upload code, live, that has a plain variable. Return the version's id."""


class MemorySide:
    """A World."""

    uploaded_as = "upload"

    def __init__(self) -> None:
        self.world = World()
        self.deployments, self.versions, self.secrets = self.world.deployments, self.world.versions, self.world.secrets
        self.bundles, self.secret_writer = self.world.bundles, self.world.secret_writer
        self.maintenance: Maintenance = self.world.maintenance

    def upload(self, code: str, *, message: str = "", tag: str = "", deploy: bool = True) -> str:
        version = self.world.upload(tag, code=code, message=message)
        self._later()
        if deploy:
            self.world.deploy(version, message=message)
        return version.id

    def split(self, *shares: tuple[str, float], **cohorts: tuple[tuple[str, float], ...]) -> None:
        self._later()
        groups = (Cohort(name, tuple(Share(VersionId(v), p) for v, p in each)) for name, each in cohorts.items())
        self.world.deploy(*shares, by="deployment", cohorts=tuple(groups))

    def put_secret(self, name: str, value: str) -> None:
        self._later()
        self.world.put_secret(name, value)

    def bind_bucket(self, code: str, bucket: str) -> str:
        self._later()
        version = self.world.upload(code=code, buckets=(bucket,))
        self.world.deploy(version)
        return version.id

    def delete_bucket(self, bucket: str) -> None:
        self.world.buckets.discard(bucket)

    def secret_of(self, name: str) -> str | None:
        return self.world.builds[self.world.live.main].secrets.get(name)

    def bind_text(self, code: str, name: str) -> str:
        self._later()
        version = self.world.upload(code=code, bindings=(f"plain_text:{name}",))
        self.world.deploy(version)
        return version.id

    def disappear(self) -> None:
        self.world.exists = False

    def _later(self) -> None:
        self.world.clock.sleep(1)


@dataclass
class TwinSide:
    """The Cloudflare adapter on the twin's API (without processes behind it)."""

    api: Api
    script: str = SCRIPT
    uploaded_as: str = "upload"

    def __post_init__(self) -> None:
        client = ApiClient(f"{self.api.url}/client/v4", lambda: TOKEN)
        self.deployments: Deployments = CloudflareDeployments(client, ACCOUNT, self.script)
        self.versions: Versions = CloudflareVersions(client, ACCOUNT, self.script)
        self.secrets: Secrets = CloudflareSecrets(client, ACCOUNT, self.script)
        bundles = CloudflareBundles(client, ACCOUNT, self.script)
        self.bundles: Bundles = bundles
        own = CloudflareDeployments(client, ACCOUNT, self.script), CloudflareVersions(client, ACCOUNT, self.script)
        self.maintenance: Maintenance = CloudflareMaintenance(*own, bundles, self.script)
        self.secret_writer: SecretWriter = CloudflareSecretWriter(client, ACCOUNT, self.script)

    def upload(self, code: str, *, message: str = "", tag: str = "", deploy: bool = True) -> str:
        return self._upload(code, deploy=deploy, annotations={"workers/message": message, "workers/tag": tag})

    def split(self, *shares: tuple[str, float], **cohorts: tuple[tuple[str, float], ...]) -> None:
        def render(shares: tuple[tuple[str, float], ...]) -> list[dict[str, object]]:
            return [{"version_id": v, "percentage": p} for v, p in shares]

        groups = [{"name": name, "versions": render(each)} for name, each in cohorts.items()]
        body = {"strategy": "percentage", "versions": render(shares), "cohorts": groups}
        assert self.api.call("POST", f"{self.script}/deployments?force=true", body).status == 200

    def put_secret(self, name: str, value: str) -> None:
        body = {"name": name, "text": value, "type": "secret_text"}
        assert self.api.call("PUT", f"{self.script}/secrets", body).status == 200

    def bind_bucket(self, code: str, bucket: str) -> str:
        assert self.api.call("POST", f"/client/v4/accounts/{ACCOUNT}/r2/buckets", {"name": bucket}).status == 200
        return self._upload(code, bindings=[{"name": "MODELS", "type": "r2_bucket", "bucket_name": bucket}])

    def delete_bucket(self, bucket: str) -> None:
        assert self.api.call("DELETE", f"/client/v4/accounts/{ACCOUNT}/r2/buckets/{bucket}").status == 200

    def secret_of(self, name: str) -> str | None:
        running = self.api.data_plane.live[self.script][0][0]
        return next((binding.value for binding in running.bindings if binding.name == name), None)

    def bind_text(self, code: str, name: str) -> str:
        return self._upload(code, bindings=[{"name": name, "type": "plain_text", "text": "x"}])

    def disappear(self) -> None:
        path = f"/client/v4/accounts/{ACCOUNT}/workers/services/{self.script}?force=true"
        assert self.api.call("DELETE", path).status == 200

    def _upload(self, code: str, *, deploy: bool = True, **metadata: object) -> str:
        kept = {"keep_bindings": ["secret_text"], "bindings": [], **metadata}
        answer = self.api.upload(self.script, f"export default {{}} // {code}", deploy=deploy, **kept)
        if not deploy:
            return str(answer.result["id"])
        digits = str(answer.result["deployment_id"])
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


class HaproxySide:
    """The adapter for the team's commands, with those that speak for a real HAProxy."""

    uploaded_as = "deployment"

    def __init__(self, host: HaproxyHost) -> None:
        self._host = host
        self.deployments: Deployments = CommandDeployments(host.make_commands())
        self.versions: Versions = CommandVersions(host.make_commands())

    def upload(self, code: str, *, message: str = "", tag: str = "", deploy: bool = True) -> str:
        number = len(self._host.servers) + 1
        version, port = f"v{number}-{code.replace(' ', '-')}", 20_000 + number
        self._host.add_server(version, port, message=message, tag=tag)
        self.versions.recent()  # so that it is seen before the next one
        if deploy:
            self.deployments.history()
            self.deployments.activate(version, message=message)
        return version

    def split(self, *shares: tuple[str, float]) -> None:
        self.deployments.deploy(tuple(Share(VersionId(version), part) for version, part in shares), message="")

    def disappear(self) -> None:
        self._host.variables["HAPROXY_BACKEND"] = "gone"


class CaddySide:
    """The adapter for releases behind Caddy, on a real one."""

    uploaded_as = "upload"

    def __init__(self, host: CaddyHost) -> None:
        self._host = host
        self.deployments: Deployments = host.deployments
        releases = host.make_releases(host.processes)
        self.versions: Versions = CaddyVersions(releases)
        self.secrets: Secrets = CaddySecrets(releases)
        self.secret_writer: SecretWriter = CaddySecretWriter(releases, host.deployments)
        self.bundles: Bundles = CaddyBundles(releases)
        self.maintenance: Maintenance = host.make_maintenance()

    def upload(self, code: str, *, message: str = "", tag: str = "", deploy: bool = True) -> str:
        made = self._host.push(code, message=message, tag=tag)
        if deploy:
            whole = (Share(VersionId(made.id), 100.0),)
            self._host.deployments.deploy(whole, message=message, force=True, triggered_by="upload")
        return made.id

    def split(self, *shares: tuple[str, float]) -> None:
        made = tuple(Share(VersionId(version), percentage) for version, percentage in shares)
        self._host.deployments.deploy(made, message="", force=True)

    def put_secret(self, name: str, value: str) -> None:
        self.secret_writer.put(SecretValues({name: value}))
        self._host.made[:] = self._host.releases.list()

    def secret_of(self, name: str) -> str | None:
        values = self._host.releases.read_environment(self._host.deployments.history()[0].main)
        return values.reveal(name) if name in values.names else None

    def disappear(self) -> None:
        self._host.remove_tag()
