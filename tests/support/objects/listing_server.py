"""A scripted S3 server of one bucket that only lists: as many objects as a test asks for, in no memory."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOP = "models/"
_ENTRY = (
    "<{kind}><Key>{key}</Key><VersionId>{version}</VersionId><IsLatest>{latest}</IsLatest>"
    "<LastModified>{at}</LastModified><ETag>&quot;{n:032x}&quot;</ETag><Size>2000</Size>"
    "<StorageClass>STANDARD</StorageClass></{kind}>"
)


@dataclass(frozen=True)
class Listed:
    """A bucket of objects of which each was deleted since it was written: two versions of each.

    Args:
        folders: among which they are divided evenly.
        page: the most entries of an answer.
        divides: whether it knows of delimiters.
    """

    objects: int
    folders: int = 50
    page: int = 1000
    divides: bool = True

    def key(self, number: int) -> str:
        return f"{_TOP}{number * self.folders // self.objects:03}/{number:09}"

    def answer(self, query: dict[str, list[str]]) -> str:
        """Return a page of versions."""
        prefix = query.get("prefix", [""])[0]
        if "delimiter" in query and self.divides and self.objects:
            found = [_TOP] if not prefix else [f"{_TOP}{folder:03}/" for folder in range(self.folders)]
            names = "".join(f"<CommonPrefixes><Prefix>{each}</Prefix></CommonPrefixes>" for each in found)
            return f"<ListVersionsResult><IsTruncated>false</IsTruncated>{names}</ListVersionsResult>"
        begin, end = 0, 2 * self.objects
        if self.divides and prefix.count("/") == 2:
            folder = int(prefix.split("/")[1])
            begin, end = (2 * -(-each * self.objects // self.folders) for each in (folder, folder + 1))
        if "key-marker" in query:
            begin = 2 * int(query["key-marker"][0].rpartition("/")[2]) + 1 + (query["version-id-marker"][0][0] == "v")
        last = min(begin + self.page, end)
        entries = "".join(self._make_entry(each) for each in range(begin, last))
        more = ""
        if last < end:
            number, is_version = divmod(last - 1, 2)
            version = f"{'mv'[is_version]}{number}"
            more = (
                f"<NextKeyMarker>{self.key(number)}</NextKeyMarker><NextVersionIdMarker>{version}</NextVersionIdMarker>"
            )
        truncated = "true" if more else "false"
        return f"<ListVersionsResult><IsTruncated>{truncated}</IsTruncated>{more}{entries}</ListVersionsResult>"

    def _make_entry(self, place: int) -> str:
        number, is_version = divmod(place, 2)
        kind, at = ("Version", "2026-11-01T00:00:00Z") if is_version else ("DeleteMarker", _an_hour_ago())
        version, latest = f"{'mv'[is_version]}{number}", "false" if is_version else "true"
        return _ENTRY.format(kind=kind, key=self.key(number), n=number, version=version, latest=latest, at=at)


def _an_hour_ago() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3600))


@contextmanager
def open_listing(listed: Listed) -> Iterator[str]:
    """Serve a bucket for a while and yield the endpoint."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
            body = ""
            if "versions" in query:
                body = listed.answer(query)
            elif "versioning" in query:
                body = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
            self.send_response(404 if "lifecycle" in query else 200)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body.encode())

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
