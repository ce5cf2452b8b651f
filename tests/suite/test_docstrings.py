"""How docstrings are written: an argument and an error a line, so that a reader finds it and a tool can read it."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest
from source_trees import SOURCE, nodes_of

if TYPE_CHECKING:
    from collections.abc import Callable

Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
SECTION = re.compile(r"^(?:Args|Attributes):\n((?: {4}.*\n?)+)", re.MULTILINE)
ANOTHER = re.compile(r"[.)]\s+((?:[a-z_][a-z0-9_]*, )*[a-z_][a-z0-9_]*): ")
ERRORS = re.compile(r"^Raises:\n((?: {4}.*\n?)+)", re.MULTILINE)
ANOTHER_ERROR = re.compile(r"[.;)]\s+(?:(?:\w+\.)*[A-Z]\w+, )*(?:\w+\.)*[A-Z]\w*[a-z]\w*: ")


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


def entries_of(section: re.Pattern[str], node: ast.AST) -> list[str]:
    """Return the entries of a section of a docstring, each as one line."""
    assert isinstance(node, Documented)
    parts = section.findall(ast.get_docstring(node) or "")
    return [" ".join(entry.split()) for part in parts for entry in re.split(r"\n(?= {4}\S)", part)]


def crowded(node: ast.AST) -> list[str]:
    """Return the entries of a docstring in which a second argument begins."""
    names = names_of(node)
    return [
        entry
        for entry in entries_of(SECTION, node)
        if any(names.issuperset(found.split(", ")) for found in ANOTHER.findall(entry))
    ]


def crowded_with_errors(node: ast.AST) -> list[str]:
    """Return the entries of a docstring in which a second error begins."""
    return list(filter(ANOTHER_ERROR.search, entries_of(ERRORS, node)))


@pytest.mark.parametrize("find", [crowded, crowded_with_errors])
def test_each_argument_has_a_line_of_its_own(find: Callable[[ast.AST], list[str]]) -> None:
    """And each error: several on one line hide the last."""
    found = {
        f"{path.relative_to(SOURCE)}:{node.name}": lines
        for path in sorted(SOURCE.rglob("*.py"))
        for node in nodes_of(path)
        if isinstance(node, Documented) and (lines := find(node))
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


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ("UsageError: there is none. Refused: it is held.", True),
        ("UsageError: there is none; AuthError, ProviderUnavailable: as `read`.", True),
        ("AuthError, ProviderUnavailable: as `read`.", False),
        ("UsageError: there is none. It is looked for twice.", False),
    ],
)
def test_what_is_crowded_with_errors(entry: str, found: bool) -> None:
    """Several of which the same is said stand together."""
    (function,) = ast.parse(f'def do():\n    """Do it.\n\n    Raises:\n        {entry}\n    """\n').body
    assert bool(crowded_with_errors(function)) is found
