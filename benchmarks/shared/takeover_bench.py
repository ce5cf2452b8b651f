"""Workers of one side on a real Postgres, the faults that are done to them, and the gaps that its clock shows."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from shared.cut_proxy import CutProxy
from shared.takeover_lease import SCHEMA
from shared.takeover_worker import URL, add_watch, defer, make_app

from backout.providers.child import read_process_state

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

Samples = dict[str, list[float]]
PATIENCE_S = 90.0
AFTERWARDS_S = 3.0
"""How long a woken or reconnected worker is watched for writes."""
FAULTS = ("kill", "freeze", "hold", "cut")
"""kill -9; SIGSTOP; SIGSTOP in a transaction that has a lease's row locked; a network that swallows everything."""
SIDES = ("lease", "deferred", "requeued")
PASSWORD = "bench"  # noqa: S105 - of a server on loopback that ends with the run
_SPANS = "SELECT environment, fence, extract(epoch FROM min(at))::float8, extract(epoch FROM max(at))::float8 FROM beat"
_STALE = (
    "SELECT count(*) FROM beat AS old WHERE EXISTS"
    " (SELECT 1 FROM beat AS new WHERE new.environment = old.environment AND new.fence > old.fence AND new.at < old.at)"
)
_WORKER = "from shared import takeover_worker; takeover_worker.main()"


class Worker:
    """One worker process behind a proxy of its own.

    Args:
        name: its holder's name; new for each process.
        log: where it says what happens.
    """

    def __init__(self, side: str, name: str, log: Path, proxy: CutProxy, options: dict[str, object]) -> None:
        self.name = name
        self.proxy = proxy
        self.log = log
        text = json.dumps({**options, "holder": name})
        url = f"postgresql://postgres:{PASSWORD}@127.0.0.1:{proxy.port}/{side}"
        with log.open("w") as out, log.with_suffix(".err").open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _WORKER, side, text],
                cwd=Path(__file__).parents[1],
                env={**os.environ, URL: url},
                stdout=out,
                stderr=errors,
            )

    def count(self, event: str) -> int:
        """Return how often it said something."""
        return sum(json.loads(line)["event"] == event for line in self.log.read_text().splitlines())

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def end(self, *, gently: bool) -> None:
        """End the process, whatever state it is in."""
        if not gently:
            self.process.kill()
        else:
            self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        self.process.kill()
        self.process.wait()
        self.proxy.close()


class Bench:
    """The workers of one side, and the database that they share.

    Args:
        dsn: the superuser's connection string without a database.
        port: where workers connect, through their proxies: the server's, or that of a pooler.
        repairs: before each fault, each environment gets a job again where `requeued` lost it.
    """

    def __init__(
        self, folder: Path, side: str, dsn: str, port: int, environments: int, workers: int, *, repairs: bool = True
    ) -> None:
        self.side = side
        self.samples: Samples = {}
        self._folder = folder
        self._dsn = f"{dsn} dbname={side}"
        self._port = port
        self._environments = environments
        self._count = workers
        self._repairs = repairs
        self._made = 0
        self._workers: list[Worker] = []

    def prepare(self, *, lease_s: float) -> None:
        """Make the database. The server ends transactions that are left open before a lease can run out."""
        with psycopg.connect(self._dsn.replace(f"dbname={self.side}", "dbname=postgres"), autocommit=True) as postgres:
            postgres.execute(f"CREATE DATABASE {self.side}".encode())
            setting = f"ALTER DATABASE {self.side} SET idle_in_transaction_session_timeout = '{lease_s / 2}s'"
            postgres.execute(setting.encode())
        with self._connect() as connection:
            connection.execute(SCHEMA.encode())
            names = [f"e{number:03}" for number in range(self._environments)]
            connection.cursor().executemany("INSERT INTO lease (environment) VALUES (%s)", [[name] for name in names])
            connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        if self.side != "lease":
            asyncio.run(self._prepare_jobs(names))

    async def _prepare_jobs(self, names: list[str]) -> None:
        app = make_app(self._dsn)
        watch = add_watch(app, None, self.side)
        async with app.open_async():
            if not await app.check_connection_async():
                await app.schema_manager.apply_schema_async()
            for name in names if self.side == "requeued" else ():
                await defer(watch, self.side, name)

    def start(self, options: dict[str, object]) -> None:
        """Start the workers, and wait until each environment is held."""
        share = math.ceil(self._environments / max(1, self._count - 1)) + 1  # room for all, with one worker away
        self._options = {**options, "capacity": share}
        self._repair()
        self._workers = [self._make_worker() for _ in range(self._count)]
        self._await(self._is_settled, "the start")

    def stop(self) -> None:
        """End all workers."""
        for worker in self._workers:
            if read_process_state(worker.process.pid) == "T":
                worker.signal(signal.SIGCONT)
            worker.end(gently=True)

    def measure_quiet(self, seconds: float) -> None:
        """Measure what the side costs while nothing happens, for each environment."""
        pids = [worker.process.pid for worker in self._workers]
        with self._connect() as connection:
            before, asked = self._read_costs(connection, pids), time.monotonic()
            time.sleep(seconds)
            after, took = self._read_costs(connection, pids), time.monotonic() - asked
            held = [count for (count,) in connection.execute("SELECT count(*) FROM lease GROUP BY holder").fetchall()]
        for key in ("worker_cpu_share", "server_cpu_share", "statements_per_s"):
            self._add(f"{key}_per_environment", (after[key] - before[key]) / took / self._environments)
        self._add("rss_mb", max(_read_rss(pid) for pid in pids))
        self._add("largest_share", max(held) / self._environments)

    def do(self, fault: str, source: random.Random) -> None:
        """Do something to one worker that holds an environment, until all its environments are taken over."""
        self._repair()
        before = self._read_fences()
        victim = source.choice([each for each in self._workers if each.name in {name for _, name in before.values()}])
        lost = {environment for environment, (_, name) in before.items() if name == victim.name}
        refused = victim.count("refused")
        self._begin(fault, victim)
        over = self._await(lambda: self._are_taken(before, lost), f"the takeover after {fault}", fails=False)
        self._note_gaps(fault, before, lost)
        if over:
            self._finish(fault, victim)
            self._add(f"{fault}_refused", victim.count("refused") - refused)
        self._add(f"{fault}_ended", float(victim.count("ended")))
        self._replace_ended()
        with self._connect() as connection:
            row = connection.execute(_STALE.encode()).fetchone()
        self._add("stale_writes", float(row[0]) if row else -1.0)
        self._await(self._is_settled, f"all environments after {fault}", fails=False)

    def restart(self) -> None:
        """Restart one worker after the other with SIGTERM."""
        self._repair()
        for number, worker in enumerate(tuple(self._workers)):
            before = self._read_fences()
            worker.end(gently=True)
            self._workers[number] = self._make_worker()
            lost = {environment for environment, (_, name) in before.items() if name == worker.name}
            self._await(lambda before=before, lost=lost: self._are_taken(before, lost), "a restart", fails=False)
            self._await(lambda number=number: self._workers[number].count("started") > 0, "a new worker")
            self._note_gaps("restart", before, lost)

    def _begin(self, fault: str, victim: Worker) -> None:
        if fault == "kill":
            victim.end(gently=False)
        elif fault == "freeze":
            victim.signal(signal.SIGSTOP)
        elif fault == "hold":
            victim.signal(signal.SIGUSR1)
        else:
            victim.proxy.cut()

    def _finish(self, fault: str, victim: Worker) -> None:
        if fault in {"freeze", "hold"}:
            victim.signal(signal.SIGCONT)
        elif fault == "cut":
            victim.proxy.heal()
        if fault != "kill":
            time.sleep(AFTERWARDS_S)
        self._add(f"{fault}_rows_lost", float(len(self._list_without_job())))

    def _replace_ended(self) -> None:
        for number, worker in enumerate(self._workers):
            state = read_process_state(worker.process.pid)
            if state == "T":
                worker.signal(signal.SIGCONT)
            if worker.process.poll() is not None:
                worker.proxy.close()
                self._workers[number] = self._make_worker()

    def _repair(self) -> None:
        """Give each environment a job again where a woken worker ended that of its successor."""
        missing = self._list_without_job() if self._repairs else []
        if missing:
            asyncio.run(self._prepare_jobs(missing))

    def _list_without_job(self) -> list[str]:
        if self.side != "requeued":
            return []
        query = (
            "SELECT environment FROM lease WHERE NOT EXISTS (SELECT 1 FROM procrastinate_jobs"
            " WHERE task_name = 'watch' AND lock = environment AND status IN ('todo', 'doing'))"
        )
        with self._connect() as connection:
            return [str(name) for (name,) in connection.execute(query).fetchall()]

    def _note_gaps(self, fault: str, before: dict[str, tuple[int, str]], lost: set[str]) -> None:
        with self._connect() as connection:
            rows = connection.execute(f"{_SPANS} GROUP BY environment, fence ORDER BY environment, fence".encode())
            spans = {(str(name), int(fence)): (first, last) for name, fence, first, last in rows.fetchall()}
        for environment, (fence, _) in sorted(before.items()):
            last, following = spans[environment, fence][1], spans.get((environment, fence + 1))
            if environment in lost:
                self._add(f"{fault}_gap_s", PATIENCE_S if following is None else following[0] - last)
            elif following is not None:
                self._add("unforced_gap_s", following[0] - last)

    def _are_taken(self, before: dict[str, tuple[int, str]], lost: set[str]) -> bool:
        now = self._read_fences()
        return all(now[environment][0] > before[environment][0] for environment in lost)

    def _read_fences(self) -> dict[str, tuple[int, str]]:
        with self._connect() as connection:
            rows = connection.execute("SELECT environment, fence, holder FROM lease").fetchall()
        return {str(name): (int(fence), str(holder)) for name, fence, holder in rows}

    def _is_settled(self) -> bool:
        names = [worker.name for worker in self._workers]
        query = "SELECT count(*) FROM lease WHERE expires > clock_timestamp() AND holder = ANY (%s)"
        with self._connect() as connection:
            row = connection.execute(query, [names]).fetchone()
        started = all(worker.count("started") for worker in self._workers)
        return started and row is not None and row[0] == self._environments

    def _read_costs(self, connection: psycopg.Connection[tuple[object, ...]], pids: list[int]) -> dict[str, float]:
        own = connection.info.backend_pid
        rows = connection.execute("SELECT pid FROM pg_stat_activity WHERE datname = %s", [self.side]).fetchall()
        query = "SELECT sum(calls)::float8 FROM pg_stat_statements AS s JOIN pg_database AS d ON d.oid = s.dbid"
        row = connection.execute(f"{query} WHERE d.datname = current_database()".encode()).fetchone()
        return {
            "worker_cpu_share": sum(_read_cpu(pid) for pid in pids),
            "server_cpu_share": sum(_read_cpu(int(str(pid))) for (pid,) in rows if pid != own),
            "statements_per_s": float(str(row[0])) if row else 0.0,
        }

    def _await(self, is_so: Callable[[], bool], what: str, *, fails: bool = True) -> bool:
        deadline = time.monotonic() + PATIENCE_S
        while not is_so():
            if time.monotonic() > deadline:
                print(f"takeover: {self.side}: {what} took more than {PATIENCE_S:.0f} s", file=sys.stderr)
                return False if not fails else sys.exit(1)
            time.sleep(0.2)
        return True

    def _make_worker(self) -> Worker:
        self._made += 1
        name = f"{self.side}-{self._made}"
        return Worker(self.side, name, self._folder / f"{name}.log", CutProxy(self._port), self._options)

    def _add(self, key: str, value: float) -> None:
        self.samples.setdefault(f"{self.side}_{key}", []).append(round(value, 6))

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self._dsn, autocommit=True)


def _read_cpu(pid: int) -> float:
    """Return the processor time of a process in seconds, finer than in ticks; 0 where it has ended."""
    try:
        threads = [(task / "schedstat").read_text(encoding="ascii") for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return 0.0
    return sum(int(each.split()[0]) for each in threads) / 1e9


def _read_rss(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    return next(int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("VmRSS"))
