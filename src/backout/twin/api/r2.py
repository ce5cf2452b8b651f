"""R2: buckets and their objects; the bytes are in the twin's object store and stream through."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aiohttp import web

from backout.twin.api.answers import ApiError, format_rfc3339, read_json_object, render_result
from backout.twin.api.context import get_context

if TYPE_CHECKING:
    from backout.twin.control.records import ApiObject

_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


def make_routes(account: str) -> list[web.RouteDef]:
    """Return the routes under the path of the account."""
    buckets = account + "/r2/buckets"
    thing = buckets + "/{bucket}/objects/{key:.+}"
    return [
        web.get(buckets, list_buckets),
        web.post(buckets, create_bucket),
        web.get(buckets + "/{bucket}", get_bucket),
        web.delete(buckets + "/{bucket}", delete_bucket),
        web.get(buckets + "/{bucket}/lock", get_lock),
        web.get(thing, get_object),
        web.put(thing, put_object),
        web.delete(thing, delete_object),
    ]


async def list_buckets(request: web.Request) -> web.Response:
    """List the buckets."""
    rows = await get_context(request).bucket_list.now()
    return render_result({"buckets": [_describe(name, created) for name, created in rows.items()]})


async def create_bucket(request: web.Request) -> web.Response:
    """Create a bucket (wrangler sends the JSON as text/plain).

    Raises:
        ApiError: 400 for a name that is not valid, 409 for one that exists.
    """
    ctx = get_context(request)
    name = (await read_json_object(request)).get("name")
    if not isinstance(name, str) or not _BUCKET_NAME.fullmatch(name):
        raise ApiError(400, 10005, "The specified bucket name is not valid.")
    if name in await ctx.bucket_list.now():
        raise ApiError(409, 10004, "The bucket you tried to create already exists, and you own it.")
    await ctx.buckets.create(name)
    ctx.control.state.add_bucket(name)
    return render_result(_describe(name, await _find_created_at(request, name)))


async def get_bucket(request: web.Request) -> web.Response:
    """Show a bucket."""
    name = request.match_info["bucket"]
    return render_result(_describe(name, await _find_created_at(request, name)))


async def delete_bucket(request: web.Request) -> web.Response:
    """Delete an empty bucket; Workers bound to it keep their binding, and versions with it can be deployed no more."""
    ctx = get_context(request)
    name = request.match_info["bucket"]
    await _find_created_at(request, name)
    await ctx.buckets.delete(name)
    ctx.control.state.delete_bucket(name)
    return render_result({})


async def get_lock(request: web.Request) -> web.Response:
    """Show the lock rules of a bucket: none, as there is no way to set one here."""
    await _find_created_at(request, request.match_info["bucket"])
    return render_result({"rules": []})


async def put_object(request: web.Request) -> web.Response:
    """Store an object.

    Raises:
        ApiError: 404 without the bucket, 411 without a Content-Length; otherwise as `StoreBuckets.put`.
    """
    bucket, key = await _get_place(request)
    if request.content_length is None:
        raise ApiError(411, 10013, "You must provide the Content-Length HTTP header.")
    chunks = request.content.iter_chunked(64 * 1024)
    etag = await get_context(request).buckets.put(bucket, key, chunks, request.content_length, request.content_type)
    return render_result({"key": key, "etag": etag.strip('"'), "size": str(request.content_length)})


async def get_object(request: web.Request) -> web.StreamResponse:
    """Send an object.

    Raises:
        ApiError: 404 without the bucket or the object; otherwise as `StoreBuckets.get`.
    """
    bucket, key = await _get_place(request)
    found = await get_context(request).buckets.get(bucket, key)
    if found is None:
        raise ApiError(404, 10007, "The specified key does not exist.")
    headers = {"Content-Type": found.content_type, "Content-Length": str(found.size_bytes), "ETag": found.etag}
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    async for chunk in found.chunks:
        await response.write(chunk)
    await response.write_eof()
    return response


async def delete_object(request: web.Request) -> web.Response:
    """Delete an object."""
    bucket, key = await _get_place(request)
    await get_context(request).buckets.remove(bucket, key)
    return render_result({"key": key})


async def _get_place(request: web.Request) -> tuple[str, str]:
    bucket = request.match_info["bucket"]
    await _find_created_at(request, bucket)
    return bucket, request.match_info["key"]


async def _find_created_at(request: web.Request, name: str) -> float:
    created = (await get_context(request).bucket_list.now()).get(name)
    if created is None:
        raise ApiError(404, 10006, "The specified bucket does not exist.")
    return created


def _describe(name: str, created: float) -> ApiObject:
    return {"name": name, "creation_date": format_rfc3339(created), "storage_class": "Standard"}
