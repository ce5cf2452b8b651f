"""Runs the jobs that are due in the environments of a worker, one at a time, and records each in the journal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol

from backout.errors import BackoutError
from backout.runbook.worker.jobs import (
    BEGAN,
    DONE,
    FAILED,
    SPREAD_S,
    STOPPED,
    Past,
    add_attempt,
    add_elsewhere,
    list_due,
)

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Collection, Iterable, Mapping

    from backout.model.plan import Json
    from backout.ports import Clock, Journal
    from backout.runbook.worker.jobs import Job

KIND: Final = "worker.job"
LOOK_EVERY_S: Final = 5.0
"""How often a worker looks whether a job is due."""
ENDS_WITHIN_S: Final = 60.0
"""How long a job that is told to end may take; then it is killed."""
_POLL_S: Final = 0.2


class Child(Protocol):
    """A job at work, in a process of its own."""

    def wait(self, seconds: float) -> int | None:
        """Return its exit code, or None when it has not ended within that time."""
        ...

    def terminate(self) -> None:
        """Tell it to end (SIGTERM)."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...


class JobWork(Protocol):
    """What is known of environments' jobs, and what starts them."""

    def list_jobs(self, environment: str) -> tuple[Job, ...]:
        """Return the jobs of an environment. Raises BackoutError: they cannot be told now."""
        ...

    def find_elsewhere(self, job: Job) -> float | None:
        """Return when somebody else did that job well (Unix seconds), None: nobody did, or it leaves no trace."""
        ...

    def is_run_under_way(self, environment: str) -> bool:
        """Return whether a run of the environment is being driven. Raises BackoutError: that is not known."""
        ...

    def start(self, job: Job) -> Child:
        """Start it. Raises BackoutError: it cannot be started."""
        ...


class JobRunner:
    """The jobs of one worker; `run_due` is one thread's, what it says may be read by others.

    Args:
        tell: told what becomes of a job: (environment, its name or "", sentence).
        spread_s: see `jobs.SPREAD_S`.

    Attributes:
        at_work: the environment whose job is at work, "" for none.
        known: what is known of each job of the environments that were looked at, by environment and name.
    """

    def __init__(
        self,
        work: JobWork,
        journal: Journal,
        clock: Clock,
        tell: Callable[[str, str, str], None],
        *,
        actor: str,
        spread_s: float = SPREAD_S,
    ) -> None:
        self._work, self._journal, self._clock, self._tell = work, journal, clock, tell
        self._actor, self._spread_s, self._since = actor, spread_s, clock.now()
        self._seen: dict[str, int] = {}
        self._past: dict[tuple[str, str], Past] = {}
        self._troubles: dict[str, str] = {}
        self.at_work = ""
        self.known: Mapping[tuple[str, str], Past] = {}

    def run_due(self, held: Iterable[str], idle: Callable[[], Collection[str]], stop: threading.Event) -> None:
        """Run the job that waits longest to its end, where one is due.

        Args:
            held: the environments that this worker guards.
            idle: returns those in which it drives no run now.
            stop: when it is set, a job at work is told to end.

        Raises:
            JournalUnavailable: nothing begins without a record.
        """
        jobs = [job for name in held for job in self._list_jobs(name)]
        quiet = idle()
        for job in list_due(jobs, self._past, self._clock.now(), self._since, self._spread_s):
            if job.environment not in quiet or not self._is_due_still(job) or stop.is_set():
                continue
            if self._work.is_run_under_way(job.environment):
                continue
            self._run(job, stop)
            return

    def _list_jobs(self, environment: str) -> tuple[Job, ...]:
        try:
            jobs = self._work.list_jobs(environment)
            if environment not in self._seen:
                self._refresh(environment, jobs)
        except BackoutError as error:
            if self._troubles.get(environment) != error.what:
                self._tell(environment, "", f"the jobs are not known: {error.what}")
            self._troubles[environment] = error.what
            return ()
        self._troubles.pop(environment, None)
        return jobs

    def _is_due_still(self, job: Job) -> bool:
        """Whether a job is due after what other workers and persons did meanwhile."""
        self._refresh(job.environment, [job])
        return bool(list_due([job], self._past, self._clock.now(), self._since, self._spread_s))

    def _refresh(self, environment: str, jobs: Iterable[Job]) -> None:
        """Read what is new in the journal of an environment's jobs."""
        for event in self._journal.events(environment=environment, kind=KIND, after=self._seen.get(environment, 0)):
            place = (environment, str(event.data.get("job", "")))
            self._past[place] = add_attempt(self._past.get(place, Past()), event)
            self._seen[environment] = event.seq
        self._seen.setdefault(environment, 0)
        for job in jobs:
            place = (environment, job.name)
            self._past[place] = add_elsewhere(self._past.get(place, Past()), self._work.find_elsewhere(job))
        self.known = dict(self._past)

    def _run(self, job: Job, stop: threading.Event) -> None:
        before = self._past.get((job.environment, job.name), Past())
        # The key holds what was known: of two workers that know the same, one records its beginning, the other nothing.
        began = self._journal.note(
            job.environment, KIND, f"{job.name}:{before.turn}:{BEGAN}", {"job": job.name, "outcome": BEGAN},
            actor=self._actor,
        )  # fmt: skip
        if began is None:
            return
        self.at_work = job.environment
        began_at, code, outcome = time.monotonic(), -1, FAILED
        try:
            self._tell(job.environment, job.name, "begins")
            code, outcome = _await_end(self._work.start(job), stop)
        except BackoutError as error:
            self._tell(job.environment, job.name, f"cannot be started: {error.what}")
        finally:
            took_s = time.monotonic() - began_at
            self.at_work = ""
            self._tell(job.environment, job.name, f"{_describe(outcome, code)} after {took_s:.1f} s")
            data: dict[str, Json] = {"job": job.name, "outcome": outcome, "exit_code": code, "took_s": round(took_s, 3)}
            self._journal.note(
                job.environment, KIND, f"{job.name}:{began.seq}:{outcome}", data, actor=self._actor
            )  # fmt: skip
            self._refresh(job.environment, ())


def _await_end(child: Child, stop: threading.Event) -> tuple[int, str]:
    """Return a job's exit code and outcome, once it has ended; in any case it has ended then."""
    try:
        while (code := child.wait(_POLL_S)) is None:
            if stop.is_set():
                child.terminate()
                code = child.wait(ENDS_WITHIN_S)
                break
    finally:
        child.kill()
    if code == 0:
        return 0, DONE
    return -1 if code is None else code, STOPPED if stop.is_set() else FAILED


def _describe(outcome: str, code: int) -> str:
    return {DONE: "is done", STOPPED: "stopped, as this worker ends,"}.get(outcome, f"failed (exit code {code})")
