"""Whether a trial runs in an environment, or has left something there; nothing is changed by asking."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from backout.analysis.certify.traces import find_trial
from backout.errors import BackoutError
from backout.model.value import Value
from backout.providers.cloudflare.deployments import CloudflareDeployments
from backout.runbook.incident.drills import find_left_broken
from backout.wiring.platform import make_reader
from backout.wiring.records import open_journal

if TYPE_CHECKING:
    from backout.config import Config
    from backout.runbook.incident.drills import LeftBroken


class TrialLook(Value, frozen=True):
    """What a look for a trial found.

    Args:
        runs: a trial holds the lock on the database.
        is_left: a trial's code or its database is in place of the environment's own.
        unread: why the database's server did not tell; "" where it did, or where none has trials (they need Postgres).
        broken: what a drill broke there on purpose that is still live, as far as this journal has the drill.
    """

    runs: bool
    is_left: bool
    unread: str
    broken: LeftBroken | None


def look_for_trial(config: Config, *, within_s: float) -> TrialLook:
    """Look whether a trial runs there, or has left something.

    Raises:
        AuthError, ProviderUnavailable, ProviderRejected: the platform does not tell what is live.
    """
    runs, is_left, unread = False, False, ""
    database = config.environment.database
    if database is not None and database.provider == "postgres":
        from backout.providers.postgres.certify.aside import SetAside
        from backout.wiring.certify.borders import find_database

        try:
            aside = SetAside(*find_database(config))
            runs, is_left = aside.is_running(), aside.is_left()
        except BackoutError as error:
            unread = error.what
    script = config.environment.platform.script
    history = CloudflareDeployments(make_reader(config, within_s), config.account_id, script).history()
    broken = None
    with suppress(BackoutError):  # a journal that cannot be read is told by its own check
        broken = find_left_broken(open_journal(config, hurried=True), config.name, history)
    return TrialLook(runs, is_left or find_trial(history) is not None, unread, broken)
