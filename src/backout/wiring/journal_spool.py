"""The journal while its server is away: a person's own commands record in a file, which is merged when it is back."""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING, cast

from backout.errors import Busy
from backout.journal.lease import make_own_holder, name_this_machine
from backout.journal.rows import JournalUnavailable
from backout.journal.spool import Merged, merge, put_aside
from backout.journal.sqlite_store import SqliteStore
from backout.journal.stored import StoredJournal
from backout.providers.clock import SystemClock
from backout.runbook.incident.no_journal import SpooledJournal, read_last_card
from backout.wiring.hooks import HURRIED_S

if TYPE_CHECKING:
    from backout.config import Config
    from backout.journal.stop import StopRequest
    from backout.journal.store import Store
    from backout.wiring.hooks import Hooks


def replace_if_away(config: Config, book: StoredJournal, hooks: Hooks) -> StoredJournal:
    """Return the journal, or when its server is away a file in its place.

    What is known then is what the provider tells, and what the last card says.
    """
    try:
        book.runs(config.name)
    except JournalUnavailable as error:
        if not error.is_away:
            return book  # whoever uses it says so
        hooks.say(f"{error.what}: recorded in {config.places.spool} for now, and merged when the server is back")
        card = read_last_card(config.places.find_card())
        return cast("StoredJournal", SpooledJournal(open_spool(config, hooks.stop), card))
    return book


def open_spool(config: Config, stop: StopRequest | None = None) -> StoredJournal:
    """Return the file for the time in which the server is away; its locks are its own, as a watch may hold the others'.

    A person's command does not wait for a watch that can neither record nor act.
    """
    path, clock = config.places.spool, SystemClock()
    with closing(SqliteStore(path, clock.now, even_moved=True)) as last:
        is_merged = last.is_closed()
    if is_merged:  # and a crash came before it was put aside
        put_aside(path, clock.now())
    store = SqliteStore(path, clock.now, busy_timeout_s=HURRIED_S, mask=config.variables.mask)
    approvals = None if config.chosen is None else config.environment.approval_rule()
    return StoredJournal(store, clock, locks=path.parent / "spool", stop=stop, approvals=approvals)


def merge_spool(config: Config, target: Store, actor: str) -> None:
    """Merge what was recorded while the server was away, if it can be merged now.

    Otherwise the next command tries again, and whoever needs the journal says what is wrong with it.
    """
    with suppress(Busy, JournalUnavailable):
        merge_now(config, target, actor)


def merge_now(config: Config, target: Store, actor: str) -> Merged:
    """Merge what was recorded while the server was away.

    Raises:
        Busy: a run is under way, here or there.
        JournalUnavailable: the file or the server cannot be used.
    """
    path, clock = config.places.spool, SystemClock()
    with closing(SqliteStore(path, clock.now, even_moved=True)) as spool:
        found = merge(spool, target, make_own_holder(name_this_machine()), actor=actor)
    put_aside(path, clock.now())
    return found
