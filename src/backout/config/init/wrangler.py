"""What a wrangler configuration says of the environments: names as wrangler composes them, bindings, hosts.

Source: the wrangler documentation, "Configuration" and "Environments" (2026): an environment `ENV` deploys the Worker
`NAME-ENV` unless it has a name; account, routes and triggers are inherited, vars and bindings are not. "Generated
Wrangler configuration", and wrangler 4.164's own `findRedirectedWranglerConfig`: where a build left
`.wrangler/deploy/config.json` beside the file, the file at its `configPath` is deployed; that one has no environments,
its name is composed already, and `targetEnvironment` is the environment that it was built for.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.config import jsonc
from backout.config.init.deploying import deploys_top
from backout.decoding import decode_toml
from backout.errors import ConfigError, UsageError
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FILES = ("wrangler.json", "wrangler.jsonc", "wrangler.toml")
REDIRECT = ".wrangler/deploy/config.json"
_PUBLIC_URL = re.compile(
    r"(?:PUBLIC_|VITE_|NEXT_PUBLIC_)?(?:APP|BASE|SITE|PUBLIC|WEB|ORIGIN)(?:_URL)?|(?:BETTER_|NEXT)?_?AUTH_URL"
)

Table = dict[str, object]


class Worker(Value, frozen=True):
    """One environment as wrangler deploys it.

    Args:
        environment: its name here.
        script: the Worker.
        account_id: "" when the file names none.
        url: the public address, or "" when it cannot be told.
        is_guess: it comes from a variable, not from a route.
        buckets: R2 buckets.
        has_hyperdrive: a database is bound.
        d1: id of the D1 database that is bound first, "" without one.
        d1_migrations: the folder of its migrations, None where their history is in a table of another name.
        variables: names of the plain variables.
        crons: expressions of its schedules.
        queues: names of those that it consumes.
        keeps_logs: Workers Logs keep every invocation, as far as the file says.
        target: its environment for wrangler, "" for the top-level Worker.
    """

    environment: str
    script: str
    account_id: str = ""
    url: str = ""
    is_guess: bool = False
    buckets: tuple[str, ...] = ()
    has_hyperdrive: bool = False
    d1: str = ""
    d1_migrations: str | None = "migrations"
    variables: tuple[str, ...] = ()
    crons: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    keeps_logs: bool = False
    target: str = ""

    @property
    def deploy_line(self) -> str:
        """What deploys it."""
        return f"wrangler deploy --env {self.target}" if self.target else "wrangler deploy"


class Found(Value, frozen=True):
    """What is deployed from a folder.

    Args:
        name: of the application.
        workers: the environments.
        redirected: the file of a build that wrangler deploys, None where it deploys the team's own.
        built: the environment for wrangler that it was built for.
        left_out: the Worker that could be production as well: the top-level one beside an environment of that name.
    """

    name: str
    workers: tuple[Worker, ...]
    redirected: Path | None = None
    built: str = ""
    left_out: Worker | None = None

    @property
    def all_workers(self) -> tuple[Worker, ...]:
        """Every Worker, that which is left out as well."""
        return (*self.workers, self.left_out) if self.left_out else self.workers


def find(folder: Path) -> Path:
    """Return the file that wrangler would take, and where there is none, that of a build.

    Raises:
        UsageError: there is neither.
        ConfigError: the build's is not there.
    """
    for name in FILES:
        if (folder / name).is_file():
            return folder / name
    if (built := _find_built(folder)) is not None:
        return built
    raise UsageError(
        f"no {', '.join(FILES[:-1])} or {FILES[-1]} here",
        where=str(folder),
        hint="go to the Worker's folder; on hosts of your own: `backout init --home hosts`",
    )


def read(source: Path, scripts: Mapping[str, str] | None = None) -> Found:
    """Return the application and its environments; production is `env.prod…`, or else the top-level Worker.

    Args:
        source: as `find` returns it.
        scripts: of package.json; where they deploy the top-level Worker as production, it is.

    Raises:
        ConfigError: a file is not what its name says, has no name in it, or is that of a Pages project.
    """
    document = _parse(source)
    redirected = _find_built(source.parent)
    generated = _parse(redirected) if redirected is not None else {}
    for file, each in ((source, document), (redirected, generated)):
        if file is not None and _get_text(each, "pages_build_output_dir"):
            what = f"{file.name}: pages_build_output_dir: this is a Pages project, and backout rolls back Workers alone"
            raise ConfigError((f"{what} (Pages goes back in the dashboard: Deployments, Rollback to this deployment)",))
    name, built = _get_text(document, "name"), _get_text(generated, "targetEnvironment")
    found = document.get("env")
    tables = found if isinstance(found, dict) else {}
    by_target = {key: _make_worker(document, key, each, name) for key, each in tables.items() if isinstance(each, dict)}
    if name:
        by_target[""] = _make_worker(document, "", document, name)
    if redirected is not None:  # what is deployed; the others are as the team's own file has them
        by_target[built] = _make_worker(generated, built, generated, "")
    if not by_target or not all(worker.script for worker in by_target.values()):
        raise ConfigError((f"{source.name}:1: name: required, but not there",))
    workers, left_out = _choose_production(by_target, scripts or {}, built)
    return Found(
        _get_text(generated, "topLevelName") or name or workers[0].script, workers, redirected, built, left_out
    )


def _choose_production(
    by_target: dict[str, Worker], scripts: Mapping[str, str], built: str
) -> tuple[tuple[Worker, ...], Worker | None]:
    """Return the environments under their names here, and the other one that could be production."""
    top = by_target.pop("", None)
    named = next((key for key in by_target if re.match("prod", key, re.IGNORECASE)), None)
    if top is None:
        return tuple(by_target.values()), None
    if named is not None and not deploys_top(scripts, named, built):
        return tuple(by_target.values()), top
    other = by_target.pop(named) if named is not None else None
    return (replace(top, environment=named or "production"), *by_target.values()), other


def _find_built(folder: Path) -> Path | None:
    """Return the configuration of a build that wrangler deploys in place of the one in a folder."""
    redirect = folder / REDIRECT
    if not redirect.is_file():
        return None
    path = _get_text(_parse(redirect), "configPath")
    built = redirect.parent / path
    if not path or not built.is_file():
        why = f"configPath leads to {path}, which is not there" if path else "it has no configPath"
        raise ConfigError((f"{REDIRECT}: {why}: build the application again, or delete this file of an older build",))
    return built.resolve()


def _parse(file: Path) -> Table:
    try:
        text = file.read_text(encoding="utf-8")
        document = decode_toml(text) if file.suffix == ".toml" else jsonc.loads(text)
    except OSError as error:
        raise UsageError(f"cannot read it: {error.strerror}", where=str(file)) from error
    except json.JSONDecodeError as error:
        raise ConfigError((f"{file.name}:{error.lineno}: JSON: {error.msg}",)) from error
    except ValueError as error:  # TOML, UTF-8, nesting
        line = re.search(r"line (\d+)", str(error))
        raise ConfigError((f"{file.name}:{line[1] if line else 1}: {error}",)) from error
    if not isinstance(document, dict):
        raise ConfigError((f"{file.name}:1: expected an object",))
    return document


def _make_worker(top: Table, target: str, table: Table, name: str) -> Worker:
    variables = table.get("vars")
    variables = variables if isinstance(variables, dict) else {}
    guess = next((str(value) for key, value in variables.items() if _is_public(key, value)), "")
    place = next(_list_places(table), "") or ("" if guess else next(_list_places(top), ""))
    composed = f"{name}-{target}" if name and target else name
    return Worker(
        environment=target,
        target=target,
        script=_get_text(table, "name") or composed,
        account_id=_get_text(table, "account_id") or _get_text(top, "account_id"),
        url=f"https://{place}" if place else guess.rstrip("/"),
        is_guess=not place and bool(guess),
        buckets=tuple(_list_names(table, "r2_buckets", "bucket_name")),
        has_hyperdrive=bool(tuple(_list_names(table, "hyperdrive", "id"))),
        d1=next(_list_names(table, "d1_databases", "database_id"), ""),
        d1_migrations=None
        if any(_list_names(table, "d1_databases", "migrations_table"))
        else next(_list_names(table, "d1_databases", "migrations_dir"), "migrations"),
        variables=tuple(variables),
        crons=tuple(_list_crons(table if "triggers" in table else top)),
        queues=tuple(_list_consumed(table)),
        keeps_logs=_keeps_logs(table if "observability" in table else top),
    )


def _keeps_logs(table: Table) -> bool:
    found = table.get("observability")
    kept = found if isinstance(found, dict) else {}
    logs = kept.get("logs")
    inner = {"enabled": True, "invocation_logs": True, **(logs if isinstance(logs, dict) else {})}
    is_on = kept.get("enabled", isinstance(logs, dict)) is True and inner["enabled"] is inner["invocation_logs"] is True
    return is_on and inner.get("head_sampling_rate", kept.get("head_sampling_rate", 1)) == 1


def _list_crons(table: Table) -> Iterator[str]:
    triggers = table.get("triggers")
    crons = triggers.get("crons") if isinstance(triggers, dict) else None
    yield from (cron for cron in (crons if isinstance(crons, list) else ()) if isinstance(cron, str))


def _list_consumed(table: Table) -> Iterator[str]:
    queues = table.get("queues")
    yield from _list_names(queues, "consumers", "queue") if isinstance(queues, dict) else ()


def _list_places(table: Table) -> Iterator[str]:
    """Yield the hosts of routes, each with the path below which it leads to the Worker; custom domains are routes, too.

    A route with a wildcard in its host is passed over.
    """
    routes = table.get("routes")
    for route in (*(routes if isinstance(routes, list) else ()), table.get("route")):
        pattern = route.get("pattern") if isinstance(route, dict) else route
        if isinstance(pattern, str):
            host, _, path = pattern.removeprefix("https://").removeprefix("http://").partition("/")
            if "*" not in host and "." in host:
                yield f"{host}/{path.partition('*')[0]}".rstrip("/")


def _is_public(key: str, value: object) -> bool:
    return bool(_PUBLIC_URL.fullmatch(key)) and isinstance(value, str) and value.startswith("https://")


def _list_names(table: Mapping[str, object], key: str, name: str) -> Iterator[str]:
    bindings = table.get(key)
    for binding in bindings if isinstance(bindings, list) else ():
        if isinstance(binding, dict) and isinstance(binding.get(name), str):
            yield binding[name]


def _get_text(table: Mapping[str, object], key: str) -> str:
    value = table.get(key)
    return value if isinstance(value, str) else ""
