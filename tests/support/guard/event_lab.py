"""Events of Workers as tests need them: drawn at random, in several spellings, and read from memory."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from backout.analysis.diagnosis.templates import Templates
from backout.providers.events.reader import EventReader
from backout.providers.events.tally import EventTally

if TYPE_CHECKING:
    import random

    from backout.model.incident.events import EventCounts

VERSIONS = ("11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222")
BEGIN_MS = 1_764_000_000_000
OUTCOMES = ("exceededCpu", "exceededMemory", "canceled", "unknown", "internalError", "okay", "o", "OK")


def event(version: str = VERSIONS[0], at_ms: int = BEGIN_MS, **changed: Any) -> dict[str, Any]:
    """Return an ordinary tail event, as wrangler 4.164 orders its keys, with some of them changed."""
    return {
        "outcome": "ok",
        "scriptName": "shop",
        "scriptVersion": {"id": version},
        "exceptions": [],
        "logs": [],
        "eventTimestamp": at_ms,
        "event": {
            "request": {"url": "https://shop.example.com/a?b=1", "method": "GET", "headers": {"accept": "*/*"}},
            "response": {"status": 200},
        },
        "wallTime": 3,
        "cpuTime": 1,
        "truncated": False,
        **changed,
    }


def thrown(message: str, name: str = "TypeError", stack: str = "    at save (worker.js:1:2)") -> dict[str, Any]:
    return {"name": name, "message": message, "timestamp": BEGIN_MS, "stack": stack}


def logged(level: str, *message: Any) -> dict[str, Any]:
    return {"level": level, "message": list(message), "timestamp": BEGIN_MS}


def compact(events: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(one, separators=(",", ":"), ensure_ascii=False) + "\n" for one in events).encode()


def pretty(events: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(one, indent=4, ensure_ascii=False) + "\n" for one in events).encode()


def read(data: bytes, *, decode_all: bool = False) -> EventCounts:
    """Return what is read of these bytes; `decode_all`: as without the optional parts."""
    tally = EventTally(Templates())
    EventReader(tally, "events", learns=not decode_all).read(io.BytesIO(data))
    return tally.result()


def mixed(draw: random.Random, number: int) -> list[dict[str, Any]]:
    """Return events of which some have trouble, and some only look as if."""
    found = []
    for index in range(number):
        one = event(draw.choices(VERSIONS, (9, 1))[0], BEGIN_MS + 40 * index)
        kind = draw.randrange(24)
        if kind == 0:
            one = {**one, "outcome": "exception", "exceptions": [thrown(f"no user {draw.randrange(10**6)}")]}
        elif kind == 1:
            one["event"]["response"]["status"] = draw.choice([500, 503, 599, 404, 207, 600, 50])
        elif kind == 2:
            one["logs"] = [logged(draw.choice(["error", "warn", "log", "info", "errors"]), f"slow {index}", {"a": [1]})]
        elif kind == 3:
            one["outcome"] = draw.choice(OUTCOMES)
        elif kind == 4:
            lie = '"outcome":"exception","exceptions":[{"name":"x"}],"level":"error","status":500,"truncated":true'
            one["logs"] = [logged("log", lie)]
        elif kind == 5:
            one["logs"] = [logged("log", {"status": 500, "outcome": "exception", "scriptVersion": {"id": VERSIONS[1]}})]
        elif kind == 6:
            one["event"]["request"]["cf"] = {"status": 500, "level": "error", "exceptions": [{}], "truncated": True}
        found.append(one)
    return found
