"""What a complete recovery works with, from a configuration: the application, its fenced database, and its bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import AuthError
from backout.runbook.recover.tools import RecoverTools

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from backout.config import Config
    from backout.journal.stop import StopRequest
    from backout.model.objects.progress import ObjectProgress
    from backout.ports import CommitCheck, Fence
    from backout.runbook.objects.tools import ObjectTools
    from backout.runbook.recovery.tools import RestoreTools
    from backout.runbook.toolbox import Toolbox


def make_recover_tools(
    config: Config,
    tools: Toolbox,
    parts: Collection[str],
    stop: StopRequest | None = None,
    progress: Callable[[ObjectProgress], None] = lambda _progress: None,
) -> RecoverTools:
    """Return the tools of a recovery; a part that is not set up, or not asked for, is left out.

    Args:
        parts: those that are asked for, () for all.

    Raises:
        AuthError: a key or connection string of one that is set up is missing.
        UsageError: no Postgres programs.
    """
    environment = config.environment
    restoring: RestoreTools | None = None
    fence: Fence | None = None
    objects: ObjectTools | None = None
    commits: CommitCheck | None = None
    opened = tools.recovery.restoring
    if opened is not None and (not parts or "database" in parts):
        restoring = opened()
        fence = tools.recovery.fence() if tools.recovery.fence is not None else None
        commits = _find_commit_check(config)
    if environment.storage is not None and (not parts or "objects" in parts):
        from backout.wiring.objects import make_object_tools

        objects = make_object_tools(config, stop, progress)
    return RecoverTools(tools, restoring, fence, objects, commits)


def _find_commit_check(config: Config) -> CommitCheck | None:
    """Return what writes as the application's role, None where its connection string is not set here."""
    from backout.providers.postgres.fence.commit_check import PostgresCommitCheck

    database = config.environment.database
    try:
        url = config.database_url()
    except AuthError:
        return None
    timeout_s = float(database.connect_timeout) if database is not None else 5.0
    return PostgresCommitCheck(url.reveal, connect_timeout_s=timeout_s)
