"""A restore of many objects needs no more memory than one of few: the bucket is a scripted server of listings."""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from store_lab import write_configuration

from extent import by_extent, long

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Record

PAGE = 1000
GROWN_MB = 24.0
"""What a fifth of all objects, or twenty-five times as many, may add: less than a tenth of what they would take."""
_ENTRY = (
    "<{kind}><Key>models/{n:09}</Key><VersionId>{version}</VersionId><IsLatest>{latest}</IsLatest>"
    "<LastModified>{at}</LastModified><ETag>&quot;{n:032x}&quot;</ETag><Size>2000</Size>"
    "<StorageClass>STANDARD</StorageClass></{kind}>"
)


@contextmanager
def listing_server(objects: int) -> Iterator[str]:
    """Serve a bucket of so many objects, each deleted since it was written: two versions of each."""
    then, since = "2026-11-01T00:00:00Z", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3600))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
            if "versions" in query:
                body = self._list(int(query.get("key-marker", ["-1"])[0].rpartition("/")[2]) + 1)
            elif "versioning" in query:
                body = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
            else:
                body = ""
            status = 404 if "lifecycle" in query else 200
            self.send_response(status)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body.encode())

        def _list(self, first: int) -> str:
            last = min(first + PAGE // 2, objects)
            entries = "".join(
                _ENTRY.format(kind="DeleteMarker", n=n, version=f"m{n}", latest="true", at=since)
                + _ENTRY.format(kind="Version", n=n, version=f"v{n}", latest="false", at=then)
                for n in range(first, last)
            )
            more = ""
            if last < objects:
                more = (
                    f"<NextKeyMarker>models/{last - 1:09}</NextKeyMarker><NextVersionIdMarker>v</NextVersionIdMarker>"
                )
            truncated = "true" if more else "false"
            return f"<ListVersionsResult><IsTruncated>{truncated}</IsTruncated>{more}{entries}</ListVersionsResult>"

        do_GET = do_HEAD = _answer  # noqa: N815 - the names of http.server

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of http.server
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def measure(folder: Path, objects: int) -> tuple[float, dict[str, object]]:
    """Return the peak memory (MB) of a dry run of a restore, and its answer."""
    folder.mkdir()
    with listing_server(objects) as endpoint:
        access = {"access_key_id": "a", "secret_access_key": "b", "endpoint": endpoint}
        write_configuration(folder, access, "models")
        argv = [sys.executable, "-m", "backout", "objects", "restore", "--to", "30 days ago", "-e", "staging"]
        answer = folder / "answer"
        with answer.open("wb") as writing:
            child = os.posix_spawn(
                sys.executable,
                [*argv, "--dry-run", "--json", "--config", str(folder / "backout.toml")],
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, writing.fileno(), 1)],
            )
            _, status, usage = os.wait4(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert isinstance(usage, resource.struct_rusage)
    found: dict[str, object] = json.loads(answer.read_text(encoding="utf-8"))
    return usage.ru_maxrss / 1024, found


@pytest.mark.long
def test_memory_does_not_grow_with_the_bucket(tmp_path: Path, proof: Record) -> None:
    """Every object counted, and a page of them at a time in memory."""
    few, many = by_extent(1_000, 10_000), by_extent(10_000, 50_000, proof=250_000)
    small, first = measure(tmp_path / "few", few)
    large, second = measure(tmp_path / "many", many)
    assert (first["undeleted"], second["undeleted"]) == (few, many)
    assert large - small < GROWN_MB, (small, large)
    proof(
        "a restore of many objects takes no more memory than one of few",
        trials=1,
        failures=0,
        note=f"{2 * few:,} versions {small:.0f} MB, {2 * many:,} {large:.0f} MB",
    )


@pytest.mark.parametrize("objects", [0, long(1), long(PAGE // 2), PAGE // 2 + 1])
def test_the_ends_of_pages(tmp_path: Path, objects: int) -> None:
    assert measure(tmp_path / "bucket", objects)[1]["undeleted"] == objects
