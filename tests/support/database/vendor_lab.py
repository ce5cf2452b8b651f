"""Vendors of databases on loopback: Neon's and Xata's APIs as their documentation describes them, with state.

Faults are set by a test: what the next requests get instead, or an answer that is lost after it took effect.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "canary-token-of-the-vendor"
PROJECT, LIVE = "quiet-frost-12345678", "br-main-12345678"
ORGANIZATION = "org-7"
HIBERNATED = "STATUS_TYPE_HIBERNATED"
BORN = "2026-11-01T00:00:00Z"

Reply = tuple[int, Any]


class Vendor:
    """What both have: a token, faults, and what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.replies: list[Reply] = []
        self.lose_next_change = False
        self.url = ""

    def changes(self) -> list[tuple[str, str, Any]]:
        """Return the requests that were no GET."""
        return [each for each in self.asked if each[0] != "GET"]

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Reply:
        """Answer one request that has the right token."""
        raise NotImplementedError


@dataclass
class Neon(Vendor):
    """One project with a live branch; operations need two looks."""

    branches: list[dict[str, Any]] = field(default_factory=list)
    endpoints: dict[str, list[str]] = field(default_factory=dict)
    snapshots: list[dict[str, Any]] = field(default_factory=list)
    operations: dict[str, list[str]] = field(default_factory=dict)
    retention_s: int = 7 * 86400
    plan: str = "launch_v3"
    host: str = "127.0.0.1"
    ends_as: str = "finished"

    def __post_init__(self) -> None:
        Vendor.__init__(self)
        self.branches.append(
            {"id": LIVE, "name": "main", "current_state": "ready", "created_at": BORN, "default": True}
        )
        self.endpoints[LIVE] = ["ep-live"]
        self.snapshots.append(
            {"id": "snap-1", "name": "nightly", "source_branch_id": LIVE, "created_at": "2026-11-20T00:00:00Z"}
        )

    def find(self, key: str) -> dict[str, Any] | None:
        return next((b for b in self.branches if key in (b["id"], b["name"])), None)

    def operation(self, action: str) -> dict[str, Any]:
        made = f"op-{len(self.operations)}"
        self.operations[made] = ["running", self.ends_as]
        return {"id": made, "action": action, "status": "scheduling"}

    def grow(self, name: str, parent: str, **more: Any) -> dict[str, Any]:
        made = {"id": f"br-{len(self.branches)}", "name": name, "parent_id": parent, "current_state": "ready"}
        self.branches.append({**made, "created_at": "2026-11-25T12:00:00Z", **more})
        self.endpoints[made["id"]] = []
        return self.branches[-1]

    def answer(  # noqa: C901, PLR0912 - one call a case
        self, method: str, path: str, query: dict[str, str], body: Any
    ) -> Reply:
        head, _, rest = path.removeprefix("/api/v2/projects/").partition("/")
        if head != PROJECT:
            return 404, {"message": "project not found", "code": ""}
        parts = rest.split("/") if rest else []
        match (method, parts):
            case ("GET", []):
                project = {"id": PROJECT, "history_retention_seconds": self.retention_s, "created_at": BORN}
                owner = {"owner": {"email": "", "name": "", "subscription_type": self.plan}} if self.plan else {}
                return 200, {"project": project | owner}
            case ("GET", ["branches"]):
                first = int(query.get("cursor", "0"))
                shown = self.branches[first : first + 2]  # small pages, so that they are read on
                following = {"next": str(first + 2)} if first + 2 < len(self.branches) else {}
                return 200, {"branches": shown, "pagination": following}
            case ("POST", ["branches"]):
                return self._create(body)
            case ("DELETE", ["branches", key]):
                self.branches = [b for b in self.branches if b["id"] != key]
                return 200, {"branch": {"id": key, "name": key}, "operations": []}
            case ("POST", ["branches", key, "restore"]):
                return self._restored(key, body)
            case ("POST", ["branches", key, "finalize_restore"]):
                return self._finalized(key, body)
            case ("GET", ["branches", key, "endpoints"]):
                host = self.host if key == LIVE else f"{key}.example.test"
                return 200, {"endpoints": [{"id": e, "host": host} for e in self.endpoints.get(key, [])]}
            case ("POST", ["endpoints"]):
                self.endpoints[body["endpoint"]["branch_id"]].append("ep-more")
                return 201, {"endpoint": {"id": "ep-more"}, "operations": [self.operation("start_compute")]}
            case ("GET", ["snapshots"]):
                return 200, {"snapshots": self.snapshots}
            case ("POST", ["snapshots", key, "restore"]):
                made = self.grow(body["name"], body["target_branch_id"], restored_from=key)
                return 200, {"branch": made, "operations": [self.operation("restore_snapshot")]}
            case ("GET", ["operations", key]):
                left = self.operations[key]
                status = left.pop(0) if len(left) > 1 else left[0]
                return 200, {"operation": {"id": key, "status": status, "action": "x", "error": "no space"}}
            case ("GET", ["connection_uri"]):
                host = f"{query['branch_id']}.example.test"
                uri = f"postgresql://{query['role_name']}:pw-canary@{host}/{query['database_name']}?sslmode=require"
                return 200, {"uri": uri}
        return 404, {"message": "no such call", "code": ""}

    def _create(self, body: Any) -> Reply:
        asked = body["branch"]
        if self.find(asked["name"]):
            return 409, {"message": "branch with the provided name already exists", "code": "BRANCH_EXISTS"}
        if asked.get("parent_lsn") == "0/1":
            return 400, {"message": "lsn is outside of the history", "code": ""}
        more = {key: asked[key] for key in ("parent_lsn", "parent_timestamp") if key in asked}
        made = self.grow(asked["name"], asked["parent_id"], **more)
        if body.get("endpoints"):
            self.endpoints[made["id"]].append("ep-new")
        return 201, {"branch": made, "endpoints": [], "operations": [self.operation("create_branch")]}

    def _restored(self, key: str, body: Any) -> Reply:
        live = self.find(key)
        assert live is not None
        if live.get("parent_id"):
            return 400, {"message": "only a root branch can be restored", "code": ""}
        if not body.get("preserve_under_name"):
            return 400, {"message": "preserve_under_name is required", "code": ""}
        self.grow(body["preserve_under_name"], "")
        live["restored_at"] = body["source_branch_id"]
        return 200, {"branch": live, "operations": [self.operation("restore_branch")]}

    def _finalized(self, key: str, body: Any) -> Reply:
        side, live = self.find(key), self.find(LIVE)
        assert side is not None
        assert live is not None
        side["name"], live["name"], side["restore_status"] = live["name"], body["name"], "finalized"
        return 200, {"operations": [self.operation("finalize")]}


@dataclass
class Xata(Vendor):
    """One project with a live branch; a new branch is healthy at the second look. Internal calls are not there.

    A hibernated branch stays so until it is asked to wake, and cannot be copied before.
    """

    branches: dict[str, dict[str, Any]] = field(default_factory=dict)
    ends_as: str = "STATUS_TYPE_HEALTHY"
    wakes: bool = True
    host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        Vendor.__init__(self)
        self.grow("main", looks=["STATUS_TYPE_HEALTHY"])

    def grow(self, name: str, looks: list[str], parent: str | None = None) -> dict[str, Any]:
        made = {
            "id": f"xb{len(self.branches)}", "name": name, "createdAt": "2026-11-25T12:00:00Z",
            "updatedAt": "2026-11-25T12:00:00Z", "parentID": parent, "region": "eu", "publicAccess": True,
            "backupsEnabled": True, "looks": looks,
        }  # fmt: skip
        self.branches[made["id"]] = made
        return made

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Reply:
        start = f"/organizations/{ORGANIZATION}/projects/{PROJECT}/"
        if not path.startswith(start):
            return 404, {"message": "not found"}
        match (method, path.removeprefix(start).split("/")):
            case ("GET", ["branches"]):
                return 200, {"branches": [self._listed(b) for b in self.branches.values()]}
            case ("GET", ["branches", key]):
                found = self.branches.get(key)
                return (404, {"message": "no such branch"}) if found is None else (200, self._detail(found))
            case ("DELETE", ["branches", key]):
                return (204, None) if self.branches.pop(key, None) else (404, {"message": "no such branch"})
            case ("GET", ["branches", key, "credentials"]):
                return 200, {"username": query.get("username", "xata"), "password": "pw-canary/+"}
            case ("PATCH", ["branches", key]):
                if self.branches[key]["looks"][-1] == HIBERNATED and body == {"hibernate": False} and self.wakes:
                    self.branches[key]["looks"] = ["STATUS_TYPE_TRANSIENT", "STATUS_TYPE_HEALTHY"]
                return 200, self._listed(self.branches[key])
            case ("POST", ["branches"]):
                return self._create(body)
        return 404, {"message": "no such call"}

    def _create(self, body: Any) -> Reply:
        if set(body) != {"name", "description", "mode", "parentID"} or body["mode"] != "inherit":
            return 400, {"message": "unknown field"}
        if not re.fullmatch(r"[a-zA-Z0-9]+[a-zA-Z0-9- ]{0,49}", body["description"]):
            return 400, {"message": "description"}
        if body["parentID"] not in self.branches:
            return 404, {"message": "no such parent"}
        if self.branches[body["parentID"]]["looks"][-1] == HIBERNATED:
            return 412, {"message": "the parent is hibernated"}
        made = self.grow(body["name"], ["STATUS_TYPE_TRANSIENT", self.ends_as], body["parentID"])
        return 201, self._listed(made)

    def _listed(self, branch: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in branch.items() if key != "looks"}

    def _detail(self, branch: dict[str, Any]) -> dict[str, Any]:
        looks = branch["looks"]
        kind = looks.pop(0) if len(looks) > 1 else looks[0]
        status = {"status": "Cluster in some state", "statusType": kind, "instanceCount": 1, "instanceReadyCount": 1}
        host = self.host if branch["id"] == "xb0" else f"{branch['id']}.example.test"
        string = f"postgresql://xata@{host}:5432/app?sslmode=require"
        return {**self._listed(branch), "status": {**status, "instances": []}, "connectionString": string}


@contextlib.contextmanager
def served(vendor: Vendor) -> Iterator[str]:
    """Serve a vendor on a loopback port; yields its origin."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one packet an answer: two would wait for each other's acknowledgement

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's
            return

        def _any(self) -> None:
            parts = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            body = json.loads(raw) if raw else None
            vendor.asked.append((self.command, parts.path, body))
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                status, said = (
                    401,
                    {"message": f"bad token {self.headers.get('Authorization')}", "code": "UNAUTHORIZED"},
                )
            elif vendor.replies:
                status, said = vendor.replies.pop(0)
            else:
                status, said = vendor.answer(self.command, parts.path, query, body)
                if vendor.lose_next_change and self.command != "GET":
                    vendor.lose_next_change = False
                    self.close_connection = True
                    return
            data = b"" if said is None else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = do_PATCH = _any  # noqa: N815 - the base's names

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    vendor.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield vendor.url
    finally:
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE_S)
