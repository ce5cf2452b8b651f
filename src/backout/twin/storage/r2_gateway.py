"""The gateway behind a Worker's native R2 binding: workerd's R2 protocol in front, the versioned object store behind.

One unix socket a bucket, because the protocol does not name it. Bodies are streamed both ways.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import shutil
import socket
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web
from msgspec.structs import replace

from backout.errors import AuthError, BackoutError, ProviderRejected
from backout.providers.s3 import answers, calls
from backout.providers.s3.documents import MalformedAnswer
from backout.providers.s3.failures import S3Rejected
from backout.twin.faults import FaultKind
from backout.twin.storage import r2_protocol as r2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from aiohttp import ClientResponse

    from backout.providers.s3.answers import S3Object
    from backout.twin.faults import Faults
    from backout.twin.storage.client import StoreClient

_CHUNK_BYTES = 64 * 1024
_LONGEST_METADATA_BYTES = 1024 * 1024
_WITH_DETAILS = 100
"""A page with metadata holds fewer objects, as R2 itself does; each one costs a HEAD here."""
_MISSING = 404
_BUCKET: web.AppKey[str] = web.AppKey("bucket")


class R2Gateway:
    """The gateways of all buckets; sockets lie in a fresh directory that no other user may enter.

    Args:
        owner: the folder of the twin; by it the remains of a killed gateway of the same twin are found and removed.
    """

    def __init__(self, store: StoreClient, faults: Faults, owner: Path) -> None:
        self._prefix = f"backout-r2-{hashlib.sha256(bytes(owner.absolute())).hexdigest()[:10]}-"
        self._store = store
        self._faults = faults
        self._directory: Path | None = None
        self._addresses: dict[str, str] = {}
        self._runners: list[web.AppRunner] = []
        self._opening: set[asyncio.Task[None]] = set()

    def address(self, bucket: str) -> str:
        """Return "unix:/path" of the bucket's gateway; connections are accepted at once. Call it on the event loop."""
        if bucket not in self._addresses:
            if self._directory is None:
                # A socket path may have 107 bytes at most, so it cannot lie in the twin's own folder.
                for left in Path(tempfile.gettempdir()).glob(f"{self._prefix}*"):
                    shutil.rmtree(left, ignore_errors=True)
                self._directory = Path(tempfile.mkdtemp(prefix=self._prefix))
            path = self._directory / f"{len(self._addresses)}.sock"
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(str(path))
            listener.listen(128)
            task = asyncio.get_running_loop().create_task(self._serve(bucket, listener))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
            self._addresses[bucket] = f"unix:{path}"
        return self._addresses[bucket]

    async def stop(self) -> None:
        """Close all gateways."""
        await asyncio.gather(*self._opening)
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()
        self._addresses.clear()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    async def _serve(self, bucket: str, listener: socket.socket) -> None:
        app = web.Application(client_max_size=0)
        app[_BUCKET] = bucket
        app.router.add_route("*", "/{anything:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        self._runners.append(runner)
        await runner.setup()
        await web.SockSite(runner, listener).start()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        bucket = request.app[_BUCKET]
        try:
            self._break(bucket)
            if request.method == "PUT":
                return await self._put_request(request, bucket)
            return await self._get_request(request, bucket)
        except r2.R2Error as refused:
            return _make_refusal(refused)
        except BackoutError as error:
            return _make_refusal(_translate(error))
        except MalformedAnswer:
            return _make_refusal(_make_internal_error())

    def _break(self, bucket: str) -> None:
        """Raise what a fault makes of any request."""
        if self._faults.active(FaultKind.SERVICE_DOWN, "storage"):
            raise _make_internal_error()
        if self._faults.active(FaultKind.STORAGE_DENIED, bucket):
            raise r2.R2Error(403, 10002, "Access Denied")

    async def _get_request(self, request: web.Request, bucket: str) -> web.StreamResponse:
        wanted = r2.parse_request(request.headers.get(r2.REQUEST, ""))
        if wanted.method == "head":
            return _answer_described(r2.Described(await self._head(bucket, wanted.key)))
        if wanted.method == "get":
            return await self._get(request, bucket, wanted)
        if wanted.method == "list":
            return _make_answer(await self._list(bucket, wanted))
        raise r2.make_invalid_error(f"no method {wanted.method!r} in a GET")

    async def _put_request(self, request: web.Request, bucket: str) -> web.StreamResponse:
        size_bytes = _measure_metadata(request)
        wanted = r2.parse_request(await request.content.readexactly(size_bytes))
        length = max(0, (request.content_length or 0) - size_bytes)
        match wanted.method:
            case "put":
                return _answer_described(await self._put(request, bucket, wanted, length))
            case "delete":
                await self._delete(bucket, (wanted.object,) if wanted.object is not None else wanted.objects)
                return _make_answer({})
            case "createMultipartUpload":
                call = calls.create_upload(bucket, wanted.key, attributes=wanted.attributes())
                _, body = await self._store.send(call)
                return _make_answer({"uploadId": answers.parse_upload_id(body)})
            case "uploadPart":
                call = calls.upload_part(bucket, wanted.key, wanted.upload_id, wanted.part_number, None)
                part = await self._upload(call, request.content.iter_chunked(_CHUNK_BYTES), length)
                return _make_answer({"etag": part.etag})
            case "completeMultipartUpload":
                return _answer_described(r2.Described(await self._complete(bucket, wanted)))
            case "abortMultipartUpload":
                await self._store.send(calls.abort_upload(bucket, wanted.key, wanted.upload_id))
                return _make_answer({})
            case _:
                raise r2.make_invalid_error(f"no method {wanted.method!r} in a PUT")

    # --- reading -----------------------------------------------------------------------------------------------

    async def _head(self, bucket: str, key: str) -> S3Object:
        headers, _ = await self._store.send(calls.head(bucket, key))
        return answers.parse_object(key, headers)

    async def _get(self, request: web.Request, bucket: str, wanted: r2.R2Request) -> web.StreamResponse:
        async with self._open_range(bucket, wanted) as (response, described):
            head = json.dumps(described.as_json()).encode()
            length = described.found.size_bytes if described.range is None else described.range[1]
            answer = web.StreamResponse(
                headers={r2.METADATA_SIZE: str(len(head)), "Content-Length": str(len(head) + length)}
            )
            await answer.prepare(request)
            await answer.write(head)
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                await answer.write(chunk)
            await answer.write_eof()
            return answer

    @asynccontextmanager
    async def _open_range(
        self, bucket: str, wanted: r2.R2Request
    ) -> AsyncIterator[tuple[ClientResponse, r2.Described]]:
        """Open the object, or its range, in the version that the conditions were checked on."""
        if wanted.range is None and wanted.range_header is None and wanted.only_if is None:
            async with self._store.open(calls.get(bucket, wanted.key)) as response:
                found = answers.parse_object(wanted.key, _lower_headers(response))
                yield response, r2.Described(found, (0, found.size_bytes))
            return
        found = await self._head(bucket, wanted.key)
        whole = (0, found.size_bytes)
        if wanted.only_if is not None and not wanted.only_if.holds(found):
            raise r2.make_precondition_error(json.dumps(r2.Described(found, whole).as_json()).encode())
        part = whole
        if wanted.range_header is not None:
            part = r2.parse_range_header(wanted.range_header, found.size_bytes) or whole
        elif wanted.range is not None:
            part = wanted.range.resolve(found.size_bytes)
        byte_range = None if part == whole else (part[0], part[0] + part[1] - 1)
        call = calls.get(bucket, wanted.key, version_id=found.version_id, byte_range=byte_range)
        async with self._store.open(call) as response:
            yield response, r2.Described(found, part)

    async def _list(self, bucket: str, wanted: r2.R2Request) -> dict[str, object]:
        limit = r2.MOST_LISTED if wanted.limit is None else wanted.limit
        if not 1 <= limit <= r2.MOST_LISTED:
            raise r2.R2Error(400, 10022, "MaxKeys params must be positive integer <= 1000.")
        if wanted.include:
            limit = min(limit, _WITH_DETAILS)
        listing = calls.Listing(wanted.prefix, wanted.delimiter, wanted.start_after, limit)
        token = None if wanted.cursor is None else _decode_cursor(wanted.cursor)
        _, body = await self._store.send(calls.list_page(bucket, listing, token=token))
        page = answers.parse_page(body)
        objects = [await self._describe_listed(bucket, entry, wanted) for entry in page.objects]
        found: dict[str, object] = {
            "objects": [one.as_json() for one in objects if one is not None],
            "truncated": page.next_token is not None,
            "delimitedPrefixes": list(page.prefixes),
        }
        if page.next_token is not None:
            found["cursor"] = base64.urlsafe_b64encode(page.next_token.encode()).decode("ascii")
        return found

    async def _describe_listed(self, bucket: str, entry: answers.Listed, wanted: r2.R2Request) -> r2.Described | None:
        found = answers.S3Object(entry.key, entry.size_bytes, entry.etag, entry.last_modified)
        if wanted.include:
            try:
                found = await self._head(bucket, entry.key)
            except ProviderRejected:
                return None  # deleted since the page was made
        return r2.Described(found, with_http=0 in wanted.include, with_custom=1 in wanted.include)

    # --- writing -----------------------------------------------------------------------------------------------

    async def _put(self, request: web.Request, bucket: str, wanted: r2.R2Request, size_bytes: int) -> r2.Described:
        key, attributes = wanted.key, wanted.attributes()
        conditions = calls.ALWAYS
        if wanted.only_if is not None:
            conditions = await self._settle_condition(bucket, key, wanted.only_if)
        call = calls.put(bucket, key, None, attributes=attributes, conditions=conditions)
        expected = wanted.digests()
        if expected:
            # Nothing may be stored before the digest is known to be right, so this body waits in memory.
            body = await request.content.read()
            _check_digests(body, expected)
            stored = await self._upload(replace(call, body=body), size_bytes=size_bytes)
        else:
            stored = await self._upload(call, request.content.iter_chunked(_CHUNK_BYTES), size_bytes)
        found = replace(
            stored,
            key=key,
            last_modified=stored.last_modified or float(int(time.time())),
            headers=attributes.headers,
            metadata=attributes.metadata,
        )
        return r2.Described(found, checksums=expected)

    async def _settle_condition(self, bucket: str, key: str, only_if: r2.Conditional) -> calls.Conditions:
        """Check a condition, and return the one with which the store itself refuses a change in between."""
        try:
            found: S3Object | None = await self._head(bucket, key)
        except ProviderRejected as refused:
            if refused.status != _MISSING:
                raise
            found = None
        if not only_if.holds(found):
            raise r2.make_precondition_error()
        return calls.Conditions(if_none_match="*") if found is None else calls.Conditions(if_match=found.etag)

    async def _delete(self, bucket: str, keys: tuple[str, ...]) -> None:
        if len(keys) == 1:
            await self._store.send(calls.delete(bucket, keys[0]))
        elif keys:
            _, body = await self._store.send(calls.delete_many(bucket, [(key, None) for key in keys]))
            if body and answers.parse_delete_errors(body):
                raise _make_internal_error()

    async def _upload(
        self, call: calls.Call, body: AsyncIterator[bytes] | None = None, size_bytes: int = 0
    ) -> S3Object:
        headers, _ = await self._store.send(call, body, size_bytes)
        return answers.parse_object("", headers, size_bytes)

    async def _complete(self, bucket: str, wanted: r2.R2Request) -> S3Object:
        parts = sorted((part.part, part.etag) for part in wanted.parts)
        _, body = await self._store.send(calls.complete_upload(bucket, wanted.key, wanted.upload_id, parts))
        answers.parse_completed(body)
        return await self._head(bucket, wanted.key)


def _measure_metadata(request: web.Request) -> int:
    text = request.headers.get(r2.METADATA_SIZE, "")
    if not text.isdecimal() or int(text) > _LONGEST_METADATA_BYTES:
        raise r2.make_invalid_error("Metadata missing or invalid")
    return int(text)


def _check_digests(body: bytes, expected: Mapping[str, str]) -> None:
    for name, digest in expected.items():
        actual = hashlib.new(name, body, usedforsecurity=False).hexdigest()
        if actual != digest:
            what = f"The {name.upper()} checksum you specified did not match what we received."
            raise r2.R2Error(400, 10037, f"{what}\nYou provided: {digest}\nActual was: {actual}")


def _decode_cursor(cursor: str) -> str:
    try:
        return base64.urlsafe_b64decode(cursor).decode("utf-8")
    except ValueError as error:
        raise r2.make_invalid_error("The cursor is not valid.") from error


def _make_answer(content: object) -> web.Response:
    body = json.dumps(content).encode()
    return web.Response(body=body, headers={r2.METADATA_SIZE: str(len(body))}, content_type="application/json")


def _answer_described(described: r2.Described) -> web.Response:
    return _make_answer(described.as_json())


def _make_refusal(refused: r2.R2Error) -> web.Response:
    headers = {r2.ERROR: refused.header()}
    if refused.described:
        headers[r2.METADATA_SIZE] = str(len(refused.described))
    return web.Response(status=refused.status, body=refused.described or None, headers=headers)


def _make_internal_error() -> r2.R2Error:
    return r2.R2Error(500, 10001, "We encountered an internal error. Please try again.")


_CODES: Mapping[str, tuple[int, int]] = {
    "NoSuchBucket": (404, 10006),
    "NoSuchUpload": (400, 10024),
    "InvalidPart": (400, 10025),
    "InvalidPartOrder": (400, 10025),
    "EntityTooSmall": (400, 10011),
    "EntityTooLarge": (400, 100100),
    "KeyTooLongError": (400, 10020),
    "PreconditionFailed": (412, 10031),
    "InvalidRange": (416, 10039),
    "BadDigest": (400, 10037),
}
"""S3's words as R2's status and number."""
_STATUSES: Mapping[int, tuple[int, int]] = {404: (404, 10007), 412: (412, 10031), 416: (416, 10039)}


def _translate(error: BackoutError) -> r2.R2Error:
    if isinstance(error, AuthError):
        return r2.R2Error(403, 10002, "Access Denied")
    if isinstance(error, S3Rejected):
        known = _CODES.get(error.word) or _STATUSES.get(error.status)
        if known == _STATUSES[_MISSING]:
            return r2.make_missing_key_error()
        if known is not None:
            return r2.R2Error(*known, error.message or "The request was refused.")
        return r2.R2Error(error.status, 10029, error.what)
    return _make_internal_error()


def _lower_headers(response: ClientResponse) -> Mapping[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}
