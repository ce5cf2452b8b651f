"""The migrations of Alembic and Django in the working copy: names and order, read from the Python files.

The files are parsed and never run: a migration is code, and its imports need the whole application. What
cannot be told without running it (a computed revision) is an error that names the line.

Source: Alembic documentation, "Tutorial" and "Working with Branches" (`revision`, `down_revision` a string, a tuple or
None, `depends_on`); Django documentation, "Writing database migrations" and "Squashing migrations" (`dependencies`,
`run_before`, `replaces`; `swappable_dependency` names a setting).
"""

from __future__ import annotations

import ast
import hashlib
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.errors import UsageError
from backout.model.database.migrations import KnownMigration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_MOST_BYTES = 4 * 1024 * 1024


class AlembicRevisions:
    """The revisions below a folder of versions, in an order in which they can be applied."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> tuple[KnownMigration, ...]:
        """Return them, parents first.

        Raises:
            UsageError: no such folder, a file that is no Python, two files with one revision, or revisions in a circle.
        """
        found: dict[str, tuple[Path, KnownMigration]] = {}
        for path in _list_python_files(self._folder, self._folder.rglob("*.py")):
            names = _find_assigned(_parse(path).body)
            if "revision" not in names:
                continue  # a module beside the revisions
            (revision,) = _get_texts(names["revision"], path) or ("",)
            after = [text for key in ("down_revision", "depends_on") for text in _get_texts(names.get(key), path)]
            title = path.stem.removeprefix(revision).strip("_").replace("_", " ")
            if revision in found:
                raise UsageError(f"revision {revision} is in {found[revision][0].name} as well", where=str(path))
            found[revision] = (path, KnownMigration(revision, tuple(after), _compute_checksum(path), title))
        return _sort_migrations([migration for _, migration in found.values()], self._folder)


class DjangoMigrations:
    """The migrations of the applications below a project's folder; their names are `application.name`.

    Args:
        folder: the project's, with a folder for each application; or one application's `migrations` itself.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> tuple[KnownMigration, ...]:
        """Return them, what they depend on first.

        An application goes by the name of its folder; one whose AppConfig has another label is not told apart.

        Raises:
            UsageError: no such folder, a file that is no Python, or migrations that depend on each other in a circle.
        """
        inside = self._folder.name == "migrations"
        pattern = "[0-9a-zA-Z]*.py" if inside else "*/migrations/[0-9a-zA-Z]*.py"
        found: dict[str, KnownMigration] = {}
        before: list[tuple[str, str]] = []
        for path in _list_python_files(self._folder, self._folder.glob(pattern)):
            names = _find_migration_class(_parse(path))
            if names is None:
                continue
            name = f"{path.parent.parent.name}.{path.stem}"
            found[name] = KnownMigration(
                name,
                tuple(_list_pairs(names.get("dependencies"))),
                _compute_checksum(path),
                replaces=tuple(_list_pairs(names.get("replaces"))),
                application=path.parent.parent.name,
            )
            before += [(name, later) for later in _list_pairs(names.get("run_before"))]
        for name, later in before:
            if later in found:
                found[later] = replace(found[later], after=(*found[later].after, name))
        return _sort_migrations([_resolve_first(migration, found) for migration in found.values()], self._folder)


def _list_python_files(folder: Path, paths: Iterable[Path]) -> list[Path]:
    if not folder.is_dir():
        raise UsageError("no such folder of migrations", where=str(folder), hint="database.migrations_path names it")
    return sorted(path for path in paths if path.is_file() and "__pycache__" not in path.parts)


def _parse(path: Path) -> ast.Module:
    try:
        content = path.read_bytes()
        if len(content) > _MOST_BYTES:
            raise UsageError("too large for a migration", where=str(path))
        return ast.parse(content, str(path))
    except OSError as error:
        raise UsageError(f"cannot read it: {error.strerror}", where=str(path)) from error
    except SyntaxError as error:
        raise UsageError(f"not Python that can be parsed: {error.msg}", where=f"{path}:{error.lineno or 1}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise UsageError(f"not Python that can be parsed: {error}", where=str(path)) from None


def _compute_checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _find_assigned(body: Iterable[ast.stmt]) -> dict[str, ast.expr]:
    """Return what the names of a module or a class are set to."""
    found: dict[str, ast.expr] = {}
    for statement in body:
        if isinstance(statement, ast.Assign):
            found |= {target.id: statement.value for target in statement.targets if isinstance(target, ast.Name)}
        elif isinstance(statement, ast.AnnAssign) and statement.value and isinstance(statement.target, ast.Name):
            found[statement.target.id] = statement.value
    return found


def _get_texts(value: ast.expr | None, path: Path) -> tuple[str, ...]:
    """Return the strings of a string, a tuple or list of them, or None."""
    if value is None:
        return ()
    try:
        found = ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, RecursionError):
        found = value
    many = () if found is None else found if isinstance(found, list | tuple | set | frozenset) else (found,)
    if not all(isinstance(text, str) and text for text in many):
        raise UsageError("a revision that is not a string literal", where=f"{path}:{value.lineno}")
    return tuple(many)


def _find_migration_class(module: ast.Module) -> dict[str, ast.expr] | None:
    for statement in module.body:
        if isinstance(statement, ast.ClassDef) and statement.name == "Migration":
            return _find_assigned(statement.body)
    return None


def _list_pairs(value: ast.expr | None) -> Iterator[str]:
    """Yield `application.name` of each pair of texts; a setting's name stands for an application elsewhere."""
    if not isinstance(value, ast.List | ast.Tuple):
        return
    for item in value.elts:
        if isinstance(item, ast.Tuple | ast.List):
            parts = [part.value for part in item.elts if isinstance(part, ast.Constant)]
            texts = [part for part in parts if isinstance(part, str)]
            if len(texts) == len(item.elts):
                yield ".".join(texts)


def _resolve_first(migration: KnownMigration, found: dict[str, KnownMigration]) -> KnownMigration:
    """Resolve `__first__` and `__latest__`, by which Django names an application's ends."""
    after: list[str] = []
    for name in migration.after:
        application, _, last = name.partition(".")
        ends = sorted(other for other in found if other.startswith(f"{application}.") and other != migration.name)
        if last in {"__first__", "__latest__"}:
            after += ends[:1] if last == "__first__" else ends[-1:]
        else:
            after.append(name)
    return replace(migration, after=tuple(after))


def _sort_migrations(migrations: list[KnownMigration], folder: Path) -> tuple[KnownMigration, ...]:
    """Return what others come after first, and equals by name."""
    waiting = {migration.name: migration for migration in sorted(migrations, key=lambda m: m.name)}
    ordered: list[KnownMigration] = []
    while waiting:
        ready = [m for m in waiting.values() if not any(name in waiting for name in m.after)]
        if not ready:
            raise UsageError(f"these depend on each other in a circle: {', '.join(sorted(waiting))}", where=str(folder))
        for migration in ready:
            ordered.append(migration)
            del waiting[migration.name]
    return tuple(ordered)
