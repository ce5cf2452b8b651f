"""What benchmarks and tools take from the program is there: mypy reads `src` only, and a benchmark runs rarely."""

from __future__ import annotations

import ast
import importlib
from typing import TYPE_CHECKING

import pytest
from source_trees import SOURCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROOT = SOURCE.parents[1]
FILES = sorted(path for room in ("benchmarks", "tools", "examples") for path in (ROOT / room).rglob("*.py"))


def list_imports(path: Path) -> Iterator[tuple[str, str | None]]:
    """Yield what a file imports from the program, wherever it stands: a module, and a name of it or None."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((each.name, None) for each in node.names if each.name.split(".")[0] == "backout")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "backout":
            yield from ((str(node.module), each.name) for each in node.names)


def is_there(module: str, name: str | None) -> bool:
    """Tell whether a module can be imported and has a name, as its own or as a module inside."""
    try:
        found = importlib.import_module(module)
        return name is None or hasattr(found, name) or bool(importlib.import_module(f"{module}.{name}"))
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_file_imports_from_the_program_is_there(path: Path) -> None:
    missing = [f"{module}: {name}" for module, name in list_imports(path) if not is_there(module, name)]
    assert missing == []


def test_an_import_of_a_module_or_a_name_that_is_not_there_is_seen(tmp_path: Path) -> None:
    made = tmp_path / "made.py"
    made.write_text("import backout.cli\nfrom backout.gone import A\nfrom backout.errors import Gone\n")
    assert [is_there(*each) for each in list_imports(made)] == [True, False, False]
