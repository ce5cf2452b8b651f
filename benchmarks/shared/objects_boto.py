"""The peer with boto3: restore a bucket to a moment with threads, delete markers removed in batches.

It is what one would write by hand: list the versions, order them, act. `BUCKET MOMENT`, Unix seconds.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
from botocore.config import Config

_THREADS = 32


def main() -> None:
    """Restore the bucket."""
    bucket, at = sys.argv[1], float(sys.argv[2])
    path_style = {"addressing_style": "path"}
    config = Config(s3=path_style, max_pool_connections=_THREADS, retries={"mode": "standard"})
    client: Any = boto3.client("s3", config=config)
    undeleted, copied, removed = plan(client, bucket, at)
    batches = [undeleted[begin : begin + 1000] for begin in range(0, len(undeleted), 1000)]
    batches += [[{"Key": key} for key in removed[begin : begin + 1000]] for begin in range(0, len(removed), 1000)]

    def delete(batch: list[dict[str, str]]) -> None:
        client.delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})

    def copy(one: tuple[str, str]) -> None:
        source = {"Bucket": bucket, "Key": one[0], "VersionId": one[1]}
        client.copy_object(Bucket=bucket, Key=one[0], CopySource=source)

    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(delete, batches))
        list(threads.map(copy, copied))


def plan(client: Any, bucket: str, at: float) -> tuple[list[dict[str, str]], list[tuple[str, str]], list[str]]:
    """Return the delete markers to remove, the (key, version) to copy, and the keys to remove."""
    undeleted, copied, removed = [], [], []
    for key, versions in list_versions(client, bucket).items():
        versions.sort(reverse=True)
        then = next((each for each in versions if each[0] < at), None)
        if then is versions[0]:
            continue
        if then is None or then[1]:
            removed += [] if versions[0][1] else [key]
            continue
        newer = versions[: versions.index(then)]
        if all(each[1] for each in newer):
            undeleted += [{"Key": key, "VersionId": each[2]} for each in newer]
        else:
            copied.append((key, then[2]))
    return undeleted, copied, removed


def list_versions(client: Any, bucket: str) -> dict[str, list[tuple[float, bool, str]]]:
    """Return of each key when a version was written, whether it is a delete marker, and its id."""
    kept: dict[str, list[tuple[float, bool, str]]] = defaultdict(list)
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for each in page.get("Versions", ()):
            kept[each["Key"]].append((each["LastModified"].timestamp(), False, each["VersionId"]))
        for each in page.get("DeleteMarkers", ()):
            kept[each["Key"]].append((each["LastModified"].timestamp(), True, each["VersionId"]))
    return kept


if __name__ == "__main__":
    main()
