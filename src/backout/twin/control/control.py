"""The control plane: uploads, deployments and secrets of every Worker, with Cloudflare's rules, one change at a time.

The order is always: check, start the processes, then record. A crash in between leaves the old deployment in force.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.twin.api.answers import ApiError, make_worker_not_found
from backout.twin.control import semantics
from backout.twin.control.records import ApiObject, Deployment, Script, Share, StoredAsset, Version
from backout.twin.control.runnable import make_runnable
from backout.twin.control.worker import StartupError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.twin.api.upload import Upload
    from backout.twin.control.state import BlobStore, State
    from backout.twin.control.worker import DataPlane, WorkerVersion
    from backout.twin.storage.bucketlist import BucketList

SUBDOMAIN = "twin"
"""The account's name under workers.dev; the ingress answers `{script}.twin.workers.dev` too."""


class ControlPlane:
    """All changes of Workers; each Worker's changes happen one after another.

    Args:
        state: the memory.
        blobs: the modules and static files.
        data_plane: runs them.
        buckets: which R2 buckets exist.
        domains: custom and workers.dev host names to script, kept up to date here and read by the ingress.
    """

    def __init__(
        self,
        state: State,
        blobs: BlobStore,
        data_plane: DataPlane,
        buckets: BucketList,
        *,
        domains: dict[str, str] | None = None,
    ) -> None:
        self._buckets = buckets
        self.domains: dict[str, str] = {} if domains is None else domains
        self.state = state
        self.blobs = blobs
        self._data_plane = data_plane
        self._locks: dict[str, asyncio.Lock] = {}

    def script(self, name: str) -> Script:
        """Return the script.

        Raises:
            ApiError: 10007 when it was never uploaded.
        """
        script = self.state.script(name)
        if script is None:
            raise make_worker_not_found()
        return script

    def version(self, script: str, version_id: str) -> Version:
        """Return the version.

        Raises:
            ApiError: 10007 or 10100 when it does not exist.
        """
        self.script(script)
        version = self.state.version(script, version_id)
        if version is None:
            raise ApiError(404, 10100, f"Version {version_id} was not found.")
        return version

    async def upload(self, name: str, upload: Upload, *, deploy: bool, source: str) -> Version:
        """Make a new version from an upload; with `deploy` also live at 100 % (the script is created when new).

        Raises:
            ApiError: 10007 for a version of an unknown script, 10211 for a Durable Object migration in a version
                upload, 10057, 10085, and 10021 with workerd's own text when the code does not start.
        """
        update = semantics.parse_update_strategy(upload.metadata.code_update_strategy)
        async with self._lock(name):
            script = self.state.script(name)
            if script is None and not deploy:
                raise make_worker_not_found()
            script = script or _make_script(name)
            migration_tag = _choose_migration_tag(script, upload.metadata.migrations, deploy=deploy)
            version = self._build(script, upload, migration_tag, source, deploy=deploy)
            await self._check_buckets(version)
            version = replace(version, startup_time_ms=await self._start(version))
            script = _add_upload(script, upload, version)
            semantics.check_consumers(script, self.state.scripts(), make_worker_not_found())
            if not deploy:
                self.state.record(script, version=version)
                return version
            deployment = _make_deployment(version, {**version.annotations, "workers/triggered_by": "upload"}, update)
            await self._activate(deployment, version)
            self.state.record(replace(script, migration_tag=migration_tag), version=version, deployment=deployment)
            self._data_plane.feed(name, script.consumers())
            self._route_domains()
            return version

    async def deploy(
        self,
        name: str,
        shares: tuple[Share, ...],
        annotations: Mapping[str, str],
        *,
        force: bool,
        source: str,
        cohorts: Mapping[str, tuple[Share, ...]] | None = None,
        update: ApiObject | None = None,
    ) -> Deployment:
        """Make versions live.

        Raises:
            ApiError: the version is unknown, out of the window, its bucket is gone, a Durable Object migration lies
                between, its secrets have changed since (10220, unless `force`), or it does not start (10021).
        """
        async with self._lock(name):
            script = self.script(name)
            deployment = Deployment(
                id=str(uuid.uuid4()),
                script=name,
                created_at=time.time(),
                shares=shares,
                annotations={**annotations, "workers/triggered_by": "deployment"},
                source=source,
                cohorts=dict(cohorts or {}),
                code_update_strategy=update or semantics.parse_update_strategy(None),
            )
            targets = tuple(self.version(name, share.version_id) for share in deployment.list_shares())
            semantics.check_exports(targets)
            for target in targets:
                semantics.check_window(script, target)
                semantics.check_migrations(script, target)
                await self._check_buckets(target)
            if not force:
                semantics.check_secrets(targets, self._live_versions(name))
            await self._activate(deployment)
            self.state.record(replace(script, modified_at=time.time()), deployment=deployment)
            return deployment

    async def change_secrets(
        self,
        name: str,
        changes: Mapping[str, ApiObject | None],
        *,
        deploy: bool,
        source: str,
        annotations: Mapping[str, str] | None = None,
    ) -> Version:
        """Make a new version with other secrets (a binding sets, None deletes), deployed at once when `deploy`.

        Raises:
            ApiError: 10007; 10215 when `deploy` and the latest version is not live; 10053 for a name that is taken.
        """
        async with self._lock(name):
            script = self.script(name)
            latest = self.state.latest(name)
            if deploy:
                latest = semantics.check_latest_is_live(latest, self.state.live(name))
            if latest is None:
                raise make_worker_not_found()
            semantics.check_names(latest, (name for name, change in changes.items() if change is not None))
            version = self._next(script, latest, changes, annotations or {}, source)
            script = replace(script, last_number=version.number, modified_at=version.created_at)
            if not deploy:
                self.state.record(script, version=version)
                return version
            made = _make_deployment(version, version.annotations, semantics.parse_update_strategy(None))
            await self._activate(made, version)
            self.state.record(script, version=version, deployment=made)
            return version

    async def delete(self, name: str) -> None:
        """Stop and forget a Worker.

        Raises:
            ApiError: 10007.
        """
        async with self._lock(name):
            self.script(name)
            await self._data_plane.remove(name)
            self.state.delete_script(name)
            self._route_domains()

    def save_settings(self, script: Script) -> None:
        """Write what belongs to a script beside its versions; domains and Tail Workers take effect at once."""
        self._data_plane.feed(script.name, script.consumers())
        self.state.save_script(replace(script, modified_at=time.time()))
        self._route_domains()

    async def restore(self) -> tuple[str, ...]:
        """Bring back every live deployment after a start; return the names of Workers that do not start."""
        self._route_domains()
        names = [script.name for script in self.state.scripts()]
        results = await asyncio.gather(*(self._restore(name) for name in names), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, ApiError):
                raise result
        return tuple(name for name, result in zip(names, results, strict=True) if isinstance(result, ApiError))

    def _route_domains(self) -> None:
        scripts = self.state.scripts()
        routes = {domain: script.name for script in scripts for domain in script.domains}
        routes |= {f"{s.name}.{SUBDOMAIN}.workers.dev": s.name for s in scripts if s.subdomain_enabled}
        self.domains.clear()
        self.domains.update(routes)

    async def _restore(self, name: str) -> None:
        live = self.state.live(name)
        if live is not None:
            self._data_plane.feed(name, self.script(name).consumers())
            await self._activate(live)

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    async def _check_buckets(self, version: Version) -> None:
        if version.buckets():
            semantics.check_buckets(version, (await self._buckets.now()).keys())

    def _live_versions(self, name: str) -> tuple[Version, ...]:
        live = self.state.live(name)
        return tuple(self.version(name, share.version_id) for share in live.list_shares()) if live else ()

    async def _start(self, version: Version) -> int:
        try:
            return await self._data_plane.validate(self.runnable(version))
        except StartupError as error:
            raise ApiError(400, 10021, str(error)) from error

    async def _activate(self, deployment: Deployment, fresh: Version | None = None) -> None:
        """Make the versions of a deployment live; `fresh`: the one that is not recorded yet."""
        name = deployment.script
        found = [(each, fresh or self.version(name, each.version_id)) for each in deployment.list_shares()]
        try:
            await self._data_plane.activate(
                name,
                tuple((self.runnable(version), share.percentage) for share, version in found),
                cohorts={
                    cohort: {each.version_id: each.percentage for each in shares}
                    for cohort, shares in deployment.cohorts.items()
                },
                objects_delay_s=semantics.find_delay_s(deployment.code_update_strategy),
            )
        except StartupError as error:
            raise ApiError(400, 10021, str(error)) from error

    def _build(self, script: Script, upload: Upload, migration_tag: str, source: str, *, deploy: bool) -> Version:
        meta = upload.metadata
        latest = self.state.latest(script.name)
        annotations = {**semantics.clean_annotations(meta.annotations), "workers/triggered_by": "upload"}
        return Version(
            id=str(uuid.uuid4()),
            script=script.name,
            number=script.last_number + 1,
            created_at=time.time(),
            modules=upload.modules,
            main_module=meta.main_module,
            etag=semantics.compute_etag(upload.modules, meta.main_module),
            bindings=semantics.merge_bindings(
                meta.bindings,
                meta.keep_bindings,
                latest,
                lambda wanted: self.state.version(script.name, wanted),
                strict=upload.strict,
            ),
            annotations=annotations,
            compatibility_date=meta.compatibility_date,
            compatibility_flags=meta.compatibility_flags,
            handlers=upload.handlers,
            migration_tag=migration_tag if deploy else script.migration_tag,
            exports=meta.exports or {},
            assets=self._assets(upload, latest),
            assets_config=meta.assets.config if meta.assets else (latest.assets_config if latest else {}),
            source=source,
            parts=meta.list_parts(),
        )

    def _assets(self, upload: Upload, latest: Version | None) -> dict[str, StoredAsset] | None:
        part = upload.metadata.assets
        if part is None or not part.jwt:
            return latest.assets if latest and upload.metadata.keep_assets else None
        session = self.state.asset_session(find_session(part.jwt))
        if session is None:
            raise ApiError(400, 10021, "The token in metadata.assets is unknown.")
        files: dict[str, StoredAsset] = {}
        for path, (asset_hash, _size) in session.manifest.items():
            found = self.state.asset(asset_hash)
            if found is None:
                raise ApiError(400, 10021, f"The asset {path} was announced but not uploaded.")
            files[path] = StoredAsset(*found)
        return files

    def _next(
        self,
        script: Script,
        latest: Version,
        changes: Mapping[str, ApiObject | None],
        annotations: Mapping[str, str],
        source: str,
    ) -> Version:
        bindings = {str(b["name"]): b for b in latest.bindings}
        for name, change in changes.items():
            bindings.pop(name, None)
            if change is not None:
                bindings[name] = change
        return replace(
            latest,
            id=str(uuid.uuid4()),
            number=script.last_number + 1,
            created_at=time.time(),
            bindings=tuple(bindings.values()),
            annotations={**annotations, "workers/triggered_by": "secret"},
            source=source,
        )

    def runnable(self, version: Version) -> WorkerVersion:
        """Return the version as the data plane runs it."""
        return make_runnable(version, self.blobs)


def find_session(token: str) -> str:
    """Return the id of the upload session inside an asset token ("" when it is no such token)."""
    parts = token.split(".")
    return parts[2] if len(parts) == 3 else ""


def _make_script(name: str) -> Script:
    now = time.time()
    return Script(name=name, tag=uuid.uuid4().hex, created_at=now, modified_at=now)


def _add_upload(script: Script, upload: Upload, version: Version) -> Script:
    meta = upload.metadata
    return replace(
        script,
        last_number=version.number,
        modified_at=version.created_at,
        last_deployed_from=version.source,
        observability=script.observability if meta.observability is None else meta.observability,
        logpush=script.logpush if meta.logpush is None else meta.logpush,
        tail_consumers=script.tail_consumers if meta.tail_consumers is None else meta.tail_consumers,
        tags=script.tags if meta.tags is None else meta.tags,
    )


def _choose_migration_tag(script: Script, migrations: ApiObject | None, *, deploy: bool) -> str:
    if not migrations:
        return script.migration_tag
    new_tag = str(migrations.get("new_tag", ""))
    if not deploy and new_tag != script.migration_tag:
        raise ApiError(
            400,
            10211,
            "Version upload failed. Durable Object migrations must be applied by deploying the Worker as a whole.",
        )
    return new_tag or script.migration_tag


def _make_deployment(version: Version, annotations: Mapping[str, str], update: ApiObject) -> Deployment:
    shown = {key: text for key, text in annotations.items() if key != "workers/tag"}
    return Deployment(
        id=str(uuid.uuid4()),
        script=version.script,
        created_at=time.time(),
        shares=(Share(version.id, 100.0),),
        annotations=shown,
        source=version.source,
        code_update_strategy=update,
    )
