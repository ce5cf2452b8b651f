"""One worker of the benchmark: it holds leases, woken by its own polling or by procrastinate.

`SIDE` is `lease` (each worker asks every second what is free), `deferred` (a periodic task of procrastinate asks, and
defers one job for each free environment) or `requeued` (each environment is one job that never ends; procrastinate's
heartbeats tell whose worker is gone, and a periodic task puts it back). What happens is said in lines of JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from shared.takeover_lease import POLL_S, Guard, Unreachable

if TYPE_CHECKING:
    from collections.abc import Coroutine

    import procrastinate
    import psycopg

URL = "TAKEOVER_URL"
"""The variable that has the database's address: it has a password in it."""
ENDED_BY_ITSELF = 3


class Settings:
    """What the benchmark passes on as one JSON text.

    Args:
        text: `holder`, `capacity` (how many environments it may hold), `lease_s`, `heartbeat_s`, `stalled_s`,
            `sweep_s`, `polling_s`, `listens`.
    """

    def __init__(self, text: str) -> None:
        values: dict[str, Any] = json.loads(text)
        self.holder = str(values["holder"])
        self.capacity = int(values["capacity"])
        self.lease_s = float(values["lease_s"])
        self.heartbeat_s = float(values["heartbeat_s"])
        self.stalled_s = float(values["stalled_s"])
        self.sweep_s = int(values["sweep_s"])
        self.polling_s = float(values["polling_s"])
        self.listens = bool(values["listens"])


def say(event: str, environment: str = "", fence: int = 0) -> None:
    """Write one line."""
    line = {"event": event, "environment": environment, "fence": fence, "at": round(time.time(), 3)}
    print(json.dumps(line), flush=True)


async def poll(guard: Guard, settings: Settings) -> None:
    """Ask every second for free environments, as many as there is room for, and watch them."""
    held: set[asyncio.Task[None]] = set()
    await guard.list_free()
    say("started")
    while True:
        room = settings.capacity - len(held)
        with contextlib.suppress(Unreachable):
            for environment, fence in await guard.take(room) if room else ():
                task = asyncio.ensure_future(_end_quietly(guard.watch(environment, fence)))
                held.add(task)
                task.add_done_callback(held.discard)
        if await guard.wait(POLL_S):
            break
    if held:
        await asyncio.wait(held)


async def _end_quietly(watch: Coroutine[Any, Any, None]) -> None:
    try:
        await watch
    except Unreachable:
        say("cut")


def make_app(url: str) -> procrastinate.App:
    """Return an app of procrastinate on a database."""
    import procrastinate

    connector = procrastinate.PsycopgConnector(
        conninfo=url,
        min_size=1,
        max_size=4,
        timeout=5.0,
        kwargs={"prepare_threshold": None, "connect_timeout": 2},
        configure=_end_each_statement,
    )
    return procrastinate.App(connector=connector)


async def _end_each_statement(connection: psycopg.AsyncConnection) -> None:
    """Without it, a worker that is frozen between a statement and its COMMIT keeps rows of the queue locked."""
    await connection.set_autocommit(True)


def add_watch(app: procrastinate.App, guard: Guard | None, side: str) -> Any:
    """Add the task that watches an environment, and return it; without a guard it can only be deferred."""

    @app.task(name="watch")
    async def watch(environment: str) -> None:
        assert guard is not None  # noqa: S101 - the benchmark itself runs no jobs
        say("job", environment)
        taken = await guard.take(1, environment)
        while not taken and side == "requeued" and not await guard.wait(POLL_S / 2):
            taken = await guard.take(1, environment)  # its old holder is gone, but the lease has yet to run out
        for name, fence in taken:
            await _end_quietly(guard.watch(name, fence))
        if guard.stopping.is_set() and (taken or side == "requeued"):
            await defer(watch, side, environment)

    return watch


async def defer(watch: Any, side: str, environment: str) -> None:
    """Put a job for an environment into the queue, unless one is there."""
    import procrastinate.exceptions

    lock = environment if side == "requeued" else None
    with contextlib.suppress(procrastinate.exceptions.AlreadyEnqueued):
        await watch.configure(lock=lock, queueing_lock=environment).defer_async(environment=environment)


def add_sweep(app: procrastinate.App, guard: Guard, side: str, settings: Settings, watch: Any) -> None:
    """Add the periodic task that finds what nobody watches."""

    @app.periodic(cron=f"* * * * * */{settings.sweep_s}")
    @app.task(name="sweep", queueing_lock="sweep", priority=10)
    async def sweep(timestamp: int) -> None:
        if side == "deferred":
            for environment in await guard.list_free():
                await defer(watch, side, environment)
            if timestamp % 30 >= settings.sweep_s:
                return
        for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=settings.stalled_s):
            say("stalled", str(job.task_kwargs.get("environment", job.task_name)))
            if side == "requeued" or job.task_name != "watch":
                await _retry(app, job)
            else:
                await _drop(app, job)


async def _retry(app: procrastinate.App, job: Any) -> None:
    """Put a job back; where another one with its queueing lock waits, that is refused, and the job is in its way."""
    import procrastinate.exceptions

    try:
        await app.job_manager.retry_job(job)
    except procrastinate.exceptions.ConnectorException:
        await _drop(app, job)


async def _drop(app: procrastinate.App, job: Any) -> None:
    from procrastinate.jobs import Status

    await app.job_manager.finish_job_by_id_async(job.id, Status.FAILED, delete_job=True)


async def run_jobs(guard: Guard, side: str, settings: Settings) -> None:
    """Run procrastinate's worker until this process stops."""
    app = make_app(os.environ[URL])
    add_sweep(app, guard, side, settings, add_watch(app, guard, side))
    async with app.open_async():
        say("started")
        work = asyncio.ensure_future(
            app.run_worker_async(
                concurrency=settings.capacity + 1,  # one for the sweep
                listen_notify=settings.listens,
                install_signal_handlers=False,
                fetch_job_polling_interval=settings.polling_s,
                update_heartbeat_interval=settings.heartbeat_s,
                stalled_worker_timeout=settings.stalled_s,
                delete_jobs="always",
            )
        )
        stopped = asyncio.ensure_future(guard.stopping.wait())
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not guard.stopping.is_set():
            say("ended")
            os._exit(ENDED_BY_ITSELF)  # systemd starts it again; to close the pool could wait for a cut connection
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


async def work(side: str, settings: Settings) -> None:
    """Guard environments until SIGTERM."""
    guard = Guard(os.environ[URL], settings.holder, settings.lease_s, say)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, guard.stopping.set)
    loop.add_signal_handler(signal.SIGUSR1, lambda: setattr(guard, "freezes", True))
    if side == "lease":
        await poll(guard, settings)
    else:
        await run_jobs(guard, side, settings)
    say("stopped")


def main() -> None:
    """Run the worker that the command line names."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    asyncio.run(work(sys.argv[1], Settings(sys.argv[2])))
