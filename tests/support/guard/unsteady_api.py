"""The provider's API in front of a World, in virtual time: slow, limiting, broken, stale, out of order, by a seed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from backout.errors import BackoutError, ProviderRejected, Refused, SecretsChanged
from backout.model.deployment import Share
from backout.model.triggers import TriggerKind
from backout.model.version import VersionId
from backout.providers.exchange import Answer, ExchangeError, Failure, Limits, Origin

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping, Sequence

    from backout.model.deployment import Deployment
    from backout.model.version import Version
    from backout.providers.memory import World

ACCOUNT, SCRIPT = "0123456789abcdef0123456789abcdef", "app"
BASE_URL = "https://api.test/client/v4"
STALE_S = 4.0
"""A list may be older than what happened by so much."""
SLOW_S = 8.0
FAULTS = (
    "slow", "slow after", "limited", "down", "down after", "cut", "no json", "broken", "broken after", "not reached",
    "stale", "stale", "stale", "stale", "reordered", "timeout", "timeout after",
)  # fmt: skip


class Crash(BaseException):
    """The process dies here."""


@dataclass
class UnsteadyApi:
    """Carries requests to a World; `rate` of them are disturbed. `crashes`: how often the process may die in one.

    Attributes:
        asked: (method, path, fault) of every request.
        lists: (when, true at) of every list of deployments.
    """

    world: World
    rng: random.Random
    rate: float = 0.0
    crashes: int = 0
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    lists: list[tuple[float, float]] = field(default_factory=list)
    origin: Origin = field(default_factory=lambda: Origin.of(BASE_URL))
    limits: Limits = field(default_factory=Limits)

    def close(self) -> None:
        """Nothing is open."""

    def exchange(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        within_s: float | None = None,
    ) -> Answer:
        """Answer as the API does, or as it does on a bad day."""
        fault = self.rng.choice(FAULTS) if self.rng.random() < self.rate else ""
        parts = urlsplit(target)
        self.asked.append((method, parts.path, fault))
        self._die("before")
        self.world.clock.sleep(self.rng.uniform(0.002, 0.2))
        early = self._before(fault, within_s or self.limits.total_s)
        if early is not None:
            return early
        answer = self._answer(method, parts.path, parse_qs(parts.query), body, fault)
        self._die("after")
        return self._after(fault, answer, within_s or self.limits.total_s)

    def _die(self, when: str) -> None:
        if self.crashes and self.rng.random() < 0.05:
            self.crashes -= 1
            raise Crash(when)

    def _before(self, fault: str, total_s: float) -> Answer | None:
        """Suffer what happens before the request has any effect."""
        sleep = self.world.clock.sleep
        if fault == "slow":
            sleep(self.rng.uniform(0.2, SLOW_S))
        elif fault == "limited":
            return Answer(429, {"retry-after": str(self.rng.randint(1, 20))}, b"slow down")
        elif fault == "down":
            return self._trouble()
        elif fault == "broken":
            raise ExchangeError(Failure.BROKEN, "the connection was reset", sent=True)
        elif fault == "not reached":
            raise ExchangeError(Failure.NOT_REACHED, "no route", sent=False)
        elif fault == "timeout":
            sleep(total_s)
            raise ExchangeError(Failure.TIMED_OUT, "no answer in time", sent=True)
        return None

    def _after(self, fault: str, answer: Answer, total_s: float) -> Answer:
        """Suffer what happens to an answer on its way."""
        if fault == "slow after":
            self.world.clock.sleep(self.rng.uniform(0.2, SLOW_S))
        elif fault == "down after":
            return self._trouble()
        elif fault == "cut":
            return Answer(answer.status, answer.headers, answer.body[: self.rng.randrange(len(answer.body))])
        elif fault == "no json":
            return Answer(200, {}, b"<html>Just a moment...</html>")
        elif fault == "broken after":
            raise ExchangeError(Failure.BROKEN, "closed in the middle", sent=True, status=answer.status)
        elif fault == "timeout after":
            self.world.clock.sleep(total_s)
            raise ExchangeError(Failure.TIMED_OUT, "no answer in time", sent=True)
        return answer

    def _trouble(self) -> Answer:
        status = self.rng.choice((500, 502, 503, 504, 520))
        if self.rng.random() < 0.5:
            return Answer(status, {}, b"<html>error</html>")
        return _said(status, 10013, "workers.api.error.unknown")

    # --- the API itself ---

    def _answer(
        self, method: str, path: str, query: Mapping[str, Sequence[str]], body: bytes | None, fault: str
    ) -> Answer:
        for asked, pattern, handler in self._routes(query, fault):
            found = re.fullmatch(pattern, path)
            if found and asked == method:
                try:
                    return handler(*found.groups(), *([] if body is None else [json.loads(body)]))
                except BackoutError as error:
                    return _refusal(error)
        return _said(404, 7003, f"no route for {method} {path}")

    def _routes(
        self, query: Mapping[str, Sequence[str]], fault: str
    ) -> tuple[tuple[str, str, Callable[..., Answer]], ...]:
        account = f"/client/v4/accounts/{ACCOUNT}"
        script = f"{account}/workers/scripts/{SCRIPT}"
        return (
            ("GET", f"{script}/deployments", lambda: self._history(fault)),
            ("POST", f"{script}/deployments", lambda body: self._deploy(body, force="force" in query)),
            ("GET", f"{script}/versions", lambda: self._versions(fault)),
            ("GET", f"{script}/versions/([^/]+)", lambda version: _ok(_version(self.world.versions.detail(version)))),
            ("GET", f"{script}/secrets", lambda: self._secrets(fault)),
            ("GET", f"{script}/schedules", lambda: self._schedules(fault)),
            ("PUT", f"{script}/schedules", self._set_schedules),
            ("GET", f"{account}/workers/domains", lambda: _ok([])),
            ("GET", f"{account}/workers/services/{SCRIPT}/environments/production/routes", lambda: _ok([])),
            ("GET", f"{account}/queues", lambda: _ok([])),
            ("GET", "/client/v4/user/tokens/verify", lambda: _ok({"id": "t", "status": "active"})),
        )  # fmt: skip

    def _history(self, fault: str) -> Answer:
        known, as_of = self.world.deployments.history(), self.world.clock.now()
        if fault == "stale":
            as_of -= self.rng.uniform(0.0, STALE_S)
            known = tuple(d for d in known if d.created_at <= as_of) or known[-1:]
        self.lists.append((self.world.clock.now(), as_of))
        return _ok({"deployments": [_deployment(d) for d in self._mixed(known, fault)]})

    def _versions(self, fault: str) -> Answer:
        known = self.world.versions.recent()
        if fault == "stale":
            as_of = self.world.clock.now() - self.rng.uniform(0.0, STALE_S)
            known = tuple(v for v in known if v.created_at <= as_of) or known[-1:]
        return _ok({"items": [_version(version) for version in self._mixed(known, fault)]})

    def _deploy(self, body: dict[str, Any], *, force: bool) -> Answer:
        shares = [Share(VersionId(share["version_id"]), float(share["percentage"])) for share in body["versions"]]
        message = (body.get("annotations") or {}).get("workers/message", "")
        return _ok(_deployment(self.world.deployments.deploy(shares, message=message, force=force)))

    def _secrets(self, fault: str) -> Answer:
        return _ok([{"name": name} for name in self._mixed(self.world.secrets.names(), fault)])

    def _schedules(self, fault: str) -> Answer:
        schedules = self.world.triggers.read((TriggerKind.SCHEDULES,)).schedules or ()
        return _ok({"schedules": [{"cron": cron} for cron in self._mixed(schedules, fault)]})

    def _set_schedules(self, body: list[dict[str, str]]) -> Answer:
        self.world.triggers.set_schedules([each["cron"] for each in body])
        return _ok({"schedules": body})

    def _mixed(self, items: Sequence[Any], fault: str) -> list[Any]:
        mixed = list(items)
        if fault == "reordered":
            self.rng.shuffle(mixed)
        return mixed


def _ok(result: object) -> Answer:
    return _json(200, {"success": True, "errors": [], "messages": [], "result": result})


def _said(status: int, code: int, message: str) -> Answer:
    return _json(status, {"success": False, "errors": [{"code": code, "message": message}], "result": None})


def _json(status: int, body: object) -> Answer:
    return Answer(status, {"content-type": "application/json"}, json.dumps(body).encode())


def _refusal(error: BackoutError) -> Answer:
    if isinstance(error, SecretsChanged):
        return _said(400, 10220, f"{error.what}: {', '.join(error.names)}")
    if isinstance(error, Refused):
        return _said(400, 10218, error.what)
    if isinstance(error, ProviderRejected):
        return _said(error.status, error.code or 0, error.what)
    raise error


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")


def _deployment(deployment: Deployment) -> dict[str, object]:
    return {
        "id": deployment.id,
        "created_on": _time(deployment.created_at),
        "author_email": deployment.author,
        "annotations": {"workers/message": deployment.message, "workers/triggered_by": deployment.triggered_by},
        "versions": [{"version_id": s.version, "percentage": s.percentage} for s in deployment.shares],
    }


def _version(version: Version) -> dict[str, object]:
    notes = {"workers/message": version.message, "workers/tag": version.tag}
    shown: dict[str, object] = {
        "id": version.id,
        "number": version.number,
        "metadata": {"created_on": _time(version.created_at), "author_email": version.author},
        "annotations": {**notes, "workers/triggered_by": version.triggered_by},
    }
    if version.code_hash is not None:
        bindings = [dict(zip(("type", "name"), binding.split(":", 1), strict=True)) for binding in version.bindings]
        shown["resources"] = {"bindings": bindings, "script": {"etag": version.code_hash, "handlers": ["fetch"]}}
    return shown
