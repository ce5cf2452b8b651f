#!/usr/bin/env python3
"""Say which public functions raise an error that their docstring does not name; `make check` runs it.

    tools/raised_errors.py

A docstring names an error in its section "Raises:", an error a line, or in a sentence ("Raises UsageError: there is
none."). What counts is what a function raises itself and does not catch, also where another function makes the error;
what it only passes on is left to the author. The errors of a constructor stand in the docstring of its class. Exempt
are private functions and commands, whose docstrings are their help.

ruff's DOC501 cannot do this: it takes the function that makes an error for the error, and reads no sentence.
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

SOURCE = Path(__file__).resolve().parent.parent / "src"
CONSTRUCTORS = ("__init__", "__post_init__")
INVARIANTS = {"AssertionError", "NotImplementedError"}
"""What says that the program is wrong, as an assert does."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Source:
    """Modules by their dotted names, with what is looked up across them."""

    def __init__(self, modules: Mapping[str, ast.Module]) -> None:
        self.modules = modules
        self._returned: dict[str, dict[str, set[str]]] = {module: {} for module in modules}
        self._imported: dict[str, dict[str, tuple[str, str]]] = {module: {} for module in modules}
        self._bases: dict[str, list[str]] = {}
        self._tuples: dict[str, list[ast.expr]] = {}
        self._translated: dict[str, dict[str, set[str]]] = {module: {} for module in modules}
        managers: list[tuple[str, Function]] = []
        for module, tree in modules.items():
            for node in ast.walk(tree):
                if isinstance(node, Function):
                    if any(_last(each) == "contextmanager" for each in node.decorator_list):
                        managers.append((module, node))
                    if node.returns is not None:
                        self._returned[module][node.name] = set(re.findall(r"\w+", ast.unparse(node.returns)))
                elif isinstance(node, ast.ImportFrom):
                    origins = {each.asname or each.name: (node.module or "", each.name) for each in node.names}
                    self._imported[module] |= origins
                elif isinstance(node, ast.ClassDef):
                    self._bases[node.name] = [_last(base) for base in node.bases]
                elif isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Tuple):
                    self._tuples |= dict.fromkeys(_list_targets(node), node.value.elts)
        for module, function in managers:
            around = [caught for node, caught in self._list_leaves(module, function.body) if _yields(node)]
            self._translated[module][function.name] = set().union(*around)

    def find_undocumented(self) -> Iterator[tuple[str, int, str, list[str]]]:
        """Yield the module, line and name of a function, and the errors that its docstring does not name."""
        for module, tree in self.modules.items():
            for function, name, docstring in _list_public(tree.body):
                missing = {each for each in self._raised(module, function) if not re.search(rf"\b{each}\b", docstring)}
                if missing - INVARIANTS:
                    yield module, function.lineno, name, sorted(missing - INVARIANTS)

    def _raised(self, module: str, function: Function) -> Iterator[str]:
        """Yield the names of what a function raises and does not catch."""
        assigned = {
            name: node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr)
            for name in _list_targets(node)
        }
        for node, caught in self._list_leaves(module, function.body):
            if isinstance(node, ast.Raise) and node.exc is not None:
                error = assigned.get(node.exc.id, node.exc) if isinstance(node.exc, ast.Name) else node.exc
                name = _last(error.func if isinstance(error, ast.Call) else error)
                if name.lstrip("_")[:1].isupper():
                    yield from {name} if not self._lineage(name) & caught else ()
                elif isinstance(error, ast.Call):
                    made = self._find_made(module, name)
                    yield from (each for each in made if not self._lineage(each) & caught)

    def _find_made(self, module: str, function: str) -> set[str]:
        """Return the errors that a function of a module, or one that it imports, returns."""
        found = self._look_up(self._returned, module, function)
        return {each for each in found if "BaseException" in self._lineage(each)}

    def _look_up(self, known: Mapping[str, Mapping[str, set[str]]], module: str, function: str) -> set[str]:
        seen = set()
        while function not in known.get(module, {}) and (module, function) not in seen:
            seen.add((module, function))
            module, function = self._imported.get(module, {}).get(function, ("", ""))
        return known.get(module, {}).get(function, set())

    def _lineage(self, error: str) -> set[str]:
        """Return the names of a class and of all its bases."""
        if isinstance(found := getattr(builtins, error, None), type):
            return {each.__name__ for each in found.__mro__}
        return {error}.union(*(self._lineage(base) for base in self._bases.get(error, ())))

    def _list_leaves(
        self, module: str, nodes: Iterable[ast.AST], caught: Iterable[str] = ()
    ) -> Iterator[tuple[ast.AST, set[str]]]:
        """Yield the simple statements of a function, each with the names of the errors that are caught around it."""
        around = set(caught)
        for node in nodes:
            if isinstance(node, ast.Try | ast.TryStar):
                translated = [each for each in node.handlers if not any(map(_passes_on, ast.walk(each)))]
                inside = around.union(*(self._list_kinds(each.type) for each in translated))
                yield from self._list_leaves(module, node.body, inside)
                yield from self._list_leaves(module, [*node.handlers, *node.orelse, *node.finalbody], around)
            elif isinstance(node, ast.With | ast.AsyncWith):
                calls = [each.context_expr for each in node.items]
                names = [_last(each.func) for each in calls if isinstance(each, ast.Call)]
                inside = around.union(*(self._look_up(self._translated, module, name) for name in names))
                yield from self._list_leaves(module, node.body, inside)
            elif not isinstance(node, Function | ast.ClassDef):
                below = [each for each in ast.iter_child_nodes(node) if isinstance(each, ast.stmt | ast.match_case)]
                if below or isinstance(node, ast.ExceptHandler | ast.match_case):
                    yield from self._list_leaves(module, below, around)
                else:
                    yield node, around

    def _list_kinds(self, kind: ast.expr | None) -> set[str]:
        """Return the names of what an `except` catches."""
        if isinstance(kind, ast.Starred):
            kind = ast.Tuple(self._tuples.get(_last(kind.value), []))
        if isinstance(kind, ast.Tuple):
            return set().union(*map(self._list_kinds, kind.elts))
        return {_last(kind) or "BaseException"}


def _list_public(nodes: Iterable[ast.AST], above: str = "", of: str = "") -> Iterator[tuple[Function, str, str]]:
    """Yield the public functions of a module or class, each with its name and what documents it."""
    for node in nodes:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _list_public(node.body, f"{above}{node.name}.", ast.get_docstring(node) or "")
        elif isinstance(node, Function) and not _is_command(node):
            if node.name in CONSTRUCTORS:
                yield node, above + node.name, f"{of}\n{ast.get_docstring(node) or ''}"
            elif not node.name.startswith("_"):
                yield node, above + node.name, ast.get_docstring(node) or ""


def _is_command(function: Function) -> bool:
    calls = [each.func for each in function.decorator_list if isinstance(each, ast.Call)]
    return any(_last(each) in {"command", "group"} for each in calls)


def _list_targets(node: ast.Assign | ast.AnnAssign | ast.NamedExpr) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [each.id for each in targets if isinstance(each, ast.Name)]


def _passes_on(node: ast.AST) -> bool:
    return isinstance(node, ast.Raise) and node.exc is None


def _yields(node: ast.AST) -> bool:
    return any(isinstance(each, ast.Yield) for each in ast.walk(node))


def _last(node: ast.AST | None) -> str:
    """Return the last part of a dotted name."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def main() -> int:
    """Print a line for each function."""
    paths = sorted(SOURCE.rglob("*.py"))
    modules = {
        ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path for path in paths
    }
    source = Source({module: ast.parse(path.read_text(encoding="utf-8")) for module, path in modules.items()})
    found = [
        f"{modules[module].relative_to(SOURCE.parent)}:{line}: {name} raises {', '.join(missing)}"
        for module, line, name, missing in source.find_undocumented()
    ]
    sys.stdout.write("".join(f"{line}; its docstring does not say when\n" for line in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
