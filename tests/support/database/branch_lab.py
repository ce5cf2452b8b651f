"""A vendor whose branches are real: its API as documented, each branch the lab's Postgres at that very moment."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
from cli_shell import Answer
from cli_shell import backout as typed
from recovery_lab import Lab, opened

from backout.model.database.recovery import SideOrder
from backout.model.database.wal import WalSpan, parse_lsn
from backout.providers.postgres.restore.side import PostgresSides
from backout.providers.postgres.restore.wal_search import WalSearch

from polling import PATIENCE_S
from vendor_lab import LIVE, PROJECT, TOKEN, Neon, Reply, served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PASSWORD = "pw-canary-of-a-branch"
TOML = """
[app]
name = "shop"
[environments.lab]
platform = {{ provider = "cloudflare", account_id = "0123456789abcdef0123456789abcdef", script = "shop" }}
[environments.lab.database]
provider = "postgres"
url_env = "DATABASE_URL"
[environments.lab.database.managed]
provider = "neon"
project = "{project}"
branch = "{branch}"
api_base_url = "{url}/api/v2"
"""


@dataclass
class BranchingVendor(Neon):
    """Neon on a lab: a branch at an LSN or a time is a side instance that was replayed to it.

    Args:
        strays_to: the LSN that it puts in place, whatever the branch shows; None for the branch's.
        ends_early_s: by how much a branch shows an earlier time, as where a later commit comes before it in the WAL.
        before_stop, stopped, after_start: are called around an exchange; `stopped` with what comes, while it is down.
    """

    lab: Lab = field(kw_only=True)
    base: str = "base"
    lock: threading.Lock = field(default_factory=threading.Lock)
    strays_to: int | None = None
    ends_early_s: float = 0.0
    before_stop: Callable[[], None] = lambda: None
    stopped: Callable[[Path], None] = lambda _incoming: None
    after_start: Callable[[], None] = lambda: None
    placed: dict[str, str] = field(default_factory=dict)
    born: str = field(default_factory=lambda: datetime.now(UTC).isoformat())

    @property
    def sides(self) -> PostgresSides:
        return PostgresSides(
            self.lab.root / "vendor",
            self.lab.binaries,
            self.lab.backups,
            lambda: "postgres",
            places=lambda name: self.placed.get(name, ""),
        )

    def operation(self, action: str) -> dict[str, Any]:
        return {"id": f"op-{action}", "action": action, "status": "finished"}

    def _create(self, body: Any) -> Reply:
        with self.lock:
            status, said = super()._create(body)
            if status == 201:  # it is listed before it is there
                made, asked = said["branch"], body["branch"]
                made["current_state"] = "init"
                self._grown(asked["name"], self._position(asked))
                made["current_state"] = "ready"
        return status, said

    def _position(self, asked: dict[str, Any]) -> int:
        ((newest,),) = self.lab.rows("SELECT pg_current_wal_insert_lsn()::text")
        self.lab.archived()
        if "parent_lsn" in asked:
            return parse_lsn(asked["parent_lsn"])
        at = datetime.fromisoformat(asked["parent_timestamp"]).timestamp() - self.ends_early_s
        search = WalSearch(self.lab.binaries, self.lab.backups, self.lab.root / "vendor" / "wal")
        later = (each.lsn for each in search.commits((self._span(),)) if each.at > at + 2e-7)
        return next(later, parse_lsn(newest))

    def _span(self) -> WalSpan:
        base = next(each for each in self.lab.backups.found if each.id == self.base)
        segments = [each for each in self.lab.backups.wal() if each.end_lsn > base.begin_lsn]
        names = tuple(each.name for each in segments)
        return WalSpan(base.timeline, base.begin_lsn, segments[-1].end_lsn, names)

    def _grown(self, name: str, lsn: int, place: str = "") -> None:
        order = SideOrder(name, self.base, lsn, 1, self._span().names, place=place)
        self.placed[name] = place
        self.sides.start(order, lambda *_: None)
        self.sides.promote(name)

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Reply:
        parts = path.split("/")
        if method == "GET" and parts[-1] == PROJECT:
            return 200, {"project": {"id": PROJECT, "history_retention_seconds": 86400, "created_at": self.born}}
        if parts[-1] == "connection_uri":
            branch = self.find(query["branch_id"])
            side = self.sides.find(str(branch and branch["name"]))
            dsn = self.lab.dsn if query["branch_id"] == LIVE else side and side.dsn
            if not dsn:
                return 404, {"message": "no such branch"}
            where = psycopg.conninfo.conninfo_to_dict(dsn)
            host = f"{quote(str(where['host']), safe='')}:{where['port']}"
            return 200, {"uri": f"postgresql://{query['role_name']}:{PASSWORD}@{host}/{query['database_name']}"}
        if method == "DELETE" and parts[-2] == "branches" and (branch := self.find(parts[-1])):
            with self.lock:
                self.sides.drop(branch["name"])
        return super().answer(method, path, query, body)

    def _restored(self, key: str, body: Any) -> Reply:
        """Put the branch's content in the live one's place: the data directories change places."""
        source, kept, live = self.find(body["source_branch_id"]), body["preserve_under_name"], self.lab.data
        assert source is not None
        incoming = Path(f"{live}.{source['name']}")
        if not incoming.exists():
            side = self.sides.find(source["name"])
            assert side is not None
            self._grown("incoming", self.strays_to or side.target_lsn, str(incoming))
            self.sides.stop("incoming")
        self.stopped(incoming)
        self.before_stop()
        self.lab.server.stop()
        self.lab.server.exchange(incoming, Path(f"{live}.{kept}"))
        self.lab.server.start()
        self.after_start()
        self.sides.drop("incoming")
        if self.lab.receiver is not None:
            self.lab.receiver.wait(timeout=PATIENCE_S)
        self.lab.receive()
        return super()._restored(key, body)


class Typing:
    """The command line of somebody whose database a vendor runs."""

    def __init__(self, lab: Lab, vendor: BranchingVendor, folder: Path) -> None:
        self.lab, self.vendor, self.folder = lab, vendor, folder
        self.variables = {"DATABASE_URL": lab.dsn, "NEON_API_KEY": TOKEN}
        folder.mkdir()
        text = TOML.format(project=PROJECT, branch=LIVE, url=vendor.url)
        (folder / "backout.toml").write_text(text, encoding="utf-8")

    def __call__(self, *arguments: str, code: int = 0) -> Answer:
        answer = typed(self.folder, *arguments, variables=self.variables)
        assert answer.code == code, answer.err + answer.out
        return answer


@contextlib.contextmanager
def managed(root: Path, cache: Path, *, commit_times: bool) -> Iterator[Typing]:
    """Open a lab behind a vendor, with a base from which it makes branches."""
    with opened(root / "lab", cache, receive=False, templates=True) as lab:
        with lab.connect() as connection:
            connection.execute(f"ALTER SYSTEM SET track_commit_timestamp = {'on' if commit_times else 'off'}")
        lab.server.stop()
        lab.server.start()
        lab.receive()
        vendor = BranchingVendor(lab=lab, host=str(lab.sockets))
        try:
            with served(vendor):
                yield Typing(lab, vendor, root / "project")
        finally:
            for side in vendor.sides.list():
                vendor.sides.drop(side.name)
