"""What sources of counts did not tell apart: handlers below one word, 404s, requests that never end, schedules."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tail_server import tail_server

from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.tail import TailTraffic
from backout.providers.logs.traffic import LogTraffic
from backout.providers.memory import WorldClock
from backout.twin.dataplane.counts import CountBook

from polling import until

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_800_000_000


def counted(path: Path, *asked: tuple[str, str, int]) -> dict[str, int]:
    """Return the requests of each route in a log of requests: (method, path, status) each."""
    line = {"ts": NOW - 5, "version": "v1"}
    texts = [
        json.dumps({**line, "method": method, "route": route, "status": status}) for method, route, status in asked
    ]
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    (row,) = LogTraffic(path, clock=WorldClock(NOW)).read(0, NOW).counts
    return {name: route.requests for name, route in row.routes.items()}


def test_handlers_below_one_word_are_told_apart(tmp_path: Path) -> None:
    """The method and all words of the path are the name; ids are none of its words."""
    asked = [("POST", "/api/orders", 201), ("GET", "/api/items", 200), ("GET", "/api/items/7", 200)]
    found = counted(tmp_path / "log", *asked)
    assert found == {"POST /api/orders": 1, "GET /api/items": 1, "GET /api/items/{id}": 1}


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize("vital", ["POST", "GET"])
def test_a_vital_route_has_a_name_beside_a_storm(tmp_path: Path, status: int, vital: str) -> None:
    """One request in 200 is an order; the others are a crawler's, each for another word, as a site of pages answers."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [f"{a}o{b}u{c}" for a in letters for b in letters for c in letters][:4000]
    asked: list[tuple[str, str, int]] = []
    for number, word in enumerate(words):
        asked += [(vital, "/api/orders", 201)] * (number % 200 == 99)
        asked.append(("GET", f"/{word}", status))
    assert counted(tmp_path / "log", *asked).get(f"{vital} /api/orders", 0) >= 10


def test_what_is_answered_404_is_counted_apart(tmp_path: Path) -> None:
    """A version that answers 404 to everybody had "0 of N requests failed", and nothing else was known of it."""
    path = tmp_path / "log"
    counted(path, ("GET", "/app", 200), ("GET", "/app", 404), ("GET", "/app", 302))
    (row,) = LogTraffic(path, clock=WorldClock(NOW)).read(0, NOW).counts
    assert (row.requests, row.errors) == (3, 0)
    assert row.classes == {"404": 1, "3xx": 1}
    assert row.routes["GET /app"].classes == row.classes


def test_a_schedule_that_fails_is_counted() -> None:
    """A tail shows its event, which was passed over."""
    event = {
        "outcome": "exception",
        "scriptVersion": {"id": "v1"},
        "eventTimestamp": (NOW + 1) * 1000,
        "wallTime": 5,
        "event": {"cron": "0 3 * * *", "scheduledTime": 1},
    }
    with tail_server() as server:
        clock = WorldClock(NOW)
        source = TailTraffic(ApiClient(server.url, lambda: "token"), "acc", "fm5", clock=clock)
        source.read(NOW, NOW + 1)
        until(lambda: server.sockets, 10, "the tail")
        clock.sleep(9)
        server.send(event)
        (row,) = until(lambda: source.read(NOW, NOW + 5).counts, 10, "the run")
        source.close()
    assert [(name, found.runs, found.failed) for name, found in row.triggers.items()] == [("cron 0 3 * * *", 1, 1)]


def test_a_request_that_never_ends_is_counted(tmp_path: Path) -> None:
    """The twin's router knows that it began; it counted what ended alone."""
    book = CountBook(tmp_path / "c.sqlite", now=lambda: 5.0)
    book.began("shop", "v1", "GET /app")
    (row,) = book.rows("shop", 0)
    assert (row.requests, row.started) == (0, 1)
    book.close()
