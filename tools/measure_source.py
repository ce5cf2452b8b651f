#!/usr/bin/env python3
"""Measure the readability of the source: modules, functions, rooms, imports, exceptions to rules, words.

    tools/measure_source.py                  the working copy
    tools/measure_source.py --at COMMIT      beside it, in a second column, that commit

Lines are all lines of a file. The length of a function is that of its whole definition. A circle of imports is a set of
modules each of which imports every other, directly or not; imports for type checkers and inside functions count.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).resolve().parent.parent
ROOM = 20
LONG_MODULE, LONG_FUNCTION = 400, 60
PARTICIPLE = re.compile(r"_?[a-z]+(?:ed|id|ept|old|ound|ade|own|iven|aken)(?:_|$)")
SEVERAL = re.compile(r"^\s{8,}[a-z_, ]+: [^.]*\. [a-z_]+(?:, [a-z_]+)*: ", re.MULTILINE)
NOBODYS = re.compile(r"\b(?:somebody|nobody|whoever|whom|anybody)\b", re.IGNORECASE)


def main() -> int:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--at", metavar="COMMIT", help="a commit to measure as well")
    at = arguments.parse_args().at
    columns = {"now": figures(ROOT)}
    if at:
        with tempfile.TemporaryDirectory(prefix="measure-") as folder:
            archived = subprocess.run(["git", "archive", at], cwd=ROOT, check=True, capture_output=True)  # noqa: S607
            with tarfile.open(fileobj=io.BytesIO(archived.stdout)) as archive:
                archive.extractall(folder, filter="data")
            columns = {at[:12]: figures(Path(folder)), **columns}
    names = next(iter(columns.values()))
    width = max(map(len, names))
    sys.stdout.write(" ".join(["".ljust(width), *(name.rjust(16) for name in columns)]) + "\n")
    for name in names:
        sys.stdout.write(" ".join([name.ljust(width), *(each[name].rjust(16) for each in columns.values())]) + "\n")
    return 0


def figures(root: Path) -> dict[str, str]:
    """Return the figures of a tree by their names."""
    source, tests = root / "src" / "backout", root / "tests"
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(source.rglob("*.py"))}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    lengths = [text.count("\n") for text in texts.values()]
    whole = sum(lengths)
    functions = [node for tree in trees.values() for node in ast.walk(tree) if is_function(node)]
    sizes = sorted((node.end_lineno or 0) - node.lineno + 1 for node in functions)
    every = "\n".join(texts.values())
    exceptions = {
        "noqa": len(re.findall(r"# noqa", every)),
        "type: ignore": len(re.findall(r"# type: ignore", every)),
        "casts": len(re.findall(r"\bcast\(", every)),
    }
    rooms = Counter(path.parent for path in texts if path.name != "__init__.py")
    circles = [len(each) for each in circles_of(imports_of(trees, source))]
    beyond = [p for p, text in texts.items() if p.is_relative_to(source / "cli") and "backout.providers" in text]
    tested = sum(path.read_text(encoding="utf-8").count("\n") for path in tests.rglob("*.py"))
    return {
        "modules": f"{len(texts):,}",
        "lines": f"{whole:,}",
        "lines of a module, median / most": f"{statistics.median(lengths):.0f} / {max(lengths)}",
        f"modules of more than {LONG_MODULE} lines": str(sum(each > LONG_MODULE for each in lengths)),
        "lines of a function, median / p90": f"{statistics.median(sizes):.0f} / {sizes[len(sizes) * 9 // 10]}",
        f"functions of more than {LONG_FUNCTION} lines": str(sum(each > LONG_FUNCTION for each in sizes)),
        "functions with a docstring": share(ast.get_docstring(node) is not None for node in functions),
        "public ones": share(ast.get_docstring(n) is not None for n in functions if not n.name.startswith("_")),
        "lines of tests for one of source": f"{tested / whole:.2f}",
        **{name: f"{number:,}" for name, number in exceptions.items()},
        "these three, per 1,000 lines": f"{sum(exceptions.values()) / whole * 1000:.1f}",
        "Any": f"{len(re.findall(r'[^a-zA-Z]Any[^a-zA-Z]', every)):,}",
        f"rooms of more than {ROOM} files": str(sum(number > ROOM for number in rooms.values())),
        "files in the largest room": str(max(rooms.values())),
        "circles of imports": str(len(circles)),
        "modules in the largest circle": str(max(circles, default=0)),
        "files of cli that reach past wiring": str(len(beyond)),
        "functions named by a participle": f"{sum(bool(PARTICIPLE.fullmatch(n.name)) for n in functions):,}",
        "somebody, nobody, whoever ...": f"{len(NOBODYS.findall(every)):,}",
        "lines of Args: with several": f"{len(SEVERAL.findall(every)):,}",
        "words of the README": f"{words(root / 'README.md'):,}",
        "words of docs, without research": f"{sum(words(path) for path in (root / 'docs').glob('*.md')):,}",
    }


def is_function(node: ast.AST) -> bool:
    """Return whether a node is the definition of a function."""
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def share(held: Iterable[bool]) -> str:
    """Return how many of all, in percent."""
    every = list(held)
    return f"{sum(every) / len(every):.0%}"


def words(path: Path) -> int:
    """Return how many words a page has."""
    return len(path.read_text(encoding="utf-8").split())


def imports_of(trees: dict[Path, ast.Module], source: Path) -> dict[str, set[str]]:
    """Return the modules of ours that each module imports, wherever in it."""
    names = {name_of(path, source): tree for path, tree in trees.items()}
    return {name: {each for each in imported(tree, names) if each != name} for name, tree in names.items()}


def name_of(path: Path, source: Path) -> str:
    """Return the dotted name of a module."""
    return ".".join(path.relative_to(source.parent).with_suffix("").parts).removesuffix(".__init__")


def imported(tree: ast.Module, names: Iterable[str]) -> Iterator[str]:
    """Yield what a module imports: of `from package import module` the module, not the package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name in names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inner = [f"{node.module}.{each.name}" for each in node.names]
            yield from (each for each in inner if each in names)
            if node.module in names and not all(each in names for each in inner):
                yield node.module


def circles_of(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the sets of modules that reach one another (Tarjan's strongly connected components)."""
    numbers: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(module: str) -> None:
        numbers[module] = lowest[module] = len(numbers)
        stack.append(module)
        for other in graph[module]:
            if other not in numbers:
                visit(other)
            if other in stack:
                lowest[module] = min(lowest[module], lowest[other])
        if lowest[module] == numbers[module]:
            circle = set(stack[stack.index(module) :])
            del stack[stack.index(module) :]
            if len(circle) > 1:
                found.append(circle)

    sys.setrecursionlimit(10_000)
    for module in graph:
        if module not in numbers:
            visit(module)
    return found


if __name__ == "__main__":
    sys.exit(main())
