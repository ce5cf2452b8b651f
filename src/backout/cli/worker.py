"""`backout worker`: guard every environment of backout.toml, day and night, beside other workers."""

from __future__ import annotations

import io
import signal
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

import click

from backout.cli.support import errors
from backout.cli.support.labelled import LabelledStream
from backout.cli.support.options import command, pass_shell
from backout.cli.support.output import Output
from backout.cli.support.shell import Shell
from backout.cli.worker_beside import StatusKeeper, answer_requests, keep_status, run_jobs, taking_ranges
from backout.errors import BackoutError, Busy, Interrupted, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from backout.cli.support.session import Session
    from backout.config import Config
    from backout.journal.stop import ThreadStop
    from backout.journal.stored import StoredJournal
    from backout.runbook.toolbox import Toolbox
    from backout.runbook.worker.account_watch import AccountWatches
    from backout.runbook.worker.hints import Hints
    from backout.runbook.worker.job_runner import JobRunner
    from backout.runbook.worker.request_runner import RequestRunner
    from backout.runbook.worker.worker import Worker
    from backout.wiring.worker import WorkerJournal

_BUSY_S = 1.0
"""How soon an environment is looked at again in which somebody else drives a run."""
_PAUSE_S = 5.0
"""How soon after any other error; the pause doubles up to `_LONGEST_S`."""
_LONGEST_S = 30.0
_SWITCH_S = 0.0005
"""How long a thread may keep the interpreter: with 200 threads at work, Python's 5 ms are a second until the leases are
renewed."""
_APART_S = 0.05
"""Between two environments that are prepared: what is guarded comes first."""


@command(
    "worker",
    short_help="Guard every environment, on any number of machines.",
    epilog="""
Examples:
  backout worker                               # all of backout.toml
  backout worker -e production
  backout worker --listen 127.0.0.1:9464       # /healthz and /metrics
  backout worker --only staging --only production
  backout worker --drills                      # the drills that are due on the twin, too
  backout worker --guard-only                  # no snapshots, backups and proofs
""",
)
@click.option("--only", multiple=True, metavar="ENV", help="Guard this environment; may be given several times.")
@click.option("--listen", metavar="ADDRESS:PORT", help="Answer /healthz and /metrics on this loopback address.")
@click.option("--drills", is_flag=True, help="Run the drills that are due on the twin, too.")
@click.option("--guard-only", is_flag=True, help="Run no snapshots, backups and proofs of a restore.")
@pass_shell
def worker(shell: Shell, *, only: tuple[str, ...], listen: str | None, drills: bool, guard_only: bool) -> int:
    """Guard environments until SIGTERM: each new deployment is watched as its policy says, and what is live after it.

    Workers that use the same journal share the environments: each is guarded by one of them. When a worker dies,
    freezes or is cut off, another one takes its environments over within 15 seconds and goes on with the watches and
    rollbacks that were under way. SIGTERM lets each finish its step, and gives them back at once.

    What is due in them is run as well, one job after the other: snapshots of objects (storage.history_every), a backup
    of the database once a day, and a proof that it can be restored (half of backup.prove_within).
    """
    from backout.journal.stop import ThreadStop
    from backout.runbook.worker.worker import Worker
    from backout.wiring.worker import WorkerJournal, make_hints, make_watches
    from backout.wiring.worker_jobs import make_job_runner
    from backout.wiring.worker_requests import make_request_runner

    if drills and guard_only:
        raise UsageError("drills are jobs, too", where="--guard-only", hint="backout worker --drills")
    config = shell.config()
    names = _choose(config, only or tuple(filter(None, [config.chosen])))
    say = Reporter(shell.output)
    journal = WorkerJournal(config, names)
    options = ("--no-commands",) if shell.flags.no_commands else ()
    hints = {name: make_hints(number, len(names)) for number, name in enumerate(names)}
    requests = make_request_runner(
        config, journal, say.say_line, lambda name: hints[name].note_request(), options=options
    )
    runner = None
    if not guard_only:
        runner = make_job_runner(config, journal, say.job, drills=drills, options=options)
    accounts = make_watches(
        lambda text: say.say_line("worker", text), lambda error: errors.show_unexpected(error, shell.output)
    )
    guardings = {
        name: Guarding(shell, name, Shared(config, journal, accounts, hints[name], requests, runner), say, ThreadStop())
        for name in names
    }
    made = Worker(journal.leases, guardings, say.change)
    sys.setswitchinterval(_SWITCH_S)
    stop = threading.Event()
    beside = _list_beside(shell, config, Work(journal, made, guardings, runner, requests), stop)
    before = [(each, signal.signal(each, lambda *_: stop.set())) for each in (signal.SIGTERM, signal.SIGINT)]
    try:
        with _listening(listen, made, guardings, runner), taking_ranges(config, say.say_line):
            say.change("started", ", ".join(names))
            threading.Thread(target=_prepare, args=(guardings, stop), daemon=True).start()
            for thread in beside:
                thread.start()
            made.run(stop)
    finally:
        stop.set()
        for thread in beside:
            if thread.ident is not None:
                thread.join()
        for number, handler in before:
            signal.signal(number, handler)
        accounts.close()
        journal.close()
    say.change("stopped", "")
    return 0


def _prepare(guardings: Mapping[str, Guarding], stop: threading.Event) -> None:
    """Read what each environment needs before it is taken over: then there is no time for it."""
    for guarding in guardings.values():
        if stop.wait(_APART_S):
            return
        guarding.prepare()


class Work(NamedTuple):
    """What a worker does, as its threads need it."""

    journal: WorkerJournal
    worker: Worker
    guardings: Mapping[str, Guarding]
    jobs: JobRunner | None
    requests: RequestRunner

    def list_idle(self) -> set[str]:
        """Return the environments in which no run is driven here."""
        return {name for name, each in self.guardings.items() if not each.is_in_run}


def _list_beside(shell: Shell, config: Config, work: Work, stop: threading.Event) -> list[threading.Thread]:
    """Return the threads of what is done beside guarding, not started yet."""
    from backout.wiring.hooks import Hooks
    from backout.wiring.toolbox import make_toolbox

    def open_tools(name: str) -> Toolbox:
        chosen = shell.choose(config, name)
        return make_toolbox(chosen, Hooks(hurried=True, journal=work.journal.open_beside(chosen)))

    first = shell.choose(config, next(iter(config.settings.environments)))
    keeper = StatusKeeper(open_tools, work.journal.open_beside(first))
    parts: dict[str, Callable[[], None]] = {
        "jobs": lambda: run_jobs(shell, work.jobs, work.worker, work.list_idle, stop),
        "requests": lambda: answer_requests(shell, work.requests, keeper, work.worker, stop),
        "status": lambda: keep_status(shell, keeper, work.worker, stop),
    }
    return [threading.Thread(target=part, name=f"backout-{name}") for name, part in parts.items()]


def _choose(config: Config, wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the environments to guard. Raises UsageError for one that is not in the file."""
    known = tuple(config.settings.environments)
    for name in wanted:
        if name not in known:
            raise UsageError(
                f"there is no environment {name!r}", where="--only", hint=f"backout worker --only {known[0]}"
            )
    return tuple(dict.fromkeys(wanted)) or known


class Reporter:
    """Says what a worker does, a line each: `environment  what` for a person, JSON lines with `--json`.

    Args:
        output: of the command.
    """

    def __init__(self, output: Output) -> None:
        self._out = output
        self._lock = threading.Lock()

    def change(self, what: str, of: str) -> None:
        """Say that the worker took an environment, lost it, and so on; see `Worker`."""
        if self._out.json:
            self._write_record({"type": what.replace(" ", "_"), "of": of})
            return
        text = {"journal": of and f"the journal cannot be used, and nothing is changed: {of}"}.get(what, "")
        self.say_line("worker", text or {"journal": "the journal answers again"}.get(what) or f"{what} {of}".strip())

    def say_line(self, environment: str, text: str) -> None:
        """Say a line about an environment."""
        if self._out.json:
            self._write_record({"type": "line", "of": environment, "text": text})
            return
        with self._lock:
            self._out.complain(f"{environment}  {text}")

    def job(self, environment: str, name: str, text: str) -> None:
        """Say what becomes of a job, or what it writes; `name` is "" for what concerns all jobs there."""
        if self._out.json:
            self._write_record({"type": "job", "of": environment, "job": name, "text": text})
        else:
            self.say_line(environment, f"{name}: {text}" if name else text)

    def _write_record(self, record: dict[str, object]) -> None:
        from backout.report.times import format_time

        with self._lock:
            self._out.line("worker", {**record, "at": format_time(time.time())})


class Shared(NamedTuple):
    """What the guard of one environment has from its worker."""

    config: Config
    journal: WorkerJournal
    accounts: AccountWatches
    hints: Hints
    requests: RequestRunner
    jobs: JobRunner | None = None


class Guarding:
    """Guards one environment in a thread of its own, again and again; see `runbook.worker.worker.Guarding`.

    Attributes:
        is_in_run: whether a watch, or what follows from it, is under way.
        seen_at: when it last did something, by the monotonic clock; None before its first turn.
        trouble: why it cannot guard now, or "".
    """

    def __init__(self, shell: Shell, name: str, shared: Shared, say: Reporter, stop: ThreadStop) -> None:
        self._name, self._shared, self._say = name, shared, say
        self._shell = _make_shell(shell, name, say)
        self._stop = stop
        self._thread: threading.Thread | None = None
        self._config: Config | None = None
        self._session: Session | None = None
        self._book: StoredJournal | None = None
        self._opening = threading.Lock()
        self.is_in_run = False
        self.seen_at: float | None = None
        self.trouble = ""

    @property
    def is_idle(self) -> bool:
        """Whether no run, job or request is under way: it may be given to another worker."""
        jobs, requests = self._shared.jobs, self._shared.requests
        is_at_work = self._name in requests.environments or (jobs is not None and jobs.at_work == self._name)
        return not self.is_in_run and not is_at_work

    def prepare(self) -> None:
        """Open the session; what keeps it from being opened is said when the environment is to be guarded."""
        with suppress(BackoutError), self._opening:
            self._open_once()

    def start(self) -> None:
        """Begin, with the lease that was just taken."""
        self._stop.clear()
        self.trouble, self.is_in_run, self.seen_at = "", False, time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"backout-{self._name}", daemon=True)
        self._thread.start()

    def request_stop(self) -> None:
        """Ask it to stop at the next boundary of a step."""
        self._stop.request()
        self._shared.accounts.leave(self._name)
        self._shared.hints.wake()

    def has_ended(self) -> bool:
        """Whether no thread works there."""
        return self._thread is None or not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._guard()
        finally:
            self._shared.accounts.leave(self._name)

    def _guard(self) -> None:
        from backout.cli.guard.guard import run_watch
        from backout.runbook.guard.follow import wait_for_unwatched

        pause_s = _PAUSE_S
        while not self._stop.requested:
            self.seen_at = time.monotonic()
            try:
                session = self._open_session()
                wait_for_unwatched(session.tools, session.live.event, self._wait, self._shared.hints)
                self.is_in_run = True
                run_watch(session)
                self.trouble, pause_s = "", _PAUSE_S
            except Interrupted:
                if not self._stop.requested:  # a person asked the run to stop, not us
                    self._rest(_BUSY_S)
            except Busy as error:
                self._tell_trouble(error)
                self._rest(_BUSY_S)
            except BackoutError as error:
                self._shared.accounts.leave(self._name)  # while the journal is away, another worker may have it
                self._tell_trouble(error)
                self._rest(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_S)
            except Exception as error:  # noqa: BLE001 - a mistake in one environment stops no other one
                errors.show_unexpected(error, self._shell.output)
                self.trouble = f"a mistake in backout itself: {error}"
                self._rest(_LONGEST_S)
            finally:
                self.is_in_run = False
            self._shell.output.answered = False  # each watch has its own answer

    def _open_session(self) -> Session:
        """Return the session, on duty with the lease of this turn."""
        from backout.wiring.worker import join_account

        with self._opening:
            session, book, config = self._open_once()
        book.duty = self._shared.journal.leases.find(self._name)
        if book.duty is None:
            raise Interrupted("the lease is gone", where=self._name)
        join_account(self._shared.accounts, config, self._shared.hints)
        return session

    def _open_once(self) -> tuple[Session, StoredJournal, Config]:
        from backout.cli.support.session import open_session

        if self._session is None or self._book is None or self._config is None:
            config = self._config = self._shell.choose(self._shared.config, self._name)
            self._book = self._shared.journal.open(config, self._stop)
            self._session = open_session(
                self._shell, config, "guard", ticks=bool(self._shell.flags.verbose), journal=self._book, stop=self._stop
            )
        return self._session, self._book, self._config

    def _tell_trouble(self, error: BackoutError) -> None:
        if error.what != self.trouble:
            errors.show(error, self._shell.output)
        self.trouble = error.what

    def _wait(self, seconds: float) -> None:
        """Wait between two looks. Raises Interrupted when it is to stop."""
        self.trouble, self.seen_at = "", time.monotonic()
        self._shared.hints.wait(seconds)
        if self._stop.requested:
            raise Interrupted("the worker stops", where=self._name)

    def _rest(self, seconds: float) -> None:
        self._stop.event.wait(seconds)


def _make_shell(shell: Shell, name: str, say: Reporter) -> Shell:
    """Return the shell of one environment, whose every line says which one it is."""
    lines = LabelledStream(lambda text: say.say_line(name, text))
    output = Output(lines, lines, shell.redactor, verbose=shell.flags.verbose)
    made = Shell(shell.environment, output, shell.redactor, io.StringIO(), shell.folder)
    made.take(**{**shell.flags._asdict(), "environment": name, "json": False, "no_input": True})
    return made


@contextmanager
def _listening(
    listen: str | None, worker: Worker, guardings: Mapping[str, Guarding], runner: JobRunner | None
) -> Iterator[None]:
    """Answer `/healthz` and `/metrics` in the block, where that is wanted."""
    if listen is None:
        yield
        return
    from backout.wiring.worker_metrics import serve_metrics

    with serve_metrics(listen, lambda: worker.state, guardings, lambda: {} if runner is None else runner.known):
        yield
