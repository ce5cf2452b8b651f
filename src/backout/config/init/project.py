"""The facts around the wrangler configuration in a project's folder: names only, never the value of a secret."""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from msgspec import field

from backout.config import jsonc
from backout.config.init.routes import find_routes, read_text
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

EXAMPLES = (".env.example", ".env.sample", ".dev.vars.example")
_NAME = re.compile(r"^(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=", re.MULTILINE)
_COMMENTED = re.compile(r"^#\s*([A-Z][A-Z0-9_]*)\s*=", re.MULTILINE)
_REMOTE = re.compile(r"url\s*=\s*\S*github\.com[:/]([\w.-]+/[\w.-]+?)(?:\.git)?/?\s*$", re.MULTILINE)
_LOCKS = {"pnpm-lock.yaml": "pnpm", "yarn.lock": "yarn", "bun.lock": "bun", "bun.lockb": "bun"}
_MAX_BYTES = 1024 * 1024
_USUAL = {"prisma": PurePosixPath("prisma/migrations"), "drizzle": PurePosixPath("drizzle")}
_SCRIPTS = ("ts", "mts", "cts", "js", "mjs", "cjs")
_DRIZZLE_OUT = re.compile(r"[\"']?\bout\b[\"']?\s{0,9}:\s{0,9}['\"`]([^'\"`\n]{1,200})['\"`]")
_DRIZZLE_DIALECT = re.compile(r"[\"']?\bdialect\b[\"']?\s{0,9}:\s{0,9}['\"`]postgresql['\"`]")
_DRIZZLE_TABLE = re.compile(r"[\"']?\bmigrations\b[\"']?\s{0,9}:\s{0,9}\{[^{}]{0,999}?\b(?:table|schema)\b")
"""Source: drizzle-kit's documentation, "Drizzle config reference" (2026-12): out, dialect, migrations.table, schema."""
_PRISMA_PATH = re.compile(r"\bmigrations\s{0,9}:\s{0,9}\{[^{}]{0,999}?\bpath\s{0,9}:\s{0,9}['\"]([^'\"\n]{1,200})['\"]")
"""Source: Prisma 7's documentation, "Prisma Config reference": migrations.path."""


class Project(Value, frozen=True):
    """The facts of a folder.

    Args:
        name: from package.json, or "".
        example: the file with the names of variables, or "".
        names: those in it.
        commented: names in it that are commented out.
        tool: of the migrations: `prisma`, `drizzle`, or `none`.
        migrations_path: their folder, "" for the usual one.
        repository: owner/name on GitHub, or "".
        has_workflows: GitHub Actions run here.
        scripts: of package.json, by name.
        routes: paths of GET routes without parameters that the source names.
        runner: "npm run".
        ignores_records: whether the folder `.backout` is kept out of the repository that this is a part of, if any.
    """

    name: str = ""
    example: str = ""
    names: tuple[str, ...] = ()
    commented: tuple[str, ...] = ()
    tool: str = "none"
    migrations_path: str = ""
    repository: str = ""
    has_workflows: bool = False
    scripts: Mapping[str, str] = field(default_factory=dict)
    routes: tuple[str, ...] = ()
    runner: str = "npm run"
    ignores_records: bool = True


def read_project(folder: Path) -> Project:
    """Return the facts of a folder; unreadable files count as missing."""
    package = _read_package(folder)
    scripts = package.get("scripts")
    example = next((name for name in EXAMPLES if (folder / name).is_file()), "")
    text = _read(folder / example) if example else ""
    tool, path = _find_migrations(folder)
    is_usual = path == _USUAL.get(tool) or path.is_absolute() or ".." in path.parts or not path.parts
    return Project(
        name=str(package.get("name") or ""),
        example=example,
        names=tuple(dict.fromkeys(_NAME.findall(text))),
        commented=tuple(dict.fromkeys(_COMMENTED.findall(text))),
        tool=tool,
        migrations_path="" if is_usual else str(path),
        repository=_find_repository(folder, package),
        has_workflows=any((folder / ".github" / "workflows").glob("*.y*ml")),
        scripts={k: str(v) for k, v in scripts.items()} if isinstance(scripts, dict) else {},
        routes=find_routes(folder),
        ignores_records=_ignores_records(folder),
        runner=next((f"{tool} run" for lock, tool in _LOCKS.items() if (folder / lock).is_file()), "npm run"),
    )


def _find_migrations(folder: Path) -> tuple[str, PurePosixPath]:
    """Return the tool of the migrations and the folder that its configuration names, which is read and never run."""
    config = _read_first(folder, "prisma.config", _SCRIPTS)
    if config or any((folder / "prisma" / name).exists() for name in ("migrations", "schema.prisma")):
        return "prisma", _make_path(_PRISMA_PATH.search(config))
    config = _read_first(folder, "drizzle.config", (*_SCRIPTS, "json"))
    # A table of another name is not read, so that its history would look empty.
    if _DRIZZLE_DIALECT.search(config) and not _DRIZZLE_TABLE.search(config):
        return "drizzle", _make_path(_DRIZZLE_OUT.search(config))
    return "none", PurePosixPath()


def _read_first(folder: Path, name: str, kinds: tuple[str, ...]) -> str:
    return next(filter(None, (_read(folder / f"{name}.{kind}") for kind in kinds)), "")


def _make_path(named: re.Match[str] | None) -> PurePosixPath:
    return PurePosixPath(named[1]) if named is not None else PurePosixPath()


def _ignores_records(folder: Path) -> bool:
    for above in (folder, *folder.parents):
        lines = {line.strip().strip("/") for line in _read(above / ".gitignore").splitlines()}
        if lines & {".backout", "**/.backout", ".backout/*"}:
            return True
        if (above / ".git").exists():
            return False
    return True  # no repository


def _read_package(folder: Path) -> dict[str, object]:
    try:
        package = jsonc.loads(_read(folder / "package.json") or "{}")
    except (ValueError, json.JSONDecodeError):
        return {}
    return package if isinstance(package, dict) else {}


def _find_repository(folder: Path, package: dict[str, object]) -> str:
    for above in (folder, *folder.parents):
        if (above / ".git").exists():
            if match := _REMOTE.search(_read(above / ".git" / "config")):
                return match[1]
            break
    stated = package.get("repository")
    address = str(stated.get("url", "")) if isinstance(stated, dict) else str(stated or "")
    match = re.search(r"(?:github\.com[:/]|^github:|^)([\w.-]+/[\w.-]+?)(?:\.git)?$", address)
    return match[1] if match else ""


def _read(file: Path) -> str:
    return read_text(file, _MAX_BYTES)
