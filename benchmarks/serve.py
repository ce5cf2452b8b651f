"""What the pages cost: the first page after a start, events to 200 clients, and memory over an hour of events.

The journal is a file; a process appends events as a watch does, twice a second, and every client follows them. A delay
counts from the moment that the journal has for the event until a client has read it. The peer is the same stack and
nothing else: an event stream of Starlette on uvicorn that says the time as often to as many clients.

Absolute keys: p99_s (goal: below 0.1), first_page_s (goal: at most 0.6), rss_growth_mb (goal: flat). Ratio key: p99
(ours over the bare stream's).

    .venv/bin/python benchmarks/serve.py [--clients 200] [--rounds 3] [--seconds 30] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared import measure

from backout.journal.sqlite import SqliteJournal
from backout.model.plan import Plan, PlanKind, Step
from backout.ports import NotDone
from backout.providers.child import find_free_ports, tie_to_parent
from backout.providers.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.ports import StepContext

    Samples = dict[str, list[float]]

_HERE = Path(__file__).parent / "shared"
_BACKOUT = str(Path(sys.executable).parent / "backout")
_CONFIG = """
[environments.{name}]
protected = false
health = {{ url = "http://127.0.1.{number}:9/health" }}
[environments.{name}.platform]
provider = "cloudflare"
script = "{name}"
account_id = "0123456789abcdef0123456789abcdef"
"""
_ENVIRONMENTS = 5
_TIMES_A_SECOND = 2.0
_HOUR_OF_EVENTS = 7200
_STARTS_WITHIN_S = 60.0


def write_config(folder: Path) -> None:
    """Have a few environments."""
    parts = ['[app]\nname = "bench"\n', *(_CONFIG.format(name=f"app-{n}", number=n) for n in range(_ENVIRONMENTS))]
    (folder / "backout.toml").write_text("".join(parts), encoding="utf-8")


def make_token(folder: Path) -> str:
    """Return a token for the pages."""
    argv = (_BACKOUT, "serve", "token", "create", "bench", "--role", "viewer", "--json")
    done = subprocess.run(argv, cwd=folder, check=True, capture_output=True, text=True)
    token: str = json.loads(done.stdout)["token"]
    return token


@contextlib.contextmanager
def serving(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run `backout serve`."""
    argv = tie_to_parent((_BACKOUT, "serve", "--listen", f"127.0.0.1:{port}"), signal.SIGKILL)
    with (folder / "serve.log").open("ab") as log:
        process = subprocess.Popen(argv, cwd=folder, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def fetch(port: int, path: str, token: str) -> bytes:
    """Return what a page answers."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=_STARTS_WITHIN_S) as answer:
        body: bytes = answer.read()
    return body


def await_page(port: int, path: str, token: str, began: float) -> float:
    """Return how long it took from then until a page came."""
    while True:
        try:
            fetch(port, path, token)
            return time.monotonic() - began
        except (OSError, urllib.error.URLError):
            if time.monotonic() - began > _STARTS_WITHIN_S:
                sys.exit("serve: it did not start")
            time.sleep(0.005)


def measure_first_page(folder: Path, token: str) -> float:
    """Return the seconds from the start of the program to the first page."""
    (port,) = find_free_ports(1)
    began = time.monotonic()
    with serving(folder, port):
        return await_page(port, "/", token, began)


def follow(port: int, path: str, token: str, clients: int, seconds: float) -> subprocess.Popen[str]:
    """Start the clients."""
    argv = (
        sys.executable, "-I", "-S", str(_HERE / "stream_clients.py"), "127.0.0.1", str(port), path, token, str(clients),
        str(seconds),
    )  # fmt: skip
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def read_delays(clients: subprocess.Popen[str]) -> list[float]:
    """Return the delays that the clients saw; a client that was cut off ends the benchmark."""
    said: dict[str, Any] = json.loads(clients.communicate()[0])
    if said["lost"]:
        sys.exit(f"serve: {said['lost']} clients were cut off")
    delays: list[float] = said["delays"]
    return delays


def find_p99(delays: list[float]) -> float:
    """Return the delay that one in a hundred exceeds."""
    return sorted(delays)[int(len(delays) * 0.99)]


def measure_fan_out(folder: Path, token: str, clients: int, seconds: float) -> list[float]:
    """Return the delays of events, as often as a watch records them, at so many clients."""
    (port,) = find_free_ports(1)
    journal = SqliteJournal(folder / ".backout" / "journal.sqlite", SystemClock())
    with serving(folder, port):
        await_page(port, "/", token, time.monotonic())
        process = follow(port, "/api/v1/events", token, clients, seconds + clients * 0.002 + 2)
        time.sleep(clients * 0.002 + 1)
        until, number = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            number += 1
            journal.note("app-0", "incident.noted", f"{time.time()}", {"id": "x", "text": "x" * 200}, actor="bench")
            time.sleep(1 / _TIMES_A_SECOND)
        delays = read_delays(process)
    journal.close()
    if len(delays) < number * clients * 0.99:
        sys.exit(f"serve: {len(delays)} of {number * clients} messages came")
    return delays


def measure_bare(clients: int, seconds: float) -> list[float]:
    """Return the delays of the bare stream."""
    (port,) = find_free_ports(1)
    argv = tie_to_parent(
        (sys.executable, str(_HERE / "bare_stream.py"), str(port), str(_TIMES_A_SECOND)), signal.SIGKILL
    )
    server = subprocess.Popen(argv)
    try:
        time.sleep(2)
        return read_delays(follow(port, "/stream", "x", clients, seconds))
    finally:
        server.kill()
        server.wait()


def measure_growth(folder: Path, token: str, clients: int) -> tuple[float, float]:
    """Return the server's memory (MB) after a warm-up, and by how much it grew over an hour of events, all drawn."""
    (port,) = find_free_ports(1)
    journal = SqliteJournal(folder / ".backout" / "journal.sqlite", SystemClock())
    with serving(folder, port) as process:
        await_page(port, "/", token, time.monotonic())
        watching = [
            follow(port, "/stream/environments", token, clients // 2, 3600),
            follow(port, "/api/v1/events", token, clients // 2, 3600),
        ]
        record_watches(journal, _HOUR_OF_EVENTS // 10)
        before = read_rss_mb(process.pid)
        record_watches(journal, _HOUR_OF_EVENTS)
        after = read_rss_mb(process.pid)
        for each in watching:
            each.kill()
            each.wait()
    journal.close()
    return before, after - before


class Watching:
    """A step that records its progress, about forty times a second."""

    arguments: Any = dict
    effect = irreversible = False

    def __init__(self, count: int) -> None:
        self._count = count

    def do(self, _args: dict[str, Any], context: StepContext) -> dict[str, Any]:
        """Record it so often."""
        for number in range(self._count):
            context.progress({"number": number, "text": "x" * 200})
            time.sleep(0.02)
        return {}

    def probe(self, _args: dict[str, Any], _context: StepContext) -> NotDone:
        """Return that it is to be done again."""
        return NotDone()


def record_watches(journal: SqliteJournal, count: int) -> None:
    """Record the runs of an hour, four of a quarter of an hour, with so many events in all."""
    step = Step("watch", "Watch the deployment", {"version": "v", "deployment": "d"})
    for _ in range(4):
        plan = Plan(PlanKind.GUARD, "app-0", "a deployment", (step,))
        run = journal.submit(plan, actor="bench", reason="a deployment")
        journal.drive(run, {"watch": Watching(count // 4)}, actor="bench")


def read_rss_mb(pid: int) -> float:
    """Return a process's memory."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def compare(options: argparse.Namespace) -> Samples:
    """Return the samples of all rounds."""
    samples: Samples = {
        "first_page_s": [],
        "p99_s": [],
        "p50_s": [],
        "bare_p99_s": [],
        "rss_mb": [],
        "rss_growth_mb": [],
    }
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="backout-bench-") as name:
            folder = Path(name)
            write_config(folder)
            token = make_token(folder)
            samples["first_page_s"] += [measure_first_page(folder, token) for _ in range(5)]
            delays = measure_fan_out(folder, token, options.clients, options.seconds)
            samples["p99_s"].append(find_p99(delays))
            samples["p50_s"].append(statistics.median(delays))
            samples["bare_p99_s"].append(find_p99(measure_bare(options.clients, options.seconds)))
            if not number and not options.no_memory:
                rss, growth = measure_growth(folder, token, options.clients)
                samples["rss_mb"].append(rss)
                samples["rss_growth_mb"].append(growth)
        print(f"round {number + 1}: { {key: values[-1:] for key, values in samples.items()} }", file=sys.stderr)
    return {key: values for key, values in samples.items() if values}


def main() -> None:
    """Measure, and print a table or one `backout.benchmark/1`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0, help="for which events are sent")
    parser.add_argument("--no-memory", action="store_true", help="leave out the hour of events: four minutes")
    options = parser.parse_args()
    os.environ.pop("BACKOUT_TESTS", None)
    samples = compare(options)
    pair = (samples["p99_s"], samples["bare_p99_s"])
    if options.json:
        print(measure.as_json(measure.relative("serve", samples, {"p99": pair})))
        return
    print(f"serve: {options.clients} clients, {measure.describe_machine()}")
    for key, values in samples.items():
        spread = f"{min(values):.4f} to {max(values):.4f}, n = {len(values)}"
        print(f"  {key:<14} {statistics.median(values):10.4f}  ({spread})")
    print(f"  {'p99':<14} {measure.ratio(*pair):10.3f}  times the bare stream's")


if __name__ == "__main__":
    main()
