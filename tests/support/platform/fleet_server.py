"""The applications of a fleet: answers their health, logs their visitors, and notes who looked at them when.

Run as `python3 -I -S fleet_server.py FOLDER PORT RATE COUNT`; application N is at 127.0.1.N, `looks` at 127.0.0.1.
A version named `bad-…` fails half of its requests; one named
`down-…` has lost its database.
"""

import json
import random
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER, PORT, RATE, COUNT = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
LOOKS: dict[str, list[float]] = {}


def read_live(name: str) -> str:
    deployments = json.loads((FOLDER / "state" / f"{name}.json").read_text())["deployments"]
    live = [each["version"] for each in deployments[0]["shares"] if each["percentage"]] if deployments else [""]
    return live[0]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name, _, rest = self.path.lstrip("/").partition("/")
        if name == "looks":
            return self._answer(200, LOOKS)
        try:
            version = self.headers.get("X-Backout-Version") or read_live(name)
        except FileNotFoundError:
            return self._answer(404, {})
        if rest == "health" and "X-Backout-Version" not in self.headers:
            LOOKS.setdefault(name, []).append(time.time())
        down = version.startswith("down-")
        status = "error" if down else "healthy"
        body = {"status": status, "version": version, "services": {"database": {"status": status}}}
        return self._answer(503 if down else 200, body)

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def visit() -> None:
    """Write what visitors got, for ever."""
    chance = random.Random(1)  # noqa: S311 - visitors, no secret
    due = time.time()
    while True:
        due += 1 / RATE
        time.sleep(max(0.0, due - time.time()))
        for state in sorted((FOLDER / "state").glob("*.json")):
            version = read_live(state.stem)
            if not version:
                continue
            fails = version.startswith("down-") or (version.startswith("bad-") and chance.random() < 0.5)
            row = {"ts": time.time(), "version": version, "status": 500 if fails else 200,
                   "latency_ms": 20 + 10 * chance.random(), "route": "/", "method": "GET"}  # fmt: skip
            with (FOLDER / "logs" / f"{state.stem}.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    threading.Thread(target=visit, daemon=True).start()
    addresses = ["127.0.0.1", *(f"127.0.1.{number}" for number in range(COUNT))]
    servers = [ThreadingHTTPServer((address, PORT), Handler) for address in addresses]
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].serve_forever()
