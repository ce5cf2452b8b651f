"""The permissions of API tokens that the calls need: one table, for errors, `backout init`, `doctor` and the docs.

Sources, read 2026-12-01: `x-api-token-group` of the OpenAPI (api-schemas), "Accepted Permissions" of the API reference,
"API token permissions" and "API token templates" of the documentation, "Builds API reference". The names are those of
the API; the dashboard says Edit for Write. That *Workers Observability Read* is enough for a query has been reported,
and is not documented.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.model.token import Permission, TokenRole

if TYPE_CHECKING:
    from collections.abc import Mapping

READ_SCRIPTS: Final = "Workers Scripts Read"
WRITE_SCRIPTS: Final = "Workers Scripts Write"
QUERY_TELEMETRY: Final = "Workers Observability Write"
READ_ANALYTICS: Final = "Account Analytics Read"
READ_TAIL: Final = "Workers Tail Read"
READ_D1: Final = "D1 Read"
READ_BUCKETS: Final = "Workers R2 Storage Read"
WRITE_BUCKETS: Final = "Workers R2 Storage Write"
READ_ROUTES: Final = "Workers Routes Read"
READ_QUEUES: Final = "Queues Read"
WRITE_QUEUES: Final = "Queues Write"
READ_HYPERDRIVE: Final = "Hyperdrive Read"
WRITE_HYPERDRIVE: Final = "Hyperdrive Write"
READ_CONTAINERS: Final = "Workers Containers Read"
READ_BUILDS: Final = "Workers CI Read"
READ_TOKENS: Final = "API Tokens Read"
TEMPLATE: Final = "Edit Cloudflare Workers"
"""The dashboard's template for tokens of wrangler."""

TABLE: Final[Mapping[str, Permission]] = {
    "read": Permission(
        READ_SCRIPTS,
        "what is live, versions, code, the names of secrets, schedules, domains, Durable Objects, Workflows",
        also=(WRITE_SCRIPTS,),
        vital=True,
        templated=True,
    ),
    "act": Permission(
        WRITE_SCRIPTS,
        "rollbacks, ramps, proofs at 0 %, marks that other machines see",
        role=TokenRole.ROLLBACK,
        vital=True,
        templated=True,
    ),
    "secrets": Permission(
        WRITE_SCRIPTS, "`backout secrets push` and `put`", role=TokenRole.SECRETS, vital=True, templated=True
    ),
    "telemetry": Permission(QUERY_TELEMETRY, '`traffic.provider = "telemetry"`: the counts of Workers Logs'),
    "analytics": Permission(READ_ANALYTICS, '`traffic.provider = "analytics"`: the counts of GraphQL'),
    "tail": Permission(
        READ_TAIL, '`traffic.provider = "tail"`: the events of a tail', also=(WRITE_SCRIPTS,), templated=True
    ),
    "d1": Permission(READ_D1, "the migrations of a D1 database", also=("D1 Write",)),
    "r2": Permission(
        READ_BUCKETS, "whether an R2 bucket that is pinned is there", also=("Workers R2 Storage Write",), templated=True
    ),
    "routes": Permission(
        READ_ROUTES,
        "routes, in plans",
        role=TokenRole.ROLLBACK,
        also=("Workers Routes Write",),
        kind="Zone",
        templated=True,
        optional=True,
    ),
    "queues": Permission(
        READ_QUEUES,
        "queue consumers, in plans",
        role=TokenRole.ROLLBACK,
        also=("Queues Write", READ_SCRIPTS, WRITE_SCRIPTS),
        templated=True,
        optional=True,
    ),
    "pause": Permission(
        WRITE_QUEUES,
        "`backout recover` pauses the queues that are consumed",
        role=TokenRole.ROLLBACK,
        also=(WRITE_SCRIPTS,),
        templated=True,
        optional=True,
    ),
    "caches": Permission(
        READ_HYPERDRIVE,
        "the caching of Hyperdrive, in plans",
        role=TokenRole.ROLLBACK,
        also=(WRITE_HYPERDRIVE,),
        optional=True,
    ),
    "stop caches": Permission(
        WRITE_HYPERDRIVE,
        "`backout recover` turns the caching of Hyperdrive off and on",
        role=TokenRole.ROLLBACK,
        optional=True,
    ),
    "containers": Permission(
        READ_CONTAINERS,
        "Containers, in plans",
        also=("Workers Containers Write",),
        optional=True,
    ),
    "builds": Permission(
        READ_BUILDS,
        "Workers Builds, in plans; only a user's token may",
        also=("Workers CI Write",),
        label="Workers Builds Configuration",
        optional=True,
    ),
    "itself": Permission(
        READ_TOKENS,
        "`backout doctor` shows what the token may do",
        also=("API Tokens Write", "Account API Tokens Read", "Account API Tokens Write"),
        kind="User",
        optional=True,
    ),
}
"""By what each is needed for."""
