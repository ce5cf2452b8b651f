"""The fields of Caddy's access log in JSON, with those that backout's route adds.

Source: Caddy documentation (2.11), "Log"; tried on Caddy 2.11.7. A line is written when its answer has ended; its
`duration` is in seconds, its `size` the bytes of the body.
"""

from __future__ import annotations

from typing import Final

from backout.providers.caddy.route import LOGGED_ADDRESS, LOGGED_PROBE
from backout.providers.logs.request import Fields

FIELDS: Final = Fields(
    time="ts",
    version=LOGGED_ADDRESS,
    status="status",
    latency="duration",
    latency_ms=1000.0,
    route="request.uri",
    method="request.method",
    bytes="size",
    content_type="resp_headers.Content-Type",
    probes=(LOGGED_PROBE, "request.headers.X-Backout-Probe"),
)
