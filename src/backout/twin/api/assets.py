"""Static files: an upload session names them, the files follow, the last answer carries the completion token.

The token has a JWT's shape because wrangler reads `exp` out of it; its third part is the unguessable session id.
"""

from __future__ import annotations

import base64
import binascii
import time
import uuid
from typing import TYPE_CHECKING

import msgspec
from aiohttp import BodyPartReader, web

from backout.twin.api.answers import ApiError, json_object, ok
from backout.twin.api.context import context, is_true, script_name
from backout.twin.control.control import session_of
from backout.twin.control.records import AssetSession

if TYPE_CHECKING:
    from collections.abc import Iterable

_TOKEN_LIFE_S = 3600
_BUCKET_FILES = 40
_MAX_ASSET_BYTES = 25 * 1024 * 1024
_NO_CONTENT_TYPE = "application/null"  # what wrangler sends for a file whose type it does not know


def routes(account: str) -> list[web.RouteDef]:
    """Return the routes under the path of the account."""
    return [
        web.post(account + "/workers/scripts/{script}/assets-upload-session", open_session),
        web.post(account + "/workers/assets/upload", upload_assets),
    ]


async def open_session(request: web.Request) -> web.Response:
    """Take the manifest and answer which files are missing; the script need not exist yet."""
    state = context(request).control.state
    manifest = _manifest((await json_object(request)).get("manifest"))
    session = AssetSession(uuid.uuid4().hex, script_name(request), time.time(), manifest)
    state.save_asset_session(session)
    missing = sorted({h for h, _size in manifest.values() if state.asset(h) is None})
    return ok({"jwt": _token(session.id), "buckets": list(_chunks(missing))})


async def upload_assets(request: web.Request) -> web.Response:
    """Take files as a form, each part named by its hash; authenticated by the session's token alone."""
    control = context(request).control
    session_id = session_of(request.headers.get("Authorization", "").removeprefix("Bearer "))
    session = control.state.asset_session(session_id)
    if session is None:
        raise ApiError(401, 10000, "Authentication error")
    announced = {h for h, _size in session.manifest.values()}
    reader = await request.multipart()
    while (part := await reader.next()) is not None:
        if not isinstance(part, BodyPartReader) or part.name not in announced:
            raise ApiError(400, 10026, "A file was uploaded that the manifest does not name.")
        data = _decode_file(bytes(await part.read()), base64_text=is_true(request, "base64"))
        content_type = part.headers.get("Content-Type", "")
        known = content_type if content_type != _NO_CONTENT_TYPE else ""
        control.state.save_asset(part.name, control.blobs.put(data), known)
    complete = all(control.state.asset(h) is not None for h in announced)
    return ok({"jwt": _token(session.id)}, status=201) if complete else ok({}, status=202)


def _manifest(given: object) -> dict[str, tuple[str, int]]:
    if not isinstance(given, dict):
        raise ApiError(400, 10026, "The manifest must be an object of files by path.")
    manifest: dict[str, tuple[str, int]] = {}
    for path, entry in given.items():
        valid = isinstance(entry, dict) and isinstance(entry.get("hash"), str) and isinstance(entry.get("size"), int)
        if not valid:
            raise ApiError(400, 10026, f"The manifest's entry {path} needs a hash and a size.")
        manifest[str(path)] = (entry["hash"], entry["size"])
    return manifest


def _decode_file(data: bytes, *, base64_text: bool) -> bytes:
    try:
        plain = base64.b64decode(data, validate=True) if base64_text else data
    except binascii.Error as error:
        raise ApiError(400, 10026, "A file is not valid base64.") from error
    if len(plain) > _MAX_ASSET_BYTES:
        raise ApiError(413, 10026, "A file is larger than 25 MiB.")
    return plain


def _chunks(hashes: list[str]) -> Iterable[list[str]]:
    return (hashes[start : start + _BUCKET_FILES] for start in range(0, len(hashes), _BUCKET_FILES))


def _token(session_id: str) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(msgspec.json.encode(value)).decode().rstrip("=")

    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part({'exp': int(time.time()) + _TOKEN_LIFE_S})}.{session_id}"
