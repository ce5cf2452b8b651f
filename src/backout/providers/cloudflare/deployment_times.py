"""Port DeploymentTimes on Cloudflare: one list of the account's Workers, the one that was deployed last first.

Source: OpenAPI description, "List Workers" (beta; cloudflare 5.9.0, 2026-10): `GET workers/workers` with `order_by`
(deployed_on among others), `order`, `page`, `per_page`; each Worker has a `name` and `deployed_on`, the time at which
its newest deployment was created, null before the first. Guesses: that `per_page` may be 100, and that a deployment is
in the list as soon as it is in that of its own Worker.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import msgspec

from backout.errors import ProviderUnavailable
from backout.providers.clock import parse_unix_s
from backout.providers.cloudflare.permissions import READ_SCRIPTS
from backout.providers.exchange import quote_segment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.providers.cloudflare.client import ApiClient

_PER_PAGE: Final = 100
_PER_LOOK: Final = 20
"""Most looks find no news, so the first page of those behind the first look is a short one."""
_MAX_PAGES: Final = 50
_FIRST_CALLS: Final = 5
"""What the first look may need: the calls of some hundred Workers."""


class _Worker(msgspec.Struct):
    name: str = ""
    deployed_on: str | None = None


class CloudflareDeploymentTimes:
    """Port DeploymentTimes of one account. The first look reads every page, the others as far as there is news."""

    def __init__(self, client: ApiClient, account_id: str) -> None:
        self._client = client
        self._path = f"accounts/{quote_segment(account_id)}/workers/workers"
        self._known: dict[str, float] = {}

    def read(self) -> Mapping[str, float]:
        """Return the times.

        Raises:
            AuthError, ProviderRejected: the list is refused.
            ProviderUnavailable: no usable answer, or no Worker in it has a time.
        """
        calls = 1 if self._known else _FIRST_CALLS
        with self._client.hold(calls, first=True):
            found = self._read_pages(max(self._known.values(), default=None))
        self._known |= found
        return dict(self._known)

    def _read_pages(self, newest: float | None) -> dict[str, float]:
        """Return the times of all Workers, or of those on the pages with deployments since the newest one known."""
        found: dict[str, float] = {}
        seen: set[str] = set()
        short = () if newest is None else ((1, _PER_LOOK),)
        for page, size in (*short, *((number, _PER_PAGE) for number in range(1, _MAX_PAGES + 1))):
            workers = self._read_page(page, size)
            times = {each.name: parse_unix_s(each.deployed_on) for each in workers if each.deployed_on}
            names = {each.name for each in workers}
            if workers and not times and not found:
                raise ProviderUnavailable("the list of Workers does not say when they were deployed", where=self._path)
            found |= times
            is_sorted = all(one >= other for one, other in pairwise(times.values()))
            is_known = newest is not None and is_sorted and min(times.values(), default=0.0) < newest
            if is_known or not workers or names <= seen:  # a page beyond the end may be the last one again
                break
            seen |= names
        return found

    def _read_page(self, page: int, size: int) -> tuple[_Worker, ...]:
        query = {"order_by": "deployed_on", "order": "desc", "per_page": str(size), "page": str(page)}
        return self._client.get(self._path, tuple[_Worker, ...], permission=READ_SCRIPTS, query=query)
