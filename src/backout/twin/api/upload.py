"""Reads a Worker upload: the multipart form of metadata and modules that wrangler sends."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
from aiohttp import BodyPartReader, web
from msgspec import field

from backout.decoding import decode_raw
from backout.model.value import Value
from backout.twin.api.answers import ApiError
from backout.twin.control.records import ApiObject, StoredModule
from backout.twin.control.semantics import SOURCE_MAP

if TYPE_CHECKING:
    from backout.twin.control.state import BlobStore

MAX_UPLOAD_BYTES = 128 * 1024 * 1024
_PARTS = ("limits", "placement", "exports", "cache_options", "containers", "package_dependencies")
_HANDLERS = ("fetch", "scheduled", "queue", "email", "tail")


class AssetsPart(Value, frozen=True):
    """`metadata.assets`: the completion token of the asset upload, and how to serve the files."""

    jwt: str = ""
    config: ApiObject = field(default_factory=dict)


class Metadata(Value, frozen=True):
    """The part named `metadata`; fields that the twin does not use are ignored."""

    main_module: str = ""
    bindings: tuple[ApiObject, ...] = ()
    compatibility_date: str = "2021-11-02"
    compatibility_flags: tuple[str, ...] = ()
    keep_bindings: tuple[str, ...] = ()
    annotations: dict[str, str] = field(default_factory=dict)
    migrations: ApiObject | None = None
    code_update_strategy: ApiObject | None = None
    assets: AssetsPart | None = None
    keep_assets: bool = False
    observability: ApiObject | None = None
    logpush: bool | None = None
    tail_consumers: tuple[ApiObject, ...] | None = None
    tags: tuple[str, ...] | None = None
    limits: ApiObject | None = None
    placement: ApiObject | None = None
    exports: ApiObject | None = None
    cache_options: ApiObject | None = None
    containers: tuple[ApiObject, ...] | None = None
    package_dependencies: tuple[ApiObject, ...] | None = None

    def list_parts(self) -> ApiObject:
        """Return the parts of a version that the twin keeps and tells, and does nothing with."""
        return {name: value for name in _PARTS if (value := getattr(self, name)) is not None}


class Upload(Value, frozen=True):
    """One upload, its module bytes already in the blob store.

    Args:
        strict: it fails where a binding that it inherits has no source; else that binding is left out.
    """

    metadata: Metadata
    modules: tuple[StoredModule, ...]
    handlers: tuple[str, ...]
    strict: bool = False


async def read_upload(request: web.Request, blobs: BlobStore) -> Upload:
    """Read the form.

    Raises:
        ApiError: 400 when it is no such form or the main module is missing, 413 beyond MAX_UPLOAD_BYTES.
    """
    if not request.content_type.startswith("multipart/"):
        raise ApiError(400, 10021, "A Worker is uploaded as multipart/form-data with a part named metadata.")
    metadata: Metadata | None = None
    modules: list[StoredModule] = []
    main_text = b""
    total = 0
    reader = await request.multipart()
    while (part := await reader.next()) is not None:
        if not isinstance(part, BodyPartReader):
            raise ApiError(400, 10021, "A nested multipart is not a module.")
        data = bytes(await part.read())
        total += len(data)
        if total > MAX_UPLOAD_BYTES:
            raise ApiError(413, 10027, "The Worker is too large.")
        if part.name == "metadata":
            metadata = _parse_metadata(data)
            continue
        name = part.filename or part.name or ""
        content_type = part.headers.get("Content-Type", "application/octet-stream").split(";")[0].strip()
        modules.append(StoredModule(name, content_type, blobs.put(data)))
        if content_type != SOURCE_MAP:
            main_text += data
    if metadata is None:
        raise ApiError(400, 10021, "The part named metadata is missing.")
    if metadata.main_module and metadata.main_module not in {module.name for module in modules}:
        raise ApiError(400, 10021, f'No such module "{metadata.main_module}".')
    strict = request.query.get("bindings_inherit") == "strict"
    return Upload(metadata, tuple(modules), _find_handlers(main_text), strict)


def _parse_metadata(data: bytes) -> Metadata:
    try:
        return decode_raw(data, Metadata)
    except msgspec.MsgspecError as error:
        raise ApiError(400, 10021, f"metadata: {error}") from error


def _find_handlers(text: bytes) -> tuple[str, ...]:
    """Return the handlers that the code seems to export; a reading of the text, shown to people only."""
    found = tuple(h for h in _HANDLERS if re.search(rb"\b" + h.encode() + rb"\s*[(:]", text))
    return found or ("fetch",)
