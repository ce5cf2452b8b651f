"""The shape of every API answer: Cloudflare's envelope, its errors with their codes, and its times."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping

JSON = "application/json"
MAX_JSON_BYTES = 8 * 1024 * 1024


class ApiError(Exception):
    """An error answer.

    Args:
        status: HTTP status.
        code: Cloudflare's own number.
        message: its text, shown to the user by wrangler.
        headers: more headers (Retry-After).
    """

    def __init__(self, status: int, code: int, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    def response(self) -> web.Response:
        """Render the error in the envelope."""
        body = {
            "success": False,
            "errors": [{"code": self.code, "message": self.message}],
            "messages": [],
            "result": None,
        }
        return web.Response(status=self.status, body=msgspec.json.encode(body), content_type=JSON, headers=self.headers)


def make_worker_not_found() -> ApiError:
    """Return the answer for a script that was never uploaded (code 10007)."""
    return ApiError(404, 10007, "This Worker does not exist on your account.")


def render_result(result: object, *, status: int = 200, info: Mapping[str, object] | None = None) -> web.Response:
    """Render a result in the envelope; `info` is the `result_info` of a list."""
    body: dict[str, object] = {"success": True, "errors": [], "messages": [], "result": result}
    if info is not None:
        body["result_info"] = dict(info)
    return web.Response(status=status, body=msgspec.json.encode(body), content_type=JSON)


def make_page_info(total: int, count: int, page: int = 1, per_page: int = 100) -> dict[str, object]:
    """Return the `result_info` of a numbered page."""
    pages = max(1, -(-total // per_page))
    return {"page": page, "per_page": per_page, "count": count, "total_count": total, "total_pages": pages}


def format_rfc3339(unix_s: float) -> str:
    """Render Unix seconds as Cloudflare does, with microseconds and Z."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def read_json(request: web.Request) -> object:
    """Return the parsed JSON body, whatever its content type says (wrangler sends text/plain at times).

    Raises:
        ApiError: 413 for more than MAX_JSON_BYTES, 400 for what is not JSON.
    """
    too_large = ApiError(413, 10026, "The request body is too large.")
    if (request.content_length or 0) > MAX_JSON_BYTES:
        raise too_large
    raw = await request.content.read(-1)
    if len(raw) > MAX_JSON_BYTES:
        raise too_large
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise ApiError(400, 10026, f"Could not parse the request body as JSON: {error}") from error


async def read_json_object(request: web.Request) -> dict[str, object]:
    """Return the parsed JSON body, which must be an object.

    Raises:
        ApiError: 400 when it is none; otherwise as `read_json`.
    """
    body = await read_json(request)
    if not isinstance(body, dict):
        raise ApiError(400, 10026, "The request body must be a JSON object.")
    return body
