"""The two sides that a platform port is tested on: the World in memory, and the Cloudflare adapter on the twin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from backout.model.deployment import Cohort, Share
from backout.model.version import VersionId
from backout.providers.cloudflare.bundles import CloudflareBundles
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.deployments import CloudflareDeployments
from backout.providers.cloudflare.secrets import CloudflareSecrets, CloudflareSecretWriter
from backout.providers.cloudflare.versions import CloudflareVersions
from backout.providers.memory import World

from twin_harness import ACCOUNT, TOKEN, Api

if TYPE_CHECKING:
    from backout.ports import Bundles, Deployments, Secrets, SecretWriter, Versions

SCRIPT = "fm5"


class Side(Protocol):
    """An application that can be arranged from outside, and the ports to it."""

    deployments: Deployments
    versions: Versions
    secrets: Secrets
    bundles: Bundles
    secret_writer: SecretWriter

    def upload(self, code: str, *, message: str = "", tag: str = "", deploy: bool = True) -> str:
        """Upload code, live at once unless told otherwise; secrets and buckets are kept. Return the version's id."""

    def split(self, *shares: tuple[str, float], **cohorts: tuple[tuple[str, float], ...]) -> None:
        """Make versions live with percentages, and others for cohorts."""

    def put_secret(self, name: str, value: str) -> None:
        """Change a secret, which makes a new version live."""

    def bind_bucket(self, code: str, bucket: str) -> str:
        """Upload code, live, that is bound to a new bucket. Return the version's id."""

    def delete_bucket(self, bucket: str) -> None:
        """Delete a bucket, whoever is bound to it."""

    def secret_of(self, name: str) -> str | None:
        """Return the value that the live version has."""

    def bind_text(self, code: str, name: str) -> str:
        """Upload code, live, that has a plain variable. Return the version's id."""

    def disappear(self) -> None:
        """Make the application not exist."""


class MemorySide:
    """A World."""

    def __init__(self) -> None:
        self.world = World()
        self.deployments, self.versions, self.secrets = self.world.deployments, self.world.versions, self.world.secrets
        self.bundles, self.secret_writer = self.world.bundles, self.world.secret_writer

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

    def __post_init__(self) -> None:
        client = ApiClient(f"{self.api.url}/client/v4", lambda: TOKEN)
        self.deployments: Deployments = CloudflareDeployments(client, ACCOUNT, self.script)
        self.versions: Versions = CloudflareVersions(client, ACCOUNT, self.script)
        self.secrets: Secrets = CloudflareSecrets(client, ACCOUNT, self.script)
        self.bundles: Bundles = CloudflareBundles(client, ACCOUNT, self.script)
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
