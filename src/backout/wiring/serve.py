"""What the pages read and write, from a configuration: the journal, and nothing that needs a platform's token."""

from __future__ import annotations

import re
import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError, UsageError
from backout.model.approval import Approver
from backout.model.login import PREFIX, Login
from backout.providers.clock import SystemClock
from backout.report.redact import MASK
from backout.runbook.incident.case import IncidentRecords
from backout.runbook.incident.incident_cache import IncidentCache
from backout.runbook.serve.logins import Logins
from backout.runbook.serve.overviews import VIEWED_S, find_run, note_viewed, read_view
from backout.wiring.helps import list_helps, make_commit_url
from backout.wiring.records import find_actor, open_journal, open_journals, open_reports

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.config import Config
    from backout.journal.stored import StoredJournal
    from backout.model.incident.incident import Run
    from backout.model.login import Permission
    from backout.ports import Clock
    from backout.runbook.serve.overviews import EnvironmentView

_NOTE_EVERY_S: Final = 10.0
_OURS: Final = re.compile(rf"\b{PREFIX}[\w-]{{16,}}", re.ASCII)


def open_logins(config: Config) -> Logins:
    """Return the logins of a configuration's journal."""
    first = next(iter(config.settings.environments))
    role = config.settings.journal.pages_role or ""
    return Logins(open_journal(replace(config, chosen=first)), SystemClock(), actor=find_actor(), pages_role=role)


def make_job_checker(
    repository: str, audience: str, role: Permission, issuer: str | None
) -> Callable[[str], Login | None]:
    """Return what finds the login of a job of GitHub Actions by its token: in the environment that it deploys to.

    Args:
        audience: what the job asks its token for.
        issuer: None for GitHub's own.

    Raises:
        ConfigError: its address cannot be used.
    """
    from backout.providers.github.oidc import ISSUER, JobTokens

    tokens = JobTokens(repository, audience, SystemClock(), issuer=issuer or ISSUER)

    def check(token: str) -> Login | None:
        job = tokens.check(token)
        if job is None or not job.environment:
            return None
        return Login("oidc", f"{job.actor} in {job.repository}", role, (job.environment,), job.expires_at, "oidc")

    return check


class Site:
    """Everything behind the pages; for several threads.

    Args:
        config: without secrets, and without an environment that is chosen.

    Attributes:
        journal: of all environments.
        incidents: theirs.
        logins: who may use the pages.
        environments: their names, in the order of the file.
        person: who started it.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.environments = tuple(config.settings.environments)
        self.clock: Clock = SystemClock()
        self._open_journal = open_journals(config)
        self.journal = self._open_journal(replace(config, chosen=self.environments[0]))
        self.incidents = IncidentCache(self.journal, self.journal)
        self.person = find_actor()
        self.actor = f"backout serve, {self.person}"
        role = config.settings.journal.pages_role or ""
        self.logins = Logins(self.journal, self.clock, actor=self.actor, pages_role=role)
        self._lock = threading.Lock()
        self._viewed: dict[str, float] = {}
        self._looked_since: dict[str, float] = {}
        self._configs = {name: replace(config, chosen=name, kept={}) for name in self.environments}

    def choose(self, environment: str) -> Config:
        """Return the configuration of an environment. Raises UsageError: there is none of that name."""
        found = self._configs.get(environment)
        if found is None:
            raise UsageError(f"there is no environment {environment!r}", hint="backout config show")
        return found

    def open_journal(self, environment: str) -> StoredJournal:
        """Return the journal as one environment's rules have it: what is asked of its runs goes by them."""
        return self._open_journal(self.choose(environment))

    def needs_second_person(self, environment: str) -> bool:
        """Whether plans there wait for a second person's approval."""
        rule = self.choose(environment).environment.approval_rule()
        return rule is not None and rule.by is Approver.SECOND_PERSON

    def find_run(self, environment: str, run: str) -> Run | None:
        """Return the run of an environment with exactly this id, None: there is none. Raises JournalUnavailable."""
        return find_run(self.journal, environment, run)

    def mask(self, text: str) -> str:
        """Return a text that a person typed without what looks like a secret; none is known here by its value.

        What logs people in here is known by how it begins: a page's address is copied with the login that it had.
        """
        return self.config.variables.mask_text(_OURS.sub(MASK, text))

    def read_views(self, names: tuple[str, ...]) -> tuple[EnvironmentView, ...]:
        """Return what the pages show of these environments. Raises BackoutError: the journal cannot be read."""
        self.note_viewed(names)
        workers = self.journal.read_workers()
        return tuple(
            read_view(
                self.incidents,
                self.journal,
                self.journal,
                name,
                worker=workers.get(name, ""),
                protected=self.choose(name).protected,
                looked_since=self._looked_since.get(name),
            )
            for name in names
        )

    def note_viewed(self, names: tuple[str, ...]) -> None:
        """Have a worker keep these environments fresh; a journal that takes nothing now is read all the same."""
        now = self.clock.now()
        with self._lock:
            if all(now - self._viewed.get(name, 0.0) < _NOTE_EVERY_S for name in names):
                return
            begun = (name for name in names if now - self._viewed.get(name, 0.0) >= VIEWED_S)
            self._looked_since.update(dict.fromkeys(begun, now))
            self._viewed.update(dict.fromkeys(names, now))
        with suppress(BackoutError):
            note_viewed(self.journal, names, now)

    def open_records(self, environment: str, actor: str) -> IncidentRecords:
        """Return the incidents of an environment, as read and written here: no channel is told from here.

        Args:
            actor: who writes.
        """
        config = self.choose(environment)
        return IncidentRecords(
            environment=environment,
            actor=actor,
            clock=self.clock,
            journal=self.journal,
            runs=self.journal,
            counts=self.journal,
            checkpoints=self.journal,
            reports=open_reports(config),
            protected=config.protected,
            critical_from=config.settings.incidents.critical_from,
            helps=list_helps(config),
            commit_url=make_commit_url(config),
        )

    def close(self) -> None:
        """Close the journal."""
        self.journal.close()
