"""No way around `config.places`, nor through a link to what is written: a new one in the source is found here."""

from __future__ import annotations

import ast
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from source_trees import nodes_of

from backout.config.places import CHECKED, GIVEN
from backout.config.schema import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).parents[2] / "src" / "backout"
WITH_CASES = {
    "journal.path": ("test_trusted_files.py", "journal.sqlite"),
    "journal.holds": ("test_trusted_files.py", '"holds"'),
    "journal.bundles": ("test_trusted_files.py", '"bundles"'),
    "incidents.directory": ("test_trusted_places.py", ".ai/incidents"),
    "incidents.card": ("test_trusted_places.py", "card-production.md"),
    "incidents.runbook": ("test_trusted_places.py", "runbook-production.md"),
    "environments.*.database.backup.directory": ("test_trusted_places.py", ".backout/backups/production"),
}
"""Where each place's flaws are tried, and a word of the test."""


def paths_of(kind: Any, name: str = "") -> Iterator[str]:
    """Yield the keys of the configuration that hold a path, and the one that is a pattern of a path."""
    origin = typing.get_origin(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        for field in msgspec.structs.fields(kind):
            yield from paths_of(field.type, f"{name}.{field.encode_name}".lstrip("."))
            if isinstance(field.default, str) and "/" in field.default and field.default.startswith("."):
                yield f"{name}.{field.encode_name}".lstrip(".")
    elif origin is dict:
        yield from paths_of(typing.get_args(kind)[1], f"{name}.*")
    elif origin in (typing.Union, types.UnionType, typing.Annotated, tuple):
        for each in typing.get_args(kind):
            yield from paths_of(each, name)
    elif kind is Path:
        yield name


def test_every_path_of_the_configuration_is_checked_or_is_not_backouts() -> None:
    """A new key that names a place fails here until it is given out by `config.places`, and has a case above."""
    found = set(paths_of(Settings))
    assert {name for name in found if not name.endswith("_file")} == CHECKED | GIVEN
    assert WITH_CASES.keys() == CHECKED
    folder = Path(__file__).parent
    assert all(place in (folder / file).read_text(encoding="utf-8") for file, place in WITH_CASES.values())


MAY_NAME = {
    "config/places.py", "config/schema/__init__.py", "config/schema/environment.py", "private.py",
    "config/loading.py",  # makes the paths absolute
    "config/addresses.py",  # takes them out
    "model/checkup.py",  # a default of a text
    "config/init/project.py", "config/init/git_index.py", "cli/config/init.py",  # look whether git ignores the folder
    "cli/demo.py", "cli/twin_env.py",  # the twin, which checks its own, see test_trusted_files.py
    "cli/drill/support.py",  # same
    "journal/sqlite_store.py",  # a hint
    "cli/config/workflow.py",  # a line of a text
}  # fmt: skip
SECTIONS = {
    "journal": {"path", "holds", "bundles"}, "incidents": {"directory", "card", "runbook"}, "backup": {"directory"},
}  # fmt: skip


def names_a_place(node: ast.AST) -> bool:
    """Whether a node takes a place from the settings, or begins a path with our folder's name."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute | ast.Name):
        section = node.value.attr if isinstance(node.value, ast.Attribute) else node.value.id
        is_given_out = isinstance(node.value, ast.Attribute) and getattr(node.value.value, "attr", "") == "places"
        return node.attr in SECTIONS.get(section, ()) and not is_given_out
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        return False
    return node.value == ".backout" or node.value.startswith(".backout/")


def test_no_place_is_found_but_through_the_one_that_checks_it() -> None:
    """Whoever takes a path from the settings, or makes one below `.backout`, goes around the check."""
    around = {
        f"{name}:{node.lineno}"
        for path in SOURCE.rglob("*.py")
        if (name := str(path.relative_to(SOURCE))) not in MAY_NAME
        for node in nodes_of(path)
        if names_a_place(node)
    }
    assert around == set()


WRITES_ELSEWHERE = {
    # Folders that were just made for this one job, or a Postgres's own.
    "providers/postgres/server/scratch.py", "providers/postgres/server/template.py",
    "providers/postgres/restore/side_files.py", "providers/postgres/restore/side_settings.py",
    "providers/postgres/restore/side_walk.py", "providers/postgres/restore/own_wal.py",
    "providers/archive/taking.py", "providers/postgres/fence/wal_proof.py", "wiring/units.py",
    # What a person names, or the project's own files.
    "cli/config/files.py", "cli/config/counts.py", "cli/config/routes.py", "cli/config/pin.py",
    "cli/config/recorder.py", "cli/config/workflow.py", "cli/config/hosts.py",
    "cli/conformance.py", "cli/support/pages.py", "providers/postgres/server/own_server.py",
    "streams.py", "cli/support/output.py",  # /dev/null
}  # fmt: skip


def opens_to_write(node: ast.AST) -> bool:
    """Whether a call opens a file of a fixed name to write, and would follow a link there."""
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func)
    if called.endswith((".write_text", ".write_bytes")):
        return True
    text = ast.unparse(node)
    if called == "os.open":
        return ("O_WRONLY" in text or "O_RDWR" in text) and not ("O_EXCL" in text or "O_NOFOLLOW" in text)
    if called == "open" or called.endswith(".open"):
        modes = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        return any(set(mode) <= set("rwaxbt+") and set(mode) & set("wa+") for mode in modes) and "opener=" not in text
    return False


def test_files_of_fixed_names_are_opened_through_no_link() -> None:
    """To write them: `write_over` replaces, `open_unlinked` refuses a link. The twin has its own folder."""
    found = {
        f"{name}:{node.lineno}"
        for path in SOURCE.rglob("*.py")
        if (name := str(path.relative_to(SOURCE))) not in WRITES_ELSEWHERE and not name.startswith("twin/")
        for node in nodes_of(path)
        if opens_to_write(node)
    }
    assert found == set()
