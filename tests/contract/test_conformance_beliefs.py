"""Each call of `backout conformance` can fail: an API that differs in one thing differs in that call alone."""

from __future__ import annotations

import contextlib
import json
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from api_gate import Answer, api_gate
from values import replace

from backout.analysis.conformance import compare, find_shape
from backout.providers.cloudflare.conformance import FirstContact
from backout.providers.memory import WorldClock
from backout.twin.dataplane.counts import RouteRow, Row

from extent import long, rotated
from scripted_server import ScriptedServer, answer, scripted_server
from twin_harness import ACCOUNT, TOKEN, Api, running_api

if TYPE_CHECKING:
    import socket
    import threading
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from backout.model.conformance import Observation

    Json = Any
    Change = Callable[[str, str, Json, Json], Json]
"""Given (method, path with its query, what was asked, the answer), returns another answer; a number: its status."""

MINE = "backout-conformance-mine"


@dataclass
class Edge:
    """Where the Worker answers, with the objects that it keeps; what it answered is counted as on the twin.

    Args:
        status: what a visitor gets when the code throws.
        overrides: whether a version can be asked for by name.
        defers, resets: whether objects keep their code over a switch, and lose it where that is immediate.
        files: whether files are answered.
    """

    api: Api
    clock: WorldClock
    status: int = 500
    overrides: bool = True
    defers: bool = True
    resets: bool = True
    files: bool = True
    kept: str | None = None
    immediate: bool = field(default=False)

    def hear(self, method: str, path: str, asked: Json) -> None:
        """See a call of the API pass."""
        if method == "POST" and path.endswith("/deployments"):
            self.immediate = asked.get("code_update_strategy", {}).get("mode") == "immediate"

    def serve(self, server: ScriptedServer) -> Callable[[socket.socket, threading.Event], bool]:
        """Return the step that answers a visit."""

        def step(connection: socket.socket, ended: threading.Event) -> bool:
            asked = server.asked[-1]
            shares = self.api.data_plane.live[MINE]
            named = asked.headers.get("cloudflare-workers-version-overrides", "")
            live = next((v for v, share in shares if share > 0), shares[0][0])
            if self.overrides:
                live = next((v for v, _ in shares if f'"{v.id}"' in named), live)
            second = int(self.clock.now())
            probe, throws = asked.headers.get("x-backout-probe-id"), asked.target == "/throw"
            if "x-backout-probe" in asked.headers:
                row = Row(live.id, second, probes=1, probe_ids={probe: 1} if probe else {})
            elif throws:
                routes = {"GET /throw": RouteRow(1, 1)}
                row = Row(live.id, second, 1, 1, statuses={500: 1}, by_outcome={"exception": 1}, routes=routes)
            else:
                row = Row(live.id, second, 1, statuses={200: 1}, by_outcome={"ok": 1})
            self.api.data_plane.rows.setdefault(MINE, []).append(row)
            if throws:
                return answer(b"error 1101", self.status)(connection, ended)
            if asked.target in live.assets:
                return answer(b"kept", 200 if self.files else 404)(connection, ended)
            bound = {binding.name: binding.value for binding in live.bindings}
            if bound["MARK"] == "closed":
                return answer(b"closed", 503, retry_after="60")(connection, ended)
            said = {"mark": bound["MARK"], "version": live.id}
            if "KEPT" in bound:
                loses = self.resets if self.immediate else not self.defers
                self.kept = bound["MARK"] if self.kept is None or loses else self.kept
                said["object"] = self.kept
            return answer(said)(connection, ended)

        return step


@contextlib.contextmanager
def contact(directory: Path, change: Change, **edge: Any) -> Iterator[FirstContact]:
    """Yield a first contact with an API whose answers are changed."""
    directory.mkdir()
    with running_api(directory) as api, api_gate(f"{api.url}/client/v4") as gate, scripted_server() as server:
        place = Edge(api, WorldClock(time.time() - 3600.0), **edge)
        server.will(place.serve(server))

        def pass_on(method: str, path: str, asked: bytes, own: Answer) -> Answer:
            sent = json.loads(asked) if asked.startswith(b"{") else asked.decode(errors="replace")
            place.hear(method, path, sent)
            changed = change(method, path, sent, json.loads(own.body))
            if isinstance(changed, int):
                return replace(own, status=changed)
            if changed is None:  # nothing is told of the limit
                return replace(own, headers=())
            status = own.status if changed.get("success", "data" in changed) == (own.status < 400) else 200
            return replace(own, status=status, body=json.dumps(changed).encode())

        gate.change = pass_on
        yield FirstContact(
            base_url=gate.url,
            token=lambda: TOKEN,
            account_id=ACCOUNT,
            clock=place.clock,
            ingress_url=server.url,
            script=MINE,
            database=lambda: {"host": "db.example.com", "user": "app", "password": "x", "dbname": "app"},
            shape_of=find_shape,
        )


def observe(directory: Path, change: Change, **edge: Any) -> tuple[Observation, ...]:
    """Return what was observed."""
    with contact(directory, change, **edge) as made:
        return made.observe(lambda _seen: None)


def leave(_method: str, _path: str, _asked: Json, told: Json) -> Json:
    return told


def at(method: str, end: str, edit: Callable[[Json, Json], Json], *, only: Callable[[Json, Json], bool]) -> Change:
    """Return a change of the answers to calls whose path ends so, where `only` says yes to (asked, told)."""

    def change(asked_method: str, path: str, asked: Json, told: Json) -> Json:
        fits = asked_method == method and path.endswith(end)
        return edit(asked, told) if fits and only(asked, told) else told

    return change


def where(
    method: str, pattern: str, edit: Callable[[Json, Json], Json], *, only: Callable[[Json, Json], bool]
) -> Change:
    """Return a change of the answers to calls whose path is such, where `only` says yes to (asked, told)."""

    def change(asked_method: str, path: str, asked: Json, told: Json) -> Json:
        fits = asked_method == method and re.search(pattern, path)
        return edit(asked, told) if fits and only(asked, told) else told

    return change


def always(_asked: Json, _told: Json) -> bool:
    return True


def within(*keys: str | int, to: Json) -> Callable[[Json, Json], Json]:
    """Return an edit that sets what lies below these keys, or takes it away for None."""

    def edit(_asked: Json, told: Json) -> Json:
        inner = told
        for key in keys[:-1]:
            inner = inner[key]
        if to is None:
            del inner[keys[-1]]
        else:
            inner[keys[-1]] = to
        return told

    return edit


def grouped(*keys: str) -> Callable[[Json, Json], bool]:
    """Return whether a query of the telemetry groups by these keys."""
    return lambda asked, _told: [each["value"] for each in asked["parameters"]["groupBys"]] == list(keys)


def filtered(key: str, operation: str) -> Callable[[Json, Json], bool]:
    return lambda asked, _told: any(
        (each["key"], each["operation"]) == (key, operation) for each in asked["parameters"]["filters"]
    )


def said(word: str) -> Callable[[Json, Json], bool]:
    """Return whether what was asked holds a word."""
    return lambda asked, _told: word in json.dumps(asked)


def succeeds(_asked: Json, told: Json) -> bool:
    return bool(told.get("success"))


def fails(_asked: Json, told: Json) -> bool:
    return not succeeds(_asked, told)


def status(number: int) -> Callable[[Json, Json], Json]:
    return lambda _asked, _told: number


def accept(_asked: Json, _told: Json) -> Json:
    return {"success": True, "errors": [], "messages": [], "result": {"id": "accepted"}}


def refuse(code: int) -> Callable[[Json, Json], Json]:
    return lambda _asked, told: told | {"errors": [{"code": code, "message": "no"}]}


def number_of(*keys: str, count: int) -> Callable[[Json, Json], bool]:
    """Return whether the list below these keys has so many."""

    def counts(_asked: Json, told: Json) -> bool:
        for key in keys:
            told = told[key] if isinstance(told, dict) and key in told else None
        return isinstance(told, list) and len(told) == count

    return counts


def both(*conditions: Callable[[Json, Json], bool]) -> Callable[[Json, Json], bool]:
    return lambda asked, told: all(each(asked, told) for each in conditions)


def add_exception(_asked: Json, told: Json) -> Json:
    data = told["result"]["calculations"][0]["series"][0]["data"]
    data.append({"value": 1, "sampleInterval": 1, "groups": [{"key": "$workers.outcome", "value": "exception"}]})
    return told


def sample(_asked: Json, told: Json) -> Json:
    for bucket in told["result"]["calculations"][0]["series"]:
        for data in bucket["data"]:
            data["sampleInterval"] = 10
    return told


def drop_secrets(_asked: Json, told: Json) -> Json:
    resources = told["result"]["resources"]
    resources["bindings"] = [each for each in resources["bindings"] if each["type"] != "secret_text"]
    return told


def drop_tags(_asked: Json, told: Json) -> Json:
    for each in told["result"]["items"]:
        each["annotations"].pop("workers/tag", None)
    return told


def is_off(_asked: Json, told: Json) -> bool:
    return bool(told["result"]["caching"]["disabled"])


def forget_consumers(_asked: Json, told: Json) -> Json:
    for each in told["result"]:
        each["consumers"] = []
    return told


def drop_cohorts(_asked: Json, told: Json) -> Json:
    for each in (told["result"], *told["result"].get("deployments", [])):
        each.pop("cohorts", None)
    return told


def cut_messages(_asked: Json, told: Json) -> Json:
    for each in told["result"]["deployments"]:
        each["annotations"] = {key: text[:100] for key, text in each["annotations"].items()}
    return told


def list_twice(_asked: Json, told: Json) -> Json:
    told["result"]["deployments"] *= 2
    return told


NOTHING_COUNTED = within("result", "calculations", to=[])
QUEUE, CONFIG = r"/queues/[0-9a-f]+$", r"/hyperdrive/configs/[0-9a-f]+$"
TELEMETRY, NAME = "/telemetry/query", f"/workers/workers/{MINE}"
DEPLOYMENTS, VERSIONS = f"/{MINE}/deployments", f"/{MINE}/versions"
VERSION, OUTCOME, STATUS = "$workers.scriptVersion.id", "$workers.outcome", "$workers.event.response.status"
EVENT, TRIGGER = "$workers.eventType", "$metadata.trigger"
PROBE = "$workers.event.request.headers.x-backout-probe"


class AfterDelete:
    """An API that still shows the Worker once it is deleted."""

    def __init__(self) -> None:
        self.deleted = False

    def __call__(self, method: str, path: str, asked: Json, told: Json) -> Json:
        self.deleted = self.deleted or (method == "DELETE" and path.endswith("?force=true"))
        return accept(asked, told) if self.deleted and method == "GET" else told


def show_version(method: str, path: str, asked: Json, told: Json) -> Json:
    """Leave the hash of the code out of a version."""
    shows = method == "GET" and f"{VERSIONS}/" in path and f"/scripts/{MINE}" in path
    return within("result", "resources", "script", "etag", to=None)(asked, told) if shows else told


def hide_secrets(method: str, path: str, asked: Json, told: Json) -> Json:
    shows = method == "GET" and f"/scripts/{MINE}/versions/" in path
    return drop_secrets(asked, told) if shows else told


def hide_code(method: str, path: str, asked: Json, told: Json) -> Json:
    shows = method == "GET" and path.endswith("?include=modules")
    return within("result", "modules", 0, "content_base64", to="eA==")(asked, told) if shows else told


def refuse_deletion(method: str, path: str, _asked: Json, told: Json) -> Json:
    return 404 if method == "DELETE" and "/tails/" in path else told


def tell_no_limit(method: str, path: str, _asked: Json, told: Json) -> Json:
    return None if method == "GET" and path.endswith("/schedules") else told


def on_first(change: Callable[[Json, Json], Json]) -> Callable[[Json, Json], Json]:
    """Return an edit that is made once."""
    done: list[bool] = []

    def edit(asked: Json, told: Json) -> Json:
        done.append(True)
        return change(asked, told) if len(done) == 1 else told

    return edit


def make_changes() -> dict[str, Change]:
    """Return for each call what an API that fails it alone would answer."""
    verify, secrets, bulk = "user/tokens/verify", f"/{MINE}/secrets", "/secrets-bulk"
    return {
        "token": at("GET", verify, within("result", "status", to="disabled"), only=always),
        "unknown Worker": at("GET", DEPLOYMENTS, on_first(refuse(10090)), only=fails),
        "first upload": at("PUT", MINE, on_first(within("result", "deployment_id", to=None)), only=always),
        "address": at("POST", "/subdomain", within("result", "enabled", to=False), only=always),
        "history": at("GET", DEPLOYMENTS, list_twice, only=number_of("result", "deployments", count=1)),
        "logs": at("GET", NAME, within("result", "observability", to={"enabled": False}), only=always),
        "telemetry": at("POST", TELEMETRY, sample, only=grouped(VERSION, OUTCOME)),
        "telemetry by status": at("POST", TELEMETRY, add_exception, only=grouped(OUTCOME, STATUS)),
        "telemetry by request": at("POST", TELEMETRY, NOTHING_COUNTED, only=grouped(EVENT, TRIGGER)),
        "telemetry filters": at("POST", TELEMETRY, NOTHING_COUNTED, only=filtered(PROBE, "is_null")),
        "telemetry of probes": at("POST", TELEMETRY, NOTHING_COUNTED, only=filtered(f"{PROBE}-id", "eq")),
        "version upload": at("POST", VERSIONS, on_first(within("result", "number", to=7)), only=always),
        "version detail": show_version,
        "message limit": at("GET", DEPLOYMENTS, cut_messages, only=succeeds),
        "0 % deployment": at("POST", DEPLOYMENTS, on_first(within("result", "versions", to=[])), only=said("at 0 %")),
        "three versions": at("POST", DEPLOYMENTS, refuse(1), only=said("three")),
        "wrong sum": at("POST", DEPLOYMENTS, refuse(1), only=said("wrong sum")),
        "cohorts": at("GET", DEPLOYMENTS, drop_cohorts, only=succeeds),
        "switch": at("POST", DEPLOYMENTS, within("result", "id", to="another"), only=said('"switch"')),
        "list of Workers": at("GET", "&page=1", within("result", 0, "deployed_on", to=None), only=always),
        "secret put": at("PUT", secrets, on_first(status(201)), only=always),
        "secrets-bulk": at("GET", secrets, within("result", to=[]), only=always),
        "taken name": at("PATCH", bulk, accept, only=said("MARK")),
        "rollback over a secret": at("POST", DEPLOYMENTS, refuse(10220), only=both(said('"back"'), fails)),
        "forced rollback": at("POST", f"{DEPLOYMENTS}?force=true", status(201), only=always),
        "secret behind a rollback": at("PUT", secrets, refuse(10214), only=fails),
        "inherited upload": hide_secrets,
        "nothing to inherit": at("POST", "?bindings_inherit=strict", accept, only=fails),
        "versions": at(
            "GET", "?deployable=true", within("result", "items", to=[]), only=number_of("result", "items", count=5)
        ),
        "code": hide_code,
        "tail": at("POST", "/tails", within("result", "url", to="https://x"), only=succeeds),
        "unheard tail": refuse_deletion,
        "eleventh tail": at("POST", "/tails", accept, only=fails),
        "schedules": at(
            "GET", "/schedules", within("result", "schedules", to=[]), only=number_of("result", "schedules", count=1)
        ),
        "routes": at("GET", "/production/routes", status(404), only=always),
        "counts": at("POST", "/graphql", within("data", "__type", "fields", to=[]), only=always),
        "limit of calls": tell_no_limit,
        "maintenance version": at("GET", "?deployable=true", drop_tags, only=always),
        "paused queue": where("GET", QUEUE, within("result", "settings", "delivery_delay", to=0), only=always),
        "queue's consumer": at("GET", "/queues", forget_consumers, only=always),
        "query cache": at("POST", "/hyperdrive/configs", status(201), only=always),
        "query cache off": where("GET", CONFIG, within("result", "origin", "host", to="other"), only=is_off),
        "query cache on": where("PATCH", CONFIG, status(201), only=said("max_age")),
        "object": at("PUT", MINE, status(201), only=said("Kept")),
        "delete": AfterDelete(),
    }


AT_THE_EDGE: dict[str, dict[str, Any]] = {
    "throwing request": {"status": 502},
    "override": {"overrides": False},
    "static file": {"files": False},
    "object's code": {"defers": False},
    "immediate switch": {"resets": False},
}
CALLS = (*make_changes(), *AT_THE_EDGE)
SHORT = ("telemetry",)


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> tuple[Observation, ...]:
    """What is observed where nothing is changed."""
    return observe(tmp_path_factory.mktemp("usual") / "api", leave)


def test_no_call_is_without_a_way_to_fail(usual: tuple[Observation, ...]) -> None:
    assert sorted(CALLS) == sorted(seen.name for seen in usual)
    assert all(None not in seen.facts.values() for seen in usual if seen.name != "immediate switch")


@pytest.mark.parametrize("call", [*SHORT, *map(long, rotated([each for each in CALLS if each not in SHORT], 10))])
def test_an_api_that_differs_in_one_thing_differs_in_that_call(
    usual: tuple[Observation, ...], tmp_path: Path, call: str
) -> None:
    found = observe(tmp_path / "api", make_changes().get(call, leave), **AT_THE_EDGE.get(call, {}))
    assert {each.call for each in compare(usual, found) if each.matters} == {call}
