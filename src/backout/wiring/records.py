"""This host's records of an environment: the journal, the reports, the kill switch; and the acting user."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING, Final

from backout.config.overlay import REQUESTER_ENV
from backout.escaping import fold_blanks, make_harmless
from backout.journal.lease import name_this_machine
from backout.journal.sqlite import SqliteJournal
from backout.journal.sqlite_store import SqliteStore
from backout.journal.stored import StoredJournal
from backout.providers.clock import SystemClock
from backout.providers.files.holds import FileHolds
from backout.providers.files.reports import FileReports
from backout.wiring.delegation import read_delegation
from backout.wiring.hooks import HURRIED_S
from backout.wiring.masked_ports import MaskedHolds

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.config import Config
    from backout.journal.stop import StopRequest
    from backout.journal.store import Store
    from backout.ports import Holds

_LONGEST_NAME: Final = 200
_PATIENCE_S: Final = 15.0
"""How long another process's lock is waited for, and a server that was there before."""


def find_actor() -> str:
    """Return the acting user, as user@host; of a command that a worker began for a login, "login (by user@host)"."""
    asker = fold_blanks(make_harmless(os.environ.get(REQUESTER_ENV, "")))[:_LONGEST_NAME]
    return f"{asker} (by {_find_user()})" if asker else _find_user()


def _find_user() -> str:
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return f"{user}@{os.uname().nodename}"


def open_journal(config: Config, stop: StopRequest | None = None, *, hurried: bool = False) -> StoredJournal:
    """Return the journal; reading it starts nothing and creates nothing. `hurried`: a lock is waited for briefly."""
    patience_s = HURRIED_S if hurried else _PATIENCE_S
    if config.settings.journal.url_env is not None:
        from backout.wiring.journal_server import open_journal_on_server, open_store

        if not hurried:
            _merge_spooled(config, open_store(config, patience_s))
        return open_journal_on_server(config, stop, patience_s)
    variables = config.variables
    return SqliteJournal(
        config.places.journal,
        SystemClock(),
        stop=stop,
        busy_timeout_s=patience_s,
        mask=variables.mask,
        approvals=None if config.chosen is None else config.environment.approval_rule(),
        delegation=read_delegation(config),
    )


def _merge_spooled(config: Config, store: Store) -> None:
    """Merge what was recorded here while the server was away."""
    if config.places.spool.exists():
        from backout.wiring.journal_spool import merge_spool

        merge_spool(config, store, find_actor())


def open_own_store(config: Config, *, hurried: bool = False) -> Store:
    """Return the journal's tables, on a connection that nothing else of this process uses; `hurried`: as above."""
    patience_s = HURRIED_S if hurried else _PATIENCE_S
    if config.settings.journal.url_env is not None:
        from backout.wiring.journal_server import open_new_store

        return open_new_store(config, patience_s)
    return SqliteStore(config.places.journal, SystemClock().now, mask=config.variables.mask, busy_timeout_s=patience_s)


def open_journals(config: Config, *, hurried: bool = False) -> Callable[[Config], StoredJournal]:
    """Return what opens the journal by the rules of one environment, for many of them on one connection.

    A server has a hundred connections for everybody: what reads all environments does not take one for each.
    """
    store, is_there = open_own_store(config, hurried=hurried), config.settings.journal.url_env is not None
    if is_there and not hurried:
        _merge_spooled(config, store)

    def open_one(chosen: Config) -> StoredJournal:
        return StoredJournal(
            store,
            SystemClock(),
            locks=config.places.journal.parent,
            host=name_this_machine() if is_there else None,
            approvals=chosen.environment.approval_rule(),
            delegation=read_delegation(config),
        )

    return open_one


def describe_journal(config: Config) -> str:
    """Return where the journal is, without secrets: its file, or the variable that names its server."""
    variable = config.settings.journal.url_env
    return str(config.places.journal) if variable is None else f"the Postgres database that {variable} names"


def open_reports(config: Config) -> FileReports:
    """Return the folder of incident reports."""
    places = config.places
    return FileReports(places.reports_path, config.variables.mask_text, places.check_written)


def open_holds(config: Config) -> Holds:
    """Return the kill switch of this host; it needs neither journal nor token."""
    return MaskedHolds(FileHolds(config.places.holds), config.variables.mask_text)
