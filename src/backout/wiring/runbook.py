"""The runbook of an environment, from its configuration: real names, and the files of the project that belong to it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from backout.model.clock import format_duration
from backout.model.incident.runbook import RunbookSetup
from backout.providers.files.runbook import RunbookPage
from backout.wiring.helps import list_helps
from backout.wiring.lines import make_card_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backout.config import Config
    from backout.config.schema.environment import Database, Storage

_USUAL: Final = {"prisma": "prisma/migrations", "drizzle": "drizzle", "d1": "migrations", "alembic": "alembic"}
_RESOURCES: Final = (
    ("Workflow", ".github/workflows/*.y*ml"),
    ("Configuration of wrangler", "wrangler.*"),
    ("Environment variables", ".env.example"),
    ("Health check", "**/health-check.*"),
)
"""(title, pattern below the project's folder)."""
_MOST: Final = 20
_DEEPEST: Final = 3
_OTHERS: Final = frozenset({"node_modules", ".git", ".venv", "dist"})


def open_runbook(config: Config) -> RunbookPage:
    """Return the runbook's page of the chosen environment. Raises Untrusted: others could have it lead elsewhere."""
    return RunbookPage(config.places.runbook, config.variables.mask_text)


def make_runbook_setup(config: Config) -> RunbookSetup:
    """Return what the configuration says of the chosen environment."""
    environment = config.environment
    database, storage = environment.database, environment.storage
    tool = database.migrations if database is not None and database.migrations != "none" else ""
    given = database.migrations_path if database is not None else None
    path = _shorten_path(config, given) if given is not None else _USUAL.get(tool, "")
    source = environment.secrets.source
    folder = config.places.runbook_path.parent
    return RunbookSetup(
        application=config.settings.app.name,
        environment=config.name,
        protected=config.protected,
        policy=config.policy,
        lines=make_card_lines(config),
        names=tuple(_list_names(config)),
        counts="" if environment.traffic.provider == "none" else environment.traffic.provider,
        repository=environment.ci.repository if environment.ci is not None else "",
        database=database.provider if database is not None else "",
        vendor=database.managed.provider if database is not None and database.managed is not None else "",
        migrations=tool,
        migrations_path=path,
        backups=_describe_backups(database) if database is not None else "",
        bucket=storage.bucket if storage is not None else "",
        history=_describe_history(storage) if storage is not None else "",
        required=environment.secrets.required,
        source="" if source is None else str(source.kind),
        helps=list_helps(config),
        resources=tuple(_list_resources(config.path.parent.absolute(), folder.absolute())),
        reports=os.path.relpath(config.places.reports_path.absolute(), folder.absolute()),
    )


def _shorten_path(config: Config, path: Path) -> str:
    """Return a path as seen from the configuration's folder, where it is below it: a page is read on any machine."""
    root = config.path.parent.absolute()
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _list_names(config: Config) -> Iterator[tuple[str, str]]:
    environment = config.environment
    platform, database, storage = environment.platform, environment.database, environment.storage
    if platform.caddy is not None:
        yield "releases behind Caddy", str(platform.caddy.releases)
    elif platform.command is not None:
        yield "commands of the platform", platform.command.activate[0]
    else:
        yield "Worker", platform.script
        yield "account", config.account_id
    if environment.health is not None:
        yield "health endpoint", str(environment.health.url)
    if database is not None:
        managed = database.managed
        yield "database", f"{managed.provider} {managed.project}" if managed is not None else database.provider
    if storage is not None:
        yield "bucket", storage.bucket
    if environment.ci is not None:
        yield "repository", environment.ci.repository


def _describe_backups(database: Database) -> str:
    if database.managed is not None:
        return f"the vendor's, branch {database.managed.branch}"
    if database.provider == "d1":
        return "the platform's (Time Travel)"
    kept = database.backup
    where = f"in the bucket {kept.store.bucket}" if kept.store is not None else "on this machine"
    wal = "without WAL" if kept.wal == "off" else f"WAL: {kept.wal}"
    full = format_duration(float(kept.full_every))
    return f"{where}, a full one each {full}, kept for {format_duration(float(kept.keep))}, {wal}"


def _describe_history(storage: Storage) -> str:
    if storage.history is None:
        return "only where the bucket keeps versions"
    return f"snapshots in the bucket {storage.history}, kept for {format_duration(float(storage.history_keep))}"


def _list_resources(root: Path, page: Path) -> Iterator[tuple[str, str]]:
    for title, pattern in _RESOURCES:
        for found in _find(root, pattern)[:_MOST]:
            yield f"{title}: {found.relative_to(root)}", os.path.relpath(found, page)


def _find(root: Path, pattern: str) -> list[Path]:
    if not pattern.startswith("**/"):
        return sorted(path for path in root.glob(pattern) if path.is_file())
    found: list[Path] = []
    name = pattern.removeprefix("**/")
    for folder, below, _ in os.walk(root):
        here = root / folder
        depth = len(here.relative_to(root).parts)
        below[:] = [] if depth >= _DEEPEST else [each for each in below if each not in _OTHERS]
        found += [path for path in here.glob(name) if path.is_file()]
    return sorted(found)
