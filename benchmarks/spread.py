"""How much faster a spread restore gets with more workers, where the store is what is waited for.

A scripted store answers every copy after a fixed time, however many are made at once, so it is a store with machines of
its own; the processes of this benchmark share one machine. One process drives the restore and works on it, beside
0, 1, 2 or 4 workers; each makes up to 128 calls at once. Measured is the step that brings the objects back, from the
first range to the last result on the driver's host; the survey and the second listing are not in it.

    .venv/bin/python benchmarks/spread.py [--ranges 40] [--latency 1.0] [--workers 0 1 2 4]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from msgspec import structs

from backout import config
from backout.model.objects.checks import BucketFacts
from backout.model.objects.versions import ChangeKind, ObjectChange
from backout.model.steps.objects import SurveyObjectsStep
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer
from backout.runbook.objects.before import Before
from backout.runbook.objects.spread import SpreadRestore
from backout.wiring.objects import make_object_tools
from backout.wiring.tasks import run_tasks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.plan import Json

URL = "BENCH_JOURNAL_URL"
PASSWORD = "of-the-benchmark"  # noqa: S105 - a server that is thrown away
LANE = "staging/objects"
CONFIG = """[app]
name = "bench"
[journal]
url_env = "{url}"
[environments.staging.platform]
provider = "cloudflare"
script = "bench"
account_id = "0123456789abcdef0123456789abcdef"
[environments.staging.storage]
provider = "s3"
bucket = "models"
endpoint = "{endpoint}"
credentials_file = "access.json"
"""
COPIED = b"<CopyObjectResult><ETag>&quot;abc&quot;</ETag></CopyObjectResult>"


class Context:
    """The StepContext of one step, which is recorded nowhere."""

    def __init__(self, run: str) -> None:
        self.run = run

    def progress(self, data: Mapping[str, Json]) -> None:
        """Forget it."""

    def last_progress(self) -> Mapping[str, Json] | None:
        """Return None: it is the first attempt."""
        return None

    def check(self) -> None:
        """Go on."""


class Look:
    """A bucket that keeps versions, and has this host's clock."""

    def read(self) -> BucketFacts:
        """Return what it says."""
        return BucketFacts("enabled", None, 0.0)


async def serve(latency_s: float) -> None:
    """Answer each copy after a while, and say the port first."""
    answer = b"HTTP/1.1 200 OK\r\nx-amz-version-id: v3\r\nContent-Length: %d\r\n\r\n%b" % (len(COPIED), COPIED)

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(latency_s)
                writer.write(answer)
                await writer.drain()

    server = await asyncio.start_server(attend, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def load(folder: Path, environment: str | None = None) -> config.Config:
    """Return the configuration of a folder."""
    return config.load(config.Environment.read(), start=folder, environment=environment)


def work(folder: Path) -> None:
    """Take ranges until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    thread = threading.Thread(target=run_tasks, args=(load(folder), stop, lambda text: print(text, flush=True)))
    thread.start()
    while thread.is_alive():
        thread.join(0.2)


def start(*words: str) -> subprocess.Popen[str]:
    """Start this script as another process."""
    return subprocess.Popen([sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True)


def read_line(process: subprocess.Popen[str]) -> str:
    """Return the next line that a process says, "" where there is none."""
    return "" if process.stdout is None else process.stdout.readline()


def restore(folder: Path, url: str, ranges: int, workers: int) -> float:
    """Return how long the ranges took, in seconds."""
    tools = make_object_tools(load(folder, "staging"), None, is_spread=True)
    tools = structs.replace(tools, look=Look())
    run = f"recover-{workers}"
    tools.notes.note(
        run,
        (
            ObjectChange(ChangeKind.COPY, f"m/{number:07}", "v2", "v1", "abc", 3)
            for number in range(ranges * tools.chunk)
        ),
    )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO backout.lease VALUES (%s, %s, %s, 'h', 1, '', '', 0, extract(epoch FROM now()) + 3600)"
            " ON CONFLICT (environment) DO UPDATE SET fence = excluded.fence, run = excluded.run",
            (LANE, workers + 1, run),
        )
    order = SurveyObjectsStep(bucket="models", prefix="", to=1.0, until=2.0, slack_s=0.0)
    processes = [start("--work", str(folder)) for _ in range(workers)]
    try:
        for each in processes:
            read_line(each)
        began = time.monotonic()
        SpreadRestore(tools, Context(run), order, Before(), again=False, others=()).restore()
        return time.monotonic() - began
    finally:
        for each in processes:
            each.terminate()
        for each in processes:
            each.communicate()


def compare(ranges: int, latency_s: float, workers: list[int]) -> None:
    """Print a line for each number of workers."""
    with tempfile.TemporaryDirectory(prefix="backout-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        own = folder / "own"
        own.mkdir(mode=0o700)
        server = PostgresServer(folder / "data", find_binaries(), settings={})
        server.create()
        port = server.start(password=PASSWORD).port
        os.environ[URL] = url = f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/postgres"
        store = start("--serve", str(latency_s))
        try:
            endpoint = f"http://127.0.0.1:{int(read_line(store))}"
            for file, text in (
                ("backout.toml", CONFIG.format(url=URL, endpoint=endpoint)),
                ("access.json", json.dumps({"access_key_id": "a", "secret_access_key": "s"})),
            ):
                (own / file).write_text(text, encoding="utf-8")
                (own / file).chmod(0o600)
            book = make_object_tools(load(own, "staging")).journal
            book.note("staging", "x.noted", "1", {}, actor="bench")
            for number in workers:
                took_s = restore(own, url, ranges, number)
                print(f"{number} workers: {ranges / took_s:.2f} ranges a second ({took_s:.1f} s)", flush=True)
        finally:
            store.kill()
            store.communicate()
            server.stop(mode="immediate")


def main() -> None:
    """Measure, or be one of its processes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ranges", type=int, default=40)
    parser.add_argument("--latency", type=float, default=1.0)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        asyncio.run(serve(options.serve))
    elif options.work is not None:
        work(options.work)
    else:
        compare(options.ranges, options.latency, options.workers)


if __name__ == "__main__":
    main()
