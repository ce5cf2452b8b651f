"""A commit's deployment on GitHub: found or created, and its statuses."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from backout.model.guard.pipeline import PipelineState

if TYPE_CHECKING:
    from backout.providers.github.client import GitHubClient

MAX_DESCRIPTION = 140


class _Deployment(msgspec.Struct):
    id: int


class _Status(msgspec.Struct):
    state: str = ""


class GitHubDeployment:
    """The deployment of one commit to one environment; it is looked for, or created, when it is first shown.

    Args:
        repository: owner/name.
        log_url: the page of the pipeline's run, "" when there is none.
        url: where the application answers, "" when that is not known.
    """

    def __init__(
        self, client: GitHubClient, repository: str, *, commit: str, environment: str, log_url: str, url: str = ""
    ) -> None:
        self._client = client
        self._path = f"repos/{quote(repository)}/deployments"
        self._commit, self._environment, self._log_url, self._url = commit, environment, log_url, url
        self._id: int | None = None

    def show(self, state: PipelineState, text: str) -> None:
        """Add a status; the text is cut to 140 characters. A success makes the environment's earlier ones inactive.

        Raises:
            AuthError, ProviderRejected, ProviderUnavailable: as the client.
        """
        if self._id is None:
            self._id = self._find_newest() or self._create()
        body = {
            "state": str(state),
            "description": text if len(text) <= MAX_DESCRIPTION else f"{text[: MAX_DESCRIPTION - 1]}…",
            "environment": self._environment,
            "auto_inactive": state is PipelineState.SUCCESS,
        }
        if self._log_url:
            body["log_url"] = self._log_url
        if self._url:
            body["environment_url"] = self._url
        self._client.post(f"{self._path}/{self._id}/statuses", body, _Status, repeatable=True)

    def _find_newest(self) -> int | None:
        """Return the newest deployment of this commit to this environment; a job that names one has made it."""
        query = {"sha": self._commit, "environment": self._environment, "per_page": "1"}
        newest = self._client.get(self._path, tuple[_Deployment, ...], query)
        return newest[0].id if newest else None

    def _create(self) -> int:
        body = {
            "ref": self._commit,
            "environment": self._environment,
            "description": "watched by backout",
            # Nothing is merged and no check is waited for: what is shown here is live already.
            "auto_merge": False,
            "required_contexts": [],
        }
        return self._client.post(self._path, body, _Deployment).id
