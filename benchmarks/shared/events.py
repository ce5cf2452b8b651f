"""Events of a Worker for measuring: 1.2 kB each, a canary of a tenth, 3 % errors as ever and 1 % of an incident."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OLD, NEW = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36"
_BACKGROUND, _INCIDENT, _CANARY = 0.03, 0.01, 0.1


def events(number: int, seed: int = 1) -> Iterator[dict[str, object]]:
    """Yield tail events with the keys that wrangler 4.164 prints, as they happen within some minutes."""
    draw = random.Random(seed)  # noqa: S311 - a load, no secret
    at_ms = 1_764_000_000_000
    for index in range(number):
        at_ms += draw.randrange(4)
        version = NEW if draw.random() < _CANARY else OLD
        yield _event(draw, index, version, at_ms)


def _event(draw: random.Random, index: int, version: str, at_ms: int) -> dict[str, object]:
    status, outcome, exceptions = 200, "ok", []
    logs = [{"message": ["GET /api", "user", index], "level": "log", "timestamp": at_ms}]
    if version == NEW and draw.random() < _INCIDENT / _CANARY:
        outcome = "exception"
        exceptions = [
            _thrown(draw, "TypeError", "Cannot read properties of undefined (reading 'total')", "checkout", at_ms)
        ]
    elif draw.random() < _BACKGROUND:
        kind = draw.randrange(12)
        if kind % 2:
            outcome = "exception"
            exceptions = [
                _thrown(draw, "Error", f"no user {draw.randrange(10**6)} in shard {kind}", f"load{kind}", at_ms)
            ]
        else:
            status = 500
            said = f"Error: column orders.c{kind} does not exist for order {draw.randrange(10**6)}"
            logs.append({"message": [said], "level": "error", "timestamp": at_ms})
    headers = {f"x-h-{name}": f"{draw.getrandbits(100):x}" for name in range(16)}
    request = {
        "url": f"https://shop.example.com/api/{draw.choice('abcdefgh')}?q={index}",
        "method": "GET",
        "headers": {**headers, "user-agent": _AGENT},
        "cf": {"colo": "FRA", "country": "DE", "city": "Frankfurt", "asn": 3320},
    }
    happened: dict[str, object] = {"request": request}
    if outcome == "ok":
        happened["response"] = {"status": status}
    return {
        "outcome": outcome,
        "scriptName": "shop",
        "scriptVersion": {"id": version, "tag": "", "message": ""},
        "exceptions": exceptions,
        "logs": logs,
        "eventTimestamp": at_ms,
        "event": happened,
        "wallTime": draw.randrange(1, 300),
        "cpuTime": draw.randrange(1, 20),
        "truncated": False,
    }


def _thrown(draw: random.Random, name: str, message: str, function: str, at_ms: int) -> dict[str, object]:
    stack = f"    at {function} (worker.js:{draw.randrange(9999)}:{draw.randrange(99)})\n    at fetch (worker.js:1:2)"
    return {"name": name, "message": message, "stack": stack, "timestamp": at_ms}


def write(path: Path, number: int, *, in_lines: bool = False) -> None:
    """Write events to a file: one a line, or over several lines each as `wrangler tail --format json` prints them."""
    with path.open("w", encoding="utf-8") as file:
        for event in events(number):
            text = json.dumps(event, indent=4) if in_lines else json.dumps(event, separators=(",", ":"))
            file.write(text + "\n")
