"""A real SeaweedFS with our client, and boto3 beside it as the application."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from backout.providers.clock import SystemClock
from backout.providers.s3.client import S3Client
from backout.providers.s3.sigv4 import S3Credentials
from backout.providers.s3.transport import S3Settings
from backout.twin.storage.objectstore import ObjectStore

from private import write_private
from twin_services import Loop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class Store:
    """The store.

    Attributes:
        boto: what an application writes with, which is not ours.
    """

    client: S3Client
    boto: Any
    access: dict[str, str]
    folder: Path
    made: int = 0

    def make(self, *, versions: bool = True) -> str:
        """Make a bucket and return its name."""
        self.made += 1
        name = f"bucket-{self.made}"
        self.client.create_bucket(name)
        if versions:
            self.client.set_versioning(name, enabled=True)
        return name

    def other(self, **changes: Any) -> S3Client:
        """Return another client, of other settings, at another endpoint or with another secret."""
        secret = changes.pop("secret", self.access["secret_access_key"])
        endpoint = changes.pop("endpoint", self.access["endpoint"])
        credentials = S3Credentials(self.access["access_key_id"], secret)
        return S3Client(S3Settings(endpoint, credentials, **changes), SystemClock())

    def read(self, bucket: str, key: str) -> tuple[bytes, dict[str, str]] | None:
        """Return what an application gets, and its metadata."""
        try:
            found = self.boto.get_object(Bucket=bucket, Key=key)
        except self.boto.exceptions.NoSuchKey:
            return None
        return found["Body"].read(), found["Metadata"]

    def list_live(self, bucket: str) -> dict[str, str]:
        """Return the etag of each object, as an application lists them."""
        pages = self.boto.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {each["Key"]: each["ETag"] for page in pages for each in page.get("Contents", ())}

    def configure(self, folder: Path, bucket: str, **storage: str) -> Path:
        """Write the configuration of an environment with a bucket of this store; return the folder."""
        return write_configuration(folder, self.access, bucket, **storage)


_CONFIG = """[app]
name = "shop"
[environments.staging.platform]
provider = "cloudflare"
script = "shop"
account_id = "0123456789abcdef0123456789abcdef"
[environments.staging.storage]
provider = "s3"
bucket = "{bucket}"
credentials_file = "access.json"
{more}"""


def write_configuration(folder: Path, access: dict[str, str], bucket: str, **storage: str) -> Path:
    """Write the configuration of an environment with a bucket; return the folder."""
    write_private(folder / "access.json", json.dumps(access))
    lines = "".join(f'{name} = "{value}"\n' for name, value in storage.items())
    write_private(folder / "backout.toml", _CONFIG.format(bucket=bucket, more=lines))
    return folder


@contextmanager
def open_store(folder: Path) -> Iterator[Store]:
    """Run a store for a while."""
    loop = Loop()
    server = ObjectStore(folder)
    loop.run(server.start())
    access = json.loads(server.credentials_file.read_text(encoding="utf-8"))
    boto = boto3.client(
        "s3",
        endpoint_url=access["endpoint"],
        aws_access_key_id=access["access_key_id"],
        aws_secret_access_key=access["secret_access_key"],
        region_name=access["region"],
        config=Config(s3={"addressing_style": "path"}),
    )
    credentials = S3Credentials(access["access_key_id"], access["secret_access_key"])
    client = S3Client(S3Settings(access["endpoint"], credentials), SystemClock())
    try:
        yield Store(client, boto, access, folder)
    finally:
        client.close()
        boto.close()
        loop.run(server.stop())
