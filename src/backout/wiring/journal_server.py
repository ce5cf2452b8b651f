"""The journal on a Postgres server, and that it is none that a restore replaces."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError, Refused
from backout.journal.lease import name_this_machine
from backout.journal.postgres_store import PostgresStore
from backout.journal.stored import StoredJournal
from backout.providers.clock import SystemClock
from backout.providers.postgres.server.identity import read_server
from backout.providers.postgres.server.journal_link import PostgresLink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backout.config import Config
    from backout.journal.stop import StopRequest
    from backout.providers.postgres.server.identity import ServerIdentity

_CONNECT_S: Final = 3.0


def open_journal_on_server(config: Config, stop: StopRequest | None, patience_s: float) -> StoredJournal:
    """Return the journal on the server of `journal.url_env`; a process has one connection for each patience."""
    name = f"journal {patience_s}"
    store = config.kept.get(name)
    if not isinstance(store, PostgresStore):
        link = PostgresLink(
            lambda: read_journal_url(config), patience_s=patience_s, connect_timeout_s=min(_CONNECT_S, patience_s)
        )
        store = PostgresStore(link, mask=config.variables.mask, before_making=lambda: refuse_restored(config))
        config.kept[name] = store
    return StoredJournal(store, SystemClock(), locks=config.places.journal.parent, stop=stop, host=name_this_machine())


def read_journal_url(config: Config) -> str:
    """Return the connection string of the journal's server. Raises AuthError: it is not set on this machine."""
    variable = config.settings.journal.url_env
    found = config.variables.require_secret(
        variable, None, what="the journal's connection string", where="journal.url_env"
    )
    return found.reveal()


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
