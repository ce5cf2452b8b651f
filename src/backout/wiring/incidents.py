"""What incidents are kept and read with, from a configuration; nothing of it asks the platform or needs its token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import BackoutError, OutboxUnavailable
from backout.providers.clock import SystemClock
from backout.runbook.incident.case import Desk
from backout.wiring.helps import list_helps, make_commit_url, make_vendors
from backout.wiring.records import find_actor, open_journal, open_reports
from backout.wiring.telling import make_notifier, open_outbox

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from backout.config import Config
    from backout.model.incident.notice import QueuedNotice

_MOST = 2_000
"""Notices of one environment that are looked through for those about an incident."""


def make_desk(config: Config) -> Desk:
    """Return the desk of the chosen environment."""
    book = open_journal(config)

    def list_queued() -> tuple[QueuedNotice, ...]:
        try:
            return open_outbox(config).list_queued(config.name, _MOST)
        except OutboxUnavailable as error:
            raise BackoutError(str(error)) from error

    return Desk(
        environment=config.name,
        actor=find_actor(),
        clock=SystemClock(),
        journal=book,
        runs=book,
        counts=book,
        checkpoints=book,
        reports=open_reports(config),
        protected=config.protected,
        critical_from=config.settings.incidents.critical_from,
        list_queued=list_queued,
        notifier=make_notifier(config),
        vendors=make_vendors(config),
        helps=list_helps(config),
        commit_url=make_commit_url(config),
        redact=config.variables.mask_text,
    )


def commit_report(files: Sequence[Path], message: str) -> str:
    """Commit the files of a report and return the commit's hash, "" where they are as they are. Raises BackoutError."""
    from backout.providers.git.reports import commit_files

    return commit_files(files[0].parent, files, message)


def make_commit_clock(config: Config) -> Callable[[str], float | None]:
    """Return what tells when a commit of the working copy was made (Unix seconds), None where git does not know it."""
    from backout.providers.git.checkout import GitCheckout

    return GitCheckout(config.path.parent).find_commit_time
