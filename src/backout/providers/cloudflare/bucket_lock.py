"""The lock rules of an R2 bucket, which its S3 API does not tell.

Source, read 2026-12-01: the API reference of R2, `GET r2/buckets/{name}/lock`: rules with a prefix, each for some
seconds, up to a date, or for ever.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import msgspec

from backout.model.objects.checks import HistoryLock
from backout.providers.cloudflare.permissions import READ_BUCKETS
from backout.providers.exchange import quote_segment

if TYPE_CHECKING:
    from backout.providers.cloudflare.client import ApiClient


class _Condition(msgspec.Struct, rename="camel"):
    type: str = ""
    max_age_seconds: float | None = None


class _Rule(msgspec.Struct):
    enabled: bool = False
    prefix: str | None = None
    condition: _Condition = msgspec.field(default_factory=_Condition)


class _Lock(msgspec.Struct):
    rules: tuple[_Rule, ...] | None = ()


def read_r2_lock(client: ApiClient, account_id: str, bucket: str, root: str) -> HistoryLock:
    """Return for how long R2 lets nobody remove what lies below a key; a rule up to a date counts for none.

    Raises:
        AuthError, ProviderRejected, ProviderUnavailable: the token may not ask, or nothing answers.
    """
    path = f"accounts/{quote_segment(account_id)}/r2/buckets/{quote_segment(bucket)}/lock"
    rules = client.get(path, _Lock, permission=READ_BUCKETS).rules or ()
    ours = [each.condition for each in rules if each.enabled and root.startswith(each.prefix or "")]
    kept = [inf if each.type == "Indefinite" else each.max_age_seconds or 0.0 for each in ours if each.type != "Date"]
    return HistoryLock(is_locked=bool(kept), for_s=max(kept, default=None))
