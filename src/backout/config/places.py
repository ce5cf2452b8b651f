"""Where backout keeps what it writes and reads again: the one way to each such path of a configuration.

A repository can bring files and links to all of these places, and another user can own them. So a path is given out
only when `trust` has nothing against it; what it says of the journal and its like, `loading.load` has asked already,
as every command uses them. A test walks the schema and the source for places that go around this module.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Final

from backout.config import trust
from backout.errors import Untrusted, UsageError
from backout.private import OURS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.config.schema import Settings

CHECKED: Final = frozenset(
    {
        "journal.path",
        "journal.holds",
        "journal.bundles",
        "incidents.directory",
        "incidents.card",
        "incidents.runbook",
        "environments.*.database.backup.directory",
    }
)
"""The keys of the configuration that name places of backout's own."""
GIVEN: Final = frozenset(
    {
        "diagnose.signatures",
        "environments.*.database.backup.pgbackrest.config",
        "environments.*.database.server.data_directory",
        "environments.*.database.migrations_path",
        "environments.*.database.binaries",
        "environments.*.certify.requests",
        "environments.*.certify.seed",
        "environments.*.secrets.example",
        "environments.*.secrets.source.path",
        "environments.*.traffic.logs.path",
        "environments.*.platform.caddy.access_log",
        "environments.*.platform.caddy.releases",
        "environments.*.platform.caddy.ssh_config",
        "environments.*.platform.caddy.hosts.*.access_log",
        "environments.*.platform.caddy.hosts.*.releases",
    }
)
"""The keys that name what belongs to the project or the machine; the file of a secret is judged when it is opened."""
_OUTBOX: Final = ".notices.sqlite"
_SPOOL: Final = ".spool.sqlite"
_FINGERPRINTS: Final = ".key"


def list_records(settings: Settings) -> tuple[Path, ...]:
    """Return what every command reads or writes: the journal with what lies beside it, the holds, the kept code."""
    kept = settings.journal
    beside = (_OUTBOX, _SPOOL, _FINGERPRINTS, *map(_name_deploy_lock, settings.environments))
    return kept.path, *map(kept.path.with_suffix, beside), kept.holds, kept.bundles


def _name_deploy_lock(environment: str) -> str:
    return f".deploy-{environment}.lock"


class Places:
    """The places of one configuration; each property raises Untrusted for one that others could have written.

    Args:
        file: the configuration's.
        environment: returns the name of the chosen environment; raises UsageError for none.
        known: what was found trusted already, with whether git was asked.
    """

    def __init__(
        self, file: Path, settings: Settings, environment: Callable[[], str], known: set[tuple[Path, bool]]
    ) -> None:
        self._file = file
        self._settings = settings
        self._environment = environment
        self._known = known

    def check(self, path: Path, what: str = "the folder", *, kept_by_git: bool = True) -> Path:
        """Return a path below which backout reads or writes.

        Args:
            what: names it in the error.
            kept_by_git: whether that a repository holds it is a flaw, too: not of what is only written.

        Raises:
            Untrusted: others could have written it, or have it lead elsewhere.
        """
        if (path, kept_by_git) not in self._known:
            check_around(self._file.parent, path, what, kept_by_git=kept_by_git)
            self._known.add((path, kept_by_git))
        return path

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self._settings.journal.path

    @property
    def holds(self) -> Path:
        """The folder of the kill switch."""
        return self._settings.journal.holds

    @property
    def bundles(self) -> Path:
        """The folder of the kept code."""
        return self._settings.journal.bundles

    @property
    def outbox(self) -> Path:
        """The file of notices that are to be sent."""
        return self.journal.with_suffix(_OUTBOX)

    @property
    def spool(self) -> Path:
        """The file of what a person does while the journal's server is away."""
        return self.journal.with_suffix(_SPOOL)

    @property
    def fingerprints(self) -> Path:
        """The file of the key for fingerprints of secrets."""
        return self.journal.with_suffix(_FINGERPRINTS)

    @property
    def deploy_lock(self) -> Path:
        """The file that one deployment at a time locks."""
        return self.journal.with_suffix(_name_deploy_lock(self._environment()))

    @property
    def backups(self) -> Path:
        """Where backups are kept or pass through on this machine. Raises UsageError when there is no database."""
        name = self._environment()
        database = self._settings.environments[name].database
        if database is None:
            raise UsageError(f"environments.{name} has no database", where=str(self._file))
        return self.check(self._file.parent / database.backup.directory / name, "the folder of the backups")

    @property
    def restore(self) -> Path:
        """Where side instances lie, beside the journal, and what restores keep."""
        return self.check(self.journal.parent / "restore" / self._environment(), "the folder of the restores")

    @property
    def objects(self) -> Path:
        """Where restores of objects note what they do, beside the journal."""
        return self.check(self.journal.parent / "objects" / self._environment(), "the folder of the objects' restores")

    @property
    def reports(self) -> Path:
        """The folder of incident reports; a team may keep these in git."""
        return self.check_written(self.reports_path)

    @property
    def reports_path(self) -> Path:
        """Where the reports should be, for display and for who checks it when one is written."""
        return self._settings.incidents.directory

    def check_written(self, path: Path) -> Path:
        """Return a folder of pages: a repository may hold them, and may not have them lead elsewhere.

        Raises:
            Untrusted: others could have written it, or have it lead elsewhere.
        """
        return self.check(path, "the folder", kept_by_git=False)

    @property
    def card(self) -> Path:
        """Where the card of the chosen environment is. Raises UsageError as `Config.name` does."""
        return self.check_card(self.card_path)

    def check_card(self, path: Path) -> Path:
        """Return a card's path. Raises Untrusted: nothing shows that it is one that backout wrote here."""
        return self.check(path, "the card")

    @property
    def card_path(self) -> Path:
        """Where the card should be, as `reports_path`. Raises UsageError as `Config.name` does."""
        return self._file.parent / self._settings.incidents.card.replace("{environment}", self._environment())

    @property
    def runbook(self) -> Path:
        """The runbook of the chosen environment; a team keeps it in git. Raises UsageError as `Config.name` does."""
        return self.check(self.runbook_path, "the runbook", kept_by_git=False)

    @property
    def runbook_path(self) -> Path:
        """Where the runbook should be, as `card_path`."""
        return self._locate_runbook(self._environment())

    def list_runbooks(self) -> tuple[str, ...]:
        """Return the environments for which a runbook is written."""
        return tuple(name for name in self._settings.environments if self._locate_runbook(name).is_file())

    def _locate_runbook(self, environment: str) -> Path:
        return self._file.parent / self._settings.incidents.runbook.replace("{environment}", environment)

    def find_card(self) -> Path | None:
        """Return the card's path if it is there and trusted."""
        try:
            return path if (path := self.card).is_file() else None
        except (Untrusted, OSError):
            return None


def check_around(folder: Path, path: Path, what: str, *, kept_by_git: bool = True) -> Path:
    """Return a path that is used without a configuration, or beside it.

    Args:
        folder: the project's.
        what: names it in the error.
        kept_by_git: as of `Places.check`.

    Raises:
        Untrusted: others could have written it, or have it lead elsewhere.
    """
    said = f"{what} {path} is not trusted: someone else could have written it"
    trust.check_state(folder, (path,), what=said, kept_by_git=kept_by_git, mend=_mend)
    return path


def list_cards(folder: Path, environment: str) -> tuple[Path, ...]:
    """Return the cards in their usual place below a folder; `environment` may be `*`."""
    return tuple(sorted((folder / OURS).glob(f"card-{environment}.md")))


def locate_service_file(folder: Path, name: str) -> Path:
    """Return the usual place below a folder of a file that libpq finds a side database by."""
    return folder / OURS / f"{name}.pg_service.conf"


def _mend(path: str) -> str:
    return f"chown -R {os.geteuid()} {shlex.quote(path)}  # if what is in it is yours"
