"""The jobs of a worker's environments, from a configuration; each is this program, started once more."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from backout.model.drill import DrillPlace
from backout.model.incident.incident import RunState
from backout.providers.child_environment import make_module_command
from backout.providers.clock import SystemClock
from backout.runbook.worker.job_runner import JobRunner
from backout.runbook.worker.jobs import BACKUP_EVERY_S, Needs, list_jobs
from backout.wiring.records import find_actor
from backout.wiring.worker_child import WorkerChild

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.config import Config
    from backout.journal.stored import StoredJournal
    from backout.runbook.worker.jobs import Job
    from backout.wiring.worker import WorkerJournal

_LONGEST_LINE: Final = 2000


def make_job_runner(
    config: Config,
    journal: WorkerJournal,
    tell: Callable[[str, str, str], None],
    *,
    drills: bool,
    options: tuple[str, ...] = (),
) -> JobRunner:
    """Return what runs the jobs of a worker.

    Args:
        tell: is told what a job says: (environment, the job's name, line).
        drills: whether drills on the twin are run, too.
        options: further global options of each job's command.
    """
    wanted = _read_drills(config) if drills else {}
    first = replace(config, chosen=next(iter(config.settings.environments)))
    book = journal.open_beside(first)  # for notes of whichever environment
    work = ConfiguredJobs(config, book, tell, wanted, options)
    return JobRunner(work, book, SystemClock(), tell, actor=find_actor())


def _read_drills(config: Config) -> dict[str, float]:
    """Return the drills on the twin, and how long a success counts.

    Those in staging and in production deploy a broken version on purpose: a person begins them.
    """
    from backout.wiring.drills.catalogue import load_drills

    drills = load_drills(config.path.parent)
    return {each.name: float(each.file.due_after) for each in drills if each.file.environment is DrillPlace.TWIN}


class ConfiguredJobs:
    """What `JobRunner` asks, see `JobWork`.

    Args:
        drills: they belong to the first environment of the file, so that one worker at a time runs them.
    """

    def __init__(
        self,
        config: Config,
        journal: StoredJournal,
        hear: Callable[[str, str, str], None],
        drills: Mapping[str, float],
        options: tuple[str, ...],
    ) -> None:
        self._config, self._journal, self._hear = config, journal, hear
        self._drills, self._options = drills, options

    def list_jobs(self, environment: str) -> tuple[Job, ...]:
        """Return the jobs of an environment. Raises Untrusted: others may write where its backups are kept."""
        config = replace(self._config, chosen=environment)
        storage, database = config.environment.storage, config.environment.database
        has_backups = _has_backups(config)
        is_first = environment == next(iter(config.settings.environments))
        needs = Needs(
            snapshot_every_s=float(storage.history_every) if storage is not None and storage.history else 0.0,
            backup_every_s=BACKUP_EVERY_S if has_backups else 0.0,
            prove_within_s=float(database.backup.prove_within) if database is not None and has_backups else 0.0,
            drills=self._drills if is_first else {},
        )
        return list_jobs(environment, needs)

    def find_elsewhere(self, job: Job) -> float | None:
        """Return when a person had the same done, where the journal knows it. Raises JournalUnavailable."""
        if job.name == "proof":
            from backout.wiring.db.backups import read_last_proof

            last = read_last_proof(self._journal, job.environment)
            return None if last.failed else last.at
        if job.name.startswith("drill "):
            from backout.analysis.drills import summarize_drills
            from backout.runbook.incident.drills import list_drills

            known = {f"drill {each.name}": each for each in summarize_drills(list_drills(self._journal))}
            return known[job.name].last_passed_at if job.name in known else None
        return None

    def is_run_under_way(self, environment: str) -> bool:
        """Return whether a run of the environment is being driven; one that was interrupted is not."""
        newest = next(self._journal.walk_runs(environment), None)
        return newest is not None and newest.state is RunState.RUNNING

    def start(self, job: Job) -> WorkerChild:
        """Start the program. Raises BackoutError: it cannot be started."""
        argv = make_module_command(
            "backout", "--config", str(self._config.path.absolute()), "-e", job.environment, "--no-input",
            *self._options, *job.words,
        )  # fmt: skip
        return WorkerChild(argv, str(self._config.path.absolute().parent), lambda line: self._say(job, line), job.name)

    def _say(self, job: Job, line: str) -> None:
        text = self._config.variables.mask_text(line)
        self._hear(job.environment, job.name, text[:_LONGEST_LINE])


def _has_backups(config: Config) -> bool:
    """Whether backups of the database are set up: a bucket or a receiver of WAL, or there were some already."""
    database = config.environment.database
    if database is None or database.provider != "postgres":
        return False
    backup = database.backup
    return backup.store is not None or backup.wal != "off" or config.places.backups.is_dir()
