"""First contact against an API that answers anything: it never breaks off, and touches no Worker but its own."""

from __future__ import annotations

import contextlib
import json
import random
from typing import TYPE_CHECKING

import pytest

from backout.analysis.conformance import find_shape
from backout.errors import BackoutError, Refused
from backout.providers.cloudflare.conformance import FirstContact
from backout.providers.memory.clock import WorldClock

from extent import by_extent
from scripted_server import answer, scripted_server

if TYPE_CHECKING:
    import socket
    import threading
    from collections.abc import Callable

    from scripted_server import ScriptedServer

WORDS = (
    *("result", "errors", "code", "message", "id", "name", "deployments", "versions", "version_id", "annotations"),
    *("workers/message", "number", "subdomain", "enabled", "modules", "content_base64", "url", "schedules", "cron"),
    *(
        "data",
        "__type",
        "fields",
        "status",
        "resources",
        "script",
        "etag",
        "items",
        "version",
        "calculations",
        "series",
    ),
    *(
        "groups",
        "key",
        "value",
        "sampleInterval",
        "statistics",
        "abr_level",
        "bindings",
        "type",
        "cohorts",
        "deployed_on",
    ),
    *("observability", "logs", "head_sampling_rate", "created_on", "mark", "object", "code_update_strategy", "mode"),
)
MINE = "backout-conformance-mine"
TEXTS = ("", "active", "x y", "a/../b", "line\r\nX-Forged: 1", "\u2028ü\x00\x1b[2J", "]", "wss://x", "-" * 500)


def anything(draw: random.Random, depth: int = 0) -> object:
    """Return a random JSON value that uses the names of the API."""
    kind = draw.randrange(4 if depth > 4 else 7)
    if kind < 4:
        return draw.choice((None, True, False, 0, -1, 10220, 1.5, *TEXTS))
    if kind == 4:
        return [anything(draw, depth + 1) for _ in range(draw.randrange(3))]
    return {draw.choice(WORDS): anything(draw, depth + 1) for _ in range(draw.randrange(6))}


def misled(draw: random.Random, made: set[str]) -> Callable[[socket.socket, threading.Event], bool]:
    """Return a step that answers like the API, with anything in it, or like nothing at all.

    Args:
        made: gets the ids that answers give to what is made of our name.
    """

    def step(connection: socket.socket, ended: threading.Event) -> bool:
        body = anything(draw)
        if draw.random() < 0.1:
            thing = f"thing-{len(made)}"
            body = {"queue_id": thing, "id": thing, "queue_name": MINE, "name": MINE}
            made.add(thing)
        enveloped = draw.random() < 0.8
        said = {"success": True, "errors": [], "result": body} if enveloped else body
        raw = b"[" * 5000 if draw.random() < 0.02 else json.dumps(said).encode()
        return answer(raw, draw.choice((200, 200, 200, 400, 404, 404, 500)))(connection, ended)

    return step


def contact(server: ScriptedServer, *, ingress: bool = True) -> FirstContact:
    """Return a first contact with that server."""
    return FirstContact(
        base_url=f"{server.url}/client/v4",
        token=lambda: "a-token-of-a-test",
        account_id="account",
        clock=WorldClock(0.0),
        ingress_url=server.url if ingress else None,
        script=MINE,
        database=lambda: {"host": "db.example.com"},
        shape_of=find_shape,
    )


@pytest.mark.parametrize("seed", range(by_extent(20, 60)))
def test_any_answer_is_an_observation(seed: int) -> None:
    """It ends with all calls made, or an error that is ours; what is changed is its own Worker, deleted in the end."""
    draw, made = random.Random(seed), set[str]()  # noqa: S311 the same dice each time
    with scripted_server() as server:
        server.will(
            answer({"success": True, "result": {"status": "active"}}),
            answer({"success": False, "errors": [{"code": 10007}]}, 404),
            misled(draw, made),
        )
        mine = contact(server, ingress=seed % 2 == 0)
        with contextlib.suppress(BackoutError):
            mine.observe(lambda _: None)
        asking = ("/graphql", "/telemetry/query", "/queues", "/hyperdrive/configs", "/assets/upload?base64=true")
        changes = [asked for asked in server.asked if asked.method != "GET" and not asked.target.endswith(asking)]
    own = (MINE, *made)
    assert all(any(f"/{name}" in asked.target for name in own) for asked in changes)
    assert any(
        asked.method == "DELETE" and asked.target.endswith("/backout-conformance-mine?force=true") for asked in changes
    )


@pytest.mark.parametrize("status", [200, 500, 403])
def test_a_worker_that_may_be_somebody_elses_is_never_deleted(status: int) -> None:
    """Only after the API said that there is none of that name is one made, and only what was made is deleted."""
    with scripted_server() as server:
        server.will(
            answer({"success": True, "result": {"status": "active"}}),
            answer({"success": True, "result": {"deployments": []}}, status),
            answer({"success": True, "result": {}}),
        )
        with pytest.raises(BackoutError):
            contact(server).observe(lambda _: None)
        assert [asked.method for asked in server.asked] == ["GET", "GET"]


def test_a_worker_that_could_not_be_deleted_is_named() -> None:
    """Whatever went wrong before: who reads the end knows what is left, and how to delete it."""
    with scripted_server() as server:

        def step(connection: socket.socket, ended: threading.Event) -> bool:
            if server.asked[-1].method == "DELETE":
                return answer({"success": False, "errors": [{"code": 10013}]}, 500)(connection, ended)
            return answer({"success": True, "result": {}})(connection, ended)

        server.will(
            answer({"success": True, "result": {"status": "active"}}),
            answer({"success": False, "errors": [{"code": 10007}]}, 404),
            step,
        )
        with pytest.raises(BackoutError) as caught:
            contact(server).observe(lambda _: None)
    assert "backout-conformance-mine" in str(caught.value)
    assert not isinstance(caught.value, Refused)
    assert "delete" in str(caught.value.hint)


def test_a_stop_deletes_the_worker() -> None:
    """Ctrl-C between two calls, and in the middle of the first upload."""
    with scripted_server() as server:
        server.will(
            answer({"success": True, "result": {"status": "active"}}),
            answer({"success": False, "errors": [{"code": 10007}]}, 404),
            answer({"success": True, "result": {}}),
        )

        def stop(seen: object) -> None:
            if getattr(seen, "name", "") == "first upload":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            contact(server).observe(stop)
        assert server.asked[-1].method == "DELETE"
