"""What a worker does beside guarding, each in a thread of its own: jobs, ranges of restores, requests, the status."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from backout.cli.support import errors
from backout.errors import BackoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backout.cli.support.shell import Shell
    from backout.config import Config
    from backout.journal.stored import StoredJournal
    from backout.runbook.toolbox import Toolbox
    from backout.runbook.worker.job_runner import JobRunner
    from backout.runbook.worker.request_runner import RequestRunner
    from backout.runbook.worker.worker import Worker

_PAUSE_S: Final = 30.0
"""After a mistake in backout itself."""
STATUS_EVERY_S: Final = 10.0
"""How old the status gets of an environment that somebody looks at; of many, older, see `_APART_S`."""
_APART_S: Final = 3.0
"""Between two environments that are looked at, and after an event: each look costs a few calls of an API."""
_LOOK_EVERY_S: Final = 1.0
"""How often what is due is looked for while somebody looks at an environment."""
_RESTS_S: Final = 2.0
"""How often it is asked whether somebody does, while nobody does."""
_PROGRESS: Final = "step.progress"


@contextmanager
def taking_ranges(config: Config, say: Callable[[str, str], None]) -> Iterator[None]:
    """Take ranges of restores in the block that are spread over several machines, where that is possible.

    Without a bucket in its configuration a worker could do none, and would only take them from those that can.
    """
    from backout.extras import EXTRAS

    has_bucket = any(each.storage is not None for each in config.settings.environments.values())
    if not has_bucket or config.settings.journal.url_env is None or not all(map(find_spec, EXTRAS["worker"])):
        yield
        return
    from backout.wiring.tasks import run_tasks

    stop = threading.Event()

    def work() -> None:
        try:
            run_tasks(config, stop, lambda text: say("restores", text))
        except BackoutError as error:
            say("restores", f"no ranges of restores are taken: {error}")

    thread = threading.Thread(target=work, name="backout-ranges", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def run_jobs(
    shell: Shell, runner: JobRunner | None, made: Worker, list_idle: Callable[[], set[str]], stop: threading.Event
) -> None:
    """Run what is due, until the worker is to stop; the thread of its own in which each job is started.

    Args:
        list_idle: returns the environments in which no run is driven here.
    """
    from backout.runbook.worker.job_runner import LOOK_EVERY_S

    if runner is None:
        return

    def look() -> None:
        if not made.state.trouble:
            runner.run_due(made.state.held, list_idle, stop)

    _repeat(shell, look, LOOK_EVERY_S, stop)


def answer_requests(
    shell: Shell, runner: RequestRunner, keeper: StatusKeeper, made: Worker, stop: threading.Event
) -> None:
    """Act on what people ask for on the pages, until the worker is to stop and each command has ended."""
    from backout.runbook.worker.request_runner import LOOK_EVERY_S, RESTS_S

    def look() -> None:
        if not made.state.trouble:
            runner.look(made.state.held, stop)

    try:
        _repeat(shell, look, lambda: LOOK_EVERY_S if keeper.is_viewed else RESTS_S, stop)
    finally:
        runner.join()


class StatusKeeper:
    """Keeps the status of each guarded environment that somebody looks at: the pages have no other source of it.

    Nothing is read while nobody looks: it would cost what an API's limit leaves for guarding.

    Args:
        open_tools: opens the ports of an environment. Raises BackoutError: they cannot be.
        book: of the worker's journal.

    Attributes:
        is_viewed: whether somebody looked at one of them lately, as of the last look.
    """

    def __init__(self, open_tools: Callable[[str], Toolbox], book: StoredJournal) -> None:
        self._open_tools, self._book = open_tools, book
        self._tools: dict[str, Toolbox] = {}
        self._read_at: dict[str, float] = {}
        self._news: set[str] = set()
        self._after: int | None = None
        self.is_viewed = False

    def look(self, held: tuple[str, ...]) -> None:
        """Read and keep the status of the environment that is due most, if one is. Raises JournalUnavailable."""
        from backout.runbook.serve.overviews import VIEWED_S, read_viewed

        viewed, clock = read_viewed(self._book), time.time()
        seen = [name for name in held if clock - viewed.get(name, 0.0) < VIEWED_S]
        self.is_viewed = bool(seen)
        if not seen:
            self._after = None
            return
        self._find_news()
        now, every_s = time.monotonic(), max(STATUS_EVERY_S, _APART_S * len(seen))
        due = [name for name in seen if now - self._read_at.get(name, -every_s) >= self._choose_wait_s(name, every_s)]
        if due:
            name = min(due, key=lambda each: self._read_at.get(each, 0.0))
            self._news.discard(name)
            self._keep(name)
            self._read_at[name] = time.monotonic()

    def _choose_wait_s(self, name: str, every_s: float) -> float:
        return _APART_S if name in self._news else every_s

    def _find_news(self) -> None:
        """Have it known in which environments something happened; what a step records on its way is no news."""
        newest = self._book.find_newest()
        if self._after is not None and newest > self._after:
            events = self._book.events(after=self._after)
            self._news |= {event.environment.partition("/")[0] for event in events if event.kind != _PROGRESS}
        self._after = newest

    def _keep(self, name: str) -> None:
        from backout.cli.status_look import read_status
        from backout.cli.status_record import make_status_record
        from backout.report.records import make_envelope
        from backout.runbook.serve.overviews import save_status

        try:
            tools = self._tools.get(name) or self._open_tools(name)
            self._tools[name] = tools
            record = make_envelope("status", make_status_record(read_status(tools)))
        except BackoutError as error:
            record = make_envelope("error", {"environment": name, "error": type(error).__name__, "message": error.what})
        save_status(self._book, name, record, time.time())


def keep_status(shell: Shell, keeper: StatusKeeper, made: Worker, stop: threading.Event) -> None:
    """Keep the status of each environment that is guarded here, until the worker is to stop."""

    def look() -> None:
        if not made.state.trouble:
            keeper.look(tuple(made.state.held))

    _repeat(shell, look, lambda: _LOOK_EVERY_S if keeper.is_viewed else _RESTS_S, stop)


def _repeat(
    shell: Shell, look: Callable[[], None], every_s: float | Callable[[], float], stop: threading.Event
) -> None:
    """Look again and again, and say each new trouble once; a mistake in one look ends no guard."""
    told = ""
    while not stop.wait(every_s() if callable(every_s) else every_s):
        try:
            look()
            told = ""
        except BackoutError as error:
            if error.what != told:
                errors.show(error, shell.output)
            told = error.what
        except Exception as error:  # noqa: BLE001 - a mistake here ends no guard
            errors.show_unexpected(error, shell.output)
            stop.wait(_PAUSE_S)
