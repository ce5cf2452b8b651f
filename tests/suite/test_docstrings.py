"""How docstrings are written: an argument a line, so that a reader finds it and a tool can read it."""

from __future__ import annotations

import ast
import inspect
import re

import pytest
from source_trees import SOURCE, nodes_of

SECTION = re.compile(r"^(?:Args|Attributes):\n((?: {4}.*\n?)+)", re.MULTILINE)
ANOTHER = re.compile(r"[.)]\s+((?:[a-z_][a-z0-9_]*, )*[a-z_][a-z0-9_]*): ")


def names_of(node: ast.AST) -> set[str]:
    """Return the arguments of a function, or the fields and constructor's arguments of a class."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        given = node.args
        return {each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)}
    fields = {each.target.id for each in ast.walk(node) if isinstance(each, ast.AnnAssign) and _is_name(each.target)}
    inits = [each for each in ast.walk(node) if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
    return fields.union(*map(names_of, inits))


def _is_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Name)


def crowded(node: ast.AST) -> list[str]:
    """Return the entries of a docstring in which a second argument begins."""
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    text, names = inspect.cleandoc(ast.get_docstring(node) or ""), names_of(node)
    entries = [entry for part in SECTION.findall(text) for entry in re.split(r"\n(?= {4}\S)", part)]
    return [
        " ".join(entry.split())
        for entry in entries
        if any(names.issuperset(found.split(", ")) for found in ANOTHER.findall(entry))
    ]


def test_each_argument_has_a_line_of_its_own() -> None:
    """Several on one line hide the last."""
    found = {
        f"{path.relative_to(SOURCE)}:{node.name}": lines
        for path in sorted(SOURCE.rglob("*.py"))
        for node in nodes_of(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and (lines := crowded(node))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ("at: Unix seconds. why: in words.", True),
        ("at, why: both.", False),
        ("at: Unix seconds. Note: it is rounded.", False),
    ],
)
def test_what_is_crowded(entry: str, found: bool) -> None:
    """A name that is no argument is prose."""
    (function,) = ast.parse(f'def do(at, why):\n    """Do it.\n\n    Args:\n        {entry}\n    """\n').body
    assert bool(crowded(function)) is found
