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

from backout.twin.api.answers import ApiError, read_json_object, render_result
from backout.twin.api.context import get_context, get_script_name, is_true
from backout.twin.control.control import find_session
from backout.twin.control.records import AssetSession

if TYPE_CHECKING:
    from collections.abc import Iterable

_TOKEN_LIFE_S = 3600
_BUCKET_FILES = 40
_MAX_ASSET_BYTES = 25 * 1024 * 1024
_NO_CONTENT_TYPE = "application/null"  # what wrangler sends for a file whose type it does not know


def make_routes(account: str) -> list[web.RouteDef]:
    """Return the routes under the path of the account."""
    return [
        web.post(account + "/workers/scripts/{script}/assets-upload-session", open_session),
        web.post(account + "/workers/assets/upload", upload_assets),
    ]


async def open_session(request: web.Request) -> web.Response:
    """Take the manifest and answer which files are missing; the script need not exist yet."""
    state = get_context(request).control.state
    manifest = _parse_manifest((await read_json_object(request)).get("manifest"))
    session = AssetSession(uuid.uuid4().hex, get_script_name(request), time.time(), manifest)
    state.save_asset_session(session)
    missing = sorted({h for h, _size in manifest.values() if state.asset(h) is None})
    return render_result({"jwt": _make_token(session.id), "buckets": list(_split_chunks(missing))})


async def upload_assets(request: web.Request) -> web.Response:
    """Take files as a form, each part named by its hash; authenticated by the session's token alone.

    Raises:
        ApiError: 401 without a session; 400 for a file that the manifest does not name, or that is not base64 where it
            is to be; 413 for one that is too large.
    """
    control = get_context(request).control
    session_id = find_session(request.headers.get("Authorization", "").removeprefix("Bearer "))
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
    return render_result({"jwt": _make_token(session.id)}, status=201) if complete else render_result({}, status=202)


def _parse_manifest(given: object) -> dict[str, tuple[str, int]]:
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


def _split_chunks(hashes: list[str]) -> Iterable[list[str]]:
    return (hashes[start : start + _BUCKET_FILES] for start in range(0, len(hashes), _BUCKET_FILES))


def _make_token(session_id: str) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(msgspec.json.encode(value)).decode().rstrip("=")

    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part({'exp': int(time.time()) + _TOKEN_LIFE_S})}.{session_id}"
