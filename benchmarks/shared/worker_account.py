"""A scripted account of Cloudflare with many Workers, their health and a log of their visitors; counts its calls.

Run as `python3 -I -S worker_account.py FOLDER PORT COUNT`. `GET /calls` tells how many calls of the API there were;
`POST /busy/N/RATE` lets visitors come to the first N Workers, RATE a second each.
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FOLDER, PORT, COUNT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
CALLS: dict[str, int] = {}
BUSY = {"count": 0, "rate": 0.0}
VERSION = "00000000-0000-4000-8000-{:012d}"


def format_time(at: float) -> str:
    """Return Unix seconds as RFC 3339."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1e6):06d}Z"


BEGUN = format_time(time.time() - 60)


def describe_deployment(number: int) -> dict:
    """Return the one deployment of a Worker."""
    versions = [{"version_id": VERSION.format(number), "percentage": 100}]
    return {
        "id": VERSION.format(10**6 + number), "created_on": BEGUN, "source": "wrangler", "strategy": "percentage",
        "author_email": "team@example.com", "versions": versions,
    }  # fmt: skip


def describe_version(number: int) -> dict:
    """Return the one version of a Worker."""
    return {
        "id": VERSION.format(number), "number": 1, "metadata": {"created_on": BEGUN, "source": "wrangler"},
        "resources": {"script": {"etag": f"{number:064d}", "handlers": ["fetch"]}, "bindings": []},
    }  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    """Answers as the API does, and as the Workers do."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[0] == "calls":
            return self._answer(200, CALLS)
        if parts[-1] == "health":
            number = int(parts[0].rpartition("-")[2])
            services = {"database": {"status": "healthy"}}
            body = {"status": "healthy", "version": VERSION.format(number), "services": services}
            return self._answer(200, body)
        kind = parts[parts.index("scripts") + 2] if "scripts" in parts[:-2] else parts[-1]
        CALLS[kind] = CALLS.get(kind, 0) + 1
        result = self._find(parts)
        if result is None:
            errors = [{"code": 7003, "message": "not found"}]
            return self._answer(404, {"success": False, "errors": errors, "messages": [], "result": None})
        return self._answer(200, {"success": True, "errors": [], "messages": [], "result": result})

    def do_POST(self) -> None:
        """Answer."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = self.path.strip("/").split("/")
        if parts[0] == "busy":
            BUSY.update(count=int(parts[1]), rate=float(parts[2]))
            return self._answer(200, {})
        return self._answer(404, {"success": False, "errors": [], "messages": [], "result": None})

    def _find(self, parts: list) -> object:
        if parts[-1] == "verify":
            return {"id": "f" * 32, "status": "active"}
        if parts[-2:] == ["workers", "workers"]:
            return [{"name": f"app-{number}", "deployed_on": BEGUN} for number in range(COUNT)]
        if "scripts" not in parts:
            return None
        at = parts.index("scripts")
        number = int(parts[at + 1].rpartition("-")[2])
        kind = parts[at + 2] if len(parts) > at + 2 else ""
        if kind == "deployments":
            return {"deployments": [describe_deployment(number)]}
        if kind == "versions":
            return describe_version(number) if len(parts) > at + 3 else {"items": [describe_version(number)]}
        return {"schedules": {"schedules": []}, "secrets": [], "settings": {}}.get(kind)

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        self.wfile.write(head.encode() + data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def visit() -> None:
    """Write what visitors got, for ever."""
    due = time.time()
    while True:
        due += 0.5
        time.sleep(max(0.0, due - time.time()))
        for number in range(BUSY["count"]):
            now, rate = time.time(), BUSY["rate"]
            rows = "".join(
                f'{{"ts": {now - 0.5 + each / rate:.6f}, "version": "{VERSION.format(number)}", "status": 200, '
                f'"latency_ms": {20 + each * 7 % 11}, "route": "/page-{each % 5}", "method": "GET"}}\n'
                for each in range(int(rate / 2))
            )
            with open(f"{FOLDER}/logs/app-{number}.jsonl", "a", encoding="utf-8") as log:  # noqa: PTH123
                log.write(rows)


if __name__ == "__main__":
    threading.Thread(target=visit, daemon=True).start()
    servers = []
    for address in ("127.0.0.1", *(f"127.0.1.{number}" for number in range(COUNT))):
        servers.append(ThreadingHTTPServer((address, PORT), Handler))
        servers[-1].daemon_threads = True
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].serve_forever()
