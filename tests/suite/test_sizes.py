"""How long a module and a function may be: what does not fit is two things."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from source_trees import nodes_of

SOURCE = Path(__file__).parents[2] / "src" / "backout"
MODULES = sorted(SOURCE.rglob("*.py"))
LINES = 400
FUNCTION_LINES = 60
REASON = "In one piece:"
"""What the docstring of a longer function says, and then why."""


def length_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of its body; signature and docstring are for whoever calls it, and may be long."""
    body = function.body[1:] if ast.get_docstring(function) and len(function.body) > 1 else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1


def too_long(module: ast.AST) -> list[str]:
    """Return the functions of a module that are too long without a reason."""
    return [
        node.name
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and length_of(node) > FUNCTION_LINES
        and REASON not in (ast.get_docstring(node) or "")
    ]


def test_no_module_is_longer_than_a_few_screens() -> None:
    """Its name says one thing."""
    lengths = {str(path.relative_to(SOURCE)): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: lines for name, lines in lengths.items() if lines > LINES} == {}


def test_no_function_is_long_without_a_reason() -> None:
    """One that has to be says why in its docstring."""
    found = {
        f"{path.relative_to(SOURCE)}:{node.name}"
        for path in MODULES
        for node in nodes_of(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and too_long(ast.Module([node], []))
    }
    assert found == set()


@pytest.mark.parametrize(
    ("docstring", "lines", "found"),
    [("Do it.", 60, []), ("Do it.", 61, ["do"]), ("Do it.\n\n    In one piece: all of it is one table.", 61, [])],
)
def test_what_is_too_long(docstring: str, lines: int, found: list[str]) -> None:
    """The body counts, and a reason."""
    body = "\n".join(f"    x = {number}" for number in range(lines))
    assert too_long(ast.parse(f'def do():\n    """{docstring}\n    """\n{body}\n')) == found
