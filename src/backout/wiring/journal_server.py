"""The journal on a Postgres server, and that it is none that a restore replaces."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from typing import TYPE_CHECKING, Final

from msgspec import structs

from backout.errors import BackoutError, Refused, UsageError
from backout.journal.lease import name_this_machine
from backout.journal.look_server import look_at_server
from backout.journal.move import look, move, read_identity
from backout.journal.postgres_store import PostgresStore
from backout.journal.sqlite_store import SqliteStore
from backout.journal.stored import StoredJournal
from backout.model.setting import describe_setting
from backout.providers.clock import SystemClock
from backout.providers.postgres.server.identity import read_server
from backout.providers.postgres.server.journal_link import PostgresLink
from backout.wiring.delegation import read_delegation
from backout.wiring.hooks import HURRIED_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backout.config import Config
    from backout.journal.move import Move
    from backout.journal.stop import StopRequest
    from backout.model.checkup import JournalLook
    from backout.providers.postgres.server.identity import ServerIdentity

_CONNECT_S: Final = 3.0


def look_at_journal_there(config: Config) -> JournalLook:
    """Return the state of the journal on its server; a lock is waited for briefly."""
    with closing(open_new_store(config, HURRIED_S)) as store:
        return look_at_server(store)


def open_journal_on_server(config: Config, stop: StopRequest | None, patience_s: float) -> StoredJournal:
    """Return the journal on the server that the configuration names."""
    store = open_store(config, patience_s)
    return StoredJournal(
        store,
        SystemClock(),
        locks=config.places.journal.parent,
        stop=stop,
        host=name_this_machine(),
        approvals=None if config.chosen is None else config.environment.approval_rule(),
        delegation=read_delegation(config),
    )


def open_store(config: Config, patience_s: float) -> PostgresStore:
    """Return the journal's tables; a process has one connection for each patience."""
    name = f"journal {patience_s}"
    store = config.kept.get(name)
    if not isinstance(store, PostgresStore):
        store = config.kept[name] = open_new_store(config, patience_s)
    return store


def open_new_store(config: Config, patience_s: float) -> PostgresStore:
    """Return the journal's tables, on a connection of their own."""
    link = PostgresLink(
        lambda: read_journal_url(config), patience_s=patience_s, connect_timeout_s=min(_CONNECT_S, patience_s)
    )
    return PostgresStore(
        link, mask=config.variables.mask, before_making=lambda: _refuse_to_begin(config), patience_s=patience_s
    )


def _refuse_to_begin(config: Config) -> None:
    """Refuse to begin a journal on the server: where a restore replaces it, or while there is one in the file."""
    refuse_restored(config)
    path = config.places.journal
    with closing(SqliteStore(path, SystemClock().now, even_moved=True)) as file:
        if not file.is_closed() and read_identity(file):
            raise Refused(
                "there is a journal in the file, and none on the server",
                where=str(path),
                hint="backout journal move",
                options=("Without its past: put the file away (mv), then type the same command again.",),
            )


def read_journal_url(config: Config) -> str:
    """Return the connection string of the journal's server. Raises AuthError: it is not set on this machine."""
    variable = config.settings.journal.url_env
    found = config.variables.require_secret(
        variable, None, what="the journal's connection string", where="journal.url_env"
    )
    return found.reveal()


def make_move(config: Config, variable: str | None) -> Callable[[Callable[[int, int], None] | None], Move]:
    """Return what moves the journal of the file to a server: with a listener it does, with None it only looks.

    Args:
        variable: holds the server's connection string; None: the one that the configuration names.

    Raises:
        UsageError: neither names one.
    """
    to = variable or config.settings.journal.url_env
    if to is None:
        raise UsageError(
            "no server is named",
            where="journal.url_env",
            hint=describe_setting("journal", url_env="BACKOUT_JOURNAL_URL"),
        )
    named = dataclasses.replace(
        config, settings=structs.replace(config.settings, journal=structs.replace(config.settings.journal, url_env=to))
    )
    source = SqliteStore(config.places.journal, SystemClock().now, even_moved=True)
    target = PostgresStore(
        PostgresLink(lambda: read_journal_url(named)),
        mover=read_identity(source),
        before_making=lambda: refuse_restored(named),
    )

    def run(tell: Callable[[int, int], None] | None) -> Move:
        with closing(source), closing(target):
            return look(source, target) if tell is None else move(source, target, tell)

    return run


def find_shared(config: Config) -> Iterator[tuple[str, bool | None]]:
    """Yield each environment that has a Postgres, with whether its database is on the journal's server.

    None: one of the two does not answer, and no pinned identity says it.
    """
    own = _ask_server(lambda: read_journal_url(config))
    for name, settings in config.settings.environments.items():
        if settings.database is None or settings.database.provider != "postgres":
            continue
        one = dataclasses.replace(config, chosen=name)
        theirs = None if own is None else _ask_server(lambda one=one: one.database_admin_url().reveal())  # type: ignore[misc]
        pinned = (settings.pin.database_system_identifier or "").partition("/")[0]
        if own is not None and theirs is not None:
            yield name, own.is_same(theirs)
        elif own is not None and own.identifier and pinned:
            yield name, own.identifier == pinned
        else:
            yield name, None


def refuse_restored(config: Config) -> None:
    """Raise Refused when a database that backout may restore is seen to be on the journal's server."""
    if config.settings.journal.url_env is None:
        return
    shared = next((name for name, is_shared in find_shared(config) if is_shared), None)
    if shared is not None:
        raise Refused(
            f"the journal is on the server of the database of {shared}: a restore of that would take the journal back"
            " with it, and its outage would be the journal's",
            where="journal.url_env",
            hint="let it name a database on another server",
        )


def _ask_server(url: Callable[[], str]) -> ServerIdentity | None:
    try:
        return read_server(url(), connect_timeout_s=_CONNECT_S)
    except BackoutError:  # this machine does not have it
        return None
