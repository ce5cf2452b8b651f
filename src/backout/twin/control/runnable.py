"""A version as the data plane runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from backout.twin.control import semantics
from backout.twin.control.worker import Binding, Module, WorkerVersion

if TYPE_CHECKING:
    from backout.twin.control.records import ApiObject, Version
    from backout.twin.control.state import BlobStore

_VALUE_KEYS = {
    "plain_text": "text",
    "secret_text": "text",
    "r2_bucket": "bucket_name",
    "hyperdrive": "id",
    "service": "service",
    "kv_namespace": "namespace_id",
    "queue": "queue_name",
    "durable_object_namespace": "class_name",
    "d1": "id",
}


def make_runnable(version: Version, blobs: BlobStore) -> WorkerVersion:
    """Return the version as the data plane runs it, with the files of its modules."""
    code = (m for m in version.modules if m.content_type != semantics.SOURCE_MAP)
    return WorkerVersion(
        script=version.script,
        id=version.id,
        modules=tuple(Module(m.name, m.content_type, blobs.path(m.blob)) for m in code),
        main_module=version.main_module,
        compatibility_date=version.compatibility_date,
        compatibility_flags=version.compatibility_flags,
        bindings=tuple(_make_binding(b) for b in version.bindings),
        created_at=version.created_at,
        tag=version.annotations.get("workers/tag", ""),
        assets={p: (blobs.path(a.blob), a.content_type) for p, a in (version.assets or {}).items()},
        assets_config=msgspec.json.encode(version.assets_config).decode(),
        takes_tail="tail" in version.handlers,
        takes_schedule="scheduled" in version.handlers,
    )


def _make_binding(binding: ApiObject) -> Binding:
    kind = str(binding["type"])
    value = str(binding.get(_VALUE_KEYS.get(kind, ""), ""))
    if kind == "json":
        value = msgspec.json.encode(binding.get("json")).decode()
    elif kind == "durable_object_namespace" and binding.get("script_name"):
        value = f"{value}@{binding['script_name']}"
    return Binding(str(binding["name"]), kind, value)
