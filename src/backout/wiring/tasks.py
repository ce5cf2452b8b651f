"""Restores of objects that are spread over several machines: who drives one, and who takes ranges of it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError, UsageError
from backout.extras import require
from backout.journal.lease import make_own_holder
from backout.model.setting import describe_setting
from backout.plan.objects import get_environment
from backout.providers.postgres.server.journal_link import PostgresLink
from backout.providers.tasks.ranges import PostgresRanges
from backout.providers.tasks.tables import SEARCH_PATH
from backout.runbook.objects.ranges import RangeLost, work_on
from backout.runbook.objects.tools import Spread
from backout.wiring.buckets import OpenBucket
from backout.wiring.journal_server import read_journal_url

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from backout.config import Config

_CONNECT_S: Final = 3.0
_PATIENCE_S: Final = 15.0
_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 15.0
_AFTER_FAILURE_S: Final = 5.0
"""A worker that cannot do a range takes no other one for so long: else it would take them all from those that can."""


def make_no_server_error() -> UsageError:
    """Return the error of work that is to be spread, where the journal is a file."""
    return UsageError(
        "a restore is spread through the journal's server, and the journal is a file here",
        where="journal.url_env",
        hint=describe_setting("journal", url_env="BACKOUT_JOURNAL_URL"),
    )


def make_spread(config: Config, bucket: OpenBucket, say: Callable[[str], None], *, drives: bool) -> Spread:
    """Return the way to the ranges of restores.

    Args:
        drives: this process makes ranges for others; it needs the extra `worker` for that.

    Raises:
        UsageError: the extra is not installed.
    """
    if drives:
        require("worker", "a restore that is spread over several machines")
    return Spread(
        place=bucket.place,
        worker=str(make_own_holder()),
        connect=lambda: closing(_connect(config, drives=drives)),
        open=bucket.open,
        say=lambda text: say(config.variables.mask_text(text)),
    )


def _connect(config: Config, *, drives: bool) -> PostgresRanges:
    link = PostgresLink(
        lambda: read_journal_url(config),
        patience_s=_PATIENCE_S,
        connect_timeout_s=_CONNECT_S,
        search_path=SEARCH_PATH,
    )
    if not drives:
        return PostgresRanges(link, patience_s=_PATIENCE_S)
    from backout.providers.tasks.queue import make_jobs, read_schema

    return PostgresRanges(link, make_jobs=make_jobs, read_schema=read_schema, patience_s=_PATIENCE_S)


def prepare_tables(config: Config) -> None:
    """Make the schema of spread work where there is none.

    Raises:
        UsageError: the journal is a file, or the extra is not installed.
        BackoutError: this role may not make it, or it is of another version.
    """
    if config.settings.journal.url_env is None:
        raise make_no_server_error()
    require("worker", "work that is spread over several machines")
    with closing(_connect(config, drives=True)) as ranges:
        ranges.prepare()


def run_tasks(config: Config, stop: threading.Event, say: Callable[[str], None]) -> None:
    """Take ranges of object restores until it is asked to stop: one at a time, of every environment with a bucket.

    Meant for a thread of a process that runs for long. A connection that is lost is opened anew, with a growing wait;
    whatever fails is said and tried again. Once asked to stop it makes no further call of a store, waits for those that
    are on their way, and gives its range back: some seconds, but for a single large object that the store copies.

    Raises:
        UsageError: the journal is a file, or the extra `worker` is not installed.
    """
    if config.settings.journal.url_env is None:
        raise make_no_server_error()
    require("worker", "a worker that takes ranges of restores")
    from backout.providers.tasks.queue import serve

    tell = _Teller(config, say)
    worker = _RangeWorker(config, stop, tell.say)
    wait_s = _FIRST_WAIT_S
    while not stop.is_set():
        try:
            prepare_tables(config)
            wait_s = _FIRST_WAIT_S
            serve(read_journal_url(config), worker.work, stop, tell.say)
        except BackoutError as error:
            tell.say(f"no ranges of restores are taken, and it is tried again: {error}")
            stop.wait(wait_s)
            wait_s = min(_LONGEST_WAIT_S, wait_s * 2)


class _Teller:
    """Says something new, without secrets; what was said last is not repeated."""

    def __init__(self, config: Config, say: Callable[[str], None]) -> None:
        self._config, self._say, self._last = config, say, ""

    def say(self, text: str) -> None:
        masked = self._config.variables.mask_text(text)
        if masked != self._last:
            self._last = masked
            self._say(masked)


class _RangeWorker:
    """Works on the ranges that jobs name, each by the bucket of its environment in this machine's configuration."""

    def __init__(self, config: Config, stop: threading.Event, say: Callable[[str], None]) -> None:
        self._config, self._stop, self._say = config, stop, say
        self._buckets: dict[str, OpenBucket] = {}

    def work(self, lane: str, run: str, first: int) -> None:
        """Work on a range, if it is free. Raises BackoutError: it could not be done here, and is given back."""
        try:
            self._work(lane, run, first)
        except RangeLost as lost:
            if not self._stop.is_set():
                self._say(f"range {first} of {lost}")
        except BackoutError as error:
            self._buckets.clear()  # its access key may have been changed meanwhile
            self._say(f"range {first} of {run}: {error}")
            self._stop.wait(_AFTER_FAILURE_S)
            raise

    def _work(self, lane: str, run: str, first: int) -> None:
        name = get_environment(lane)
        settings = self._config.settings.environments.get(name)
        if settings is None or settings.storage is None:
            raise UsageError("this worker's configuration has no bucket of that environment", where=name)
        config = replace(self._config, chosen=name)
        bucket = self._buckets.get(name) or OpenBucket(config)
        self._buckets[name] = bucket  # it knows how many calls at once the store keeps up with
        spread = make_spread(config, bucket, self._say, drives=False)
        with spread.connect() as ranges:
            claimed = ranges.claim(run, first, spread.worker, place=spread.place)
            if claimed is not None:
                work_on(spread, ranges, claimed, self._stop)
