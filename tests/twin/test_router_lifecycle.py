"""What happens to requests while versions come, go, crash, and while faults are on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from backout.twin.faults import Fault, FaultKind

from dataplane_lab import fetch_module, lab, until


def _runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_request_in_flight_survives_the_switch_and_its_process_ends_after_it(tmp_path: Path) -> None:
    """A 1.5 s request finishes on the old version while new requests see the new one; two switches later it is gone."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            await it.deploy(fetch_module("await scheduler.wait(1500); return new Response('old');"))
            (pid,) = it.plane.pids.values()
            slow = asyncio.create_task(it.get())
            await until(lambda: it.plane.inflight("shop") == 1, what="the request to be under way")
            await it.deploy(fetch_module("return new Response('new');"))
            await it.deploy(fetch_module("return new Response('newest');"))
            assert (await it.get())[1] == "newest"
            assert not slow.done()
            assert _runs(pid)
            assert await slow == (200, "old")
            await until(lambda: not _runs(pid), what="the end of the old process")

    asyncio.run(run())


def test_no_request_fails_during_switches(tmp_path: Path) -> None:
    """Under steady requests ten switches cause no failed answer."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            await it.deploy(fetch_module("return new Response('v0');"))
            stop = asyncio.Event()
            statuses: list[int] = []

            async def visit() -> None:
                while not stop.is_set():
                    statuses.append((await it.get())[0])

            visitors = [asyncio.create_task(visit()) for _ in range(4)]
            for number in range(1, 11):
                await it.deploy(fetch_module(f"return new Response('v{number}');"))
                assert (await it.get())[1] == f"v{number}"
            stop.set()
            await asyncio.gather(*visitors)
            assert set(statuses) == {200}

    asyncio.run(run())


def test_the_previous_version_stays_warm(tmp_path: Path) -> None:
    """Going back to the version before starts no process; the one before that has been stopped."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            (first,) = await it.deploy(fetch_module("return new Response('1');"))
            (second,) = await it.deploy(fetch_module("return new Response('2');"))
            before = it.plane.pids
            assert set(before) == {f"shop {first.id}", f"shop {second.id}"}
            await it.plane.activate("shop", ((first, 100.0),))
            assert it.plane.pids == before
            assert (await it.get())[1] == "1"
            (third,) = await it.deploy(fetch_module("return new Response('3');"))
            await until(lambda: set(it.plane.pids) == {f"shop {first.id}", f"shop {third.id}"}, what="two processes")

    asyncio.run(run())


def test_remove_stops_everything_and_forgets(tmp_path: Path) -> None:
    """After removal the host is a 404, no process runs, and no counts are left; a second removal is fine."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            await it.deploy(fetch_module("return new Response('1');"))
            await it.deploy(fetch_module("return new Response('2');"))
            await it.get()
            pids = tuple(it.plane.pids.values())
            assert len(pids) == 2
            await it.plane.remove("shop")
            assert [pid for pid in pids if _runs(pid)] == []
            assert (it.plane.pids, it.plane.counts("shop", 0)) == ({}, ())
            assert (await it.get())[0] == 404
            await it.plane.remove("shop")

    asyncio.run(run())


def test_close_ends_what_is_still_draining(tmp_path: Path) -> None:
    """Closing waits a second at most for answers under way and leaves no process, drained ones included."""
    pids: list[int] = []

    async def run() -> None:
        async with lab(tmp_path) as it:
            await it.deploy(fetch_module("await scheduler.wait(60000); return new Response('old');"))
            _, writer = await asyncio.open_connection("127.0.0.1", it.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: shop.localhost\r\n\r\n")
            await until(lambda: it.plane.inflight("shop") == 1, what="the request to be under way")
            await it.deploy(fetch_module("return new Response('new');"))
            await it.deploy(fetch_module("return new Response('newest');"))
            pids.extend(it.plane.pids.values())
            assert len(pids) == 3
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    began = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - began < 50.0  # the answer takes sixty
    assert [pid for pid in pids if _runs(pid)] == []


def test_a_crashed_worker_is_restarted_and_told(tmp_path: Path) -> None:
    """Killed from outside: requests meanwhile are 503 and errors, then it answers again; a tail event tells."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            (version,) = await it.deploy(fetch_module("await scheduler.wait(300); return new Response('ok');"))
            (pid,) = it.plane.pids.values()
            under_way = asyncio.create_task(it.get())
            await until(lambda: it.plane.inflight("shop") == 1, what="the request to be under way")
            os.kill(pid, signal.SIGKILL)
            assert (await under_way)[0] == 503
            assert (await it.get())[0] == 503
            await until(lambda: bool(it.plane.pids) and it.plane.pids != {f"shop {version.id}": pid}, what="a restart")
            assert await it.get() == (200, "ok")
            rows = it.plane.counts("shop", 0)
            assert (sum(row.requests for row in rows), sum(row.errors for row in rows)) == (3, 2)
            assert sum(row.by_outcome.get("exceededMemory", 0) for row in rows) == 2
            async with it.client.get(it.url("/twin/v1/events?script=shop")) as answer:
                events = (await answer.json())["events"]
            assert {event["outcome"] for event in events} == {"exceededMemory"}
            assert {event["scriptVersion"]["id"] for event in events} == {version.id}
            assert any("signal 9" in e["message"] for event in events for e in event["exceptions"])

    asyncio.run(run())


_HEAP_LEAK = """
  globalThis.kept ??= [];
  for (let i = 0; i < 40; i++) globalThis.kept.push(new Array(50000).fill(0).map(() => Math.random()));
  return new Response(String(globalThis.kept.length));
"""
_BUFFER_LEAK = """
  globalThis.kept ??= [];
  for (let i = 0; i < 40; i++) globalThis.kept.push(new Uint8Array(1 << 18));
  return new Response(String(globalThis.kept.length));
"""


@pytest.mark.parametrize("leak", [_HEAP_LEAK, _BUFFER_LEAK], ids=["heap", "buffers"])
def test_a_worker_that_leaks_dies_of_its_memory_limit(tmp_path: Path, leak: str) -> None:
    """An isolate over 128 MB ends as on the edge: the outcome is exceededMemory, and a fresh one answers after it."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            await it.deploy(fetch_module(leak))
            answers = [await it.get() for _ in range(2)]
            while answers[-1][0] == 200 and len(answers) < 60:
                answers.append(await it.get())
            assert answers[-1][0] == 503
            assert it.plane.crashes("shop") == 1
            outcomes = {o for row in it.plane.counts("shop", 0) for o in row.by_outcome}
            assert outcomes == {"ok", "exceededMemory"}

            async def fresh() -> bool:
                return await it.get() == (200, "40")

            await until(fresh, 10.0, "a fresh process")
            async with it.client.get(it.url("/twin/v1/events?script=shop")) as answer:
                events = (await answer.json())["events"]
            assert {event["outcome"] for event in events} == {"exceededMemory"}
            assert all("exceeded memory limit" in event["exceptions"][0]["message"] for event in events)
            assert any(event["event"] and event["event"]["request"]["method"] == "GET" for event in events)

    asyncio.run(run())


def test_buffers_that_are_given_back_end_no_worker(tmp_path: Path) -> None:
    """Half a gigabyte passes through the Worker, a few megabytes of it at a time."""
    passing = """
      const buffer = new Uint8Array(4 << 20); buffer[7] = 1;
      await scheduler.wait(10);
      return new Response(String(buffer.length));
    """

    async def run() -> None:
        async with lab(tmp_path) as it:
            await it.deploy(fetch_module(passing))
            for _ in range(32):
                answers = await asyncio.gather(*(it.get() for _ in range(4)))
                assert set(answers) == {(200, str(4 << 20))}
            assert it.plane.crashes("shop") == 0

    asyncio.run(run())


def test_injected_errors_and_latency(tmp_path: Path) -> None:
    """The faults `errors` and `latency` hit the version they name, and show in its counts alone."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            hit, other = await it.deploy(
                fetch_module("return new Response('a');"), fetch_module("return new Response('b');")
            )
            it.faults.set(Fault(FaultKind.ERRORS, target=hit.id, status=502))
            it.faults.set(Fault(FaultKind.LATENCY, target=other.id, latency_ms=150.0))
            answers = await asyncio.gather(*(it.get() for _ in range(20)))
            rows = it.plane.counts("shop", 0)
            errors = {v.id: sum(row.errors for row in rows if row.version == v.id) for v in (hit, other)}
            assert errors == {hit.id: sum(status == 502 for status, _ in answers), other.id: 0}
            assert errors[hit.id] > 0
            slowest = {max(row.latency) for row in rows if row.version == other.id and row.latency}
            assert min(slowest) >= 116  # the bucket of 150 ms

    asyncio.run(run())


def test_a_share_of_errors_is_a_share(tmp_path: Path) -> None:
    """With a share of 0.3, of 200 requests about 60 fail."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            await it.deploy(fetch_module("return new Response('a');"))
            it.faults.set(Fault(FaultKind.ERRORS, target="shop", share=0.3))
            answers = [await asyncio.gather(*(it.get() for _ in range(20))) for _ in range(10)]
            failed = sum(status == 503 for batch in answers for status, _ in batch)
            assert 34 <= failed <= 86  # 60, give or take four standard deviations

    asyncio.run(run())


def test_worker_crash_fault_keeps_killing_until_it_is_cleared(tmp_path: Path) -> None:
    """While the fault is on the worker does not stay up; after it the worker comes back."""

    async def run() -> None:
        async with lab(tmp_path) as it:
            await it.deploy(fetch_module("return new Response('ok');"))
            assert (await it.get())[0] == 200
            it.faults.set(Fault(FaultKind.WORKER_CRASH, target="shop"))
            await until(lambda: it.plane.crashes("shop") >= 3, what="three crashes")
            it.faults.clear()

            async def answers() -> bool:
                return (await it.get())[0] == 200

            await until(answers, 10.0, "the worker to come back")

    asyncio.run(run())
