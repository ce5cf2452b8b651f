"""The flight recorder on a real twin: uploaded as anybody would, beside an application that names it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import urllib.request
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from backout.errors import ProviderRejected
from backout.providers.clock import SystemClock
from backout.providers.recorder.batches import compute_signature, parse_keys
from backout.providers.recorder.bucket import BucketSink
from backout.providers.recorder.counter import ObjectSink
from backout.providers.recorder.traffic import RecorderTraffic
from backout.providers.s3.answers import Listed, Page
from backout.providers.s3.client import S3Client
from backout.providers.s3.sigv4 import S3Credentials
from backout.providers.s3.transport import S3Settings

from polling import PATIENCE_S
from twin_harness import multipart

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from backout.providers.s3.calls import Listing
    from backout.twin.lifecycle import TwinStatus

SECRET = "whsec_" + base64.b64encode(b"the recorder's key of the tests").decode()
RECORDER, OBJECT = (
    (resources.files("backout") / "catalogue" / "recorder" / name).read_text(encoding="utf-8")
    for name in ("recorder.js", "object.js")
)


@dataclass
class MemoryBucket:
    """A bucket in a dictionary, whose clock the test sets: {key: (bytes, stored at)}."""

    objects: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    got: list[str] = field(default_factory=list)
    page_size: int = 1000

    def list_page(self, _bucket: str, listing: Listing, *, token: str | None = None) -> Page:
        after = max(listing.start_after, token or "")
        keys = [key for key in sorted(self.objects) if key.startswith(listing.prefix) and key > after]
        shown = keys[: self.page_size]
        entries = tuple(
            Listed(
                key, len(self.objects[key][0]), hashlib.sha256(self.objects[key][0]).hexdigest(), self.objects[key][1]
            )
            for key in shown
        )
        return Page(entries, (), shown[-1] if len(keys) > len(shown) else None)

    def get(self, _bucket: str, key: str) -> contextlib.AbstractContextManager[io.BytesIO]:
        self.got.append(key)
        if key in self.gone:
            raise ProviderRejected("no such key", status=404, where=key)
        return io.BytesIO(self.objects[key][0])

    def store(
        self,
        batches: list[dict[str, Any]],
        *,
        at: float,
        instance: str = "0badcafe",
        window: float | None = None,
        seq: int = 1,
        script: str = "shop",
        secret: str = SECRET,
        signed_at: float | None = None,
    ) -> str:
        """Store what a recorder would, and return its key."""
        began = int((at if window is None else window) * 1000)
        key = f"backout/{script}/{int(at)}-{instance}-{began}-{seq}"
        stamp = int(at if signed_at is None else signed_at)
        body = json.dumps({"batches": batches}).encode()
        signed = compute_signature(key, stamp, body, parse_keys(secret)[0])
        self.objects[key] = (f"{stamp} v1,{signed}\n".encode() + body, at)
        return key


def counted(second: int, requests: int = 1, errors: int = 0, **more: Any) -> dict[str, Any]:
    """Return a row as the recorder writes it."""
    return {
        "version": "v1",
        "second": second,
        "requests": requests,
        "errors": errors,
        "latency": {"90": requests},
    } | more


def call(twin: TwinStatus, method: str, path: str, data: bytes | None = None, kind: str = "application/json") -> Any:
    """Send a call of the API that has to succeed; the path is under the account."""
    headers = {"Authorization": f"Bearer {token(twin)}", "Content-Type": kind}
    url = f"{twin.api_base_url}/accounts/{twin.account_id}/{path}"
    request = urllib.request.Request(url, data=data, method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
        return json.load(response)["result"]


def token(twin: TwinStatus) -> str:
    return Path(str(twin.api_token_file)).read_text(encoding="ascii").strip()


def upload(
    twin: TwinStatus, script: str, code: str, modules: Mapping[str, str] | None = None, **metadata: object
) -> str:
    """Upload and deploy a Worker, whose main module is `code`, and return its version's id."""
    meta = {"main_module": "main.js", "compatibility_date": "2026-10-01", **metadata}
    form, kind = multipart(meta, {"main.js": code, **(modules or {})})
    found = call(twin, "PUT", f"workers/scripts/{script}", form, kind)
    return str(call(twin, "GET", f"workers/scripts/{script}/versions")["items"][0]["id"] if found else "")


def add_recorder(twin: TwinStatus, name: str, bucket: str, **variables: str) -> None:
    """Deploy the recorder with a bucket of its own."""
    call(twin, "POST", "r2/buckets", json.dumps({"name": bucket}).encode())
    bindings = [
        {"name": "COUNTS", "type": "r2_bucket", "bucket_name": bucket},
        {"name": "SECRET", "type": "secret_text", "text": SECRET},
        *({"name": key, "type": "plain_text", "text": text} for key, text in variables.items()),
    ]
    upload(twin, name, RECORDER, bindings=bindings)


def add_counter(twin: TwinStatus, name: str, **variables: str) -> None:
    """Deploy the recorder with an object of its own."""
    bindings = [
        {"name": "OBJECT", "type": "durable_object_namespace", "class_name": "Counts"},
        {"name": "SECRET", "type": "secret_text", "text": SECRET},
        *({"name": key, "type": "plain_text", "text": text} for key, text in variables.items()),
    ]
    migrations = {"new_tag": "v1", "steps": [{"new_sqlite_classes": ["Counts"]}]}
    upload(twin, name, OBJECT, {"recorder.js": RECORDER}, bindings=bindings, migrations=migrations)


def counter_url(twin: TwinStatus, name: str) -> str:
    """Return the recorder's own address."""
    return f"http://{name}.localhost:{urlsplit(str(twin.ingress_url)).port}"


def store(twin: TwinStatus) -> S3Client:
    access = json.loads(Path(str(twin.s3_credentials_file)).read_text(encoding="utf-8"))
    credentials = S3Credentials(access["access_key_id"], access["secret_access_key"])
    return S3Client(S3Settings(str(twin.s3_endpoint), credentials), SystemClock())


@contextlib.contextmanager
def recorder(twin: TwinStatus, script: str, bucket: str) -> Iterator[RecorderTraffic]:
    """Open guard's reader of a recorder's bucket."""
    with store(twin) as client:
        yield RecorderTraffic(BucketSink(client, bucket, script, parse_keys(SECRET)), SystemClock())


@contextlib.contextmanager
def counter(twin: TwinStatus, script: str, name: str) -> Iterator[RecorderTraffic]:
    """Open guard's reader of a recorder's object."""
    with contextlib.closing(ObjectSink(counter_url(twin, name), script, parse_keys(SECRET), SystemClock())) as sink:
        yield RecorderTraffic(sink, SystemClock())
