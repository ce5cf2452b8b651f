"""Issues of a repository: found again by a mark in their text, or created.

Source: REST API of GitHub, version 2022-11-28: list repository issues (`state`, `since` by the last update, `sort`,
`direction`, pages of at most 100; pull requests are among them, with a key `pull_request`), create an issue (`title`,
`body`; 201 with `html_url`, 410 where the repository has no issues). The token needs `issues: write`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import msgspec

from backout.errors import ProviderRejected
from backout.model.clock import to_utc

if TYPE_CHECKING:
    from backout.providers.github.client import GitHubClient

PERMISSION: Final = "issues: write"
_PAGE: Final = re.compile(r"https?://[A-Za-z0-9._~:/%#-]+")
LONGEST_TITLE, LONGEST_BODY = 256, 60_000
_PER_PAGE, _MOST_PAGES = 100, 10


class _Issue(msgspec.Struct):
    html_url: str
    body: str | None = None
    pull_request: object = None


class GitHubIssues:
    """Port Issues of one repository. Args: repository: owner/name."""

    def __init__(self, client: GitHubClient, repository: str) -> None:
        self._client = client
        self._path = f"repos/{quote(repository)}/issues"

    def find(self, mark: str, since: float) -> str | None:
        """Return the page of the oldest issue with a mark in its text that was changed since then; errors as `create`.

        The newest thousand are looked through.
        """
        found: str | None = None
        changed = to_utc(since).strftime("%Y-%m-%dT%H:%M:%SZ")
        query = {"state": "all", "since": changed, "sort": "created", "direction": "desc", "per_page": str(_PER_PAGE)}
        for page in range(1, _MOST_PAGES + 1):
            listed = self._client.get(
                self._path, tuple[_Issue, ...], {**query, "page": str(page)}, permission=PERMISSION
            )
            for issue in listed:
                if mark in (issue.body or "") and issue.pull_request is None:
                    found = _check_page(issue.html_url)
            if len(listed) < _PER_PAGE:
                break
        return found

    def create(self, title: str, body: str) -> str:
        """Create an issue and return its page.

        Raises:
            AuthError, ProviderRejected, ProviderUnavailable: as the client; after the last it may be there.
        """
        content = {"title": title[:LONGEST_TITLE], "body": body[:LONGEST_BODY]}
        return _check_page(self._client.post(self._path, content, _Issue, permission=PERMISSION).html_url)


def _check_page(url: str) -> str:
    """Return the page of an issue. Raises ProviderRejected: it is no address that can stand in a page of ours."""
    if not _PAGE.fullmatch(url):
        raise ProviderRejected("the answer names no page of the issue", status=200)
    return url
