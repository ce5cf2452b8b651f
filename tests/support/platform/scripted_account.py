"""Workers of a Cloudflare account behind the limit of calls, on a simulated clock."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from backout.providers.exchange import Answer, Limits, Origin
from backout.twin.api.limiter import CALLS, Limiter

from twin_harness import TOKEN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.providers.memory import WorldClock

BEGIN = 1_800_000_000.0


@dataclass
class Account:
    """Workers of one account behind the limit of calls; carries the requests of a client.

    Args:
        blind: whether the list of Workers shows no deployment that came later; `lag_s`: how late it shows one;
            `tells_times`: whether it shows any; `refuses`: whether it is forbidden.
    """

    clock: WorldClock
    names: list[str]
    limiter: Limiter = field(default_factory=lambda: Limiter(CALLS))
    blind: bool = False
    lag_s: float = 0.0
    tells_times: bool = True
    refuses: bool = False
    made: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    asked: dict[str, int] = field(default_factory=dict)
    targets: list[str] = field(default_factory=list)
    origin: Origin = field(default_factory=lambda: Origin.of("http://127.0.0.1:9"))
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        self.made = {name: [(f"{name}-0", self.clock.now() - 3600.0 - at)] for at, name in enumerate(self.names)}

    def deploy(self, name: str) -> str:
        """Let somebody deploy."""
        self.made[name].insert(0, (f"{name}-{len(self.made[name])}", self.clock.now()))
        return self.made[name][0][0]

    def call(self, what: str) -> float:
        """Count a call; return for how long it is refused, 0 where it is answered."""
        self.asked[what] = self.asked.get(what, 0) + 1
        wait_s = self.limiter.take(self.clock.now())
        if wait_s > 0:
            self.refused.append(what)
        return wait_s

    def exchange(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        within_s: float | None = None,
    ) -> Answer:
        del body, within_s
        assert headers["Authorization"] == f"Bearer {TOKEN}"
        parts = urlsplit(target)
        wait_s = self.call(f"{method} {parts.path.rpartition('/')[2]}")
        self.targets.append(parts.path.split("/")[-2])
        told = {name.lower(): value for name, value in self.limiter.headers(self.clock.now()).items()}
        if wait_s > 0:
            return Answer(429, told | {"retry-after": str(int(wait_s) + 1)}, b"{}")
        if self.refuses and parts.path.endswith("/workers/workers"):
            return Answer(403, told, b'{"success": false, "errors": [{"code": 10000, "message": "no"}]}')
        result = self._answer(method, parts.path, parse_qs(parts.query))
        return Answer(200, told, json.dumps({"success": True, "errors": [], "result": result}).encode())

    def close(self) -> None:
        """Nothing is open."""

    def _answer(self, method: str, path: str, query: dict[str, list[str]]) -> object:
        if path.endswith("/workers/workers"):
            workers = sorted(((self._shown_at(name), name) for name in self.names), reverse=True)
            page, per_page = int(query["page"][0]), int(query["per_page"][0])
            shown = workers[(page - 1) * per_page : page * per_page]
            return [{"name": name, "deployed_on": format_time(at) if self.tells_times else None} for at, name in shown]
        name = path.split("/")[-2]
        if method == "POST" and path.endswith("/deployments"):
            self.deploy(name)
            return self._describe(*self.made[name][0])
        if path.endswith("/deployments"):
            return {"deployments": [self._describe(*each) for each in self.made[name][:10]]}
        return {"calculations": []}

    def _shown_at(self, name: str) -> float:
        until = BEGIN if self.blind else self.clock.now() - self.lag_s
        return next((at for _, at in self.made[name] if at <= until), 0.0)

    def _describe(self, deployment: str, at: float) -> dict[str, Any]:
        versions = [{"version_id": f"v-of-{deployment}", "percentage": 100}]
        return {"id": deployment, "created_on": format_time(at), "versions": versions}


def format_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
