"""The flight recorder's CPU time for each event, in a real workerd, compared with a handler that does nothing.

Both take the same events over the same socket, in calls of one event (what the edge does for most) and of a hundred;
the difference is the recorder's own work: counting, and every two seconds signing and storing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
from shared import measure as shared

from backout.errors import BackoutError
from backout.providers.clock import SystemClock
from backout.providers.s3.client import S3Client
from backout.providers.s3.sigv4 import S3Credentials
from backout.providers.s3.transport import S3Settings
from backout.twin.control.worker import Binding, Module, WorkerVersion
from backout.twin.dataplane.capnp import Surroundings
from backout.twin.dataplane.workerd import Workerd, find_newest_date, find_workerd
from backout.twin.faults import Faults
from backout.twin.storage.buckets import StoreBuckets
from backout.twin.storage.client import StoreClient
from backout.twin.storage.objectstore import ObjectStore
from backout.twin.storage.r2_gateway import R2Gateway

if TYPE_CHECKING:
    from backout.twin.storage.objectstore import S3Access

BUCKET = "counts"
NOTHING = "export default { async tail(events) { globalThis.seen = (globalThis.seen ?? 0) + events.length; } };"
BATCHES = {"single": 1, "hundred": 100}
_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


def events(number: int, draw: random.Random) -> list[str]:
    """Return tail events as the edge sends them: two versions, a dozen routes, some errors, logs, headers."""
    now_ms = int(time.time() * 1000)
    headers = {f"x-header-{index}": "value " * 8 for index in range(12)}
    made = []
    for index in range(number):
        status = draw.choice([200] * 18 + [404, 500])
        request = {"url": f"https://shop.example.com/{draw.choice('abcdefghijkl')}/x?q={index}", "headers": headers}
        event = {
            "outcome": "ok",
            "scriptName": "shop",
            "scriptVersion": {"id": draw.choice(["11111111-0000-4000-8000-000000000000", "2222"])},
            "eventTimestamp": now_ms + index // 5,
            "wallTime": int(draw.lognormvariate(4.4, 0.6)),
            "event": {"request": {**request, "method": "GET", "cf": {}}, "response": {"status": status}},
            "logs": [{"level": "log", "message": ["hello", index], "timestamp": now_ms}],
            "exceptions": [],
        }
        made.append(json.dumps(event))
    return made


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process has taken so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


class Bench:
    """Both Workers, each in a process of its own, and the bucket."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._store = ObjectStore(folder / "objectstore")
        self._client = StoreClient()
        faults = Faults(folder / "faults.json")
        self._buckets = StoreBuckets(self._client, faults)
        self._gateway = R2Gateway(self._client, faults, folder)
        self._workers: dict[str, Workerd] = {}
        self._access: S3Access | None = None

    async def start(self) -> None:
        """Start all of it."""
        self._access = await self._store.start(())
        await self._client.start(self._access)
        await self._buckets.create(BUCKET)
        code = (resources.files("backout") / "catalogue" / "recorder" / "recorder.js").read_text(encoding="utf-8")
        for name, text in (("recorder", code), ("nothing", NOTHING)):
            await self._run(name, text)

    async def stop(self) -> None:
        """Stop all of it."""
        for worker in self._workers.values():
            await worker.kill()
        await self._gateway.stop()
        await self._client.stop()
        await self._store.stop()

    async def cpu_us(self, name: str, lines: list[str], batch: int) -> float:
        """Return the CPU that one event takes, in microseconds, of the whole process."""
        worker = self._workers[name]
        pid = worker.pid
        if pid is None:
            sys.exit(f"recorder: {name} ended: {worker.output}")
        connector = aiohttp.UnixConnector(worker.around.take_tail_socket, limit=4)
        async with aiohttp.ClientSession(connector=connector) as session:
            bodies = ["\n".join(lines[at : at + batch]).encode() for at in range(0, len(lines), batch)]
            before = cpu_s(pid)
            for body in bodies:
                async with session.post("http://tail/", data=body) as answer:
                    if answer.status != 204:  # noqa: PLR2004 - what the handler answers
                        sys.exit(f"recorder: {name} answered {answer.status}: {worker.output}")
            return (cpu_s(pid) - before) / len(lines) * 1e6

    async def check_that_it_stored(self) -> None:
        """End the benchmark when the recorder has stored nothing: it would have measured half of its work."""
        access = self._access
        if access is None:
            sys.exit("recorder: the bucket was never started")
        credentials = S3Credentials(access.access_key_id, access.secret_access_key)
        with S3Client(S3Settings(access.endpoint, credentials), SystemClock()) as client:
            deadline = time.monotonic() + 30
            while not any(client.list_objects(BUCKET)):
                if time.monotonic() > deadline:
                    sys.exit(f"recorder: nothing was stored: {self._workers['recorder'].output}")
                await asyncio.sleep(0.1)

    async def _run(self, name: str, code: str) -> None:
        path = self._folder / f"{name}.js"
        path.write_text(code, encoding="utf-8")
        binary = find_workerd()
        secret = Binding("SECRET", "secret_text", "whsec_" + "A" * 44)
        version = WorkerVersion(
            script=name,
            id=name,
            modules=(Module("main.js", "application/javascript+module", path),),
            main_module="main.js",
            compatibility_date="2026-10-01",
            compatibility_flags=(),
            bindings=(Binding("COUNTS", "r2_bucket", BUCKET), secret),
            takes_tail=True,
        )
        around = Surroundings(
            socket=str(self._folder / f"{name}.s"),
            control_socket=str(self._folder / f"{name}.c"),
            hub_socket=str(self._folder / "hub"),
            hub_secret="",
            newest_date=await find_newest_date(binary),
            r2={BUCKET: self._gateway.address(BUCKET)},
            take_tail_socket=str(self._folder / f"{name}.t"),
        )
        self._workers[name] = Workerd(version, binary, self._folder / f"{name}-files", around)
        await self._workers[name].start()


async def measure(rounds: int, number: int) -> dict[str, list[float]]:
    """Return microseconds of CPU per event of both sides, interleaved in random order after one warm-up."""
    draw = random.Random(1)  # noqa: S311 - a load, no secret
    samples: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="bo-") as folder:
        bench = Bench(Path(folder))
        try:
            await bench.start()
            for taken in range(rounds + 1):
                for batch, side in draw.sample([(b, s) for b in BATCHES for s in ("recorder", "nothing")], 4):
                    lines = events(number, draw) * (10 if BATCHES[batch] > 1 else 1)  # the clock ticks coarsely
                    spent = await bench.cpu_us(side, lines, BATCHES[batch])
                    if taken:
                        samples.setdefault(f"{side}_{batch}_us", []).append(round(spent, 3))
            await bench.check_that_it_stored()
        finally:
            await bench.stop()
    for batch in BATCHES:
        pairs = zip(samples[f"recorder_{batch}_us"], samples[f"nothing_{batch}_us"], strict=True)
        samples[f"own_{batch}_us"] = [round(ours - floor, 3) for ours, floor in pairs]
    return samples


def main() -> None:
    """Measure, and print a table or one `backout.benchmark/1`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--rounds", type=int, default=6, help="samples of each side")
    parser.add_argument("--events", type=int, default=4_000, help="events of each sample")
    options = parser.parse_args()
    try:
        samples = asyncio.run(measure(options.rounds, options.events))
    except BackoutError as error:
        sys.exit(f"recorder: {error}")
    record = shared.absolute("recorder", samples)
    if options.json:
        print(shared.as_json(record))
        return
    print(f"recorder: CPU of one event, medians of {options.rounds} times {options.events} ({record['machine']})")
    for key, values in samples.items():
        median, (low, high) = statistics.median(values), shared.median_bound(values)
        print(f"  {key.removesuffix('_us'):<18} {median:7.2f} us  (95 %: {low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
