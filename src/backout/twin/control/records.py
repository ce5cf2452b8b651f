"""The records of the control plane: scripts, immutable versions, deployments; plain values, stored as JSON."""

from __future__ import annotations

from msgspec import field

from backout.model.value import Value

ApiObject = dict[str, object]
"""A JSON object of the API that the twin passes through without reading into it (a binding, an observability block)."""

SECRET_TYPES = ("secret_text", "secret_key")


UPDATE_STRATEGY: ApiObject = {"mode": "deferred", "max_delay": 300}
"""How Durable Objects get their code where nothing else is asked for."""


class StoredModule(Value, frozen=True):
    """One module of a version; `blob` is the SHA-256 of its bytes in the blob store."""

    name: str
    content_type: str
    blob: str


class StoredAsset(Value, frozen=True):
    """One static file of a version."""

    blob: str
    content_type: str


class Version(Value, frozen=True):
    """One immutable version.

    Args:
        number: counts up per script from 1.
        created_at: Unix seconds.
        bindings: as the API names them, secret values included: never answered without `public_bindings`.
        annotations: `workers/message`, `workers/tag`, `workers/triggered_by`.
        etag: the hash of the modules; the same code has the same etag whatever the configuration.
        migration_tag: the Durable Object migration that this version was uploaded at ("" for none).
        exports: the classes that it declares, instead of migrations.
        assets: URL path to file, None when the version has no assets at all.
        source: `wrangler` or `api`, by the user agent.
        parts: further parts of the upload (exports, containers, limits ...), told as they came.
    """

    id: str
    script: str
    number: int
    created_at: float
    modules: tuple[StoredModule, ...]
    main_module: str
    etag: str
    bindings: tuple[ApiObject, ...] = ()
    annotations: dict[str, str] = field(default_factory=dict)
    compatibility_date: str = ""
    compatibility_flags: tuple[str, ...] = ()
    handlers: tuple[str, ...] = ("fetch",)
    migration_tag: str = ""
    exports: ApiObject = field(default_factory=dict)
    assets: dict[str, StoredAsset] | None = None
    assets_config: ApiObject = field(default_factory=dict)
    startup_time_ms: int = 0
    source: str = "api"
    parts: ApiObject = field(default_factory=dict)

    def secrets(self) -> dict[str, object]:
        """Return the secret bindings by name, values included."""
        return {
            str(b["name"]): b.get("text", b.get("key_base64")) for b in self.bindings if b.get("type") in SECRET_TYPES
        }

    def buckets(self) -> tuple[str, ...]:
        """Return the names of the R2 buckets that this version is bound to."""
        return tuple(str(b.get("bucket_name", "")) for b in self.bindings if b.get("type") == "r2_bucket")


class Share(Value, frozen=True):
    """One version's part of a deployment, in percent."""

    version_id: str
    percentage: float


class Deployment(Value, frozen=True):
    """Versions made live at a time; `annotations` as for a version, the rest as it was given."""

    id: str
    script: str
    created_at: float
    shares: tuple[Share, ...]
    annotations: dict[str, str] = field(default_factory=dict)
    source: str = "api"
    cohorts: dict[str, tuple[Share, ...]] = field(default_factory=dict)
    code_update_strategy: ApiObject = field(default_factory=lambda: dict(UPDATE_STRATEGY))

    def list_shares(self) -> tuple[Share, ...]:
        """Return the shares, with the versions that only a cohort has at 0 %."""
        own = {share.version_id for share in self.shares}
        others = dict.fromkeys(each.version_id for part in self.cohorts.values() for each in part)
        return (*self.shares, *(Share(version, 0.0) for version in others if version not in own))


class Script(Value, frozen=True):
    """The parts of a Worker that belong to no version.

    Args:
        tag: Cloudflare's own 32-digit id of the script.
        last_number: the highest version number so far.
        crons: the schedules.
        domains: custom domains, answered by the ingress.
    """

    name: str
    tag: str
    created_at: float
    modified_at: float
    last_number: int = 0
    tags: tuple[str, ...] = ()
    logpush: bool = False
    tail_consumers: tuple[ApiObject, ...] = ()
    observability: ApiObject = field(default_factory=lambda: {"enabled": False})
    migration_tag: str = ""
    subdomain_enabled: bool = True
    previews_enabled: bool = False
    crons: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    last_deployed_from: str = "api"

    def consumers(self) -> tuple[str, ...]:
        """Return the names of the Tail Workers that take this one's events."""
        return tuple(dict.fromkeys(str(consumer.get("service", "")) for consumer in self.tail_consumers))


class HyperdriveConfig(Value, frozen=True):
    """A Hyperdrive configuration, as the API shows it; the password of its origin is not kept.

    Args:
        origin, caching, more: objects of the API that are passed through.
    """

    id: str
    name: str
    created_at: float
    modified_at: float
    origin: ApiObject
    caching: ApiObject = field(default_factory=dict)
    more: ApiObject = field(default_factory=dict)


class D1Record(Value, frozen=True):
    """A D1 database that was made by the API."""

    id: str
    name: str
    created_at: float


class AssetSession(Value, frozen=True):
    """An upload of static files in progress: URL path to (hash, size in bytes), as announced in the manifest."""

    id: str
    script: str
    created_at: float
    manifest: dict[str, tuple[str, int]] = field(default_factory=dict)
