"""Where a trial in staging may take place at all: never in production, nor on anything that production has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit, urlunsplit

from backout.decoding import decode_json
from backout.errors import Refused, UsageError
from backout.model.setting import describe_setting
from backout.providers.postgres.tls.dsn import make_libpq_url
from backout.rules import SafetyRule
from backout.runbook.safety.identity import check_identity
from backout.wiring.db.database import make_database_identity
from backout.wiring.platform import LateBundles, make_reader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.config import Config
    from backout.ports import HealthCheck

_WITHIN_S: Final = 30.0
_STORES: Final = {
    "d1": ("id", "database_id"),
    "durable_object_namespace": ("namespace_id",),
    "hyperdrive": ("id",),
    "kv_namespace": ("namespace_id",),
    "queue": ("queue_name",),
    "r2_bucket": ("bucket_name",),
    "service": ("service",),
    "vectorize": ("index_name",),
    "workflow": ("workflow_name",),
}
"""What keeps or forwards something, and by what it is known."""
_WORKERS: Final = {
    "durable_object_namespace": "script_name",
    "service": "service",
    "workflow": "script_name",
}
"""What another Worker does, and where that one is named; without a name it is the Worker itself."""


def check_staging(config: Config, others: Sequence[Config]) -> HealthCheck:
    """Return the health endpoint of an environment in which a trial may take place.

    Args:
        others: those that are protected, and the one that the certificate is for.

    Raises:
        Refused: it is not what is pinned, or on the same database server as one of the others.
        UsageError: something that a trial needs is not configured.
        AuthError: a token or a connection string is not set.
    """
    from backout.providers.clock import SystemClock
    from backout.wiring.health import make_health_check
    from backout.wiring.toolbox import make_toolbox

    environment, here = config.environment, f"{config.path.name}: environments.{config.name}"
    if not environment.platform.is_cloudflare:
        raise UsageError("a trial in staging needs Workers", where=here, hint="on a twin: backout certify -e ENV")
    if environment.database is None or environment.database.provider != "postgres":
        what = describe_setting("environments", config.name, "database", provider="postgres", url_env="DATABASE_URL")
        raise UsageError("a trial needs Postgres", where=here, hint=what)
    health = make_health_check(config, SystemClock())
    if health is None:
        what = describe_setting("environments", config.name, "health", url="https://staging.example.com/health")
        raise UsageError("requests go to the host of the health endpoint, and none is set", where=here, hint=what)
    check_identity(make_toolbox(config))
    _check_database(config, others)
    return health


def _check_database(config: Config, others: Sequence[Config]) -> None:
    mine = _find_server(config)
    if mine is None:
        raise Refused(
            "its database does not tell which one it is, so it could be another environment's",
            where=config.name,
            rule=SafetyRule.IDENTITY,
            hint=f"backout config check --online -e {config.name}",
        )
    for other in others:
        database = other.environment.database
        if database is None or database.provider != "postgres":
            continue
        theirs = (other.environment.pin.database_system_identifier or "").partition("/")[0] or _find_server(other)
        if theirs is None:
            raise Refused(
                f"whether its database is that of {other.name} is not known: that one is not pinned, and does not tell",
                where=config.name,
                rule=SafetyRule.IDENTITY,
                hint=f"backout init --pin -e {other.name}",
            )
        if theirs == mine:
            raise Refused(
                f"its database is on the server of {other.name} (system identifier {mine}): databases are renamed in a "
                "trial, and sessions ended",
                where=config.name,
                rule=SafetyRule.IDENTITY,
                options=("Give it a server of its own.", f"Try it on a local twin: backout certify -e {other.name}."),
            )


def _find_server(config: Config) -> str | None:
    """Return the system identifier of an environment's server, None where it does not tell."""
    read = make_database_identity(config)
    found = read() if read is not None else None
    return found.partition("/")[0] if found else None


def check_bindings(config: Config, metadata: Mapping[str, object], others: Sequence[Config]) -> None:
    """Refuse a version that reaches into another environment.

    Args:
        config: of the environment in which the trial takes place.
        metadata: the version's parts.
        others: those that it must not reach.

    Raises:
        Refused: it is bound to the Worker of one of the others, or to what the live version of that one is bound to.
    """
    bindings = _list_bindings(metadata)
    mine = _list_stores(bindings)
    for other in others:
        platform = other.environment.platform
        if not platform.is_cloudflare:
            continue
        if other.account_id == config.account_id:
            for kind, script in _list_workers(bindings):
                if script == platform.script:
                    raise _refuse(f"{kind} of {script}, which is the Worker of {other.name}")
        from backout.providers.cloudflare.deployments import CloudflareDeployments

        history = CloudflareDeployments(make_reader(other, _WITHIN_S), other.account_id, platform.script).history()
        for share in history[0].shares if history else ():
            described = LateBundles(other).fetch(share.version).metadata
            parts = decode_json(described, dict[str, object], what="the version's parts")
            if common := sorted(mine & _list_stores(_list_bindings(parts))):
                kind, name = common[0]
                raise _refuse(f"{kind} {name}, which is that of {other.name}")


def _refuse(what: str) -> Refused:
    return Refused(
        f"the code for the trial is bound to {what}",
        where="the trial",
        rule=SafetyRule.IDENTITY,
        options=("`--wrangler-env NAME`: the environment of wrangler's configuration with staging's own",),
    )


def _list_bindings(metadata: Mapping[str, object]) -> list[dict[str, object]]:
    listed = metadata.get("bindings")
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []


def _list_workers(bindings: Sequence[Mapping[str, object]]) -> list[tuple[str, str]]:
    """Return the kind and the script of every binding to another Worker."""
    return [(kind, str(each.get(_WORKERS[kind]))) for each in bindings if (kind := str(each.get("type"))) in _WORKERS]


def _list_stores(bindings: Sequence[Mapping[str, object]]) -> set[tuple[str, str]]:
    """Return the kind and the name of everything that keeps something for this version."""
    return {
        (kind, str(each[key]))
        for each in bindings
        for kind in (str(each.get("type")),)
        for key in _STORES.get(kind, ())
        if each.get(key)
    }


def find_database(config: Config) -> tuple[str, str]:
    """Return the administrator's connection string, and the name of the database. Raises AuthError: it is not set."""
    from psycopg import conninfo

    named = conninfo.conninfo_to_dict(make_libpq_url(config.database_url().reveal())[0])
    return config.database_admin_url().reveal(), str(named.get("dbname") or named.get("user") or "postgres")


def name_database(url: str, name: str) -> str:
    """Return the connection string of another database on the same server, with everything else as it is.

    >>> name_database("postgresql://u@db/app?schema=shop", "trial")
    'postgresql://u@db/trial?schema=shop'
    """
    if "://" not in url:
        from psycopg import conninfo

        return conninfo.make_conninfo(url, dbname=name)
    return urlunsplit(urlsplit(url)._replace(path=f"/{quote(name, safe='')}"))
