"""Whether a trial runs in an environment, or has left something there; nothing is changed by asking."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from backout.analysis.certify.traces import find_trial
from backout.errors import BackoutError
from backout.providers.cloudflare.deployments import CloudflareDeployments
from backout.runbook.incident.drills import find_left_broken
from backout.wiring.platform import make_reader
from backout.wiring.records import open_journal

if TYPE_CHECKING:
    from backout.config import Config
    from backout.runbook.incident.drills import LeftBroken


def look_for_trial(config: Config, *, within_s: float) -> tuple[bool, bool, LeftBroken | None]:
    """Return whether a trial runs there, whether its code or its database is in place of the environment's own.

    And what a drill broke there on purpose that is still live, as far as this journal has the drill.

    A database that does not tell (a role that may not connect to `postgres`) has had no trial by this role either.

    Raises:
        AuthError, ProviderUnavailable, ProviderRejected: the platform does not tell what is live.
    """
    runs = is_left = False
    with suppress(BackoutError):
        from backout.providers.postgres.certify.aside import SetAside
        from backout.wiring.certify.borders import find_database

        aside = SetAside(*find_database(config))
        runs, is_left = aside.is_running(), aside.is_left()
    script = config.environment.platform.script
    history = CloudflareDeployments(make_reader(config, within_s), config.account_id, script).history()
    broken = None
    with suppress(BackoutError):  # a journal that cannot be read is told by its own check
        broken = find_left_broken(open_journal(config, hurried=True), config.name, history)
    return runs, is_left or find_trial(history) is not None, broken
