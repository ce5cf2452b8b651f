"""What incidents are kept and read with, from a configuration; nothing of it asks the platform or needs its token."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from backout.errors import BackoutError, OutboxUnavailable, UsageError
from backout.model.setting import describe_setting
from backout.providers.clock import SystemClock
from backout.runbook.incident.case import IncidentRecords
from backout.wiring.helps import list_helps, make_commit_url, make_vendors
from backout.wiring.records import find_actor, open_journal, open_reports
from backout.wiring.telling import make_notifier, open_outbox

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.config import Config
    from backout.model.incident.notice import QueuedNotice
    from backout.ports import Issues, Traffic

_APART = frozenset({"twin", "recorder", "prometheus", "logs", "caddy"})
_MOST = 2_000
"""Notices of one environment that are looked through for those about an incident."""


def make_incident_records(config: Config) -> IncidentRecords:
    """Return the records of the chosen environment."""
    book = open_journal(config)

    def list_queued() -> tuple[QueuedNotice, ...]:
        try:
            return open_outbox(config).list_queued(config.name, _MOST)
        except OutboxUnavailable as error:
            raise BackoutError(str(error)) from error

    return IncidentRecords(
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
        open_traffic=lambda: _open_traffic(config),
    )


def _open_traffic(config: Config) -> Traffic | None:
    """Return the source of counts where it is no part of the platform, see `IncidentRecords`."""
    if config.environment.traffic.provider not in _APART:
        return None
    from backout.wiring.traffic import make_traffic

    return make_traffic(config, None, SystemClock(), lambda _text: None, history=tuple)


def commit_report(files: Sequence[Path], message: str) -> str:
    """Commit the files of a report and return the commit's hash, "" where they are as they are. Raises BackoutError."""
    from backout.providers.git.reports import commit_files

    return commit_files(files[0].parent, files, message)


def make_commit_clock(config: Config) -> Callable[[str], float | None]:
    """Return what tells when a commit of the working copy was made (Unix seconds), None where git does not know it."""
    from backout.providers.git.checkout import GitCheckout

    return GitCheckout(config.path.parent).find_commit_time


def make_issues(config: Config) -> Issues:
    """Return the issues of the repository of `ci`; its token is read at the first call. Raises UsageError: none set."""
    ci = config.environment.ci
    if ci is None:
        raise UsageError(
            "no repository is set up for issues",
            where=f"environment {config.name}",
            hint=describe_setting("environments", config.name, "ci", provider="github", repository="OWNER/NAME"),
        )
    from backout.config.init.workflow import API_BASE_URL as GITHUB_URL
    from backout.config.init.workflow import get_pipeline_token
    from backout.providers.github.client import GitHubClient
    from backout.providers.github.issues import GitHubIssues

    url = str(ci.api_base_url or config.variables.get("GITHUB_API_URL") or GITHUB_URL)
    client = GitHubClient(url, lambda: get_pipeline_token(config.variables, ci).reveal())
    return GitHubIssues(client, ci.repository)


def make_report_url(config: Config, report: str) -> str:
    """Return the page of a report that is committed below the configuration's folder, "" where it can have none."""
    commit, path, root = make_commit_url(config), Path(report), config.path.parent.absolute()
    if not commit or not path.is_relative_to(root):
        return ""
    return f"{commit.rpartition('/commit/')[0]}/blob/HEAD/{quote(path.relative_to(root).as_posix())}"
