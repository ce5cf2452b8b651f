"""Procrastinate's jobs for ranges: made by who drives a restore, taken by who runs a worker.

A job only says where to look; `ranges.py` decides who works. What this relies on was measured
(docs/research/takeover.md): a worker ends when its connection is lost, so who runs it starts it anew; a worker that was
stopped and woken can end the job of another one, so nothing is concluded from a job's state; sessions commit each
statement, so that a stopped one holds no lock.

Source: procrastinate 3.10 ("Workers", "Retry stalled jobs", `Task.configure(connection=...)`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

import procrastinate
import psycopg
from procrastinate import exceptions
from procrastinate.schema import SchemaManager
from psycopg_pool import PoolTimeout

from backout.errors import ProviderUnavailable
from backout.providers.postgres.tls.access import add_verification
from backout.providers.postgres.tls.dsn import drop_secrets, make_libpq_url
from backout.providers.tasks.tables import SEARCH_PATH

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    Handler = Callable[[str, str, int], None]

_TASK: Final = "restore_range"
_QUEUE: Final = "objects"
_HEARTBEAT_S: Final = 2.0
_STALLED_S: Final = 10.0
_RETRY_EVERY_S: Final = 5.0
_POLLING_S: Final = 2.0
"""How soon a job is found; who is done with one looks for the next at once."""
_LOOK_S: Final = 1.0
"""How often it is asked whether to stop; each time wakes the thread, also of a worker with nothing to do."""
_CONNECTS_S: Final = 10.0
"""How long a connection is waited for; then the worker ends, and is started anew."""
_AGAIN: Final = procrastinate.RetryStrategy(max_attempts=20, wait=5)
_BROKEN: Final = (exceptions.ProcrastinateException, psycopg.Error, PoolTimeout, OSError)


def read_schema() -> tuple[str, str]:
    """Return procrastinate's schema as SQL, and its version."""
    return str(SchemaManager.get_schema()), metadata.version("procrastinate")


def make_jobs(connection: psycopg.Connection[Any], run: str, ranges: Sequence[tuple[str, int]]) -> None:
    """Make a job for each range of a run, [(lane, first), ...], in the transaction of the connection."""
    app = _make_app(procrastinate.SyncPsycopgConnector(), lambda _lane, _run, _number: None)
    task = app.tasks[_TASK].configure(connection=connection)
    jobs: list[dict[str, Any]] = [{"lane": lane, "run": run, "first": first} for lane, first in ranges]
    task.batch_defer(*jobs)


def serve(url: str, handle: Handler, stop: threading.Event, say: Callable[[str], None]) -> None:
    """Take jobs until it is asked to stop, one at a time.

    Args:
        handle: works on a range, (lane, run, first); what it raises is tried again some seconds later.
        say: is told when it begins.

    Raises:
        ProviderUnavailable: the connection was lost, or there is none.
    """
    for name in ("procrastinate", "psycopg.pool"):  # what matters is raised, or told by the handler
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        asyncio.run(_serve(url, handle, stop, say))
    except _BROKEN as error:
        cause = error.__cause__ or error
        said = " ".join(str(cause).split())
        what = f"the connection to the journal's server was lost ({drop_secrets(url, said)[:200]})"
        raise ProviderUnavailable(what) from None  # its text may quote the connection string


async def _serve(url: str, handle: Handler, stop: threading.Event, say: Callable[[str], None]) -> None:
    asyncio.get_running_loop().set_exception_handler(_ignore)
    connector = procrastinate.PsycopgConnector(
        conninfo=make_libpq_url(add_verification(url))[0],
        min_size=1,
        max_size=4,
        timeout=_CONNECTS_S,
        kwargs={
            "prepare_threshold": None,
            "connect_timeout": 5,
            "client_encoding": "UTF8",
            "fallback_application_name": "backout worker",
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,
        },
        configure=_set_up,
    )
    app = _make_app(connector, handle)
    opening = asyncio.ensure_future(app.open_async())
    while not opening.done():
        await asyncio.wait([opening], timeout=_LOOK_S)
        if stop.is_set():
            opening.cancel()
    if opening.cancelled():
        return
    opening.result()
    try:
        await _work(app, stop, say)
    finally:
        with contextlib.suppress(*_BROKEN):
            await app.close_async()


def _ignore(_loop: object, _context: object) -> None:
    """Let procrastinate's own tasks end with an error that nobody takes: its worker ends with the same."""


async def _work(app: procrastinate.App, stop: threading.Event, say: Callable[[str], None]) -> None:
    """Run procrastinate's worker, and beside it what tries the jobs of dead workers again."""
    worker = asyncio.ensure_future(
        app.run_worker_async(
            queues=[_QUEUE],
            concurrency=1,
            install_signal_handlers=False,
            fetch_job_polling_interval=_POLLING_S,
            listen_notify=False,  # psycopg wakes ten times a second for it; a restore can wait for two seconds
            update_heartbeat_interval=_HEARTBEAT_S,
            stalled_worker_timeout=_STALLED_S,
            delete_jobs="always",
        )
    )
    retrying = asyncio.ensure_future(_retry_stalled(app))
    say("taking ranges of object restores")
    try:
        while not stop.is_set():
            done, _ = await asyncio.wait([worker, retrying], timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            if done:
                break
        for task in (worker, retrying):
            task.cancel()  # the worker waits for the job that it has
        found = await asyncio.gather(worker, retrying, return_exceptions=True)
    finally:
        retrying.cancel()
    failed = [each for each in found if isinstance(each, Exception)]
    if failed and not stop.is_set():
        raise failed[0]
    if not stop.is_set():  # a side task of its failed, which it does not raise
        raise exceptions.ConnectorException


async def _retry_stalled(app: procrastinate.App) -> None:
    """Try the jobs of workers again that were not heard of for a while: each looks first whether there is work."""
    while True:
        await asyncio.sleep(_RETRY_EVERY_S)
        for job in await app.job_manager.get_stalled_jobs(queue=_QUEUE, seconds_since_heartbeat=_STALLED_S):
            with contextlib.suppress(exceptions.ConnectorException):  # somebody else did so, or it has just ended
                await app.job_manager.retry_job(job)


async def _set_up(connection: psycopg.AsyncConnection[Any]) -> None:
    await connection.set_autocommit(True)
    await connection.execute(f"SET search_path = {SEARCH_PATH}".encode())


def _make_app(connector: procrastinate.BaseConnector, handle: Handler) -> procrastinate.App:
    app = procrastinate.App(connector=connector)

    @app.task(name=_TASK, queue=_QUEUE, retry=_AGAIN)
    def do(lane: str, run: str, first: int) -> None:
        handle(lane, run, first)

    return app
