"""What a Worker's settings say of its logs: whether every invocation is kept.

Source: cloudflare-typescript, `workers.beta.workers.get` (2026): `GET workers/workers/{name or id}` with
`observability.enabled`, `head_sampling_rate` (1 where absent) and the same of its `logs`, with `invocation_logs`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from backout.providers.cloudflare.permissions import READ_SCRIPTS
from backout.providers.exchange import quote_segment

if TYPE_CHECKING:
    from backout.providers.cloudflare.client import ApiClient


class _Logs(msgspec.Struct, frozen=True):
    enabled: bool = True
    head_sampling_rate: float | None = None
    invocation_logs: bool = True


class _Observability(msgspec.Struct, frozen=True):
    enabled: bool = False
    head_sampling_rate: float | None = None
    logs: _Logs = _Logs()


class _Worker(msgspec.Struct):
    observability: _Observability = _Observability()


def read_head_sampling(client: ApiClient, account_id: str, script: str) -> float:
    """Return the share of invocations that Workers Logs keep, 0 where they are off.

    Raises:
        ProviderUnavailable: no usable answer.
        AuthError, ProviderRejected: the question is refused.
    """
    path = f"accounts/{quote_segment(account_id)}/workers/workers/{quote_segment(script)}"
    kept = client.get(path, _Worker, permission=READ_SCRIPTS).observability
    if not (kept.enabled and kept.logs.enabled and kept.logs.invocation_logs):
        return 0.0
    rates = (kept.logs.head_sampling_rate, kept.head_sampling_rate, 1.0)
    return next(rate for rate in rates if rate is not None)
