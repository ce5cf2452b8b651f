"""Counts per version and second: exact on a known mix, final after the grace, alive after a restart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import threading
from typing import TYPE_CHECKING

import aiohttp
import pytest

from backout.model.guard.answers import AnswerClass
from backout.model.guard.bodies import make_size_key
from backout.twin.dataplane.counts import GRACE_S, Answer, CountBook, is_error
from backout.twin.dataplane.tail import Tail

from dataplane_lab import Lab, fetch_module, lab, until

if TYPE_CHECKING:
    from pathlib import Path

MIX = fetch_module(
    """
    const path = new URL(request.url).pathname;
    if (path === "/throw") throw new TypeError("no such thing");
    if (path === "/500") return new Response("sorry", {status: 500});
    if (path === "/404") return new Response("no", {status: 404});
    if (path === "/middle") {
      const { readable, writable } = new TransformStream(); const writer = writable.getWriter();
      ctx.waitUntil((async () => { await writer.write(new TextEncoder().encode("begun")); await scheduler.wait(20);
                                   await writer.abort(new Error("in the middle")); })());
      return new Response(readable);
    }
    return new Response("ok");
    """
)


def _answer(
    *, status: int = 200, outcome: str = "ok", latency_ms: float = 5.0, probe: bool = False, route: str = "/"
) -> Answer:
    return Answer("shop", "v1", status, outcome, latency_ms, probe, route)


async def _page(it: Lab, query: str) -> dict[str, object]:
    async with it.client.get(it.url(f"/twin/v1/counts?script=shop&{query}")) as answer:
        assert answer.status == 200
        return dict(await answer.json())


def test_counts_are_exact_on_a_known_mix(tmp_path: Path) -> None:
    """Thrown and returned 500s and broken bodies are errors, told apart; 404 is none; probes are counted apart."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            (version,) = await it.deploy(MIX)
            mix = ["/"] * 30 + ["/404"] * 5 + ["/500"] * 4 + ["/throw"] * 3
            answers = await asyncio.gather(*(it.get(path) for path in mix))
            for _ in range(2):
                with pytest.raises(aiohttp.ClientPayloadError):
                    await it.get("/middle")
            await asyncio.gather(*(it.get(path, x_backout_probe="1") for path in ("/", "/", "/500")))
            assert sorted({status for status, _ in answers}) == [200, 404, 500]
            end = max(row.second for row in it.plane.counts("shop", 0))
            page = await _page(it, f"since={end}&wait_s=5")
            assert page["complete_until"] > end  # type: ignore[operator] - a number, as the next lines check
            page = await _page(it, "since=0")
            rows = page["counts"]
            assert isinstance(rows, list)
            assert {row["version"] for row in rows} == {version.id}
            assert sum(row["requests"] for row in rows) == 44
            assert sum(row["errors"] for row in rows) == 9
            assert sum(row["probes"] for row in rows) == 3
            assert sum(row["canceled"] for row in rows) == 0
            statuses = {s: sum(row["statuses"].get(s, 0) for row in rows) for s in ("200", "404", "500")}
            assert statuses == {"200": 32, "404": 5, "500": 7}
            outcomes = {o: sum(row["by_outcome"].get(o, 0) for row in rows) for o in ("ok", "exception")}
            assert outcomes == {"ok": 39, "exception": 5}
            assert sum(number for row in rows for _, number in row["latency"]) == 44
            by_route = {
                route: tuple(sum(row["routes"].get(route, {}).get(what, 0) for row in rows) for what in sums)
                for route in ("GET /", "GET /throw", "GET /middle", "GET /{id}", "other")
                for sums in [("requests", "errors")]
            }
            # whichever of the digits came first: a path that the application does not know gives no name
            unsure = (by_route.pop("GET /{id}"), by_route.pop("other"))
            assert by_route == {"GET /": (30, 0), "GET /throw": (3, 3), "GET /middle": (2, 2)}
            assert tuple(map(sum, zip(*unsure, strict=True))) == (9, 4)
            assert {name: sum(row["classes"].get(name, 0) for row in rows) for name in ("404", "2xx")} == {
                "404": 5,
                "2xx": 0,
            }
            assert sum(row["started"] for row in rows) == 44
            home = [row["routes"]["GET /"] for row in rows if "GET /" in row["routes"]]
            assert sum(number for route in home for _, number in route["sizes"]) == 30
            assert {bucket for route in home for bucket, _ in route["sizes"]} == {
                make_size_key(len("ok"), "text/plain")
            }

    asyncio.run(run())


def test_a_second_is_final_after_the_grace(tmp_path: Path) -> None:
    """Until the grace has passed a true outcome amends the second; after it nothing does, and `now` never goes back."""
    clock = [1000.2]
    book = CountBook(tmp_path / "c.sqlite", now=lambda: clock[0])
    second = book.count(_answer())
    book.count(_answer(status=500))
    assert book.complete_until == 999
    assert book.amend(_answer(outcome="exception"), second)
    clock[0] = 1001.0 + GRACE_S + 0.01
    assert book.complete_until == 1001
    assert not book.amend(_answer(outcome="exception"), second)
    clock[0] = 990.0
    assert book.complete_until == 1001
    (row,) = book.rows("shop", 1000, 1001)
    assert (row.requests, row.errors, row.by_outcome) == (2, 2, {"ok": 1, "exception": 1})
    assert book.count(_answer()) == 1001
    book.close()


def test_amending_a_returned_500_does_not_count_it_twice(tmp_path: Path) -> None:
    """A 500 is one error, whether it was returned or thrown."""
    book = CountBook(tmp_path / "c.sqlite", now=lambda: 5.0)
    second = book.count(_answer(status=500))
    assert book.amend(_answer(status=500, outcome="exception"), second)
    (row,) = book.rows("shop", 0)
    assert (row.errors, row.by_outcome) == (1, {"exception": 1})
    book.close()


def test_an_answer_that_turns_out_an_error_is_no_404(tmp_path: Path) -> None:
    """Classes are of what was answered neither well nor with an error, of the whole and of its route."""
    book = CountBook(tmp_path / "c.sqlite", now=lambda: 5.0)
    for status in (200, 404, 404, 302, 401, 500):
        second = book.count(_answer(status=status, route="GET /app"))
    (row,) = book.rows("shop", 0)
    assert row.classes == {AnswerClass.NOT_FOUND: 2, AnswerClass.REDIRECT: 1, AnswerClass.DENIED: 1}
    assert book.amend(_answer(status=404, outcome="exception", route="GET /app"), second)
    assert row.classes[AnswerClass.NOT_FOUND] == row.routes["GET /app"].classes[AnswerClass.NOT_FOUND] == 1
    assert (row.errors, row.routes["GET /app"].errors) == (2, 2)
    book.close()


def test_schedules_and_queues_are_counted_by_what_became_of_them(tmp_path: Path) -> None:
    """As their events tell it, in the version that ran; they are no requests, and alarms are neither."""
    book = CountBook(tmp_path / "c.sqlite", now=lambda: 5.0)
    tail = Tail(on_amended=lambda _: None, on_demand=lambda *_: None, on_trigger=book.ran)
    for inner, outcome in (
        ({"cron": "*/5 * * * *", "scheduledTime": 1}, "exception"),
        ({"cron": "*/5 * * * *", "scheduledTime": 2}, "ok"),
        ({"queue": "orders", "batchSize": 3}, "exceededCpu"),
        ({"scheduledTime": "an alarm"}, "exception"),
        (None, "exception"),
    ):
        event = {"scriptName": "shop", "scriptVersion": {"id": "v1"}, "outcome": outcome, "event": inner}
        tail.receive(json.dumps(event).encode())
    (row,) = book.rows("shop", 0)
    assert (row.version, row.requests) == ("v1", 0)
    assert row.triggers == {"cron */5 * * * *": (2, 1), "queue orders": (1, 1)}
    book.close()
    again = CountBook(tmp_path / "c.sqlite", now=lambda: 5.0)
    assert again.rows("shop", 0) == (row,)
    again.close()


def test_what_began_and_did_not_end_is_seen(tmp_path: Path) -> None:
    """A request is counted when it begins, under the name that its route has so far, and again when it ends."""
    book = CountBook(tmp_path / "c.sqlite", now=lambda: 5.0)
    book.count(_answer(route="GET /app"))
    for _ in range(3):
        book.began("shop", "v1", "GET /app")
    book.began("shop", "v1", "GET /unknown")
    (row,) = book.rows("shop", 0)
    assert (row.requests, row.started) == (1, 4)
    assert {name: route.started for name, route in row.routes.items()} == {"GET /app": 3, "other": 1}
    book.close()


def test_routes_are_amended_and_stay_few(tmp_path: Path) -> None:
    """A true outcome reaches the route, too; thousands of routes share one count."""
    book = CountBook(tmp_path / "c.sqlite", now=lambda: 5.0)
    second = book.count(_answer(route="/app"))
    book.count(_answer(route="/app", outcome="canceled", status=499))
    for number in range(3000):
        book.count(_answer(route=f"/junk{number}", status=200 if number % 2 else 404))
    assert book.amend(_answer(route="/app", outcome="exception"), second)
    (row,) = book.rows("shop", 0)
    assert (row.requests, row.canceled, row.errors) == (3002, 1, 1)
    assert (row.routes["/app"].requests, row.routes["/app"].errors) == (1, 1)
    assert len(row.routes) <= 33
    assert sum(route.requests for route in row.routes.values()) == 3001
    book.close()
    again = CountBook(tmp_path / "c.sqlite", now=lambda: 5.0)
    assert again.rows("shop", 0) == (row,)
    again.close()


def test_counts_survive_a_restart_and_old_ones_go(tmp_path: Path) -> None:
    """What was flushed is there after a restart; what is older than two hours is not."""
    clock = [100_000.0]
    book = CountBook(tmp_path / "c.sqlite", now=lambda: clock[0])
    book.count(_answer(latency_ms=81.0))
    clock[0] += 3600.0
    book.count(_answer(status=503, outcome="unknown"))
    book.count(_answer(probe=True))
    rows = book.rows("shop", 0)
    book.close()
    again = CountBook(tmp_path / "c.sqlite", now=lambda: clock[0])
    assert again.rows("shop", 0) == rows
    assert rows[0].latency == {102: 1}
    again.close()
    clock[0] += 3700.0
    later = CountBook(tmp_path / "c.sqlite", now=lambda: clock[0])
    assert [row.second for row in later.rows("shop", 0)] == [103_600]
    later.close()


def test_counts_survive_a_restart_of_the_data_plane(tmp_path: Path) -> None:
    """A data plane that starts in the same folder still knows what the last one counted."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            await it.deploy(MIX)
            await asyncio.gather(*(it.get() for _ in range(5)))
        async with lab(tmp_path) as it:
            assert sum(row.requests for row in it.plane.counts("shop", 0)) == 5

    asyncio.run(run())


def test_flushes_once_a_second(tmp_path: Path) -> None:
    """A reader of the file sees counts within seconds, without the twin having stopped."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            await it.deploy(MIX)
            await it.get()

            def flushed() -> bool:
                reader = CountBook(tmp_path / "counts.sqlite")
                rows = reader.rows("shop", 0)
                reader.close()
                return sum(row.requests for row in rows) == 1

            await until(flushed, 5.0, "the flush")

    asyncio.run(run())


def test_a_flush_that_met_a_lock_is_made_again(tmp_path: Path) -> None:
    """What it was to write is not lost, and the next second's flush comes."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            await it.deploy(MIX)
            it.plane._counts._database.execute("PRAGMA busy_timeout = 50")
            with contextlib.closing(sqlite3.connect(tmp_path / "counts.sqlite", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                await it.get()
                await asyncio.sleep(2.5)
                other.execute("ROLLBACK")

            def flushed() -> bool:
                with contextlib.closing(CountBook(tmp_path / "counts.sqlite")) as reader:
                    return sum(row.requests for row in reader.rows("shop", 0)) == 1

            await until(flushed, 10.0, "the second flush")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("status", "outcome", "error"),
    [
        (200, "ok", False),
        (404, "ok", False),
        (500, "ok", True),
        (200, "exception", True),
        (503, "exceededMemory", True),
        (499, "canceled", False),
    ],
)
def test_what_counts_as_an_error(status: int, outcome: str, error: bool) -> None:
    """A 5xx or a bad outcome is an error; a visitor who leaves is not."""
    assert is_error(status, outcome) is error


def test_bad_query_is_a_400(tmp_path: Path) -> None:
    """A `since` that is no number is refused."""

    async def run() -> None:
        async with lab(tmp_path) as it, it.client.get(it.url("/twin/v1/counts?script=s&since=soon")) as answer:
            assert answer.status == 400

    asyncio.run(run())


@pytest.mark.parametrize("then", ["close", "forget"])
def test_a_flush_that_still_runs_disturbs_nobody(tmp_path: Path, then: str) -> None:
    """Its task was cancelled, its thread writes on: closing waits for it, and what is forgotten stays so."""
    book = CountBook(tmp_path / "c.sqlite", now=lambda: 5.0)
    book.count(_answer())
    values = [("shop", f"version-{number}", 5, b"{}") for number in range(50_000)]
    flush = threading.Thread(target=book._write, args=(values, 0))
    flush.start()
    while not book._database.in_transaction:
        assert flush.is_alive()
    if then == "forget":
        book.forget("shop")
        book._write(values, 0)
    book.close()
    flush.join()
    with contextlib.closing(sqlite3.connect(tmp_path / "c.sqlite")) as database:
        assert database.execute("SELECT count(*) > 50000 FROM counts").fetchone() == (then == "close",)
